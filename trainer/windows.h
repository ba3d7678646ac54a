// Which stretch of the log an example belongs to.
#ifndef ADRANK_TRAINER_WINDOWS_H_
#define ADRANK_TRAINER_WINDOWS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/trainer_config.pb.h"

namespace adrank {

enum class Window { kNone, kTraining, kCalibration, kEvaluation };

// Half-open stretches of unix milliseconds, one after the other:
// training [train_begin, train_end), calibration [train_end, calibration_end),
// evaluation [calibration_end, evaluation_end).
struct Windows {
  int64_t train_begin_ms = 0;
  int64_t train_end_ms = 0;
  int64_t calibration_end_ms = 0;
  int64_t evaluation_end_ms = 0;

  Window Of(int64_t ms) const {
    if (ms < train_begin_ms || ms >= evaluation_end_ms) return Window::kNone;
    if (ms < train_end_ms) return Window::kTraining;
    return ms < calibration_end_ms ? Window::kCalibration : Window::kEvaluation;
  }
};

// "YYYY-MM-DD", "YYYY-MM-DD HH:MM" (in `zone`) or an integer of unix
// milliseconds; nullopt for the empty text. InvalidArgument says what is wrong
// with any other.
absl::StatusOr<std::optional<int64_t>> ParseTime(absl::string_view text,
                                                 absl::TimeZone zone);

// DataConfig's times. An absent train_begin or evaluation_end is open (the
// least and the largest time). `by_share`: neither train_end nor
// calibration_end is given, so that both follow from the shares once the log
// has been counted.
struct ParsedWindows {
  Windows windows;
  bool by_share = false;
};

// InvalidArgument names the field: a time that does not parse, times that do
// not increase, train_end or calibration_end without the other (calibration_end
// may be absent or equal train_end when nothing is calibrated).
absl::StatusOr<ParsedWindows> ParseWindows(const v1::DataConfig& data,
                                           bool calibrates,
                                           absl::TimeZone zone);

// Examples per time, in few numbers however long the log is: when there are
// more than `max_buckets` times, neighbours are merged pairwise. Times must not
// decrease.
class TimeHistogram {
 public:
  explicit TimeHistogram(size_t max_buckets = size_t{1} << 20)
      : max_buckets_(max_buckets) {}

  void Add(int64_t ms, uint64_t examples);
  uint64_t examples() const { return examples_; }

  // The least time such that at most `share` of the examples lie at or after it
  // (to the resolution of the buckets; one past the last time when none fits).
  int64_t NewestShareBegin(double share) const;

 private:
  // Examples with begin <= ms < the next bucket's begin.
  struct Bucket {
    int64_t begin_ms;
    uint64_t examples;
  };
  const size_t max_buckets_;
  std::vector<Bucket> buckets_;
  int64_t last_ms_ = 0;
  uint64_t merge_ = 1;    // original times that one bucket holds
  uint64_t in_last_ = 0;  // of them already in the last bucket
  uint64_t examples_ = 0;
};

// The windows of `parsed` with both inner bounds cut by share.
Windows CutByShare(const Windows& open, const TimeHistogram& histogram,
                   double calibration_share, double evaluation_share);

// "2022-05-03 00:00", or the milliseconds when open.
std::string FormatTime(int64_t ms, absl::TimeZone zone);

}  // namespace adrank

#endif  // ADRANK_TRAINER_WINDOWS_H_
