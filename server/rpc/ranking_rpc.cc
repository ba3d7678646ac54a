#include "server/rpc/ranking_rpc.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "server/explain.h"
#include "server/explain_sources.h"
#include "server/rpc/raw_message.h"
#include "server/rpc/rpc_scope.h"

namespace adrank {
namespace {

// Scratch of the threads that gRPC calls us on.
RankTrace* ThreadTrace() {
  static thread_local RankTrace trace;
  return &trace;
}

// Parses, works, serialises and counts; `work` gives the status.
template <typename Request, typename Response, typename Work>
grpc::ServerUnaryReactor* AnswerRaw(const RpcScope& scope,
                                    grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer& in,
                                    grpc::ByteBuffer* out, const Work& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  Request request;
  Response response;
  absl::Status status = ParseRaw(in, &request);
  if (status.ok()) status = work(request, &response);
  if (status.ok()) status = SerializeRaw(response, out);
  reactor->Finish(scope.Done(status));
  return reactor;
}

}  // namespace

CallOptions RankingRpc::CallOf(grpc::CallbackServerContext* context) const {
  CallOptions call;
  call.deadline = absl::FromChrono(context->deadline());
  call.cancelled = [context] { return context->IsCancelled(); };
  call.admissions = admissions_;
  call.impressions = impressions_;
  return call;
}

void RankingRpc::CountImpressions(const v1::RankRequest& request,
                                  const v1::RankResponse& response) const {
  if (impressions_ == nullptr || request.test()) return;
  for (const v1::PlacementResult& placement : response.placements()) {
    for (const v1::RankedAd& ad : placement.ads()) {
      impressions_->Add(ad.ad_id());
    }
  }
}

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
  if (traffic_ != nullptr && !request.test()) {
    traffic_->Count(*serving->index, *trace);
  }
  CountImpressions(request, outcome.response);
  *response = std::move(outcome.response);
  // A decision that finds no room is counted by the log.
  (void)log_->AppendDecision(id, outcome.decision, std::move(outcome.ads));
  return absl::OkStatus();
}

absl::Status RankingRpc::PredictAndCount(grpc::CallbackServerContext* context,
                                         const v1::PredictRequest& request,
                                         v1::PredictResponse* response) const {
  const std::shared_ptr<const ServingSnapshot> serving = state_->Current();
  uint64_t non_finite = 0;
  RETURN_IF_ERROR(pipeline_->Predict(*serving, request, CallOf(context),
                                     ThreadTrace(), response, &non_finite));
  double pctr_sum = 0;
  for (const v1::Prediction& p : response->predictions()) pctr_sum += p.pctr();
  metrics_->Predicted(response->predictions_size(), pctr_sum, non_finite);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* RankingRpc::Rank(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) {
  return AnswerRaw<v1::RankRequest, v1::RankResponse>(
      RpcScope(Rpc::kRank, metrics_), context, *request, response,
      [&](const v1::RankRequest& in, v1::RankResponse* out) {
        return RankAndLog(context, in, out);
      });
}

grpc::ServerUnaryReactor* RankingRpc::Predict(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerRaw<v1::PredictRequest, v1::PredictResponse>(
      RpcScope(Rpc::kPredict, metrics_), context, *request, response,
      [&](const v1::PredictRequest& in, v1::PredictResponse* out) {
        return PredictAndCount(context, in, out);
      });
}

absl::Status RankingRpc::ExplainLive(grpc::CallbackServerContext* context,
                                     const v1::ExplainRequest& request,
                                     v1::ExplainResponse* response) const {
  CallOptions call = CallOf(context);
  call.take = false;
  const std::shared_ptr<const ServingSnapshot> serving = state_->Current();
  return ExplainRanking(*pipeline_, *serving, request, ids_->Next(), call,
                        LiveSources(explain_stores_, serving->index->version()),
                        ThreadTrace(), response);
}

void RankingRpc::Replay(grpc::CallbackServerContext* context,
                        v1::ExplainRequest request, grpc::ByteBuffer* out,
                        grpc::ServerUnaryReactor* reactor) {
  const auto scope = std::make_shared<const RpcScope>(Rpc::kExplain, metrics_);
  const bool taken = replays_.Do(
      [this, context, out, reactor, scope, request = std::move(request)] {
        const CallOptions call = CallOf(context);
        v1::ExplainResponse response;
        absl::Status status =
            replayer_->Explain(request, call, ThreadTrace(), &response);
        if (status.ok()) status = SerializeRaw(response, out);
        reactor->Finish(scope->Done(status));
      });
  if (taken) return;
  reactor->Finish(scope->Done(absl::ResourceExhaustedError(absl::StrCat(
      "decision_id: ", kMaxReplays, " replays are waiting already"))));
}

grpc::ServerUnaryReactor* RankingRpc::Explain(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  v1::ExplainRequest in;
  if (ParseRaw(*request, &in).ok() && !in.decision_id().empty()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    Replay(context, std::move(in), response, reactor);
    return reactor;
  }
  return AnswerRaw<v1::ExplainRequest, v1::ExplainResponse>(
      RpcScope(Rpc::kExplain, metrics_), context, *request, response,
      [&](const v1::ExplainRequest& live, v1::ExplainResponse* out) {
        return ExplainLive(context, live, out);
      });
}

}  // namespace adrank
