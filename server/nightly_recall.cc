#include "server/nightly_recall.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/replay.h"
#include "server/replay_admission.h"
#include "storage/recall.h"

namespace adrank {
namespace {

constexpr uint32_t kDefaultSample = 200, kMaxSample = 100000;
constexpr uint32_t kDefaultCandidates = 100000, kMaxCandidates = 1000000;
// Of the audit alone: nobody waits.
constexpr uint32_t kDeadlineMs = 60000;

absl::Status CheckRange(const char* field, uint32_t value, uint32_t most) {
  if (value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("recall.", field, ": ", value, " not in [0, ", most, "]"));
}

std::string DayText(absl::Time day) {
  return absl::FormatTime("%Y-%m-%d", day, absl::UTCTimeZone());
}

}  // namespace

NightlyRecall::NightlyRecall(const ServingState* state, const Clock* clock,
                             OpenLog open_log)
    : state_(state), clock_(clock), open_log_(std::move(open_log)) {}

absl::StatusOr<std::unique_ptr<NightlyRecall>> NightlyRecall::Create(
    const v1::ServerConfig& config, const ServingState* state,
    const Clock* clock, OpenLog open_log) {
  const v1::RecallConfig& recall = config.recall();
  RETURN_IF_ERROR(CheckRange("sample", recall.sample(), kMaxSample));
  RETURN_IF_ERROR(
      CheckRange("max_candidates", recall.max_candidates(), kMaxCandidates));
  if (recall.disabled()) return nullptr;
  std::unique_ptr<NightlyRecall> nightly(
      new NightlyRecall(state, clock, std::move(open_log)));
  nightly->sample_ = recall.sample() == 0 ? kDefaultSample : recall.sample();
  v1::ServerConfig audit = config;
  audit.mutable_rank()->clear_exploration();
  audit.mutable_limits()->set_deadline_ms(kDeadlineMs);
  ASSIGN_OR_RETURN(nightly->as_configured_,
                   RankingPipeline::Create(audit, clock));
  nightly->limit_ = nightly->as_configured_->limits().max_candidates;
  audit.mutable_limits()->set_max_candidates(std::max(
      nightly->limit_, recall.max_candidates() == 0 ? kDefaultCandidates
                                                    : recall.max_candidates()));
  audit.mutable_trigger()->clear_quota();
  ASSIGN_OR_RETURN(nightly->of_all_, RankingPipeline::Create(audit, clock));
  return nightly;
}

absl::StatusOr<v1::RankResponse> NightlyRecall::Ask(
    const RankingPipeline& pipeline, const ServingSnapshot& serving,
    const v1::Decision& decision, bool limited, RankTrace* trace) const {
  v1::RankRequest request = RequestOf(decision);
  request.set_deadline_ms(0);
  if (!limited) request.set_max_candidates(0);
  ASSIGN_OR_RETURN(const DecisionId id,
                   DecisionId::FromHex(decision.decision_id()));
  ReplayAdmission admission(decision);
  Admission* const admissions[] = {&admission};
  CallOptions call;
  call.admissions = admissions;
  call.take = false;
  call.cancelled = [this] { return stopped_.load(); };
  RankOutcome outcome;
  RETURN_IF_ERROR(pipeline.Rank(serving, request, id, call, trace, &outcome));
  return std::move(outcome.response);
}

absl::StatusOr<v1::RecallReport> NightlyRecall::Measure(absl::Time day) {
  const absl::Time deadline = clock_->Now() + kLongest;
  ASSIGN_OR_RETURN(const auto log, open_log_());
  const int64_t begin_ms = absl::ToUnixMillis(day);
  ASSIGN_OR_RETURN(const std::vector<v1::Decision> decisions,
                   SampleDecisions(log.get(), begin_ms,
                                   absl::ToUnixMillis(day + absl::Hours(24)),
                                   sample_, static_cast<uint64_t>(begin_ms)));
  RecallCounter counter({&limit_, 1});
  RankTrace trace;
  size_t unanswered = 0;
  for (const v1::Decision& decision : decisions) {
    if (stopped_) return absl::CancelledError("the server stops");
    if (clock_->Now() >= deadline) break;
    const auto serving = state_->Current();
    const auto all = Ask(*of_all_, *serving, decision, false, &trace);
    const auto limited = Ask(*as_configured_, *serving, decision, true, &trace);
    if (all.ok() && limited.ok()) {
      counter.Add(*all, {&*limited, 1});
    } else if (unanswered++ == 0) {
      // A limit has become smaller, or vectors have another length now.
      LOG(INFO) << "recall: a decision cannot be asked again: "
                << (all.ok() ? limited.status() : all.status());
    }
  }
  return counter.Report();
}

absl::Status NightlyRecall::RunOnce() {
  absl::MutexLock run(&run_mu_);
  const absl::Time day = absl::FromUnixSeconds(
      absl::ToUnixSeconds(clock_->Now()) / 86400 * 86400 - 86400);
  if (const auto last = Last(); last.has_value() && last->day == day) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(v1::RecallReport report, Measure(day));
  const v1::RecallReport::Source& all = report.limits(0).sources(0);
  LOG(INFO) << "recall@winner of " << DayText(day) << ": " << all.inside()
            << " of " << all.winners() << " winners are among " << limit_
            << " candidates (" << report.decisions() << " decisions asked, "
            << report.empty() << " placements empty, " << report.truncated()
            << " decisions with more matches than compared)";
  absl::MutexLock lock(&mu_);
  last_ = Result{day, std::move(report)};
  return absl::OkStatus();
}

std::optional<NightlyRecall::Result> NightlyRecall::Last() const {
  absl::MutexLock lock(&mu_);
  return last_;
}

}  // namespace adrank
