#include "server/replay.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/message_diff.h"
#include "base/status_macros.h"
#include "server/explain.h"
#include "server/explain_sources.h"
#include "server/replay_admission.h"

namespace adrank {
namespace {

int64_t VersionOf(const ModelBundle* bundle) {
  return bundle == nullptr ? 0 : bundle->manifest().version();
}

bool Same(const v1::Decision& a, const v1::Decision& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

// Whether vectors are searched in lists.
bool IsApproximate(const ServingSnapshot& serving) {
  bool any = false;
  for (const ModelVectors* m = serving.model_vectors.get(); m != nullptr;
       m = m->base().get()) {
    any = any || m->documents().approximate();
  }
  for (const AdIndex* i = serving.index.get(); i != nullptr;
       i = i->base().get()) {
    any = any || i->vectors().approximate();
  }
  return any;
}

std::string DifferenceText(const FieldDifference& d) {
  const auto side = [](const std::string& text) {
    return text.empty() ? std::string("nothing") : text;
  };
  return absl::StrCat(d.path, ": logged ", side(d.left), ", replayed ",
                      side(d.right));
}

}  // namespace

v1::RankRequest RequestOf(const v1::Decision& decision) {
  v1::RankRequest request = decision.request();
  request.set_request_id(decision.request_id());
  *request.mutable_context() = decision.context();
  request.set_test(decision.test());
  return request;
}

absl::StatusOr<std::unique_ptr<Replayer>> Replayer::Create(
    const v1::ServerConfig& config, const ServingState* state,
    CatalogStore* catalog, const ModelStore& models, EventLog* log) {
  std::unique_ptr<Replayer> replayer(new Replayer(state, catalog, models, log));
  ASSIGN_OR_RETURN(replayer->pipeline_,
                   RankingPipeline::Create(config, &replayer->clock_));
  const v1::ExplorationConfig& exploration = config.rank().exploration();
  replayer->boosts_newcomers_ = exploration.newcomer_impressions() > 0 &&
                                exploration.newcomer_boost() > 0;
  return replayer;
}

absl::StatusOr<std::shared_ptr<const ServingSnapshot>> Replayer::ServingOf(
    int64_t model_version, int64_t catalog_version) {
  absl::MutexLock lock(&mu_);
  return Serving(model_version, catalog_version);
}

absl::StatusOr<v1::Decision> Replayer::Logged(const std::string& decision_id) {
  ASSIGN_OR_RETURN(const DecisionId id, DecisionId::FromHex(decision_id));
  absl::StatusOr<v1::Decision> decision = log_->GetDecision(id);
  if (absl::IsNotFound(decision.status())) {
    // It may still be in the queue.
    RETURN_IF_ERROR(log_->Flush());
    decision = log_->GetDecision(id);
  }
  if (absl::IsNotFound(decision.status())) {
    return absl::NotFoundError(absl::StrCat(
        "decision_id: ", decision_id,
        " is not in the log: never made here, dropped, or older than the "
        "log's retention"));
  }
  RETURN_IF_ERROR(decision.status());
  if (decision->config_fingerprint() == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "decision_id: ", decision_id,
        " was imported or simulated, or made before requests were logged: "
        "there is nothing to replay"));
  }
  return decision;
}

absl::StatusOr<std::shared_ptr<const ModelBundle>> Replayer::Bundle(
    int64_t version) {
  if (version == 0) return std::shared_ptr<const ModelBundle>();
  for (const auto& snapshot : {state_->Current(), last_}) {
    if (snapshot != nullptr && VersionOf(snapshot->bundle.get()) == version) {
      return snapshot->bundle;
    }
  }
  auto bundle = ModelBundle::Load(models_.VersionDir(version));
  if (bundle.ok()) return *std::move(bundle);
  return absl::FailedPreconditionError(
      absl::StrCat("model version ", version, ": ", bundle.status().message()));
}

absl::StatusOr<std::shared_ptr<const AdIndex>> Replayer::Index(
    int64_t version) {
  for (const auto& snapshot : {state_->Current(), last_}) {
    if (snapshot != nullptr && snapshot->index->version() == version) {
      return snapshot->index;
    }
  }
  absl::StatusOr<v1::Catalog> catalog = catalog_->LoadVersion(version);
  if (absl::IsNotFound(catalog.status())) {
    return absl::FailedPreconditionError(catalog.status().message());
  }
  RETURN_IF_ERROR(catalog.status());
  return AdIndex::Build(*catalog, version, state_->Current()->index->options());
}

absl::StatusOr<std::shared_ptr<const ServingSnapshot>> Replayer::Serving(
    int64_t model_version, int64_t catalog_version) {
  for (const auto& snapshot : {state_->Current(), last_}) {
    if (snapshot != nullptr &&
        VersionOf(snapshot->bundle.get()) == model_version &&
        snapshot->index->version() == catalog_version) {
      return snapshot;
    }
  }
  ASSIGN_OR_RETURN(auto bundle, Bundle(model_version));
  ASSIGN_OR_RETURN(auto index, Index(catalog_version));
  last_ = std::make_shared<const ServingSnapshot>(
      ServingSnapshot::Of(std::move(bundle), std::move(index)));
  return last_;
}

absl::StatusOr<v1::Decision> Replayer::ReplayIn(const ServingSnapshot& serving,
                                                const v1::Decision& logged,
                                                const v1::RankRequest& request,
                                                const CallOptions& call,
                                                RankTrace* trace,
                                                v1::RankResponse* response) {
  ASSIGN_OR_RETURN(const DecisionId id,
                   DecisionId::FromHex(logged.decision_id()));
  ReplayAdmission admission(logged);
  Admission* const admissions[] = {&admission};
  CallOptions replay;
  replay.cancelled = call.cancelled;
  replay.admissions = admissions;
  RankOutcome outcome;
  RETURN_IF_ERROR(
      pipeline_->Rank(serving, request, id, replay, trace, &outcome));
  outcome.decision.set_decision_id(logged.decision_id());
  *response = std::move(outcome.response);
  return std::move(outcome.decision);
}

absl::StatusOr<v1::Decision> Replayer::Replay(const v1::Decision& logged,
                                              const CallOptions& call,
                                              RankTrace* trace,
                                              v1::RankResponse* response) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(const std::shared_ptr<const ServingSnapshot> serving,
                   Serving(logged.model_version(), logged.catalog_version()));
  const v1::RankRequest request = RequestOf(logged);
  return ReplayIn(*serving, logged, request, call, trace, response);
}

std::string Replayer::WhyDifferent(const ServingSnapshot& serving,
                                   const v1::Decision& logged,
                                   const v1::Decision& replayed) const {
  std::vector<std::string> reasons;
  if (std::count(logged.degraded().begin(), logged.degraded().end(),
                 v1::DEGRADATION_DEADLINE) > 0) {
    reasons.push_back(
        "the deadline had cut the candidates, and a replay has all the time");
  }
  if (boosts_newcomers_) {
    reasons.push_back(
        "the newcomer boost goes by the ads' impressions, and those of then "
        "are not kept");
  }
  if (IsApproximate(serving)) {
    reasons.push_back(
        "the catalogue has vectors enough for an approximate search "
        "(trigger.approximate_from), whose answer depends on when the index "
        "was "
        "built");
  }
  v1::Decision same_config = replayed;
  if (logged.config_fingerprint() != replayed.config_fingerprint()) {
    same_config.set_config_fingerprint(logged.config_fingerprint());
    reasons.push_back(
        "the ranking configuration (rank, trigger, limits, prior_ctr) has "
        "changed since");
  }
  const std::vector<FieldDifference> found =
      DiffMessages(logged, same_config, 1);
  std::string text = found.empty() ? "the answer itself is the same"
                                   : DifferenceText(found[0]);
  for (const std::string& reason : reasons) {
    absl::StrAppend(&text, "; ", reason);
  }
  return text;
}

absl::Status Replayer::Explain(const v1::ExplainRequest& request,
                               const CallOptions& call, RankTrace* trace,
                               v1::ExplainResponse* response) {
  if (request.has_request()) {
    return absl::InvalidArgumentError("request: not together with decision_id");
  }
  ASSIGN_OR_RETURN(const v1::Decision logged, Logged(request.decision_id()));
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(const std::shared_ptr<const ServingSnapshot> serving,
                   Serving(logged.model_version(), logged.catalog_version()));
  v1::ExplainRequest explained = request;
  *explained.mutable_request() = RequestOf(logged);
  RETURN_IF_ERROR(CheckRequest(explained, pipeline_->limits()));
  response->Clear();
  ASSIGN_OR_RETURN(const v1::Decision replayed,
                   ReplayIn(*serving, logged, explained.request(), call, trace,
                            response->mutable_response()));
  response->set_replay_identical(Same(logged, replayed));
  if (!response->replay_identical()) {
    response->set_replay_difference(WhyDifferent(*serving, logged, replayed));
  }
  ExplainAds(*pipeline_, *serving, explained,
             PastSources(catalog_, logged.catalog_version()), trace, response);
  return absl::OkStatus();
}

}  // namespace adrank
