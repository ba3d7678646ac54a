// trigger -> predict -> rank of one request, under a deadline. No threads, no
// files: the clock, the catalogue and the model come in by the door.
#ifndef ADRANK_SERVER_RANKING_PIPELINE_H_
#define ADRANK_SERVER_RANKING_PIPELINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/events.pb.h"
#include "proto/ranking_service.pb.h"
#include "proto/server_config.pb.h"
#include "server/predict/predictor.h"
#include "server/rank/auction.h"
#include "server/request_check.h"
#include "server/serving_state.h"
#include "server/trigger/ad_index.h"
#include "storage/decision_id.h"
#include "storage/event_log.h"

namespace adrank {

// How the caller waits.
struct CallOptions {
  // The RPC's own deadline, on the pipeline's clock.
  absl::Time deadline = absl::InfiniteFuture();
  // Asked between stages and chunks; true: the caller has gone, stop. Empty:
  // never.
  std::function<bool()> cancelled;
};

// An ad that may be shown.
struct RankCandidate {
  PredictItem item;
  int64_t bid_micros = 0;
  v1::MatchType match_type = v1::MATCH_TYPE_UNSPECIFIED;
  uint32_t keyword = AdMatch::kNoKeyword;
  // The index's or the request's; same as item.snapshot.
  const v1::AdSnapshot* snapshot = nullptr;
};

// Everything a request went through, and its scratch: reused, one a thread.
// Valid until the next request; the serving snapshot and the request must live
// as long as it is read.
struct RankTrace {
  v1::Context context;  // with its time filled in
  std::vector<absl::string_view> placement_ids;
  std::vector<AuctionPlacement> placements;
  // Candidates that were to be predicted, in that order (best bid first).
  std::vector<RankCandidate> candidates;
  Retrieval retrieval;  // counters also when the caller named the candidates
  Prediction prediction;
  AuctionResult auction;
  bool deadline_cut = false;

  // Scratch.
  RetrieveScratch retrieve_scratch;
  std::vector<PredictItem> items;
  std::vector<AuctionAd> auction_ads;
  absl::flat_hash_map<absl::string_view, uint32_t> foreign_advertisers;
  Auction auctioneer;
};

// The answer, and what the event log is to keep of it.
struct RankOutcome {
  v1::RankResponse response;
  v1::Decision decision;  // without decision_id
  // What decision.ads() refer to, in their order.
  std::vector<std::shared_ptr<const EncodedAd>> ads;
  // Scores replaced by the prior; for a counter.
  uint64_t non_finite = 0;
};

// Immutable and thread-safe.
class RankingPipeline {
 public:
  // Uses `limits`, `rank` and `model.prior_ctr`. InvalidArgument names the
  // field that is out of range.
  static absl::StatusOr<std::unique_ptr<const RankingPipeline>> Create(
      const v1::ServerConfig& config, const Clock* clock);

  const RequestLimits& limits() const { return limits_; }
  double prior_ctr() const { return prior_ctr_; }
  // 0: unlimited.
  uint32_t max_ads_per_advertiser() const { return max_ads_per_advertiser_; }

  // Checks the request (InvalidArgument), then always answers in time: with
  // fewer candidates or none, and the flag, when the deadline (the least of the
  // call's, the server's and the request's) ends the work early. At most one
  // chunk of predictions and the auction come after it. Cancelled when the
  // caller has gone. `id` names the decision; the same request, snapshot, clock
  // and request_id give the same answer (a request without a request_id ties by
  // `id`).
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

 private:
  RankingPipeline() = default;
  struct Stages;

  absl::Time Deadline(absl::Time now, uint32_t request_ms,
                      absl::Time call) const;
  void SetContext(const v1::Context& context, absl::Time now,
                  RankTrace* trace) const;
  void SetPlacements(const v1::RankRequest& request, RankTrace* trace) const;
  void Trigger(const AdIndex& index, const v1::RankRequest& request,
               RankTrace* trace) const;
  absl::Status PredictItems(const ServingSnapshot& serving, absl::Time deadline,
                            const CallOptions& call, RankTrace* trace) const;
  void RunAuction(const AdIndex& index, absl::string_view request_id,
                  RankTrace* trace) const;

  const Clock* clock_ = nullptr;
  RequestLimits limits_;
  int64_t reserve_micros_ = 0;
  uint32_t max_ads_per_advertiser_ = 0;
  double prior_ctr_ = 0.01;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANKING_PIPELINE_H_
