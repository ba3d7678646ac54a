// RankingService over gRPC: the pipeline with metrics and the decision log.
#ifndef ADRANK_SERVER_RPC_RANKING_RPC_H_
#define ADRANK_SERVER_RPC_RANKING_RPC_H_

#include <utility>
#include <vector>

#include "proto/ranking_service.grpc.pb.h"
#include "server/budget/campaign_traffic.h"
#include "server/explain_sources.h"
#include "server/metrics.h"
#include "server/ranking_pipeline.h"
#include "server/replay.h"
#include "server/rpc/worker.h"
#include "server/serving_state.h"
#include "storage/decision_id.h"
#include "storage/event_log.h"

namespace adrank {

// Callback API: a request is computed on the thread that received it, since it
// takes less time than handing it over would.
// Requests come as bytes: see raw_message.h.
class RankingRpc : public v1::RankingService::WithRawCallbackMethod_Rank<
                       v1::RankingService::WithRawCallbackMethod_Predict<
                           v1::RankingService::WithRawCallbackMethod_Explain<
                               v1::RankingService::Service>>> {
 public:
  // The pointers must outlive the service. `admissions` are asked in their
  // order. `traffic` counts what becomes of campaigns, `impressions` ads; null:
  // nobody does.
  RankingRpc(const RankingPipeline* pipeline, const ServingState* state,
             const ExplainStores& explain_stores, Replayer* replayer,
             std::vector<Admission*> admissions, DecisionIdGenerator* ids,
             EventLog* log, CampaignTraffic* traffic,
             ImpressionCounts* impressions, Metrics* metrics)
      : pipeline_(pipeline),
        state_(state),
        explain_stores_(explain_stores),
        replayer_(replayer),
        admissions_(std::move(admissions)),
        ids_(ids),
        log_(log),
        traffic_(traffic),
        metrics_(metrics),
        impressions_(impressions),
        replays_(kMaxReplays) {}

  grpc::ServerUnaryReactor* Rank(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Predict(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;

 private:
  // Replays that wait at most.
  static constexpr size_t kMaxReplays = 16;
  absl::Status ExplainLive(grpc::CallbackServerContext* context,
                           const v1::ExplainRequest& request,
                           v1::ExplainResponse* response) const;
  // Answers from another thread.
  void Replay(grpc::CallbackServerContext* context, v1::ExplainRequest request,
              grpc::ByteBuffer* response, grpc::ServerUnaryReactor* reactor);
  CallOptions CallOf(grpc::CallbackServerContext* context) const;
  void CountImpressions(const v1::RankRequest& request,
                        const v1::RankResponse& response) const;
  absl::Status RankAndLog(grpc::CallbackServerContext* context,
                          const v1::RankRequest& request,
                          v1::RankResponse* response) const;
  absl::Status PredictAndCount(grpc::CallbackServerContext* context,
                               const v1::PredictRequest& request,
                               v1::PredictResponse* response) const;

  const RankingPipeline* const pipeline_;
  const ServingState* const state_;
  const ExplainStores explain_stores_;
  Replayer* const replayer_;
  const std::vector<Admission*> admissions_;
  DecisionIdGenerator* const ids_;
  EventLog* const log_;
  CampaignTraffic* const traffic_;
  Metrics* const metrics_;
  ImpressionCounts* const impressions_;
  Worker replays_;  // first to go
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_RANKING_RPC_H_
