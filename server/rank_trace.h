// What a request goes through: how it is called, its candidates, its answer.
#ifndef ADRANK_SERVER_RANK_TRACE_H_
#define ADRANK_SERVER_RANK_TRACE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/events.pb.h"
#include "proto/ranking_service.pb.h"
#include "server/admission.h"
#include "server/predict/model_vectors.h"
#include "server/predict/predictor.h"
#include "server/rank/auction.h"
#include "server/rank/exploring_slots.h"
#include "server/request_ads.h"
#include "server/trigger/ad_index.h"
#include "storage/event_log.h"

namespace adrank {

// How the caller waits.
struct CallOptions {
  // The RPC's own deadline, on the pipeline's clock.
  absl::Time deadline = absl::InfiniteFuture();
  // Asked between stages and chunks; true: the caller has gone, stop. Empty:
  // never.
  std::function<bool()> cancelled;
  // Budgets and caps, each asked in this order.
  absl::Span<Admission* const> admissions;
  // Of ads, for the newcomer boost. Null: all are new.
  const ImpressionCounts* impressions = nullptr;
  // Takes from the admissions what the answer promises. False: only looks
  // (Explain). A test request never takes.
  bool take = true;
};

// An ad that may be shown.
struct RankCandidate {
  PredictItem item;
  int64_t bid_micros = 0;
  double value = 0;  // AdIndex::ValueOf, by which candidates are in order
  // Of the bid, so that the budget lasts; in (0, 1].
  float pacing_multiplier = 1;
  v1::MatchType match_type = v1::MATCH_TYPE_UNSPECIFIED;
  uint32_t keyword = AdMatch::kNoKeyword;
  float similarity = 0;     // of AdMatch
  absl::string_view ad_id;  // the index's or the request's own
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
  AdmissionTerms terms;
  // By candidate: kept out by a refusal, whose reason is `refusal_reason`.
  std::vector<uint8_t> excluded;
  v1::NoAdReason refusal_reason = v1::NO_AD_REASON_UNSPECIFIED;

  // Scratch.
  RetrieveScratch retrieve_scratch;
  const ModelVectors* model_vectors = nullptr;  // null: not asked
  ModelVectors::Query model_query;
  std::vector<PredictItem> items;
  AuctionAds auction_ads;
  AuctionOptions auction_options;
  absl::flat_hash_map<absl::string_view, uint32_t> foreign_advertisers;
  std::vector<AdmissionSlot> admission_slots;
  std::vector<SlotRefusal> refusals;
  Auction auctioneer;
  // Of exploration: chance, and what it asks of the ads.
  uint64_t exploration_seed = 0;
  RequestAds request_ads;
  ExploringSlots exploring;
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

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_TRACE_H_
