// trigger -> predict -> rank of one request, under a deadline. No threads, no
// files: the clock, the catalogue and the model come in by the door.
#ifndef ADRANK_SERVER_RANKING_PIPELINE_H_
#define ADRANK_SERVER_RANKING_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/events.pb.h"
#include "proto/ranking_service.pb.h"
#include "proto/server_config.pb.h"
#include "server/rank/exploration.h"
#include "server/rank_trace.h"
#include "server/request_check.h"
#include "server/serving_state.h"
#include "storage/decision_id.h"

namespace adrank {

// Immutable and thread-safe.
class RankingPipeline {
 public:
  // Uses `limits`, `rank` and `model.prior_ctr`. InvalidArgument names the
  // field that is out of range.
  static absl::StatusOr<std::unique_ptr<const RankingPipeline>> Create(
      const v1::ServerConfig& config, const Clock* clock);

  const RequestLimits& limits() const { return limits_; }
  double prior_ctr() const { return prior_ctr_; }
  const SourceQuota& quota() const { return quota_; }
  // Of an ad found by a request's vector.
  float min_similarity() const { return min_similarity_; }
  // Of all that this configuration can change in an answer.
  uint64_t config_fingerprint() const { return config_fingerprint_; }
  const ExplorationPolicy& exploration() const { return exploration_; }
  // But for what belongs to a request.
  const AuctionOptions& auction_options() const { return auction_options_; }
  // 0: unlimited.
  uint32_t max_ads_per_advertiser() const {
    return auction_options_.max_ads_per_advertiser;
  }

  // Checks the request (InvalidArgument), then always answers in time: with
  // fewer candidates or none, and the flag, when the deadline (the least of the
  // call's, the server's and the request's) ends the work early. At most one
  // chunk of predictions and the auction come after it. Cancelled when the
  // caller has gone. `id` names the decision; the same request, snapshot,
  // clock, admissions and request_id give the same answer (a request without a
  // request_id ties by `id`). When an admission refuses a slot, the auction is
  // held again without the ad. Exploration's chance is a hash of `id`.
  absl::Status Rank(const ServingSnapshot& serving,
                    const v1::RankRequest& request, const DecisionId& id,
                    const CallOptions& call, RankTrace* trace,
                    RankOutcome* outcome) const;

  // pCTR of the given candidates. NotFound names the first that is neither in
  // the catalogue nor given. Candidates that the deadline cut off carry the
  // prior and no fingerprint.
  absl::Status Predict(const ServingSnapshot& serving,
                       const v1::PredictRequest& request,
                       const CallOptions& call, RankTrace* trace,
                       v1::PredictResponse* response,
                       uint64_t* non_finite) const;

  // The auction of a trace that Rank has filled, once more: with the bids of
  // trace->candidates and without the excluded ones, as they are now. What
  // would have happened if they were different.
  void PrepareAuction(const AdIndex& index, absl::string_view request_id,
                      RankTrace* trace) const;
  // Not `explore`: without chance, whatever the policy.
  void HoldAuction(RankTrace* trace, bool explore) const;

 private:
  RankingPipeline() = default;
  struct Stages;

  absl::Time Deadline(absl::Time now, uint32_t request_ms,
                      absl::Time call) const;
  void SetContext(const v1::Context& context, absl::Time now,
                  RankTrace* trace) const;
  void SetPlacements(const v1::RankRequest& request, RankTrace* trace) const;
  void BeginAdmission(const AdIndex& index, const CallOptions& call,
                      RankTrace* trace) const;
  void Trigger(const ServingSnapshot& serving, const v1::RankRequest& request,
               RankTrace* trace) const;
  absl::Status PredictItems(const ServingSnapshot& serving, absl::Time deadline,
                            const CallOptions& call, RankTrace* trace) const;
  void RunAdmittedAuction(const AdIndex& index, const v1::RankRequest& request,
                          const DecisionId& id, const CallOptions& call,
                          RankTrace* trace, RankOutcome* outcome) const;

  const Clock* clock_ = nullptr;
  RequestLimits limits_;
  int64_t reserve_micros_ = 0;
  AuctionOptions auction_options_;
  ExplorationPolicy exploration_;
  double prior_ctr_ = 0.01;
  SourceQuota quota_;
  float min_similarity_ = 0;
  uint64_t config_fingerprint_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANKING_PIPELINE_H_
