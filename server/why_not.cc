#include "server/why_not.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/candidates.h"
#include "server/targeting_gap.h"

namespace adrank {
namespace {

v1::EntityKey KeyFor(v1::EntityType type, absl::string_view id) {
  v1::EntityKey key;
  key.set_type(type);
  key.set_id(id.data(), id.size());
  return key;
}

v1::RankingStage StageOf(Veto veto) {
  switch (veto) {
    case Veto::kStatus:
      return v1::RANKING_STAGE_CATALOG;
    case Veto::kSchedule:
      return v1::RANKING_STAGE_SCHEDULE;
    case Veto::kBlocked:
      return v1::RANKING_STAGE_BLOCKED;
    case Veto::kBudget:
      return v1::RANKING_STAGE_BUDGET;
    case Veto::kFrequencyCap:
      return v1::RANKING_STAGE_CAP;
    case Veto::kNegativeKeyword:
      break;
  }
  return v1::RANKING_STAGE_KEYWORD;
}

// Of what AdIndex::WhyNot says about an ad.
v1::RankingStage StageOf(const AdIndex& index, const std::string& ad_id,
                         const RetrieveRequest& ask, absl::string_view why) {
  const std::optional<uint32_t> ad = index.Find(ad_id);
  if (!ad.has_value()) return v1::RANKING_STAGE_CATALOG;
  if (const auto veto = index.VetoOfNamed(*ad, ask)) return StageOf(*veto);
  return absl::StartsWith(why, "not matched: targeting")
             ? v1::RANKING_STAGE_TARGETING
             : v1::RANKING_STAGE_KEYWORD;
}

void SetGap(v1::RankingStage stage, double needed, double had,
            v1::AdExplanation* out) {
  out->set_stage(stage);
  out->set_needed(needed);
  out->set_had(had);
}

}  // namespace

// The auction of the trace with something changed. Puts the trace back.
class WhyNot::Counterfactual {
 public:
  explicit Counterfactual(WhyNot* why)
      : pipeline_(why->pipeline_),
        index_(*why->serving_.index),
        request_id_(why->request_id_),
        trace_(why->trace_),
        result_(std::move(trace_->auction)),
        excluded_(trace_->excluded) {
    for (const RankCandidate& c : trace_->candidates) {
      bids_.push_back(c.bid_micros);
    }
  }
  ~Counterfactual() {
    for (size_t i = 0; i < bids_.size(); ++i) {
      trace_->candidates[i].bid_micros = bids_[i];
    }
    trace_->excluded = std::move(excluded_);
    pipeline_.PrepareAuction(index_, request_id_, trace_);
    trace_->auction = std::move(result_);
  }

  // Nobody but `i` takes part.
  void Alone(size_t i) {
    std::fill(trace_->excluded.begin(), trace_->excluded.end(), 1);
    trace_->excluded[i] = 0;
  }

  // Whether ad `i` is shown when it, and what shares its bid, bids this.
  bool Shown(size_t i, int64_t bid) {
    SetBid(i, bid);
    pipeline_.PrepareAuction(index_, request_id_, trace_);
    return Hold(i);
  }

  // The same with its own bid, counted as an ad of another advertiser.
  bool ShownWithoutLimit(size_t i) {
    pipeline_.PrepareAuction(index_, request_id_, trace_);
    AuctionAd alone = trace_->auction_ads[i];
    alone.advertiser = AuctionAd::kNoAdvertiser;
    trace_->auction_ads.Set(i, alone);
    return Hold(i);
  }

  // The same without its exclusion labels.
  bool ShownWithoutLabels(size_t i) {
    pipeline_.PrepareAuction(index_, request_id_, trace_);
    AuctionAd alone = trace_->auction_ads[i];
    alone.labels = {};
    trace_->auction_ads.Set(i, alone);
    return Hold(i);
  }

  // Least bid above its own with which it is shown and with one micro less is
  // not. Absent when the largest bid would not do. A higher bid never loses a
  // slot, so that doubling and halving find it.
  std::optional<int64_t> LeastBid(size_t i) {
    int64_t low = bids_[i], high = low;
    for (int64_t step = 1;; step *= 2) {
      high = low > kMaxBidMicros - step ? kMaxBidMicros : low + step;
      if (Shown(i, high)) break;
      if (high == kMaxBidMicros) return std::nullopt;
      low = high;
    }
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (Shown(i, middle) ? high : low) = middle;
    }
    return high;
  }

 private:
  // The bid belongs to the ad group or to a keyword of it; one that the caller
  // named is the ad's own.
  void SetBid(size_t i, int64_t bid) {
    const RankCandidate& own = trace_->candidates[i];
    const bool shared = own.match_type != v1::MATCH_TYPE_CALLER &&
                        own.item.ad != PredictItem::kNotIndexed;
    trace_->candidates[i].bid_micros = bid;
    if (!shared) return;
    const uint32_t group = index_.ad(own.item.ad).group;
    for (RankCandidate& c : trace_->candidates) {
      if (c.item.ad != PredictItem::kNotIndexed &&
          index_.ad(c.item.ad).group == group) {
        c.bid_micros = bid;
      }
    }
  }

  bool Hold(size_t i) {
    pipeline_.HoldAuction(trace_, false);
    return std::any_of(trace_->auction.slots.begin(),
                       trace_->auction.slots.end(),
                       [i](const AuctionSlot& s) { return s.ad == i; });
  }

  const RankingPipeline& pipeline_;
  const AdIndex& index_;
  const std::string& request_id_;
  RankTrace* const trace_;
  AuctionResult result_;
  std::vector<uint8_t> excluded_;
  std::vector<int64_t> bids_;
};

WhyNot::WhyNot(const RankingPipeline& pipeline, const ServingSnapshot& serving,
               const v1::RankRequest& request, absl::string_view request_id,
               const ExplainSources& sources, RankTrace* trace)
    : pipeline_(pipeline),
      serving_(serving),
      request_(request),
      request_id_(request_id),
      sources_(sources),
      trace_(trace) {}

std::optional<size_t> WhyNot::CandidateOf(absl::string_view ad_id) const {
  for (size_t i = 0; i < trace_->candidates.size(); ++i) {
    if (trace_->candidates[i].ad_id == ad_id) return i;
  }
  return std::nullopt;
}

std::optional<int64_t> WhyNot::BidForASlot(size_t i) {
  return Counterfactual(this).LeastBid(i);
}

std::optional<int64_t> WhyNot::BidForReserve(size_t i) {
  Counterfactual alone(this);
  alone.Alone(i);
  return alone.LeastBid(i);
}

void WhyNot::Explain(const std::string& ad_id, v1::AdExplanation* out) {
  out->set_ad_id(ad_id);
  const std::optional<size_t> i = CandidateOf(ad_id);
  if (!i.has_value()) {
    NotFound(ad_id, out) || BeyondLimit(ad_id, out);
    return;
  }
  Unpredicted(*i, out) || Refused(*i, out) || BelowReserve(*i, out) ||
      PassedOver(*i, out) || AtLimit(*i, out) || Excluded(*i, out) ||
      (Outranked(*i, out), true);
}

// ---- it never was a candidate ----

bool WhyNot::NotFound(const std::string& ad_id, v1::AdExplanation* out) const {
  const AdIndex& index = *serving_.index;
  const RetrieveRequest ask = AskFor(request_, *trace_);
  std::string why;
  std::optional<v1::RankingStage> stage;
  if (request_.candidates().empty()) {
    why = index.WhyNot(ad_id, ask);
  } else {
    const auto named = std::find_if(
        request_.candidates().begin(), request_.candidates().end(),
        [&](const v1::Candidate& c) {
          return (c.has_ad() ? c.ad().ad_id() : c.ad_id()) == ad_id;
        });
    const std::optional<uint32_t> ad = index.Find(ad_id);
    if (named == request_.candidates().end()) {
      stage = v1::RANKING_STAGE_RETRIEVAL;
      why = "not among the request's candidates";
    } else if (!named->has_ad()) {
      why = ad.has_value() ? index.WhyNotNamed(*ad, ask)
                           : index.WhyNot(ad_id, ask);
    } else if (const auto& blocked = request_.blocked_advertiser_ids();
               std::find(blocked.begin(), blocked.end(),
                         named->ad().advertiser_id()) != blocked.end()) {
      stage = v1::RANKING_STAGE_BLOCKED;
      why = absl::StrCat("advertiser \"", named->ad().advertiser_id(),
                         "\" is blocked by the request");
    } else if (const auto& ads = request_.blocked_ad_ids();
               std::find(ads.begin(), ads.end(), ad_id) != ads.end()) {
      stage = v1::RANKING_STAGE_BLOCKED;
      why = absl::StrCat("ad \"", ad_id, "\" is blocked by the request");
    }
  }
  if (why.empty()) return false;
  if (!stage.has_value()) stage = StageOf(index, ad_id, ask, why);
  out->set_outcome(why);
  out->set_stage(*stage);
  AddDetail(*stage, ad_id, out);
  return true;
}

// What the stage compared, from who knows it.
void WhyNot::AddDetail(v1::RankingStage stage, const std::string& ad_id,
                       v1::AdExplanation* out) const {
  const AdIndex& index = *serving_.index;
  const std::optional<uint32_t> number = index.Find(ad_id);
  if (!number.has_value()) return;
  const IndexedAd& ad = index.ad(*number);
  std::optional<StageGap> gap;
  if (stage == v1::RANKING_STAGE_TARGETING) return TargetingDetail(ad, out);
  if (stage == v1::RANKING_STAGE_BUDGET && SitsOut(ad.campaign)) {
    out->set_outcome(absl::StrFormat(
        "campaign \"%s\" sits this request out so that its budget lasts: it "
        "takes part in %.3g %% of requests",
        ad.campaign_id,
        100 * trace_->terms.campaigns[ad.campaign].participation));
  } else if (stage == v1::RANKING_STAGE_BUDGET && sources_.budget) {
    gap = sources_.budget(std::string(ad.campaign_id));
  } else if (stage == v1::RANKING_STAGE_CAP && sources_.cap) {
    gap = sources_.cap(index, *number, trace_->context);
  }
  if (!gap.has_value()) return;
  SetGap(stage, gap->needed, gap->had, out);
  out->set_outcome(absl::StrCat(out->outcome(), ": ", gap->text));
}

// Closed by a draw, not for want of budget.
bool WhyNot::SitsOut(uint32_t campaign) const {
  return !trace_->terms.campaigns.empty() &&
         !trace_->terms.campaigns[campaign].closed;
}

void WhyNot::TargetingDetail(const IndexedAd& ad,
                             v1::AdExplanation* out) const {
  if (!sources_.entity) return;
  std::optional<v1::CatalogEntity> entity =
      sources_.entity(KeyFor(v1::ENTITY_TYPE_CAMPAIGN, ad.campaign_id));
  std::optional<TargetingGap> gap;
  if (entity.has_value()) {
    gap = FindTargetingGap(entity->campaign().targeting(), trace_->context);
  }
  if (!gap.has_value()) {
    entity = sources_.entity(KeyFor(v1::ENTITY_TYPE_AD_GROUP, ad.group_id));
    if (!entity.has_value()) return;
    gap = FindTargetingGap(entity->ad_group().targeting(), trace_->context);
  }
  if (!gap.has_value()) return;
  SetGap(v1::RANKING_STAGE_TARGETING, gap->needed, gap->had, out);
  out->set_outcome(absl::StrCat(out->outcome(), ": ", gap->text));
}

std::string WhyNot::ByModel(const std::string& ad_id) const {
  const AdIndex& index = *serving_.index;
  const std::optional<uint32_t> ad = index.Find(ad_id);
  if (trace_->model_vectors == nullptr) {
    if (pipeline_.quota().model == 0) return "";
    return absl::StrCat("; the model was not asked: ",
                        serving_.model_vectors == nullptr
                            ? serving_.model_retrieval
                            : "what it says of the request is not finite");
  }
  if (!ad.has_value()) return "";
  const std::vector<AdMatch>& list = trace_->retrieve_scratch.by_model.matches;
  const auto it = std::find_if(list.begin(), list.end(),
                               [&](const AdMatch& m) { return m.ad == *ad; });
  if (it != list.end()) {
    return absl::StrFormat(
        "; by the model's vectors (product %.6g) it is number %d, and their "
        "quota is %d",
        it->similarity, it - list.begin() + 1, pipeline_.quota().model);
  }
  const auto product =
      index.ProductOf(*ad, index.ad(*ad).bid_micros, AskFor(request_, *trace_));
  if (!product.has_value() || list.empty()) return "";
  return absl::StrFormat(
      "; by the model's vectors it has product %.6g, and number %d has %.6g",
      *product, list.size(), list.back().similarity);
}

// The least bid above `bid` with which ad `number` is worth more than `last`,
// or as much and comes first; absent when the largest would not do.
std::optional<int64_t> WhyNot::BidBefore(uint32_t number, int64_t bid,
                                         const AdMatch& last) const {
  const AdIndex& index = *serving_.index;
  const bool first = ComesFirst(number, last.ad);
  const auto does = [&](int64_t b) {
    const double value = index.ValueOf(number, b);
    return value > last.value || (first && value == last.value);
  };
  int64_t low = bid, high = kMaxBidMicros;
  if (!does(high)) return std::nullopt;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (does(middle) ? high : low) = middle;
  }
  return high;
}

// Numbers need not be in the order of ids, which breaks ties.
bool WhyNot::ComesFirst(uint32_t a, uint32_t b) const {
  const AdIndex& index = *serving_.index;
  return index.ad_id(a) < index.ad_id(b);
}

// It matched, and others fill the limit of candidates: how far it is from the
// last of them. Its siblings' bids rise with its own.
bool WhyNot::BeyondLimit(const std::string& ad_id,
                         v1::AdExplanation* out) const {
  const AdIndex& index = *serving_.index;
  const size_t limit = trace_->candidates.size();
  out->set_stage(v1::RANKING_STAGE_RETRIEVAL);
  if (pipeline_.quota().sum() > 0 || !request_.query_embedding().empty()) {
    // Which bid would do depends on what each source found.
    out->set_outcome(absl::StrCat("not predicted: ", limit,
                                  " candidates of the sources' quotas, and of "
                                  "the highest value beside them, fill the "
                                  "limit of candidates",
                                  ByModel(ad_id)));
    return true;
  }
  std::string text = "not predicted";
  if (limit > 0) {
    absl::StrAppendFormat(&text,
                          ": %d candidates worth more (at least %.15g micros a "
                          "click) fill the limit of candidates",
                          limit, trace_->candidates.back().value);
  }
  const std::optional<uint32_t> number = index.Find(ad_id);
  if (!request_.candidates().empty() || !number.has_value()) {
    out->set_outcome(text);
    return true;
  }
  RetrieveScratch scratch;
  Retrieval all;
  index.Retrieve(AskFor(request_, *trace_), index.size() + 1, &scratch, &all);
  std::vector<AdMatch> others;
  const IndexedAd& own = index.ad(*number);
  size_t rank = 0, siblings_before = 0;
  int64_t bid = 0;
  for (size_t r = 0; r < all.matches.size(); ++r) {
    const AdMatch& match = all.matches[r];
    const IndexedAd& ad = index.ad(match.ad);
    if (match.ad == *number) {
      rank = r + 1;
      bid = match.bid_micros;
    } else if (ad.group != own.group) {
      others.push_back(match);
    } else {
      siblings_before += ad.quality != own.quality
                             ? ad.quality > own.quality
                             : ComesFirst(match.ad, *number);
    }
  }
  if (rank > 0) {
    absl::StrAppend(&text, "; its place is ", rank, " of ", all.matches.size());
  }
  if (rank <= limit || siblings_before >= limit) {
    absl::StrAppend(&text,
                    "; no bid would have made it one: siblings that bid the "
                    "same come first");
  } else if (const auto needed =
                 // Best first: this one must be passed.
             BidBefore(*number, bid, others[limit - 1 - siblings_before])) {
    SetGap(v1::RANKING_STAGE_RETRIEVAL, static_cast<double>(*needed),
           static_cast<double>(bid), out);
    absl::StrAppend(&text, "; to be one, needed bid ", *needed, ", had ", bid);
  } else {
    absl::StrAppend(&text, "; no bid would have made it one");
  }
  out->set_outcome(text);
  return true;
}

// ---- it was a candidate ----

bool WhyNot::Unpredicted(size_t i, v1::AdExplanation* out) const {
  const size_t ready = trace_->prediction.ready();
  if (i < ready) return false;
  SetGap(v1::RANKING_STAGE_DEADLINE, static_cast<double>(i + 1),
         static_cast<double>(ready), out);
  out->set_outcome(absl::StrCat("not predicted: the deadline came after ",
                                ready, " of ", trace_->candidates.size(),
                                " candidates"));
  return true;
}

bool WhyNot::Refused(size_t i, v1::AdExplanation* out) const {
  if (i >= trace_->excluded.size() || !trace_->excluded[i]) return false;
  const bool cap = trace_->refusal_reason == v1::NO_AD_REASON_FREQUENCY_CAP;
  out->set_stage(cap ? v1::RANKING_STAGE_CAP : v1::RANKING_STAGE_BUDGET);
  out->set_outcome(
      cap ? "won a slot, or shares a cap with an ad that did, and the user's "
            "caps had no room left for it"
          : "won a slot, or shares a budget with an ad that did, and what was "
            "left of the budget could not pay for it");
  AddDetail(out->stage(), out->ad_id(), out);
  return true;
}

bool WhyNot::BelowReserve(size_t i, v1::AdExplanation* out) {
  const int64_t bid = trace_->candidates[i].bid_micros;
  std::optional<int64_t> needed;
  {
    Counterfactual alone(this);
    alone.Alone(i);
    if (alone.Shown(i, bid)) return false;
    needed = alone.LeastBid(i);
  }
  if (!needed.has_value()) {
    SetGap(v1::RANKING_STAGE_RESERVE, 0, 0, out);
    out->set_outcome("below reserve: no bid reaches it");
    return true;
  }
  SetGap(v1::RANKING_STAGE_RESERVE, static_cast<double>(*needed),
         static_cast<double>(bid), out);
  std::string text = absl::StrCat("below reserve: bid ", bid, " < ", *needed);
  const std::optional<int64_t> slot = BidForASlot(i);
  if (!slot.has_value()) {
    absl::StrAppend(&text, "; no bid would have taken a slot");
  } else if (*slot > *needed) {
    absl::StrAppend(&text, "; a slot needed bid ", *slot);
  }
  out->set_outcome(text);
  return true;
}

std::string WhyNot::AdvertiserLimitText(size_t i,
                                        v1::AdExplanation* out) const {
  const uint32_t limit = pipeline_.max_ads_per_advertiser();
  std::string shown;
  uint32_t count = 0;
  for (const AuctionSlot& s : trace_->auction.slots) {
    if (trace_->auction_ads[s.ad].advertiser !=
        trace_->auction_ads[i].advertiser) {
      continue;
    }
    ++count;
    absl::StrAppend(&shown, shown.empty() ? "" : ", ", "\"",
                    trace_->candidates[s.ad].ad_id, "\"");
  }
  SetGap(v1::RANKING_STAGE_LIMIT, limit, count, out);
  return absl::StrCat(
      "advertiser limit: ", limit, limit == 1 ? " ad" : " ads",
      " of advertiser \"",
      SnapshotOf(*serving_.index, trace_->candidates[i].item).advertiser_id(),
      "\" shown already: ", shown);
}

// Exploration took the slot that it would have had.
bool WhyNot::PassedOver(size_t i, v1::AdExplanation* out) {
  const auto& slots = trace_->auction.slots;
  if (std::none_of(slots.begin(), slots.end(),
                   [](const AuctionSlot& s) { return s.explored; }) ||
      !Counterfactual(this).Shown(i, trace_->candidates[i].bid_micros)) {
    return false;
  }
  out->set_stage(v1::RANKING_STAGE_RANK);
  out->set_outcome("passed over: exploration showed another ad in its place");
  return true;
}

// Its advertiser's other ads alone keep it out.
bool WhyNot::AtLimit(size_t i, v1::AdExplanation* out) {
  if (!Counterfactual(this).ShownWithoutLimit(i)) return false;
  out->set_outcome(AdvertiserLimitText(i, out));
  return true;
}

// An ad that is shown has one of its exclusion labels.
bool WhyNot::Excluded(size_t i, v1::AdExplanation* out) {
  const AuctionAds& ads = trace_->auction_ads;
  for (const AuctionSlot& s : trace_->auction.slots) {
    const bool shares = std::any_of(
        ads[i].labels.begin(), ads[i].labels.end(), [&](uint64_t label) {
          const auto& other = ads[s.ad].labels;
          return std::binary_search(other.begin(), other.end(), label);
        });
    if (!shares || !Counterfactual(this).ShownWithoutLabels(i)) continue;
    out->set_stage(v1::RANKING_STAGE_LIMIT);
    out->set_outcome(absl::StrCat("shares an exclusion label with ad \"",
                                  trace_->candidates[s.ad].ad_id, "\""));
    return true;
  }
  return false;
}

const AuctionSlot* WhyNot::LastOf(size_t placement) const {
  const AuctionSlot* last = nullptr;
  for (const AuctionSlot& s : trace_->auction.slots) {
    if (s.placement == placement) last = &s;
  }
  return last;
}

size_t WhyNot::BestPlacement(size_t i) const {
  size_t best = 0;
  double best_ratio = -1;
  if (i >= trace_->prediction.ready()) return 0;
  for (size_t p = 0; p < trace_->placements.size(); ++p) {
    const AuctionSlot* last = LastOf(p);
    if (last == nullptr) continue;
    const double score =
        ScoreOf(trace_->auction_ads[i], trace_->prediction.pctrs(p)[i],
                trace_->auction_options);
    const double ratio = score / std::max(last->score, 1e-300);
    if (ratio > best_ratio) {
      best_ratio = ratio;
      best = p;
    }
  }
  return best;
}

void WhyNot::Outranked(size_t i, v1::AdExplanation* out) {
  const int64_t bid = trace_->candidates[i].bid_micros;
  out->set_stage(v1::RANKING_STAGE_RANK);
  std::string text = "outranked";
  const size_t p = BestPlacement(i);
  if (const AuctionSlot* last = LastOf(p)) {
    const double score =
        ScoreOf(trace_->auction_ads[i], trace_->prediction.pctrs(p)[i],
                trace_->auction_options);
    absl::StrAppendFormat(
        &text,
        ": score %.6g %s %.6g of ad \"%s\", the last of placement \"%s\"",
        score, score < last->score ? "<" : "behind", last->score,
        trace_->candidates[last->ad].ad_id, trace_->placement_ids[p]);
  }
  if (const std::optional<int64_t> needed = BidForASlot(i)) {
    SetGap(v1::RANKING_STAGE_RANK, static_cast<double>(*needed),
           static_cast<double>(bid), out);
    absl::StrAppend(&text, "; needed bid ", *needed, ", had ", bid);
  } else {
    absl::StrAppend(&text, "; no bid would have taken a slot");
  }
  out->set_outcome(text);
}

}  // namespace adrank
