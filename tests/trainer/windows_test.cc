#include "trainer/windows.h"

#include <limits>

#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

const absl::TimeZone kUtc = absl::UTCTimeZone();

TEST(Windows, TimesAreDatesMinutesOrMilliseconds) {
  const auto shanghai = absl::FixedTimeZone(8 * 3600);
  EXPECT_EQ(*ParseTime("1970-01-02", kUtc), 86'400'000);
  EXPECT_EQ(*ParseTime("1970-01-02", shanghai), 86'400'000 - 8 * 3'600'000);
  EXPECT_EQ(*ParseTime(" 1970-01-01 00:01 ", kUtc), 60'000);
  EXPECT_EQ(*ParseTime("1651449600123", kUtc), 1651449600123);
  EXPECT_EQ(*ParseTime("", kUtc), std::nullopt);
}

TEST(Windows, OtherTimesAreRefusedWithTheReason) {
  const auto refused = [](const char* text, const char* reason) {
    EXPECT_THAT(ParseTime(text, kUtc),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(reason)))
        << text;
  };
  refused("20220503", "a date is written 2022-05-03");
  refused("2022-13-01", "neither");
  refused("2022-05-03T00:00", "neither");
  refused("-5", "before 1970");
  refused("yesterday", "neither");
}

v1::DataConfig Data(const char* begin, const char* end, const char* calibration,
                    const char* evaluation) {
  v1::DataConfig data;
  data.set_train_begin(begin);
  data.set_train_end(end);
  data.set_calibration_end(calibration);
  data.set_evaluation_end(evaluation);
  return data;
}

TEST(Windows, ExplicitWindowsAreHalfOpenAndMeet) {
  ASSERT_OK_AND_ASSIGN(const ParsedWindows p,
                       ParseWindows(Data("10", "20", "30", "40"), true, kUtc));
  EXPECT_FALSE(p.by_share);
  EXPECT_EQ(p.windows.Of(9), Window::kNone);
  EXPECT_EQ(p.windows.Of(10), Window::kTraining);
  EXPECT_EQ(p.windows.Of(19), Window::kTraining);
  EXPECT_EQ(p.windows.Of(20), Window::kCalibration);
  EXPECT_EQ(p.windows.Of(30), Window::kEvaluation);
  EXPECT_EQ(p.windows.Of(40), Window::kNone);
}

TEST(Windows, OuterBoundsMayBeOpen) {
  ASSERT_OK_AND_ASSIGN(const ParsedWindows p,
                       ParseWindows(Data("", "20", "30", ""), true, kUtc));
  EXPECT_EQ(p.windows.Of(0), Window::kTraining);
  EXPECT_EQ(p.windows.Of(std::numeric_limits<int64_t>::max() - 1),
            Window::kEvaluation);
  ASSERT_OK_AND_ASSIGN(const ParsedWindows share,
                       ParseWindows(Data("5", "", "", ""), true, kUtc));
  EXPECT_TRUE(share.by_share);
  EXPECT_EQ(share.windows.train_begin_ms, 5);
}

TEST(Windows, ContradictionsNameTheField) {
  const auto refused = [](const v1::DataConfig& data, const char* reason,
                          bool calibrates = true) {
    EXPECT_THAT(
        ParseWindows(data, calibrates, kUtc),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(reason)));
  };
  refused(Data("", "20", "", ""), "data.calibration_end: is required");
  refused(Data("", "", "20", ""), "data.train_end: is required");
  refused(Data("20", "20", "30", ""), "data.train_end: is not after");
  refused(Data("", "20", "20", ""), "data.calibration_end: is not after");
  refused(Data("", "20", "30", "30"), "data.evaluation_end: is not after");
  refused(Data("9", "", "", "9"), "data.evaluation_end: is not after");
  refused(Data("x", "", "", ""), "data.train_begin: \"x\" is neither");
  EXPECT_OK(ParseWindows(Data("", "20", "20", ""), false, kUtc));
  EXPECT_OK(ParseWindows(Data("", "20", "", ""), false, kUtc));
}

TEST(Windows, SharesCutAtTimesSoThatNoneIsExceeded) {
  TimeHistogram histogram;
  for (int64_t t = 0; t < 100; ++t) histogram.Add(t, 10);
  EXPECT_EQ(histogram.examples(), 1000u);
  EXPECT_EQ(histogram.NewestShareBegin(0.1), 90);
  EXPECT_EQ(histogram.NewestShareBegin(0.105), 90);
  EXPECT_EQ(histogram.NewestShareBegin(0), 100);
  EXPECT_EQ(histogram.NewestShareBegin(1), 0);
  const Windows cut = CutByShare({0, 0, 0, 100}, histogram, 0.2, 0.1);
  EXPECT_EQ(cut.train_end_ms, 70);
  EXPECT_EQ(cut.calibration_end_ms, 90);
}

TEST(Windows, LongLogsAreCountedInFewBuckets) {
  TimeHistogram coarse(64);
  TimeHistogram fine;
  for (int64_t t = 0; t < 10000; ++t) {
    coarse.Add(t / 3, 1);
    fine.Add(t / 3, 1);
  }
  EXPECT_EQ(coarse.examples(), fine.examples());
  // One bucket of 64 is 1.6 %; merging leaves at least half of them.
  EXPECT_NEAR(static_cast<double>(coarse.NewestShareBegin(0.3)),
              static_cast<double>(fine.NewestShareBegin(0.3)), 110);
  EXPECT_GE(coarse.NewestShareBegin(0.3), fine.NewestShareBegin(0.3));
}

TEST(Windows, AnEmptyHistogramHasNoShare) {
  EXPECT_EQ(TimeHistogram().NewestShareBegin(0.5), 0);
}

}  // namespace
}  // namespace adrank
