// ModelService over gRPC; admin port only.
#ifndef ADRANK_SERVER_RPC_MODEL_RPC_H_
#define ADRANK_SERVER_RPC_MODEL_RPC_H_

#include "proto/model_service.grpc.pb.h"
#include "server/metrics.h"
#include "server/model_watcher.h"

namespace adrank {

// The synchronous API: a promotion loads a bundle, and there are few calls.
class ModelRpc : public v1::ModelService::Service {
 public:
  // The pointers must outlive the service.
  ModelRpc(ModelWatcher* watcher, Metrics* metrics)
      : watcher_(watcher), metrics_(metrics) {}

  grpc::Status List(grpc::ServerContext* context,
                    const v1::ListModelsRequest* request,
                    v1::ListModelsResponse* response) override;
  grpc::Status Status(grpc::ServerContext* context,
                      const v1::ModelStatusRequest* request,
                      v1::ModelStatusResponse* response) override;
  grpc::Status Promote(grpc::ServerContext* context,
                       const v1::PromoteRequest* request,
                       v1::ModelStatusResponse* response) override;
  grpc::Status Rollback(grpc::ServerContext* context,
                        const v1::RollbackRequest* request,
                        v1::ModelStatusResponse* response) override;

 private:
  ModelWatcher* const watcher_;
  Metrics* const metrics_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_MODEL_RPC_H_
