#include "server/rpc/model_rpc.h"

#include <utility>

#include "server/rpc/rpc_scope.h"

namespace adrank {

grpc::Status ModelRpc::List(grpc::ServerContext*, const v1::ListModelsRequest*,
                            v1::ListModelsResponse* response) {
  const RpcScope scope(Rpc::kListModels, metrics_);
  absl::StatusOr<v1::ListModelsResponse> list = watcher_->List();
  if (list.ok()) *response = *std::move(list);
  return scope.Done(list.status());
}

grpc::Status ModelRpc::Status(grpc::ServerContext*,
                              const v1::ModelStatusRequest*,
                              v1::ModelStatusResponse* response) {
  const RpcScope scope(Rpc::kModelStatus, metrics_);
  *response = watcher_->Status();
  return scope.Done(absl::OkStatus());
}

grpc::Status ModelRpc::Promote(grpc::ServerContext*,
                               const v1::PromoteRequest* request,
                               v1::ModelStatusResponse* response) {
  const RpcScope scope(Rpc::kPromote, metrics_);
  const absl::Status status = watcher_->Promote(request->version());
  *response = watcher_->Status();
  return scope.Done(status);
}

grpc::Status ModelRpc::Rollback(grpc::ServerContext*,
                                const v1::RollbackRequest*,
                                v1::ModelStatusResponse* response) {
  const RpcScope scope(Rpc::kRollback, metrics_);
  const absl::Status status = watcher_->Rollback();
  *response = watcher_->Status();
  return scope.Done(status);
}

}  // namespace adrank
