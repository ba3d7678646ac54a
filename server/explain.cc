#include "server/explain.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "model/explain.h"

namespace adrank {
namespace {

// Explains the ads of one finished ranking.
class Explainer {
 public:
  Explainer(const ServingSnapshot& serving, const v1::RankRequest& request,
            const RankTrace& trace, uint32_t max_ads_per_advertiser)
      : serving_(serving),
        request_(request),
        trace_(trace),
        max_ads_(max_ads_per_advertiser) {}

  void Served(size_t slot, v1::AdExplanation* out) const {
    const AuctionSlot& s = trace_.auction.slots[slot];
    out->set_served(true);
    out->set_outcome(absl::StrCat("served at position ", slot + 1, " (",
                                  s.position_in_placement, " of placement \"",
                                  trace_.placement_ids[s.placement], "\")"));
    out->set_price_micros(s.price_micros);
    out->set_price_reason(PriceReason(s));
    Scores(s.ad, s.placement, out);
  }

  void NotServed(const std::string& ad_id, v1::AdExplanation* out) const {
    out->set_ad_id(ad_id);
    for (size_t i = 0; i < trace_.candidates.size(); ++i) {
      if (trace_.candidates[i].snapshot->ad_id() != ad_id) continue;
      out->set_outcome(WhyLost(i));
      const size_t placement = BestPlacement(i);
      if (i < trace_.prediction.ready()) Scores(i, placement, out);
      return;
    }
    out->set_outcome(WhyNoCandidate(ad_id));
  }

 private:
  const RankCandidate& candidate(size_t i) const {
    return trace_.candidates[i];
  }

  void Scores(size_t i, size_t placement, v1::AdExplanation* out) const {
    const RankCandidate& c = candidate(i);
    out->set_ad_id(c.snapshot->ad_id());
    out->set_match_type(c.match_type);
    out->set_keyword(std::string(serving_.index->keyword(c.keyword)));
    out->set_similarity(c.similarity);
    out->set_pctr(trace_.prediction.pctrs(placement)[i]);
    out->set_logit(trace_.prediction.logits(placement)[i]);
    out->set_bid_micros(c.bid_micros);
    out->set_score(Score(i, placement));
    if (trace_.prediction.has_model()) Contributions(i, placement, out);
  }

  double Score(size_t i, size_t placement) const {
    return static_cast<double>(candidate(i).bid_micros) *
           static_cast<double>(trace_.prediction.pctrs(placement)[i]);
  }

  void Contributions(size_t i, size_t placement, v1::AdExplanation* out) const {
    const ModelBundle& bundle = *serving_.bundle;
    const Prediction::Scored scored = trace_.prediction.scored(placement, i);
    const std::vector<std::string> names = bundle.extractor().Describe(
        trace_.context, trace_.placement_ids[placement], *candidate(i).snapshot,
        kServingPosition);
    Explanation why =
        bundle.model().Explain(scored.features, scored.rows, scored.row);
    std::stable_sort(why.contributions.begin(), why.contributions.end(),
                     [](const Contribution& a, const Contribution& b) {
                       return std::abs(a.contribution) >
                              std::abs(b.contribution);
                     });
    for (const Contribution& part : why.contributions) {
      v1::FeatureContribution* f = out->add_contributions();
      f->set_feature(names[part.entry]);
      f->set_value(part.value);
      f->set_weight(part.weight);
      f->set_contribution(static_cast<float>(part.contribution));
    }
    out->set_base_logit(static_cast<float>(why.base));
    out->set_completeness_gap(static_cast<float>(why.gap));
    out->set_method(why.method == Explanation::Method::kExact
                        ? "exact"
                        : "integrated gradients");
  }

  std::string PriceReason(const AuctionSlot& s) const {
    const int64_t reserve = trace_.placements[s.placement].reserve_micros;
    if (s.price_setter == PriceSetter::kReserve) {
      return reserve > 0 ? absl::StrCat("reserve ", reserve)
                         : "no reserve and no rival: least price of 1 micro";
    }
    return absl::StrFormat(
        "next score of ad \"%s\": %.6g / pctr %.6g (bid %d, spared %d)",
        candidate(s.next_ad).snapshot->ad_id(), Score(s.next_ad, s.placement),
        trace_.prediction.pctrs(s.placement)[s.ad], candidate(s.ad).bid_micros,
        candidate(s.ad).bid_micros - s.price_micros);
  }

  // The placement that the candidate would have reached most easily: whose
  // reserve it meets and whose last ad it trails by least.
  size_t BestPlacement(size_t i) const {
    size_t best = 0;
    double best_ratio = -1;
    if (i >= trace_.prediction.ready()) return 0;
    for (size_t p = 0; p < trace_.placements.size(); ++p) {
      const AuctionSlot* last = LastOf(p);
      if (last == nullptr || Reserve(p) > candidate(i).bid_micros) continue;
      const double ratio = Score(i, p) / std::max(last->score, 1e-300);
      if (ratio > best_ratio) {
        best_ratio = ratio;
        best = p;
      }
    }
    return best;
  }

  int64_t Reserve(size_t p) const {
    return std::max<int64_t>(1, trace_.placements[p].reserve_micros);
  }

  const AuctionSlot* LastOf(size_t p) const {
    const AuctionSlot* last = nullptr;
    for (const AuctionSlot& s : trace_.auction.slots) {
      if (s.placement == p) last = &s;
    }
    return last;
  }

  std::string WhyLost(size_t i) const {
    const size_t ready = trace_.prediction.ready();
    if (i >= ready) {
      return absl::StrCat("not predicted: the deadline came after ", ready,
                          " of ", trace_.candidates.size(), " candidates");
    }
    const int64_t bid = candidate(i).bid_micros;
    int64_t lowest = kMaxBidMicros;
    for (size_t p = 0; p < trace_.placements.size(); ++p) {
      lowest = std::min(lowest, Reserve(p));
    }
    if (bid < lowest) {
      return absl::StrCat("below reserve: bid ", bid, " < ", lowest);
    }
    const size_t p = BestPlacement(i);
    const AuctionSlot* last = LastOf(p);
    if (AtLimit(i) &&
        (last == nullptr || Score(i, p) >= last->score ||
         trace_.auction.short_reason[p] != v1::NO_AD_REASON_UNSPECIFIED)) {
      return absl::StrCat("advertiser limit: ", max_ads_,
                          max_ads_ == 1 ? " ad" : " ads", " of advertiser \"",
                          candidate(i).snapshot->advertiser_id(),
                          "\" shown already");
    }
    return Outranked(i, p, last);
  }

  bool AtLimit(size_t i) const {
    const uint32_t advertiser = trace_.auction_ads[i].advertiser;
    if (max_ads_ == 0 || advertiser == AuctionAd::kNoAdvertiser) return false;
    uint32_t shown = 0;
    for (const AuctionSlot& s : trace_.auction.slots) {
      shown += trace_.auction_ads[s.ad].advertiser == advertiser;
    }
    return shown >= max_ads_;
  }

  std::string Outranked(size_t i, size_t p, const AuctionSlot* last) const {
    if (last == nullptr) return "outranked";
    std::string text = absl::StrFormat(
        "outranked: score %.6g < %.6g of ad \"%s\", the last of placement "
        "\"%s\"",
        Score(i, p), last->score, candidate(last->ad).snapshot->ad_id(),
        trace_.placement_ids[p]);
    const double pctr = trace_.prediction.pctrs(p)[i];
    const double needed = pctr > 0 ? std::ceil(last->score / pctr) : 0;
    if (needed > 0 && needed <= static_cast<double>(kMaxBidMicros)) {
      absl::StrAppendFormat(&text, "; needed bid %.0f, had %d", needed,
                            candidate(i).bid_micros);
    }
    return text;
  }

  std::string WhyNoCandidate(const std::string& ad_id) const {
    const AdIndex& index = *serving_.index;
    const RetrieveRequest ask = {&trace_.context,
                                 &request_.blocked_advertiser_ids()};
    const std::string cut =
        trace_.candidates.empty()
            ? "not predicted"
            : absl::StrCat("not predicted: ", trace_.candidates.size(),
                           " candidates with higher bids (at least ",
                           trace_.candidates.back().bid_micros,
                           ") fill the limit of candidates");
    if (request_.candidates().empty()) {
      const std::string why = index.WhyNot(ad_id, ask);
      return why.empty() ? cut : why;
    }
    const v1::Candidate* named = Named(ad_id);
    if (named == nullptr) return "not among the request's candidates";
    if (named->has_ad()) {
      const std::string& advertiser = named->ad().advertiser_id();
      const auto& blocked = request_.blocked_advertiser_ids();
      const bool is_blocked = std::find(blocked.begin(), blocked.end(),
                                        advertiser) != blocked.end();
      return is_blocked ? absl::StrCat("advertiser \"", advertiser,
                                       "\" is blocked by the request")
                        : cut;
    }
    const std::optional<uint32_t> ad = index.Find(ad_id);
    if (!ad.has_value()) return index.WhyNot(ad_id, ask);
    const std::string why = index.WhyNotNamed(*ad, ask);
    return why.empty() ? cut : why;
  }

  const v1::Candidate* Named(const std::string& ad_id) const {
    for (const v1::Candidate& c : request_.candidates()) {
      if ((c.has_ad() ? c.ad().ad_id() : c.ad_id()) == ad_id) return &c;
    }
    return nullptr;
  }

  const ServingSnapshot& serving_;
  const v1::RankRequest& request_;
  const RankTrace& trace_;
  const uint32_t max_ads_;
};

}  // namespace

absl::Status ExplainRanking(const RankingPipeline& pipeline,
                            const ServingSnapshot& serving,
                            const v1::ExplainRequest& request,
                            const DecisionId& id, const CallOptions& call,
                            RankTrace* trace, v1::ExplainResponse* response) {
  RETURN_IF_ERROR(CheckRequest(request, pipeline.limits()));
  RankOutcome outcome;
  RETURN_IF_ERROR(
      pipeline.Rank(serving, request.request(), id, call, trace, &outcome));
  response->Clear();
  const Explainer explainer(serving, request.request(), *trace,
                            pipeline.max_ads_per_advertiser());
  absl::flat_hash_set<std::string> done;
  for (size_t s = 0; s < trace->auction.slots.size(); ++s) {
    explainer.Served(s, response->add_ads());
    done.insert(response->ads(static_cast<int>(s)).ad_id());
  }
  for (const std::string& ad_id : request.ad_ids()) {
    if (done.insert(ad_id).second) {
      explainer.NotServed(ad_id, response->add_ads());
    }
  }
  *response->mutable_response() = std::move(outcome.response);
  return absl::OkStatus();
}

}  // namespace adrank
