#include "trainer/click_delay.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr uint64_t kMinRipe = 100;
// Bits that a bucket keeps of a time, the leading one included.
constexpr int kBits = 8;

// Times in order -> buckets in order. Below 2^kBits a bucket is one time.
size_t BucketOf(uint64_t ms) {
  const int bits = static_cast<int>(std::bit_width(ms));
  const int shift = std::max(0, bits - kBits);
  return (static_cast<size_t>(shift) << (kBits - 1)) + (ms >> shift);
}

// The largest time in the bucket.
int64_t EndOf(size_t bucket) {
  const size_t half = size_t{1} << (kBits - 1);
  const size_t shift = bucket < 2 * half ? 0 : bucket / half - 1;
  const uint64_t leading = bucket - (shift << (kBits - 1));
  return static_cast<int64_t>(((leading + 1) << shift) - 1);
}

// Adds what was clicked of one record; events are sorted by position, and
// impressions come first.
void AddDelays(const JoinedRecord& record, int64_t window_ms,
               DelayHistogram* histogram) {
  const JoinedEvent* impression = nullptr;
  for (const JoinedEvent& event : record.events) {
    if (event.type == v1::EVENT_TYPE_IMPRESSION) {
      impression = &event;
      continue;
    }
    if (impression == nullptr || impression->position != event.position) {
      continue;
    }
    // Unsigned, since nothing keeps reported times from being far apart.
    const auto delay =
        static_cast<int64_t>(static_cast<uint64_t>(event.time_ms) -
                             static_cast<uint64_t>(impression->time_ms));
    if (delay <= window_ms) histogram->Add(std::max<int64_t>(0, delay));
  }
}

}  // namespace

void DelayHistogram::Add(int64_t ms) {
  const size_t bucket = BucketOf(static_cast<uint64_t>(ms));
  if (bucket >= buckets_.size()) buckets_.resize(bucket + 1);
  ++buckets_[bucket];
  ++count_;
}

int64_t DelayHistogram::Quantile(double quantile) const {
  const double wanted = quantile * static_cast<double>(count_);
  uint64_t below = 0;
  size_t bucket = 0;
  for (; bucket + 1 < buckets_.size(); ++bucket) {
    below += buckets_[bucket];
    if (static_cast<double>(below) >= wanted) break;
  }
  return EndOf(bucket);
}

absl::StatusOr<v1::ClickDelay> MeasureClickDelay(
    EventLogReader* reader, int64_t begin_ms, int64_t end_ms, int64_t newest_ms,
    int64_t window_ms, double quantile) {
  DelayHistogram ripe, all;
  auto cursor = reader->Join(begin_ms, end_ms);
  for (; cursor->Valid(); cursor->Next()) {
    const JoinedRecord& record = cursor->record();
    if (!record.has_decision()) continue;
    AddDelays(record, window_ms, &all);
    if (static_cast<int64_t>(record.id.ms) + window_ms <= newest_ms) {
      AddDelays(record, window_ms, &ripe);
    }
  }
  RETURN_IF_ERROR(cursor->status());
  const DelayHistogram& used = ripe.count() >= kMinRipe ? ripe : all;
  v1::ClickDelay delay;
  delay.set_clicks(used.count());
  delay.set_quantile(quantile);
  delay.set_ripe_end_ms(newest_ms + 1);
  if (used.count() == 0) return delay;
  const auto seconds = [&used](double q) {
    return static_cast<double>(used.Quantile(q)) / 1000;
  };
  delay.set_p50_s(seconds(0.5));
  delay.set_p90_s(seconds(0.9));
  delay.set_p99_s(seconds(0.99));
  delay.set_quantile_s(seconds(quantile));
  delay.set_ripe_end_ms(newest_ms + 1 - used.Quantile(quantile));
  return delay;
}

}  // namespace adrank
