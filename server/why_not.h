// Why an ad is not in an answer: the first stage that stopped it, with what was
// needed and what the ad had.
#ifndef ADRANK_SERVER_WHY_NOT_H_
#define ADRANK_SERVER_WHY_NOT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "proto/catalog.pb.h"
#include "proto/ranking_service.pb.h"
#include "server/ranking_pipeline.h"

namespace adrank {

// A number that a stage compared, in its unit (AdExplanation.needed), and the
// words that go with it.
struct StageGap {
  std::string text;
  double needed = 0;
  double had = 0;
};

// What a ranking does not hold but its explanation tells. Each may be empty, or
// say that it knows nothing.
struct ExplainSources {
  // An entity as the explained catalogue has it.
  std::function<std::optional<v1::CatalogEntity>(const v1::EntityKey&)> entity;
  // What is spent, reserved and left of the campaign's budget.
  std::function<std::optional<StageGap>(const std::string& campaign_id)> budget;
  // Which cap of the ad, its group or campaign this user has reached.
  std::function<std::optional<StageGap>(const AdIndex& index, uint32_t ad,
                                        const v1::Context& context)>
      cap;
};

// Questions about one finished ranking. Answers them by the ranking's own code:
// the trigger's predicates, and the auction held again with one thing changed,
// so that a stated gap is exact to the micro. What holding it again costs is a
// few dozen auctions an ad.
class WhyNot {
 public:
  // All must outlive this; *trace is used as scratch and restored by each call.
  WhyNot(const RankingPipeline& pipeline, const ServingSnapshot& serving,
         const v1::RankRequest& request, absl::string_view request_id,
         const ExplainSources& sources, RankTrace* trace);

  // Sets outcome, stage, needed and had. REQUIRES: the ad was not served.
  void Explain(const std::string& ad_id, v1::AdExplanation* out);

  // Its number among the candidates; absent: it was none.
  std::optional<size_t> CandidateOf(absl::string_view ad_id) const;
  // The placement that candidate `i` would have reached most easily: whose last
  // ad it trails by least, of those whose reserve it meets.
  size_t BestPlacement(size_t i) const;

  // Least bid with which ad `i` is shown; absent when none does. A bid is the
  // ad group's or the keyword's: other ads that bid by it rise with this one.
  std::optional<int64_t> BidForASlot(size_t i);
  // Least bid with which it is shown when nobody competes.
  std::optional<int64_t> BidForReserve(size_t i);

 private:
  class Counterfactual;

  // One a stage, in the stages' order. False: it let the ad pass.
  bool NotFound(const std::string& ad_id, v1::AdExplanation* out) const;
  bool BeyondLimit(const std::string& ad_id, v1::AdExplanation* out) const;
  // Where the model's vectors put the ad; empty when they are not asked.
  std::string ByModel(const std::string& ad_id) const;
  bool Unpredicted(size_t i, v1::AdExplanation* out) const;
  bool Refused(size_t i, v1::AdExplanation* out) const;
  bool BelowReserve(size_t i, v1::AdExplanation* out);
  bool PassedOver(size_t i, v1::AdExplanation* out);
  bool AtLimit(size_t i, v1::AdExplanation* out);
  bool Excluded(size_t i, v1::AdExplanation* out);
  void Outranked(size_t i, v1::AdExplanation* out);

  void AddDetail(v1::RankingStage stage, const std::string& ad_id,
                 v1::AdExplanation* out) const;
  std::optional<int64_t> BidBefore(uint32_t number, int64_t bid,
                                   const AdMatch& last) const;
  bool ComesFirst(uint32_t a, uint32_t b) const;
  bool SitsOut(uint32_t campaign) const;
  void TargetingDetail(const IndexedAd& ad, v1::AdExplanation* out) const;
  const AuctionSlot* LastOf(size_t placement) const;
  std::string AdvertiserLimitText(size_t i, v1::AdExplanation* out) const;

  const RankingPipeline& pipeline_;
  const ServingSnapshot& serving_;
  const v1::RankRequest& request_;
  const std::string request_id_;
  const ExplainSources& sources_;
  RankTrace* const trace_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_WHY_NOT_H_
