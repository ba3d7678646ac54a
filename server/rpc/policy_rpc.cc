#include "server/rpc/policy_rpc.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status_macros.h"
#include "server/policy_replay.h"
#include "server/rpc/rpc_scope.h"

namespace adrank {
namespace {

// The sample is a share of the hashes of ids: the same decisions for every
// policy, whatever else is asked.
constexpr uint64_t kSampleSeed = 0x706f6c696379;  // "policy"

uint64_t SampleHash(const DecisionId& id) {
  std::string bytes;
  id.AppendTo(&bytes);
  return Hash64(bytes, kSampleSeed);
}

// Ids up to this hash are `wanted` of `all`, but for chance.
uint64_t LargestHash(uint64_t wanted, uint64_t all) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  if (wanted == 0 || wanted >= all) return kMost;
  return static_cast<uint64_t>(
      std::ldexp(static_cast<double>(wanted) / static_cast<double>(all), 64));
}

absl::StatusOr<uint64_t> CountDecisions(EventLogReader* log, int64_t begin_ms,
                                        int64_t end_ms) {
  uint64_t count = 0;
  const auto cursor = log->Join(begin_ms, end_ms);
  for (; cursor->Valid(); cursor->Next()) {
    count += cursor->record().has_decision();
  }
  RETURN_IF_ERROR(cursor->status());
  return count;
}

// Catalogues of the decisions with the model in question; the last one is kept,
// as decisions of one catalogue follow one another.
class Snapshots {
 public:
  Snapshots(Replayer* replayer, int64_t model_version)
      : replayer_(replayer), model_version_(model_version) {}

  // Null: the catalogue's history does not reach it.
  absl::StatusOr<std::shared_ptr<const ServingSnapshot>> Of(
      int64_t catalog_version) {
    if (catalog_version != catalog_version_) {
      const auto serving =
          replayer_->ServingOf(model_version_, catalog_version);
      if (!serving.ok() && !absl::IsFailedPrecondition(serving.status())) {
        return serving.status();
      }
      serving_ = serving.ok() ? *serving : nullptr;
      catalog_version_ = catalog_version;
    }
    return serving_;
  }

 private:
  Replayer* const replayer_;
  const int64_t model_version_;
  int64_t catalog_version_ = -1;
  std::shared_ptr<const ServingSnapshot> serving_;
};

}  // namespace

grpc::Status PolicyRpc::Replay(
    grpc::ServerContext* context, const v1::ReplayPolicyRequest* request,
    grpc::ServerWriter<v1::ReplayedDecision>* writer) {
  const RpcScope scope(Rpc::kReplayPolicy, metrics_);
  if (!running_.TryLock()) {
    return scope.Done(absl::ResourceExhaustedError(
        "another policy is being evaluated; one at a time"));
  }
  const absl::Status status = Run(context, *request, writer);
  running_.Unlock();
  return scope.Done(status);
}

absl::Status PolicyRpc::Run(grpc::ServerContext* context,
                            const v1::ReplayPolicyRequest& request,
                            grpc::ServerWriter<v1::ReplayedDecision>* writer) {
  ASSIGN_OR_RETURN(
      const std::unique_ptr<PolicyReplay> replay,
      PolicyReplay::Create(Changed(config_, request.change()), counts_));
  const std::shared_ptr<const ServingSnapshot> now = state_->Current();
  int64_t model_version = request.change().model_version();
  if (model_version == 0 && now->bundle != nullptr) {
    model_version = now->bundle->manifest().version();
  }
  // Says at once that a model is not kept any more.
  RETURN_IF_ERROR(
      replayer_->ServingOf(model_version, now->index->version()).status());
  Snapshots snapshots(replayer_, model_version);
  const int64_t end_ms = request.end_ms() != 0
                             ? request.end_ms()
                             : absl::ToUnixMillis(clock_->Now());
  RETURN_IF_ERROR(log_->Flush());  // what was answered a moment ago, too
  ASSIGN_OR_RETURN(const std::unique_ptr<EventLogReader> log,
                   EventLogReader::Open(config_.storage().data_dir()));
  ASSIGN_OR_RETURN(const uint64_t all,
                   CountDecisions(log.get(), request.begin_ms(), end_ms));
  const uint64_t largest = LargestHash(request.max_decisions(), all);
  v1::Decision decision;
  const auto cursor = log->Join(request.begin_ms(), end_ms);
  for (; cursor->Valid(); cursor->Next()) {
    if (context->IsCancelled()) {
      return absl::CancelledError("the caller has gone");
    }
    const JoinedRecord& record = cursor->record();
    if (!record.has_decision() || SampleHash(record.id) > largest) continue;
    if (!record.Parse(&decision)) continue;
    ASSIGN_OR_RETURN(const std::shared_ptr<const ServingSnapshot> serving,
                     snapshots.Of(decision.catalog_version()));
    v1::ReplayedDecision result;
    if (serving == nullptr) {
      result.set_decision_id(decision.decision_id());
      result.set_verdict(v1::ReplayedDecision::VERDICT_CATALOG_CHANGED);
    } else {
      ASSIGN_OR_RETURN(result,
                       replay->Replay(*serving, decision, record.events));
    }
    if (!writer->Write(result)) {
      return absl::CancelledError("the caller has gone");
    }
  }
  return cursor->status();
}

}  // namespace adrank
