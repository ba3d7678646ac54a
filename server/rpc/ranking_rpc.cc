#include "server/rpc/ranking_rpc.h"

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "server/explain.h"
#include "server/rpc/rpc_scope.h"

namespace adrank {
namespace {

// Scratch of the threads that gRPC calls us on.
RankTrace* ThreadTrace() {
  static thread_local RankTrace trace;
  return &trace;
}

CallOptions CallOf(grpc::CallbackServerContext* context) {
  CallOptions call;
  call.deadline = absl::FromChrono(context->deadline());
  call.cancelled = [context] { return context->IsCancelled(); };
  return call;
}

}  // namespace

absl::Status RankingRpc::RankAndLog(grpc::CallbackServerContext* context,
                                    const v1::RankRequest& request,
                                    v1::RankResponse* response) const {
  const std::shared_ptr<const ServingSnapshot> serving = state_->Current();
  const DecisionId id = ids_->Next();
  RankTrace* trace = ThreadTrace();
  RankOutcome outcome;
  const absl::Status status =
      pipeline_->Rank(*serving, request, id, CallOf(context), trace, &outcome);
  if (!status.ok()) return status;
  metrics_->Ranked(outcome, trace->retrieval);
  *response = std::move(outcome.response);
  if (!log_->AppendDecision(id, outcome.decision, std::move(outcome.ads))) {
    metrics_->DecisionDropped();
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* RankingRpc::Rank(grpc::CallbackServerContext* context,
                                           const v1::RankRequest* request,
                                           v1::RankResponse* response) {
  const RpcScope scope(Rpc::kRank, metrics_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(scope.Done(RankAndLog(context, *request, response)));
  return reactor;
}

grpc::ServerUnaryReactor* RankingRpc::Predict(
    grpc::CallbackServerContext* context, const v1::PredictRequest* request,
    v1::PredictResponse* response) {
  const RpcScope scope(Rpc::kPredict, metrics_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const std::shared_ptr<const ServingSnapshot> serving = state_->Current();
  uint64_t non_finite = 0;
  const absl::Status status =
      pipeline_->Predict(*serving, *request, CallOf(context), ThreadTrace(),
                         response, &non_finite);
  if (status.ok()) {
    double pctr_sum = 0;
    for (const v1::Prediction& p : response->predictions()) {
      pctr_sum += p.pctr();
    }
    metrics_->Predicted(response->predictions_size(), pctr_sum, non_finite);
  }
  reactor->Finish(scope.Done(status));
  return reactor;
}

grpc::ServerUnaryReactor* RankingRpc::Explain(
    grpc::CallbackServerContext* context, const v1::ExplainRequest* request,
    v1::ExplainResponse* response) {
  const RpcScope scope(Rpc::kExplain, metrics_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const std::shared_ptr<const ServingSnapshot> serving = state_->Current();
  reactor->Finish(
      scope.Done(ExplainRanking(*pipeline_, *serving, *request, ids_->Next(),
                                CallOf(context), ThreadTrace(), response)));
  return reactor;
}

}  // namespace adrank
