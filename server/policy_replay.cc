#include "server/policy_replay.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "base/status_macros.h"
#include "server/candidates.h"
#include "server/ranking_pipeline.h"
#include "server/replay.h"
#include "server/replay_admission.h"
#include "server/request_ads.h"

namespace adrank {
namespace {

using v1::ReplayedDecision;

// Options less likely are left out of the policy's expectation.
constexpr double kNegligible = 1e-7;

// A slot of an answer: its placement and its position there, from 1.
using Place = std::pair<uint32_t, uint32_t>;

// Why a decision says nothing of policies; UNSPECIFIED when it does.
ReplayedDecision::Verdict Unfit(const v1::Decision& decision) {
  for (const v1::ServedAd& ad : decision.ads()) {
    if (!(ad.propensity() > 0)) return ReplayedDecision::VERDICT_NO_PROPENSITY;
  }
  if (!decision.has_request()) return ReplayedDecision::VERDICT_NO_REQUEST;
  const bool cut =
      std::find(decision.degraded().begin(), decision.degraded().end(),
                v1::DEGRADATION_DEADLINE) != decision.degraded().end();
  return decision.test() || cut || !decision.refused().empty()
             ? ReplayedDecision::VERDICT_NOT_COMPARABLE
             : ReplayedDecision::VERDICT_UNSPECIFIED;
}

// Takes the given ads in the given order, then the best. One that is not
// available is passed over for the best.
class Forced : public SlotPolicy {
 public:
  explicit Forced(std::vector<uint32_t> path) : path_(std::move(path)) {}

  size_t lookahead() const override { return 20; }
  SlotDecision Choose(SlotChoices* choices) override {
    SlotDecision decision;
    if (next_ == path_.size()) return decision;
    const uint32_t ad = path_[next_++];
    for (size_t n = 32;; n *= 4) {
      const absl::Span<const SlotChoice> best = choices->Best(n);
      for (decision.choice = 0; decision.choice < best.size();
           ++decision.choice) {
        if (best[decision.choice].ad == ad) return decision;
      }
      decision.choice = 0;
      if (best.size() < n) return decision;
    }
  }

 private:
  const std::vector<uint32_t> path_;
  size_t next_ = 0;
};

// What the policy in question could do in a slot.
struct Options {
  std::vector<SlotChoice> ads;
  std::vector<double> probabilities;
  // Ads taken in the slots before.
  std::vector<uint32_t> path;
};

// Shows what was shown, as long as the policy in question might, and notes what
// else it might have shown.
class Recorder : public SlotPolicy {
 public:
  Recorder(const std::map<Place, uint32_t>* logged, ExploringSlots* target)
      : logged_(logged), target_(target) {}

  size_t lookahead() const override { return target_->lookahead(); }

  SlotDecision Choose(SlotChoices* choices) override {
    SlotDecision decision;
    if (ended_) return decision;
    const Place place = {choices->placement(),
                         choices->position_in_placement()};
    Options& options = options_[place];
    const auto best = choices->Best(target_->lookahead());
    options.ads.assign(best.begin(), best.end());
    options.path = path_;
    options.probabilities.resize(best.size());
    target_->Probabilities(place.first, options.ads,
                           absl::MakeSpan(options.probabilities));
    const auto shown = logged_->find(place);
    ended_ = true;
    if (shown == logged_->end()) return decision;
    for (size_t i = 0; i < options.ads.size(); ++i) {
      if (options.ads[i].ad != shown->second) continue;
      decision.choice = i;
      ended_ = options.probabilities[i] == 0;
    }
    path_.push_back(shown->second);
    return decision;
  }

  // Null: no ad was available for the slot, or it was not reached.
  const Options* At(const Place& place) const {
    const auto it = options_.find(place);
    return it == options_.end() ? nullptr : &it->second;
  }

 private:
  const std::map<Place, uint32_t>* const logged_;
  ExploringSlots* const target_;
  std::map<Place, Options> options_;
  std::vector<uint32_t> path_;
  bool ended_ = false;
};

}  // namespace

v1::ServerConfig Changed(const v1::ServerConfig& config,
                         const v1::PolicyChange& change) {
  v1::ServerConfig changed = config;
  v1::RankConfig* rank = changed.mutable_rank();
  if (change.has_alpha()) rank->set_alpha(change.alpha());
  if (change.has_reserve_micros()) {
    rank->set_reserve_micros(change.reserve_micros());
  }
  if (change.has_max_ads_per_advertiser()) {
    rank->set_max_ads_per_advertiser(change.max_ads_per_advertiser());
  }
  if (change.has_pricing()) rank->set_pricing(change.pricing());
  if (change.has_reserve_kind()) rank->set_reserve_kind(change.reserve_kind());
  if (change.has_exploration()) {
    *rank->mutable_exploration() = change.exploration();
  }
  return changed;
}

class PolicyReplay::Work {
 public:
  absl::Status Init(const v1::ServerConfig& config,
                    const ImpressionCounts* counts) {
    counts_ = counts;
    ASSIGN_OR_RETURN(pipeline_, RankingPipeline::Create(config, &clock_));
    return absl::OkStatus();
  }

  absl::StatusOr<ReplayedDecision> Replay(const ServingSnapshot& serving,
                                          const v1::Decision& decision,
                                          absl::Span<const JoinedEvent> events);

 private:
  absl::Status Rank(const ServingSnapshot& serving,
                    const v1::Decision& decision);
  bool FindLogged(const AdIndex& index, const v1::Decision& decision,
                  std::map<Place, uint32_t>* logged) const;
  int64_t PriceOf(const Place& place, uint32_t ad,
                  const std::vector<uint32_t>& path);
  void FillShown(const v1::ServedAd& served, uint32_t ad,
                 absl::Span<const JoinedEvent> events, const Options* options,
                 v1::ReplayedSlot* slot);
  void FillTarget(const Place& place, const Options& options,
                  v1::ReplayedSlot* slot);
  // What an impression of a candidate is expected to bring at a price.
  double Revenue(const Place& place, uint32_t ad, int64_t price) const;
  double Pctr(const Place& place, uint32_t ad) const {
    return trace_.prediction.pctrs(place.first)[ad];
  }

  SimulatedClock clock_{absl::UnixEpoch()};
  std::unique_ptr<const RankingPipeline> pipeline_;
  const ImpressionCounts* counts_ = nullptr;
  v1::RankRequest request_;
  RankTrace trace_;
  RankOutcome outcome_;
  AuctionOptions options_;
  ExploringSlots target_;
  RequestAds ads_;
  AuctionResult auction_;
};

// Candidates, scores and everything the auction needs, into trace_.
absl::Status PolicyReplay::Work::Rank(const ServingSnapshot& serving,
                                      const v1::Decision& decision) {
  ASSIGN_OR_RETURN(const DecisionId id,
                   DecisionId::FromHex(decision.decision_id()));
  request_ = RequestOf(decision);
  ReplayAdmission admission(decision);
  Admission* const admissions[] = {&admission};
  CallOptions call;
  call.admissions = admissions;
  call.take = false;
  RETURN_IF_ERROR(
      pipeline_->Rank(serving, request_, id, call, &trace_, &outcome_));
  options_ = pipeline_->auction_options();
  options_.tie_salt = Hash64(outcome_.response.request_id());
  ads_ = RequestAds(&trace_.prediction, &trace_.auction_ads, options_.alpha,
                    counts_);
  target_.Begin(&pipeline_->exploration(), &ads_, 0);
  return absl::OkStatus();
}

// The candidates that were shown; false when one is none any more, or bids
// otherwise.
bool PolicyReplay::Work::FindLogged(const AdIndex& index,
                                    const v1::Decision& decision,
                                    std::map<Place, uint32_t>* logged) const {
  std::vector<std::string> hashes(trace_.candidates.size());  // when asked for
  for (const v1::ServedAd& served : decision.ads()) {
    bool found = false;
    for (uint32_t i = 0; i < trace_.candidates.size() && !found; ++i) {
      const RankCandidate& c = trace_.candidates[i];
      if (c.bid_micros != served.bid_micros()) continue;
      if (hashes[i].empty()) {
        hashes[i] = EncodedOf(index, c.item).hash;
      }
      found = hashes[i] == served.ad_hash();
      if (found) {
        (*logged)[{served.placement_index(), served.position_in_placement()}] =
            i;
      }
    }
    if (!found) return false;
  }
  return true;
}

double PolicyReplay::Work::Revenue(const Place& place, uint32_t ad,
                                   int64_t price) const {
  const bool sold_by_impression =
      trace_.auction_ads[ad].bid_type == v1::BID_TYPE_CPM;
  return (sold_by_impression ? 1 : Pctr(place, ad)) *
         static_cast<double>(price);
}

// Of `ad` at `place` behind the ads of `path`.
int64_t PolicyReplay::Work::PriceOf(const Place& place, uint32_t ad,
                                    const std::vector<uint32_t>& path) {
  std::vector<uint32_t> forced = path;
  forced.push_back(ad);
  Forced policy(std::move(forced));
  options_.policy = &policy;
  trace_.auctioneer.Run(trace_.auction_ads, trace_.placements, options_,
                        &auction_);
  for (const AuctionSlot& slot : auction_.slots) {
    if (slot.placement == place.first &&
        slot.position_in_placement == place.second && slot.ad == ad) {
      return slot.price_micros;
    }
  }
  return 0;
}

// What became of the ad that was shown.
void PolicyReplay::Work::FillShown(const v1::ServedAd& served, uint32_t ad,
                                   absl::Span<const JoinedEvent> events,
                                   const Options* options,
                                   v1::ReplayedSlot* slot) {
  const Place place = {served.placement_index(),
                       served.position_in_placement()};
  slot->set_ad_id(std::string(trace_.candidates[ad].ad_id));
  slot->set_logged_propensity(served.propensity());
  bool impression = false, click = false;
  for (const JoinedEvent& event : events) {
    if (event.position != served.position()) continue;
    impression |= event.type == v1::EVENT_TYPE_IMPRESSION;
    click |= event.type == v1::EVENT_TYPE_CLICK;
  }
  const bool sold_by_impression = served.bid_type() == v1::BID_TYPE_CPM;
  const bool billable = sold_by_impression ? impression : click;
  slot->set_clicks(click ? 1 : 0);
  if (billable) {
    slot->set_logged_revenue_micros(static_cast<double>(served.price_micros()));
  }
  if (options == nullptr) return;
  for (size_t i = 0; i < options->ads.size(); ++i) {
    if (options->ads[i].ad == ad) {
      slot->set_target_propensity(options->probabilities[i]);
    }
  }
  if (slot->target_propensity() == 0) return;
  const int64_t price = PriceOf(place, ad, options->path);
  if (billable) slot->set_target_revenue_micros(static_cast<double>(price));
  slot->set_predicted_clicks(Pctr(place, ad));
  slot->set_predicted_revenue_micros(Revenue(place, ad, price));
}

// What the policy's own choice is expected to bring.
void PolicyReplay::Work::FillTarget(const Place& place, const Options& options,
                                    v1::ReplayedSlot* slot) {
  double clicks = 0, revenue = 0;
  for (size_t i = 0; i < options.ads.size(); ++i) {
    const double p = options.probabilities[i];
    if (p < kNegligible) continue;
    const uint32_t ad = options.ads[i].ad;
    clicks += p * Pctr(place, ad);
    revenue += p * Revenue(place, ad, PriceOf(place, ad, options.path));
  }
  slot->set_target_predicted_clicks(clicks);
  slot->set_target_predicted_revenue_micros(revenue);
}

absl::StatusOr<ReplayedDecision> PolicyReplay::Work::Replay(
    const ServingSnapshot& serving, const v1::Decision& decision,
    absl::Span<const JoinedEvent> events) {
  ReplayedDecision result;
  result.set_decision_id(decision.decision_id());
  result.set_verdict(Unfit(decision));
  if (result.verdict() != ReplayedDecision::VERDICT_UNSPECIFIED) return result;
  RETURN_IF_ERROR(Rank(serving, decision));
  std::map<Place, uint32_t> logged;
  if (!FindLogged(*serving.index, decision, &logged)) {
    result.set_verdict(ReplayedDecision::VERDICT_CATALOG_CHANGED);
    return result;
  }
  Recorder recorder(&logged, &target_);
  options_.policy = &recorder;
  trace_.auctioneer.Run(trace_.auction_ads, trace_.placements, options_,
                        &auction_);
  uint32_t number = 0;
  int served = 0;
  for (uint32_t p = 0; p < trace_.placements.size(); ++p) {
    for (uint32_t at = 1; at <= trace_.placements[p].slots; ++at) {
      const Place place = {p, at};
      const auto shown = logged.find(place);
      const Options* options = recorder.At(place);
      v1::ReplayedSlot* slot = result.add_slots();
      slot->set_slot(++number);
      if (shown != logged.end()) {
        FillShown(decision.ads(served++), shown->second, events, options, slot);
      } else {
        slot->set_logged_propensity(1);
        slot->set_target_propensity(options == nullptr ? 1 : 0);
      }
      if (options != nullptr) FillTarget(place, *options, slot);
    }
  }
  result.set_verdict(ReplayedDecision::VERDICT_REPLAYED);
  return result;
}

PolicyReplay::PolicyReplay(std::unique_ptr<Work> work)
    : work_(std::move(work)) {}
PolicyReplay::~PolicyReplay() = default;

absl::StatusOr<std::unique_ptr<PolicyReplay>> PolicyReplay::Create(
    const v1::ServerConfig& config, const ImpressionCounts* counts) {
  auto work = std::make_unique<Work>();
  RETURN_IF_ERROR(work->Init(config, counts));
  return std::unique_ptr<PolicyReplay>(new PolicyReplay(std::move(work)));
}

absl::StatusOr<ReplayedDecision> PolicyReplay::Replay(
    const ServingSnapshot& serving, const v1::Decision& decision,
    absl::Span<const JoinedEvent> events) {
  return work_->Replay(serving, decision, events);
}

}  // namespace adrank
