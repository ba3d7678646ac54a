#include "server/explain.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "model/explain.h"
#include "server/candidates.h"

namespace adrank {
namespace {

// Explains the ads of one finished ranking.
class Explainer {
 public:
  Explainer(const RankingPipeline& pipeline, const ServingSnapshot& serving,
            const v1::RankRequest& request, absl::string_view request_id,
            const ExplainSources& sources, RankTrace* trace)
      : serving_(serving),
        request_(request),
        trace_(*trace),
        why_not_(pipeline, serving, request, request_id, sources, trace) {}

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

  void NotServed(const std::string& ad_id, v1::AdExplanation* out) {
    why_not_.Explain(ad_id, out);
    const std::optional<size_t> i = why_not_.CandidateOf(ad_id);
    if (i.has_value() && *i < trace_.prediction.ready()) {
      Scores(*i, why_not_.BestPlacement(*i), out);
    }
  }

 private:
  const RankCandidate& candidate(size_t i) const {
    return trace_.candidates[i];
  }

  void Scores(size_t i, size_t placement, v1::AdExplanation* out) const {
    const RankCandidate& c = candidate(i);
    out->set_ad_id(std::string(c.ad_id));
    out->set_match_type(c.match_type);
    out->set_keyword(std::string(serving_.index->keyword(c.keyword)));
    out->set_similarity(c.similarity);
    out->set_pctr(trace_.prediction.pctrs(placement)[i]);
    out->set_logit(trace_.prediction.logits(placement)[i]);
    out->set_bid_micros(c.bid_micros);
    out->set_score(Score(i, placement));
    out->set_pacing_multiplier(c.pacing_multiplier);
    MatchedAttributes(c, out);
    out->set_bid_type(trace_.auction_ads[i].bid_type);
    out->set_quality(trace_.auction_ads[i].quality);
    if (trace_.prediction.has_model()) Contributions(i, placement, out);
  }

  void MatchedAttributes(const RankCandidate& c, v1::AdExplanation* out) const {
    if (c.item.ad == PredictItem::kNotIndexed) return;
    const RetrieveRequest ask = AskFor(request_, trace_);
    RetrieveScratch scratch;
    serving_.index->Resolve(ask, &scratch);
    std::vector<std::string> matched;
    serving_.index->MatchedAttributes(c.item.ad, ask, scratch, &matched);
    out->mutable_matched_attributes()->Assign(matched.begin(), matched.end());
  }

  double Score(size_t i, size_t placement) const {
    return ScoreOf(trace_.auction_ads[i], trace_.prediction.pctrs(placement)[i],
                   trace_.auction_options);
  }

  void Contributions(size_t i, size_t placement, v1::AdExplanation* out) const {
    const ModelBundle& bundle = *serving_.bundle;
    const Prediction::Scored scored = trace_.prediction.scored(placement, i);
    const std::vector<std::string> names = bundle.extractor().Describe(
        trace_.context, trace_.placement_ids[placement],
        SnapshotOf(*serving_.index, candidate(i).item), kServingPosition);
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
    const AuctionAd& ad = trace_.auction_ads[s.ad];
    const int64_t reserve = std::max(
        trace_.placements[s.placement].reserve_micros, ad.reserve_micros);
    if (s.price_setter == PriceSetter::kOwnBid) {
      return absl::StrCat("own bid ", s.bid_micros);
    }
    if (s.price_setter == PriceSetter::kReserve) {
      return reserve > 0 ? absl::StrCat("reserve ", s.reserve_micros)
                         : "no reserve and no rival: least price of 1 micro";
    }
    const float pctr = trace_.prediction.pctrs(s.placement)[s.ad];
    const double weight = WeightOf(ad, pctr, trace_.auction_options);
    return absl::StrFormat(
        "%s of ad \"%s\": %.6g / %s %.6g (bid %d, spared %d)",
        s.price_setter == PriceSetter::kDisplaced
            ? "what it keeps from others, by VCG, the first with the score"
            : "next score",
        candidate(s.next_ad).ad_id, Score(s.next_ad, s.placement),
        weight == static_cast<double>(pctr) ? "pctr" : "weight", weight,
        s.bid_micros, s.bid_micros - s.price_micros);
  }

  const ServingSnapshot& serving_;
  const v1::RankRequest& request_;
  const RankTrace& trace_;
  WhyNot why_not_;
};

}  // namespace

absl::Status ExplainRanking(const RankingPipeline& pipeline,
                            const ServingSnapshot& serving,
                            const v1::ExplainRequest& request,
                            const DecisionId& id, const CallOptions& call,
                            const ExplainSources& sources, RankTrace* trace,
                            v1::ExplainResponse* response) {
  RETURN_IF_ERROR(CheckRequest(request, pipeline.limits()));
  RETURN_IF_ERROR(CheckQueryEmbedding(request, serving.index->vector_dims()));
  RankOutcome outcome;
  RETURN_IF_ERROR(
      pipeline.Rank(serving, request.request(), id, call, trace, &outcome));
  response->Clear();
  *response->mutable_response() = std::move(outcome.response);
  ExplainAds(pipeline, serving, request, sources, trace, response);
  return absl::OkStatus();
}

void ExplainAds(const RankingPipeline& pipeline, const ServingSnapshot& serving,
                const v1::ExplainRequest& request,
                const ExplainSources& sources, RankTrace* trace,
                v1::ExplainResponse* response) {
  Explainer explainer(pipeline, serving, request.request(),
                      response->response().request_id(), sources, trace);
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
}

}  // namespace adrank
