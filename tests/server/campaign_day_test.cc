#include "server/budget/campaign_day.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kHourMs = 3'600'000;

absl::TimeZone Zone(const std::string& name) {
  auto zone = FindTimeZone(name);
  EXPECT_OK(zone);
  return *zone;
}

int64_t Ms(const std::string& rfc3339) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, rfc3339, &time, &error))
      << error;
  return absl::ToUnixMillis(time);
}

int64_t Hours(const CampaignDay& day) {
  return (day.end_ms - day.start_ms) / kHourMs;
}

TEST(CampaignDay, OfUtcIsTheEpochsDay) {
  const CampaignDay day = DayOf(Ms("2026-03-01T23:59:59.999Z"), Zone(""));
  EXPECT_EQ(day.day, 20513);
  EXPECT_EQ(day.start_ms, Ms("2026-03-01T00:00:00Z"));
  EXPECT_EQ(day.end_ms, Ms("2026-03-02T00:00:00Z"));
  EXPECT_EQ(DayOf(-1, Zone("")).day, -1);
}

TEST(CampaignDay, HasTwentyThreeOrTwentyFiveHoursWhenTheClocksChange) {
  const absl::TimeZone berlin = Zone("Europe/Berlin");
  EXPECT_EQ(Hours(DayOf(Ms("2026-03-29T12:00:00Z"), berlin)), 23);
  EXPECT_EQ(Hours(DayOf(Ms("2026-10-25T12:00:00Z"), berlin)), 25);
  EXPECT_EQ(Hours(DayOf(Ms("2026-10-26T12:00:00Z"), berlin)), 24);
}

TEST(CampaignDay, BeginsWithTheChangeWhereMidnightIsSkipped) {
  const absl::TimeZone beirut = Zone("Asia/Beirut");
  const CampaignDay day = DayOf(Ms("2022-03-27T10:00:00Z"), beirut);
  EXPECT_EQ(day.start_ms, Ms("2022-03-26T22:00:00Z"));
  EXPECT_EQ(Hours(day), 23);
}

TEST(CampaignDay, DoesNotComeBackWhereClocksReturnToTheEveningBefore) {
  // At 00:01 on 7 November 2010 they were put back to 23:01 of the 6th.
  const absl::TimeZone newfoundland = Zone("America/St_Johns");
  const int64_t change_ms = Ms("2010-11-07T00:01:00-02:30");
  const int32_t sunday = DayOf(change_ms - 1, newfoundland).day;
  EXPECT_EQ(DayOf(change_ms, newfoundland).day, sunday);
  EXPECT_EQ(DayOf(change_ms - 61'000, newfoundland).day, sunday - 1);
}

TEST(CampaignDay, ThatAZoneLeftOutIsNone) {
  // Samoa went from 29 to 31 December 2011.
  const absl::TimeZone apia = Zone("Pacific/Apia");
  const CampaignDay before = DayOf(Ms("2011-12-30T09:59:59Z"), apia);
  const CampaignDay after = DayOf(Ms("2011-12-30T10:00:00Z"), apia);
  EXPECT_EQ(after.day, before.day + 2);
  EXPECT_EQ(after.start_ms, before.end_ms);
  const CampaignDay none = DayNumbered(before.day + 1, apia);
  EXPECT_EQ(none.start_ms, none.end_ms);
}

// Against the definition: the largest day whose first instant is not after.
TEST(CampaignDay, CoversTimeWithoutGapOrOverlap) {
  for (const char* name :
       {"", "Europe/Berlin", "America/New_York", "America/St_Johns",
        "America/Havana", "America/Sao_Paulo", "Asia/Beirut", "Asia/Kathmandu",
        "Atlantic/Azores", "Australia/Lord_Howe", "Pacific/Apia",
        "Pacific/Kiritimati", "Africa/Casablanca"}) {
    const absl::TimeZone zone = Zone(name);
    Rng rng(20260301);
    for (int i = 0; i < 3000; ++i) {
      const auto time_ms = static_cast<int64_t>(rng.Below(2'000'000'000'000));
      const CampaignDay day = DayOf(time_ms, zone);
      ASSERT_LE(day.start_ms, time_ms) << name;
      ASSERT_LT(time_ms, day.end_ms) << name;
      ASSERT_EQ(day, DayNumbered(day.day, zone)) << name;
      const CampaignDay next = DayOf(day.end_ms, zone);
      ASSERT_EQ(next.start_ms, day.end_ms) << name;
      ASSERT_EQ(DayOf(day.end_ms - 1, zone), day) << name;
      ASSERT_GT(next.day, day.day) << name;
    }
  }
}

TEST(CampaignDay, AZoneThatIsUnknownIsNamed) {
  EXPECT_THAT(FindTimeZone("Europe/Atlantis"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("Europe/Atlantis")));
}

}  // namespace
}  // namespace adrank
