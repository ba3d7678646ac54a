// How long clicks take, and so which impressions have a label that may still
// change.
#ifndef ADRANK_TRAINER_CLICK_DELAY_H_
#define ADRANK_TRAINER_CLICK_DELAY_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/training_report.pb.h"
#include "storage/event_log_reader.h"

namespace adrank {

// Times of at least 0 ms in bounded memory: exact below 256 ms, in buckets of
// less than 1 % above.
class DelayHistogram {
 public:
  void Add(int64_t ms);
  uint64_t count() const { return count_; }
  // The least time that at least `quantile` of all are not above, rounded up to
  // its bucket's end. REQUIRES: count() > 0, 0 < quantile <= 1.
  int64_t Quantile(double quantile) const;

 private:
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
};

// Delays from impression to click of the decisions in [begin_ms, end_ms), test
// traffic included, of clicks within `window_ms`; a click that is said to come
// before its impression took no time. Where enough of them (100) belong to
// decisions older than `window_ms` before `newest_ms`, only those count: the
// newest decisions show their fast clicks first. ripe_end_ms is newest_ms + 1
// less the quantile. Without any click it is newest_ms + 1. DataLoss for a
// damaged log.
absl::StatusOr<v1::ClickDelay> MeasureClickDelay(
    EventLogReader* reader, int64_t begin_ms, int64_t end_ms, int64_t newest_ms,
    int64_t window_ms, double quantile);

}  // namespace adrank

#endif  // ADRANK_TRAINER_CLICK_DELAY_H_
