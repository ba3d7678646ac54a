#include "trainer/click_delay.h"

#include <algorithm>
#include <vector>

#include "base/rng.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/a_log.h"

namespace adrank {
namespace {

using ::adrank::testing::ALog;
using ::adrank::testing::kDayMs;
using ::adrank::testing::kFirstDayMs;
using ::adrank::testing::TempDir;

TEST(DelayHistogram, QuantilesAreThoseOfTheSortedTimesToOnePercent) {
  Rng rng(1);
  for (const double scale : {3.0, 300.0, 40000.0, 5e8}) {
    DelayHistogram histogram;
    std::vector<int64_t> sorted;
    for (int i = 0; i < 1003; ++i) {
      sorted.push_back(static_cast<int64_t>(scale * rng.Exponential()));
      histogram.Add(sorted.back());
    }
    std::sort(sorted.begin(), sorted.end());
    for (const double q : {0.001, 0.5, 0.9, 0.99, 1.0}) {
      const auto place = static_cast<size_t>(std::ceil(q * 1003)) - 1;
      const int64_t exact = sorted[place];
      const int64_t got = histogram.Quantile(q);
      EXPECT_GE(got, exact);
      EXPECT_LE(static_cast<double>(got), 1.01 * static_cast<double>(exact));
      if (exact < 256) EXPECT_EQ(got, exact);
    }
  }
}

TEST(DelayHistogram, EveryTimeIsInABucketThatEndsAtItOrLater) {
  for (int64_t ms : {int64_t{0}, int64_t{1}, int64_t{255}, int64_t{256},
                     int64_t{257}, int64_t{511}, int64_t{512}, int64_t{513},
                     int64_t{1} << 40, (int64_t{1} << 62) + 12345}) {
    DelayHistogram histogram;
    histogram.Add(ms);
    EXPECT_GE(histogram.Quantile(1), ms);
    EXPECT_LE(histogram.Quantile(1) - ms, ms / 128);
  }
}

class ClickDelayTest : public ::testing::Test {
 protected:
  // 99 % of exponential delays of this mean are within 4.605 of it.
  static constexpr double kMeanMs = 600'000;

  // `decisions` over one day; clicks after the newest decision are not in the
  // log yet.
  void WriteLog(int decisions) {
    ALog log;
    log.decisions = decisions;
    log.base_logit = 2;
    log.click_delay_ms = kMeanMs;
    log.end_ms = kFirstDayMs + kDayMs;
    ASSERT_OK(log.Write(dir_ / "log"));
    ASSERT_OK_AND_ASSIGN(reader_, EventLogReader::Open(dir_ / "log"));
  }
  absl::StatusOr<v1::ClickDelay> Measure(int64_t window_ms, double quantile) {
    const auto range = reader_->TimeRange();
    RETURN_IF_ERROR(range.status());
    return MeasureClickDelay(reader_.get(), range->first, range->second + 1,
                             range->second, window_ms, quantile);
  }
  TempDir dir_;
  std::unique_ptr<EventLogReader> reader_;
};

TEST_F(ClickDelayTest, TheQuantileIsThatOfThePlantedDelay) {
  WriteLog(4000);
  const int64_t window_ms = kDayMs / 2;
  ASSERT_OK_AND_ASSIGN(const v1::ClickDelay delay, Measure(window_ms, 0.99));
  EXPECT_GT(delay.clicks(), 4000);
  EXPECT_NEAR(delay.p50_s(), 0.6931 * kMeanMs / 1000, 20);
  EXPECT_NEAR(delay.p90_s(), 2.3026 * kMeanMs / 1000, 60);
  EXPECT_NEAR(delay.quantile_s(), 4.6052 * kMeanMs / 1000, 200);
  EXPECT_EQ(delay.p99_s(), delay.quantile_s());
  ASSERT_OK_AND_ASSIGN(const auto range, reader_->TimeRange());
  EXPECT_NEAR(static_cast<double>(range.second + 1 - delay.ripe_end_ms()),
              1000 * delay.quantile_s(), 1);
}

// The last hours show only their fast clicks.
TEST_F(ClickDelayTest, TheNewestDecisionsDoNotMakeClicksLookFaster) {
  ALog log;
  log.decisions = 4000;
  log.base_logit = 2;
  log.click_delay_ms = kDayMs / 4.0;
  log.end_ms = kFirstDayMs + kDayMs;
  ASSERT_OK(log.Write(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(reader_, EventLogReader::Open(dir_ / "log"));
  // Cut at half a day the median of an exponential of mean 1/4 is at
  // -ln((1 + e^-2) / 2) / 4 = 0.1415 of a day.
  ASSERT_OK_AND_ASSIGN(const v1::ClickDelay ripe, Measure(kDayMs / 2, 0.5));
  EXPECT_NEAR(1000 * ripe.quantile_s() / kDayMs, 0.1415, 0.006);
  // No decision is old enough for a window of a day: all count, the slow clicks
  // of the newest are missing.
  ASSERT_OK_AND_ASSIGN(const v1::ClickDelay all, Measure(kDayMs, 0.5));
  EXPECT_GT(all.clicks(), ripe.clicks());
  EXPECT_LT(1000 * all.quantile_s() / kDayMs, 0.135);
}

TEST_F(ClickDelayTest, WithoutClicksNothingIsLeftOut) {
  ALog log;
  log.decisions = 50;
  log.clicks = false;
  ASSERT_OK(log.Write(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(reader_, EventLogReader::Open(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const v1::ClickDelay delay, Measure(kDayMs, 0.99));
  EXPECT_EQ(delay.clicks(), 0);
  ASSERT_OK_AND_ASSIGN(const auto range, reader_->TimeRange());
  EXPECT_EQ(delay.ripe_end_ms(), range.second + 1);
}

}  // namespace
}  // namespace adrank
