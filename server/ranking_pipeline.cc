// Hot path: no locks, no logging; allocates what the answer and the decision
// hold.
#include "server/ranking_pipeline.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr absl::string_view kDefaultPlacement = "default";

absl::Status CallerGone() {
  return absl::CancelledError("the caller has gone");
}

bool Gone(const CallOptions& call) {
  return call.cancelled && call.cancelled();
}

uint32_t Microseconds(absl::Duration d) {
  const int64_t us = absl::ToInt64Microseconds(d);
  return static_cast<uint32_t>(std::clamp<int64_t>(us, 0, UINT32_MAX));
}

RetrieveRequest AskFor(const v1::RankRequest& request,
                       const v1::Context& context) {
  return {&context, &request.blocked_advertiser_ids()};
}

bool Blocks(const v1::RankRequest& request, const std::string& advertiser) {
  const auto& blocked = request.blocked_advertiser_ids();
  return !advertiser.empty() &&
         std::find(blocked.begin(), blocked.end(), advertiser) != blocked.end();
}

void TakeMatches(const AdIndex& index, RankTrace* trace) {
  for (const AdMatch& match : trace->retrieval.matches) {
    RankCandidate c;
    c.item = {match.ad, &index.ad(match.ad).snapshot};
    c.snapshot = c.item.snapshot;
    c.bid_micros = match.bid_micros;
    c.match_type = match.match_type;
    c.keyword = match.keyword;
    trace->candidates.push_back(c);
  }
}

void CountVeto(Veto veto, Retrieval* retrieval) {
  ++retrieval->filtered;
  ++retrieval->filtered_by[static_cast<size_t>(veto)];
}

// Adds the named ad unless a veto hits it or there is no such ad.
void TakeNamed(const AdIndex& index, const v1::RankRequest& request,
               const v1::Candidate& named, RankTrace* trace) {
  RankCandidate c;
  c.match_type = v1::MATCH_TYPE_CALLER;
  c.bid_micros = named.bid_micros();
  if (named.has_ad()) {
    ++trace->retrieval.matched;
    if (Blocks(request, named.ad().advertiser_id())) {
      return CountVeto(Veto::kBlocked, &trace->retrieval);
    }
    c.item.snapshot = &named.ad();
  } else {
    const std::optional<uint32_t> ad = index.Find(named.ad_id());
    if (!ad.has_value()) return;
    ++trace->retrieval.matched;
    const RetrieveRequest ask = AskFor(request, trace->context);
    if (const auto veto = index.VetoOfNamed(*ad, ask)) {
      return CountVeto(*veto, &trace->retrieval);
    }
    c.item = {*ad, &index.ad(*ad).snapshot};
    if (c.bid_micros == 0) c.bid_micros = index.ad(*ad).bid_micros;
  }
  c.snapshot = c.item.snapshot;
  trace->candidates.push_back(c);
}

void TakeAllNamed(const AdIndex& index, const v1::RankRequest& request,
                  size_t limit, RankTrace* trace) {
  Retrieval& retrieval = trace->retrieval;
  retrieval = Retrieval();
  for (const v1::Candidate& named : request.candidates()) {
    TakeNamed(index, request, named, trace);
  }
  std::vector<RankCandidate>& candidates = trace->candidates;
  if (candidates.empty()) {
    retrieval.reason = retrieval.matched == 0 ? v1::NO_AD_REASON_NO_MATCH
                                              : v1::NO_AD_REASON_ALL_FILTERED;
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const RankCandidate& a, const RankCandidate& b) {
              return a.bid_micros != b.bid_micros
                         ? a.bid_micros > b.bid_micros
                         : a.snapshot->ad_id() < b.snapshot->ad_id();
            });
  if (candidates.size() > limit) {
    retrieval.truncated = true;
    candidates.resize(limit);
  }
}

v1::NoAdReason ReasonOf(const RankTrace& trace, size_t placement) {
  const v1::NoAdReason reason = trace.auction.short_reason[placement];
  if (reason == v1::NO_AD_REASON_UNSPECIFIED) return reason;
  if (trace.candidates.empty()) return trace.retrieval.reason;
  const bool more_were_coming =
      trace.deadline_cut &&
      (trace.prediction.ready() == 0 || reason == v1::NO_AD_REASON_EXHAUSTED);
  return more_were_coming ? v1::NO_AD_REASON_DEADLINE : reason;
}

std::shared_ptr<const EncodedAd> EncodedOf(const AdIndex& index,
                                           const RankCandidate& c) {
  if (c.item.ad != PredictItem::kNotIndexed) {
    return index.ad(c.item.ad).encoded;
  }
  return std::make_shared<const EncodedAd>(EncodeAd(*c.snapshot));
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
  out->set_ad_id(c.snapshot->ad_id());
  out->set_ad_group_id(c.snapshot->ad_group_id());
  out->set_campaign_id(c.snapshot->campaign_id());
  out->set_advertiser_id(c.snapshot->advertiser_id());
  if (c.item.ad != PredictItem::kNotIndexed) {
    out->set_landing_url(index.ad(c.item.ad).landing_url);
  }
  out->set_position(position);
  out->set_position_in_placement(slot.position_in_placement);
  out->set_pctr(trace.prediction.pctrs(slot.placement)[slot.ad]);
  out->set_logit(trace.prediction.logits(slot.placement)[slot.ad]);
  out->set_bid_micros(c.bid_micros);
  out->set_price_micros(slot.price_micros);
  out->set_score(slot.score);
  out->set_match_type(c.match_type);
  const absl::string_view keyword = index.keyword(c.keyword);
  out->set_keyword(keyword.data(), keyword.size());
  out->set_propensity(1);  // the policy is deterministic
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
    outcome->ads.push_back(EncodedOf(index, trace.candidates[slot.ad]));
    FillServed(*ranked, trace, slot, *outcome->ads.back(),
               outcome->decision.add_ads());
  }
}

void FillPredictions(const RankTrace& trace, v1::PredictResponse* response) {
  response->Clear();
  const Prediction& prediction = trace.prediction;
  for (size_t i = 0; i < trace.items.size(); ++i) {
    v1::Prediction* out = response->add_predictions();
    out->set_ad_id(trace.items[i].snapshot->ad_id());
    const bool ready = i < prediction.ready();
    out->set_pctr(ready ? prediction.pctrs(0)[i] : prediction.prior_pctr());
    out->set_logit(ready ? prediction.logits(0)[i] : prediction.prior_logit());
    if (ready) out->set_feature_fingerprint(prediction.Fingerprint(0, i));
  }
}

}  // namespace

// The moments between the stages.
struct RankingPipeline::Stages {
  absl::Time start, triggered, predicted, ranked;

  void Fill(v1::Timings* out) const {
    out->set_trigger_us(Microseconds(triggered - start));
    out->set_predict_us(Microseconds(predicted - triggered));
    out->set_rank_us(Microseconds(ranked - predicted));
    out->set_total_us(Microseconds(ranked - start));
  }
};

absl::StatusOr<std::unique_ptr<const RankingPipeline>> RankingPipeline::Create(
    const v1::ServerConfig& config, const Clock* clock) {
  std::unique_ptr<RankingPipeline> pipeline(new RankingPipeline);
  pipeline->clock_ = clock;
  ASSIGN_OR_RETURN(pipeline->limits_, RequestLimits::Create(config.limits()));
  const double prior = config.model().prior_ctr();
  if (prior != 0) pipeline->prior_ctr_ = prior;
  if (!(pipeline->prior_ctr_ > 0 && pipeline->prior_ctr_ < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.prior_ctr: ", prior, " not in (0, 1)"));
  }
  const int64_t reserve = config.rank().reserve_micros();
  if (reserve < 0 || reserve > kMaxBidMicros) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank.reserve_micros: ", reserve, " not in [0, ", kMaxBidMicros, "]"));
  }
  pipeline->reserve_micros_ = reserve;
  pipeline->max_ads_per_advertiser_ = config.rank().max_ads_per_advertiser();
  return std::unique_ptr<const RankingPipeline>(std::move(pipeline));
}

absl::Time RankingPipeline::Deadline(absl::Time now, uint32_t request_ms,
                                     absl::Time call) const {
  absl::Time deadline =
      std::min(call, now + absl::Milliseconds(limits_.deadline_ms));
  if (request_ms != 0) {
    deadline = std::min(deadline, now + absl::Milliseconds(request_ms));
  }
  return deadline;
}

void RankingPipeline::SetContext(const v1::Context& context, absl::Time now,
                                 RankTrace* trace) const {
  trace->context = context;
  if (context.time_ms() == 0) {
    trace->context.set_time_ms(absl::ToUnixMillis(now));
  }
  trace->placement_ids.clear();
  trace->placements.clear();
  trace->candidates.clear();
  trace->items.clear();
  trace->deadline_cut = false;
}

void RankingPipeline::SetPlacements(const v1::RankRequest& request,
                                    RankTrace* trace) const {
  const auto add = [&](absl::string_view id, uint32_t count, int64_t reserve) {
    trace->placement_ids.push_back(id);
    trace->placements.push_back(
        {std::max<uint32_t>(1, count), std::max(reserve, reserve_micros_), {}});
  };
  for (const v1::Placement& p : request.placements()) {
    add(p.id(), p.count(), p.reserve_micros());
  }
  if (request.placements().empty()) add(kDefaultPlacement, 1, 0);
}

void RankingPipeline::Trigger(const AdIndex& index,
                              const v1::RankRequest& request,
                              RankTrace* trace) const {
  const size_t limit = request.max_candidates() != 0 ? request.max_candidates()
                                                     : limits_.max_candidates;
  if (!request.candidates().empty()) {
    TakeAllNamed(index, request, limit, trace);
  } else {
    index.Retrieve(AskFor(request, trace->context), limit,
                   &trace->retrieve_scratch, &trace->retrieval);
    TakeMatches(index, trace);
  }
  for (const RankCandidate& c : trace->candidates) {
    trace->items.push_back(c.item);
  }
}

absl::Status RankingPipeline::PredictItems(const ServingSnapshot& serving,
                                           absl::Time deadline,
                                           const CallOptions& call,
                                           RankTrace* trace) const {
  Prediction& prediction = trace->prediction;
  prediction.Begin(serving, prior_ctr_, trace->context, trace->placement_ids,
                   trace->items);
  while (prediction.ready() < trace->items.size()) {
    if (Gone(call)) return CallerGone();
    if (clock_->Now() >= deadline) {
      trace->deadline_cut = true;
      break;
    }
    prediction.Step();
  }
  return absl::OkStatus();
}

void RankingPipeline::RunAuction(const AdIndex& index,
                                 absl::string_view request_id,
                                 RankTrace* trace) const {
  const size_t ready = trace->prediction.ready();
  trace->auction_ads.clear();
  trace->foreign_advertisers.clear();
  for (size_t i = 0; i < ready; ++i) {
    const RankCandidate& c = trace->candidates[i];
    AuctionAd ad;
    ad.ad_id = c.snapshot->ad_id();
    ad.bid_micros = c.bid_micros;
    if (c.item.ad != PredictItem::kNotIndexed) {
      ad.advertiser = index.ad(c.item.ad).advertiser;
    } else if (const std::string& id = c.snapshot->advertiser_id();
               !id.empty()) {
      // Numbers beyond the catalogue's for advertisers it does not know.
      const auto known = index.FindAdvertiser(id);
      ad.advertiser =
          known.has_value()
              ? *known
              : trace->foreign_advertisers
                    .try_emplace(id, static_cast<uint32_t>(
                                         index.stats().advertisers +
                                         trace->foreign_advertisers.size()))
                    .first->second;
    }
    trace->auction_ads.push_back(ad);
  }
  for (size_t p = 0; p < trace->placements.size(); ++p) {
    trace->placements[p].pctr = trace->prediction.pctrs(p);
  }
  AuctionOptions options;
  options.max_ads_per_advertiser = max_ads_per_advertiser_;
  options.tie_salt = Hash64(request_id);
  trace->auctioneer.Run(trace->auction_ads, trace->placements, options,
                        &trace->auction);
}

absl::Status RankingPipeline::Rank(const ServingSnapshot& serving,
                                   const v1::RankRequest& request,
                                   const DecisionId& id,
                                   const CallOptions& call, RankTrace* trace,
                                   RankOutcome* outcome) const {
  Stages stages;
  stages.start = clock_->Now();
  if (Gone(call)) return CallerGone();
  RETURN_IF_ERROR(CheckRequest(request, limits_));
  const absl::Time deadline =
      Deadline(stages.start, request.deadline_ms(), call.deadline);
  const AdIndex& index = *serving.index;
  SetContext(request.context(), stages.start, trace);
  SetPlacements(request, trace);
  Trigger(index, request, trace);
  stages.triggered = clock_->Now();
  RETURN_IF_ERROR(PredictItems(serving, deadline, call, trace));
  stages.predicted = clock_->Now();

  v1::RankResponse& response = outcome->response;
  response.Clear();
  outcome->decision.Clear();
  outcome->ads.clear();
  outcome->non_finite = trace->prediction.non_finite();
  response.set_decision_id(id.ToHex());
  response.set_request_id(request.request_id().empty() ? response.decision_id()
                                                       : request.request_id());
  RunAuction(index, response.request_id(), trace);
  FillSlots(index, *trace, outcome);
  response.set_model_version(VersionOf(serving));
  response.set_catalog_version(index.version());
  AddDegradations(*trace, &response);
  FillCounts(*trace, response.mutable_counts());
  FillDecision(*trace, response, request.test(), &outcome->decision);
  stages.ranked = clock_->Now();
  stages.Fill(response.mutable_timings());
  return absl::OkStatus();
}

absl::Status RankingPipeline::Predict(const ServingSnapshot& serving,
                                      const v1::PredictRequest& request,
                                      const CallOptions& call, RankTrace* trace,
                                      v1::PredictResponse* response,
                                      uint64_t* non_finite) const {
  const absl::Time start = clock_->Now();
  RETURN_IF_ERROR(CheckRequest(request, limits_));
  const AdIndex& index = *serving.index;
  SetContext(request.context(), start, trace);
  trace->retrieval = Retrieval();
  trace->placement_ids.push_back(request.placement_id().empty()
                                     ? kDefaultPlacement
                                     : request.placement_id());
  for (int i = 0; i < request.candidates_size(); ++i) {
    const v1::Candidate& c = request.candidates(i);
    if (c.has_ad()) {
      trace->items.push_back({PredictItem::kNotIndexed, &c.ad()});
      continue;
    }
    const std::optional<uint32_t> ad = index.Find(c.ad_id());
    if (!ad.has_value()) {
      return absl::NotFoundError(absl::StrCat("candidates[", i, "].ad_id: \"",
                                              c.ad_id(),
                                              "\" is not in the catalogue"));
    }
    trace->items.push_back({*ad, &index.ad(*ad).snapshot});
  }
  RETURN_IF_ERROR(
      PredictItems(serving, Deadline(start, 0, call.deadline), call, trace));
  FillPredictions(*trace, response);
  response->set_model_version(VersionOf(serving));
  AddDegradations(*trace, response);
  *non_finite = trace->prediction.non_finite();
  return absl::OkStatus();
}

}  // namespace adrank
