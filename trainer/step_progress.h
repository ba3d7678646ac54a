// What a long step says of itself while it runs.
#ifndef ADRANK_TRAINER_STEP_PROGRESS_H_
#define ADRANK_TRAINER_STEP_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"

namespace adrank {

// "learn 1/3: 1,250,000 rows (41 %), 610,000 rows/s, ETA 3 s, NE 0.8123". On a
// terminal one line that is rewritten five times a second; elsewhere a log line
// every ten seconds, so that short steps leave no line but their last.
// Thread-safe.
class StepProgress {
 public:
  // Writes to stderr.
  explicit StepProgress(const Clock* clock);
  StepProgress(const Clock* clock, bool terminal, int fd);
  ~StepProgress();

  // A new step: the clock starts again.
  void Begin(absl::string_view step);
  // `share_done` in [0, 1] of the step; `rows` so far.
  void Update(double share_done, uint64_t rows, absl::string_view note = "");
  // Ends the step and logs one line of what it did. Its seconds.
  double End(uint64_t rows, absl::string_view note = "");

 private:
  std::string Line(double share_done, uint64_t rows, absl::string_view note)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ClearLine() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock* const clock_;
  const bool terminal_;
  const int fd_;

  absl::Mutex mu_;
  std::string step_ ABSL_GUARDED_BY(mu_);
  absl::Time begin_ ABSL_GUARDED_BY(mu_);
  absl::Time shown_ ABSL_GUARDED_BY(mu_);
  bool line_open_ ABSL_GUARDED_BY(mu_) = false;
};

// "1,250,000".
std::string WithCommas(uint64_t n);

}  // namespace adrank

#endif  // ADRANK_TRAINER_STEP_PROGRESS_H_
