// Hot path: no locks, no logging; allocates what the answer and the decision
// hold.
#include "server/answer.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/candidates.h"
#include "storage/event_log.h"

namespace adrank {
namespace {

v1::NoAdReason ReasonOf(const RankTrace& trace, size_t placement) {
  const v1::NoAdReason reason = trace.auction.short_reason[placement];
  if (reason == v1::NO_AD_REASON_UNSPECIFIED) return reason;
  if (trace.candidates.empty()) return trace.retrieval.reason;
  if (trace.refusal_reason != v1::NO_AD_REASON_UNSPECIFIED) {
    return trace.refusal_reason;
  }
  const bool more_were_coming =
      trace.deadline_cut &&
      (trace.prediction.ready() == 0 || reason == v1::NO_AD_REASON_EXHAUSTED);
  return more_were_coming ? v1::NO_AD_REASON_DEADLINE : reason;
}

template <typename Message>  // RankResponse, Decision or PredictResponse
void AddDegradations(const RankTrace& trace, Message* message) {
  const auto add = [&](bool holds, v1::Degradation what) {
    if (holds) message->add_degraded(what);
  };
  add(!trace.prediction.has_model(), v1::DEGRADATION_NO_MODEL);
  add(trace.prediction.non_finite() > 0, v1::DEGRADATION_NON_FINITE_SCORE);
  add(trace.deadline_cut, v1::DEGRADATION_DEADLINE);
  add(trace.retrieval.truncated, v1::DEGRADATION_TRUNCATED);
}

int64_t VersionOf(const ServingSnapshot& serving) {
  return serving.bundle == nullptr ? 0 : serving.bundle->manifest().version();
}

// One slot, as answered.
void FillRanked(const AdIndex& index, const RankTrace& trace,
                const AuctionSlot& slot, uint32_t position, v1::RankedAd* out) {
  const RankCandidate& c = trace.candidates[slot.ad];
  if (c.item.ad == PredictItem::kNotIndexed) {
    out->set_ad_id(c.item.snapshot->ad_id());
    out->set_ad_group_id(c.item.snapshot->ad_group_id());
    out->set_campaign_id(c.item.snapshot->campaign_id());
    out->set_advertiser_id(c.item.snapshot->advertiser_id());
  } else {
    const IndexedAd ad = index.ad(c.item.ad);
    const absl::string_view url = index.landing_url(c.item.ad);
    out->set_ad_id(ad.id.data(), ad.id.size());
    out->set_ad_group_id(ad.group_id.data(), ad.group_id.size());
    out->set_campaign_id(ad.campaign_id.data(), ad.campaign_id.size());
    out->set_advertiser_id(ad.advertiser_id.data(), ad.advertiser_id.size());
    out->set_landing_url(url.data(), url.size());
  }
  out->set_position(position);
  out->set_position_in_placement(slot.position_in_placement);
  out->set_pctr(trace.prediction.pctrs(slot.placement)[slot.ad]);
  out->set_logit(trace.prediction.logits(slot.placement)[slot.ad]);
  out->set_bid_micros(c.bid_micros);
  out->set_price_micros(slot.price_micros);
  out->set_score(slot.score);
  out->set_match_type(c.match_type);
  if (c.item.ad != PredictItem::kNotIndexed &&
      c.match_type != v1::MATCH_TYPE_CALLER) {
    std::vector<std::string> matched;
    index.MatchedAttributes(c.item.ad, {&trace.context}, trace.retrieve_scratch,
                            &matched);
    for (std::string& m : matched) out->add_matched_attributes(std::move(m));
  }
  const absl::string_view keyword = index.keyword(c.keyword);
  out->set_keyword(keyword.data(), keyword.size());
  out->set_similarity(c.similarity);
  out->set_propensity(slot.propensity);
  out->set_pacing_multiplier(c.pacing_multiplier);
  const AuctionAd& bidder = trace.auction_ads[slot.ad];
  out->set_bid_type(bidder.bid_type);
  out->set_quality(bidder.quality);
  out->set_explored(slot.explored);
}

// The same slot, as logged.
void FillServed(const v1::RankedAd& ranked, const RankTrace& trace,
                const AuctionSlot& slot, const EncodedAd& encoded,
                v1::ServedAd* out) {
  out->set_ad_hash(encoded.hash);
  out->set_position(ranked.position());
  out->set_placement_index(slot.placement);
  out->set_position_in_placement(ranked.position_in_placement());
  out->set_pctr(ranked.pctr());
  out->set_logit(ranked.logit());
  out->set_bid_micros(ranked.bid_micros());
  out->set_price_micros(ranked.price_micros());
  out->set_score(ranked.score());
  out->set_propensity(ranked.propensity());
  if (ranked.pacing_multiplier() != 1) {
    out->set_pacing_multiplier(ranked.pacing_multiplier());
  }
  out->set_bid_type(ranked.bid_type());
  if (ranked.quality() != 1) out->set_quality(ranked.quality());
  out->set_explored(ranked.explored());
  out->set_match_type(ranked.match_type());
  out->set_keyword(ranked.keyword());
  out->set_feature_fingerprint(
      trace.prediction.Fingerprint(slot.placement, slot.ad));
}

void FillCounts(const RankTrace& trace, v1::Counts* counts) {
  counts->set_matched(trace.retrieval.matched);
  counts->set_filtered(trace.retrieval.filtered);
  counts->set_predicted(static_cast<uint32_t>(trace.prediction.ready()));
  counts->set_above_reserve(trace.auction.above_reserve);
}

// What was asked, as far as the decision does not hold it elsewhere.
void FillRequest(const v1::RankRequest& request, v1::RankRequest* out) {
  *out->mutable_placements() = request.placements();
  *out->mutable_candidates() = request.candidates();
  *out->mutable_blocked_advertiser_ids() = request.blocked_advertiser_ids();
  out->set_max_candidates(request.max_candidates());
  out->set_deadline_ms(request.deadline_ms());
  *out->mutable_blocked_ad_ids() = request.blocked_ad_ids();
  *out->mutable_blocked_categories() = request.blocked_categories();
  *out->mutable_query_embedding() = request.query_embedding();
}

// What the user's caps kept out. An index that stands on another may have
// numbers of what is gone.
void FillCapped(const AdIndex& index, const AdmissionTerms& t,
                v1::Decision* decision) {
  for (const uint32_t ad : t.capped_ads) {
    const absl::string_view id = index.ad_id(ad);
    if (index.Find(id)) decision->add_capped_ad_ids(id.data(), id.size());
  }
  for (const uint32_t group : t.capped_groups) {
    const absl::string_view id = index.group_id(group);
    if (index.FindGroup(id)) {
      decision->add_capped_ad_group_ids(id.data(), id.size());
    }
  }
  for (const uint32_t campaign : t.capped_campaigns) {
    const std::string& id = index.campaign_id(campaign);
    if (index.FindCampaign(id)) decision->add_capped_campaign_ids(id);
  }
  for (auto* ids : {decision->mutable_capped_ad_ids(),
                    decision->mutable_capped_ad_group_ids(),
                    decision->mutable_capped_campaign_ids()}) {
    std::sort(ids->begin(), ids->end());
  }
  decision->set_all_caps_denied(t.denied != nullptr);
}

// The terms that made a difference, so that a replay can hold to them.
void FillTerms(const AdIndex& index, const RankTrace& trace,
               v1::Decision* decision) {
  std::map<absl::string_view, v1::CampaignTerms> terms;
  for (const AdMatch& match : trace.retrieval.closed) {
    const uint32_t campaign = index.ad(match.ad).campaign;
    terms[index.campaign_id(campaign)].set_closed(true);
  }
  for (const RankCandidate& c : trace.candidates) {
    if (c.pacing_multiplier == 1) continue;  // always, where it is not indexed
    terms[index.campaign_id(index.ad(c.item.ad).campaign)]
        .set_pacing_multiplier(c.pacing_multiplier);
  }
  for (auto& [id, term] : terms) {
    term.set_campaign_id(std::string(id));
    *decision->add_terms() = std::move(term);
  }
  FillCapped(index, trace.terms, decision);
}

void FillDecision(const RankTrace& trace, const v1::RankResponse& response,
                  bool test, v1::Decision* decision) {
  decision->set_request_id(response.request_id());
  *decision->mutable_context() = trace.context;
  for (const absl::string_view id : trace.placement_ids) {
    decision->add_placement_ids(id.data(), id.size());
  }
  decision->set_model_version(response.model_version());
  decision->set_catalog_version(response.catalog_version());
  *decision->mutable_degraded() = response.degraded();
  decision->set_test(test);
}

void FillSlots(const AdIndex& index, const RankTrace& trace,
               RankOutcome* outcome) {
  v1::RankResponse& response = outcome->response;
  for (size_t p = 0; p < trace.placement_ids.size(); ++p) {
    v1::PlacementResult* result = response.add_placements();
    const absl::string_view id = trace.placement_ids[p];
    result->set_id(id.data(), id.size());
    result->set_no_ad_reason(ReasonOf(trace, p));
  }
  uint32_t position = 0;
  for (const AuctionSlot& slot : trace.auction.slots) {
    v1::RankedAd* ranked =
        response.mutable_placements(static_cast<int>(slot.placement))
            ->add_ads();
    FillRanked(index, trace, slot, ++position, ranked);
    outcome->ads.push_back(std::make_shared<const EncodedAd>(
        EncodedOf(index, trace.candidates[slot.ad].item)));
    FillServed(*ranked, trace, slot, *outcome->ads.back(),
               outcome->decision.add_ads());
  }
}

}  // namespace

void FillAnswer(const ServingSnapshot& serving, const v1::RankRequest& request,
                const RankTrace& trace, RankOutcome* outcome) {
  const AdIndex& index = *serving.index;
  v1::RankResponse& response = outcome->response;
  FillSlots(index, trace, outcome);
  response.set_model_version(VersionOf(serving));
  response.set_catalog_version(index.version());
  AddDegradations(trace, &response);
  FillCounts(trace, response.mutable_counts());
  FillDecision(trace, response, request.test(), &outcome->decision);
  FillRequest(request, outcome->decision.mutable_request());
  FillTerms(index, trace, &outcome->decision);
}

void FillPredictions(const ServingSnapshot& serving, const RankTrace& trace,
                     v1::PredictResponse* response) {
  response->Clear();
  const Prediction& prediction = trace.prediction;
  for (size_t i = 0; i < trace.items.size(); ++i) {
    v1::Prediction* out = response->add_predictions();
    const PredictItem& item = trace.items[i];
    const absl::string_view id = item.ad == PredictItem::kNotIndexed
                                     ? item.snapshot->ad_id()
                                     : serving.index->ad_id(item.ad);
    out->set_ad_id(id.data(), id.size());
    const bool ready = i < prediction.ready();
    out->set_pctr(ready ? prediction.pctrs(0)[i] : prediction.prior_pctr());
    out->set_logit(ready ? prediction.logits(0)[i] : prediction.prior_logit());
    if (ready) out->set_feature_fingerprint(prediction.Fingerprint(0, i));
  }
  response->set_model_version(VersionOf(serving));
  AddDegradations(trace, response);
}

}  // namespace adrank
