// Hot path: no locks, no logging; allocates what the answer and the decision
// hold.
#include "server/ranking_pipeline.h"

#include <algorithm>
#include <utility>

#include "absl/base/casts.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/admit.h"
#include "server/answer.h"
#include "server/auction_input.h"
#include "server/candidates.h"

namespace adrank {
namespace {

constexpr absl::string_view kDefaultPlacement = "default";

// Of the hash that exploration draws from: apart from the hash that breaks
// ties.
constexpr uint64_t kExplorationSeed = 0x6578706c6f7265;  // "explore"

// Auctions held at most; each round keeps at least one refused ad out.
constexpr int kMaxRounds = 16;

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

// All of the configuration that an answer depends on.
uint64_t FingerprintOf(const v1::ServerConfig& config) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream out(&stream);
  out.SetSerializationDeterministic(true);
  config.rank().SerializeToCodedStream(&out);
  config.trigger().SerializeToCodedStream(&out);
  config.limits().SerializeToCodedStream(&out);
  out.WriteLittleEndian64(absl::bit_cast<uint64_t>(config.model().prior_ctr()));
  out.Trim();
  return Hash64(bytes);
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
  // As the float that is logged and ranked by.
  const auto rounded = static_cast<float>(pipeline->prior_ctr_);
  if (!(rounded > 0 && rounded < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.prior_ctr: ", prior, " not in (0, 1)"));
  }
  const int64_t reserve = config.rank().reserve_micros();
  if (reserve < 0 || reserve > kMaxBidMicros) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rank.reserve_micros: ", reserve, " not in [0, ", kMaxBidMicros, "]"));
  }
  pipeline->reserve_micros_ = reserve;
  ASSIGN_OR_RETURN(
      pipeline->quota_,
      SourceQuota::Create(config.trigger(), pipeline->limits_.max_candidates));
  const double similarity = config.trigger().min_similarity();
  if (!(similarity >= -1 && similarity <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "trigger.min_similarity: ", similarity, " not in [-1, 1]"));
  }
  pipeline->min_similarity_ = static_cast<float>(similarity);
  ASSIGN_OR_RETURN(pipeline->auction_options_,
                   AuctionOptions::Create(config.rank()));
  ASSIGN_OR_RETURN(pipeline->exploration_,
                   ExplorationPolicy::Create(config.rank().exploration()));
  pipeline->config_fingerprint_ = FingerprintOf(config);
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
  trace->model_vectors = nullptr;
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

void RankingPipeline::BeginAdmission(const AdIndex& index,
                                     const CallOptions& call,
                                     RankTrace* trace) const {
  trace->terms.Clear();
  trace->refusal_reason = v1::NO_AD_REASON_UNSPECIFIED;
  for (Admission* admission : call.admissions) {
    admission->Begin(index, trace->context, &trace->terms);
  }
}

void RankingPipeline::Trigger(const ServingSnapshot& serving,
                              const v1::RankRequest& request,
                              RankTrace* trace) const {
  // By the first placement, if the model looks at it.
  if (quota_.model > 0 && request.candidates().empty() &&
      serving.model_vectors != nullptr &&
      serving.model_vectors->Prepare(trace->context, trace->placement_ids[0],
                                     auction_options_.alpha,
                                     &trace->model_query)) {
    trace->model_vectors = serving.model_vectors.get();
  }
  const size_t limit = request.max_candidates() != 0 ? request.max_candidates()
                                                     : limits_.max_candidates;
  FindCandidates(*serving.index, request, quota_, min_similarity_, limit,
                 trace);
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

void RankingPipeline::PrepareAuction(const AdIndex& index,
                                     absl::string_view request_id,
                                     RankTrace* trace) const {
  FillAuctionInput(index, trace);
  AuctionOptions& options = trace->auction_options;
  options = auction_options_;
  options.tie_salt = Hash64(request_id);
}

void RankingPipeline::HoldAuction(RankTrace* trace, bool explore) const {
  if (explore && exploration_.active()) {
    trace->exploring.Begin(&exploration_, &trace->request_ads,
                           trace->exploration_seed);
    trace->auction_options.policy = &trace->exploring;
  }
  trace->auctioneer.Run(trace->auction_ads, trace->placements,
                        trace->auction_options, &trace->auction);
}

// Holds the auction and takes what it gave out. What is refused is kept out,
// and the auction held again.
void RankingPipeline::RunAdmittedAuction(
    const AdIndex& index, const v1::RankRequest& request, const DecisionId& id,
    const CallOptions& call, RankTrace* trace, RankOutcome* outcome) const {
  const absl::string_view request_id = outcome->response.request_id();
  trace->excluded.assign(trace->candidates.size(), 0);
  for (int round = 0; round < kMaxRounds; ++round) {
    PrepareAuction(index, request_id, trace);
    HoldAuction(trace, true);
    if (!call.take || request.test()) return;
    if (ReserveAll(index, id, call, trace)) return;
    ExcludeRefused(index, trace, &outcome->decision);
  }
  // Refused again and again: better no ad than one that is not paid for.
  trace->excluded.assign(trace->candidates.size(), 1);
  PrepareAuction(index, request_id, trace);
  HoldAuction(trace, true);
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
  RETURN_IF_ERROR(CheckQueryEmbedding(request, index.vector_dims()));
  SetContext(request.context(), stages.start, trace);
  SetPlacements(request, trace);
  BeginAdmission(index, call, trace);
  trace->terms.draw =
      id.ms << 16 ^ id.node ^ static_cast<uint64_t>(id.sequence) << 32;
  Trigger(serving, request, trace);
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
  trace->exploration_seed = Hash64(response.decision_id(), kExplorationSeed);
  trace->request_ads = RequestAds(&trace->prediction, &trace->auction_ads,
                                  auction_options_.alpha, call.impressions);
  RunAdmittedAuction(index, request, id, call, trace, outcome);
  FillAnswer(serving, request, *trace, outcome);
  outcome->decision.set_config_fingerprint(config_fingerprint_);
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
    trace->items.push_back({*ad, nullptr});
  }
  RETURN_IF_ERROR(
      PredictItems(serving, Deadline(start, 0, call.deadline), call, trace));
  FillPredictions(serving, *trace, response);
  *non_finite = trace->prediction.non_finite();
  return absl::OkStatus();
}

}  // namespace adrank
