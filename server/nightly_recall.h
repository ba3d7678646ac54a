// Recall@winner of yesterday's decisions, once a day.
#ifndef ADRANK_SERVER_NIGHTLY_RECALL_H_
#define ADRANK_SERVER_NIGHTLY_RECALL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/recall_report.pb.h"
#include "proto/server_config.pb.h"
#include "server/ranking_pipeline.h"
#include "server/serving_state.h"
#include "storage/event_log_reader.h"

namespace adrank {

// Asks a sample of the decisions of one UTC day again, twice: as the server is
// configured, and with recall.max_candidates in place of its limits and quotas.
// An ad that wins then and does not win as configured was lost by the trigger.
// Both are answered from the catalogue and the model of now, at the decision's
// time, with the budgets and caps that held then (as far as the log has them:
// those that mattered under the limits), without exploration and without a
// deadline. Takes nothing from budgets or caps, logs no decision.
//
// The cost is bounded by the sample, and by kLongest: what is not asked by then
// is left out. Thread-safe.
class NightlyRecall {
 public:
  static constexpr absl::Duration kLongest = absl::Minutes(2);

  using OpenLog =
      std::function<absl::StatusOr<std::unique_ptr<EventLogReader>>()>;
  // Null when it is disabled. InvalidArgument names the field that is out of
  // range. All must outlive this.
  static absl::StatusOr<std::unique_ptr<NightlyRecall>> Create(
      const v1::ServerConfig& config, const ServingState* state,
      const Clock* clock, OpenLog open_log);

  // Measures the day before the clock's, unless that was the last one measured.
  // An error leaves the last result, and the next call tries again. A day
  // without decisions is measured too: of none.
  absl::Status RunOnce();
  // Ends a RunOnce under way, and every later one, with Cancelled.
  void Stop() { stopped_ = true; }

  struct Result {
    absl::Time day;  // its beginning
    // One limit: the server's.
    v1::RecallReport report;
  };
  // Of the last day that was measured since the start; absent: none yet.
  std::optional<Result> Last() const;

 private:
  NightlyRecall(const ServingState* state, const Clock* clock,
                OpenLog open_log);
  absl::StatusOr<v1::RecallReport> Measure(absl::Time day);
  absl::StatusOr<v1::RankResponse> Ask(const RankingPipeline& pipeline,
                                       const ServingSnapshot& serving,
                                       const v1::Decision& decision,
                                       bool limited, RankTrace* trace) const;

  const ServingState* const state_;
  const Clock* const clock_;
  const OpenLog open_log_;
  uint32_t sample_ = 0;
  uint32_t limit_ = 0;  // as configured
  std::unique_ptr<const RankingPipeline> as_configured_, of_all_;
  std::atomic<bool> stopped_{false};
  absl::Mutex run_mu_ ABSL_ACQUIRED_BEFORE(mu_);  // one at a time
  mutable absl::Mutex mu_;
  std::optional<Result> last_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_NIGHTLY_RECALL_H_
