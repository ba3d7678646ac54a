// Prefixes, circles and time windows: their edges, what they say of themselves,
// and the indices behind them against a scan.
#include <cmath>

#include "base/textproto.h"
#include "gtest/gtest.h"
#include "server/trigger/geo_index.h"
#include "server/trigger/targeting.h"
#include "server/trigger/time_windows.h"
#include "tests/server/expressions.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::Interpret;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomExpression;
using ::adrank::testing::RandomLatitude;
using ::adrank::testing::RandomLongitude;
using ::adrank::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename M>
M Parse(const std::string& text) {
  M message;
  EXPECT_OK(ParseTextProto(text, "test", &message));
  return message;
}

struct Verdict {
  bool matches;
  std::string failure;
  std::vector<std::string> evidence;
};

Verdict Ask(const std::string& expression, const std::string& context_text) {
  TargetingSet set;
  const auto context = Parse<v1::Context>(context_text);
  const auto number = set.Add(Parse<v1::TargetingExpression>(expression));
  EXPECT_OK(number);
  ResolvedContext resolved;
  set.Resolve(context, &resolved);
  Verdict verdict = {
      set.Matches(*number, &resolved), set.FirstFailure(*number, resolved), {}};
  set.AppendEvidence(*number, context, resolved, &verdict.evidence);
  return verdict;
}

std::string At(double latitude, double longitude) {
  return absl::StrCat("attributes { name: 'lat' number: ", latitude,
                      "} attributes { name: 'lon' number: ", longitude, "}");
}

TEST(Targeting, PrefixOfAnyTextOrOfANumbersText) {
  const std::string zip =
      "prefix { attribute: 'zip' prefixes: '101' "
      "prefixes: 'D-1' }";
  EXPECT_TRUE(Ask(zip, "attributes { name: 'zip' text: '10115' }").matches);
  EXPECT_TRUE(
      Ask(zip, "attributes { name: 'zip' text: 'x' text: 'D-1' }").matches);
  EXPECT_TRUE(Ask(zip, "attributes { name: 'zip' number: 10115 }").matches);
  EXPECT_FALSE(Ask(zip, "attributes { name: 'zip' text: '10' }").matches);
  EXPECT_FALSE(Ask(zip, "").matches);
  EXPECT_TRUE(Ask("none_of { expressions { " + zip + " } }", "").matches);
  EXPECT_TRUE(Ask("prefix { attribute: 'query' prefixes: 'buy ' }",
                  "query: 'buy shoes'")
                  .matches);
  EXPECT_FALSE(Ask("prefix { attribute: 'zip' }", "").matches);
  EXPECT_EQ(Ask(zip, "").failure, "prefix(zip)");
}

TEST(Targeting, GeoRadiusKnowsPolesAndTheAntimeridian) {
  const auto within = [](double lat, double lon, double km, double at_lat,
                         double at_lon) {
    return Ask(absl::StrCat("geo_radius { latitude: ", lat, " longitude: ", lon,
                            " radius_km: ", km, " }"),
               At(at_lat, at_lon))
        .matches;
  };
  // Berlin to Potsdam, 27 km.
  EXPECT_TRUE(within(52.52, 13.405, 30, 52.39, 13.065));
  EXPECT_FALSE(within(52.52, 13.405, 25, 52.39, 13.065));
  // Fiji, 21 km over the antimeridian.
  EXPECT_TRUE(within(-17, 179.9, 22, -17, -179.9));
  EXPECT_FALSE(within(-17, 179.9, 21, -17, -179.9));
  EXPECT_TRUE(within(0, 180, 1, 0, -180));
  // Half a degree from a pole is 55.6 km from it and 111.2 km across.
  EXPECT_TRUE(within(90, 0, 56, 89.5, 123));
  EXPECT_FALSE(within(90, 0, 55, 89.5, 123));
  EXPECT_TRUE(within(-89.5, 10, 112, -89.5, -170));
  EXPECT_FALSE(within(-89.5, 10, 111, -89.5, -170));
  // The far side of the Earth.
  EXPECT_TRUE(within(30, 40, 20016, -30, -140));
  EXPECT_FALSE(within(30, 40, 20000, -30, -140));
  // No place.
  EXPECT_FALSE(within(90, 0, 20038, 90.1, 0));
}

TEST(Targeting, GeoRadiusSaysHowFarAwayTheRequestIs) {
  const std::string berlin =
      "geo_radius { latitude: 52.52 longitude: 13.405 radius_km: 10 }";
  EXPECT_THAT(Ask(berlin, At(52.39, 13.065)).failure,
              HasSubstr("geo_radius(52.52, 13.405, 10 km): 27.1"));
  EXPECT_EQ(Ask(berlin, "").failure,
            "geo_radius(52.52, 13.405, 10 km): the request has no place");
  EXPECT_THAT(Ask(berlin, At(52.5, 13.4)).evidence,
              ElementsAre("lat,lon=52.5,13.4"));
  EXPECT_TRUE(Ask("geo_radius { latitude_attribute: 'y' longitude_attribute: "
                  "'x' latitude: 1 longitude: 2 radius_km: 1 }",
                  "attributes { name: 'x' number: 2 } "
                  "attributes { name: 'y' number: 1 number: 70 }")
                  .matches);
}

TEST(GeoIndex, FindsExactlyTheCirclesOfAScan) {
  size_t found = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    GeoIndex index;
    for (int i = 0; i < 300; ++i) {
      // From 10 m to more than the Earth.
      const double km = 0.01 * std::pow(2.0, 23 * rng.Uniform());
      index.Add({RandomLatitude(&rng), RandomLongitude(&rng), km});
    }
    for (int i = 0; i < 200; ++i) {
      const GeoIndex::Circle& near =
          index.circle(static_cast<uint32_t>(rng.Below(index.size())));
      // Anywhere, or about as far as a circle's border.
      double lat = RandomLatitude(&rng), lon = RandomLongitude(&rng);
      if (rng.Bernoulli(0.7)) {
        const double reach = near.radius_km / 111 * 1.5;
        lat = near.latitude + reach * (2 * rng.Uniform() - 1);
        lon = near.longitude + reach * (2 * rng.Uniform() - 1);
        if (lat < -90 || lat > 90) continue;
      }
      std::vector<uint32_t> expected, got;
      for (uint32_t c = 0; c < index.size(); ++c) {
        const GeoIndex::Circle& circle = index.circle(c);
        if (DistanceKm(circle.latitude, circle.longitude, lat, lon) <=
            circle.radius_km) {
          expected.push_back(c);
        }
      }
      index.ForEachAround(lat, lon, [&](uint32_t c) { got.push_back(c); });
      std::sort(got.begin(), got.end());
      ASSERT_EQ(got, expected) << lat << " " << lon;
      found += got.size();
    }
  }
  EXPECT_GT(found, 1000u);
}

// ---- time ----

std::string Moment(const char* text) {
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, nullptr));
  return absl::StrCat("time_ms: ", absl::ToUnixMillis(time));
}

bool Open(const std::string& window, const char* moment) {
  return Ask(absl::StrCat("time_window { ", window, " }"), Moment(moment))
      .matches;
}

TEST(Targeting, TimeWindowIsHalfOpenOnItsDays) {
  // 2026-06-01 is a Monday; Berlin is two hours ahead.
  const std::string office =
      "days: [1, 2] from_minute: 540 to_minute: 1020 "
      "time_zone: 'Europe/Berlin'";
  EXPECT_FALSE(Open(office, "2026-06-01T06:59:59Z"));
  EXPECT_TRUE(Open(office, "2026-06-01T07:00:00Z"));
  EXPECT_TRUE(Open(office, "2026-06-02T14:59:59Z"));
  EXPECT_FALSE(Open(office, "2026-06-02T15:00:00Z"));
  EXPECT_FALSE(Open(office, "2026-06-03T08:00:00Z"));
  // The day is the zone's, not UTC's.
  EXPECT_TRUE(Open("days: 1 time_zone: 'Asia/Tokyo'", "2026-05-31T15:00:00Z"));
  EXPECT_FALSE(Open("days: 1", "2026-05-31T15:00:00Z"));
  EXPECT_TRUE(Open("days: 7", "2026-05-31T15:00:00Z"));
  EXPECT_TRUE(Open("", "2026-05-31T15:00:00Z"));
}

TEST(Targeting, TimeWindowPastMidnightBelongsToTheDayItBegins) {
  const std::string night = "days: 7 from_minute: 1320 to_minute: 120";
  EXPECT_FALSE(Open(night, "2026-05-31T01:00:00Z"));  // Sunday morning
  EXPECT_TRUE(Open(night, "2026-05-31T22:00:00Z"));
  EXPECT_TRUE(Open(night, "2026-06-01T01:59:59Z"));  // Monday
  EXPECT_FALSE(Open(night, "2026-06-01T02:00:00Z"));
  EXPECT_FALSE(Open(night, "2026-06-01T22:30:00Z"));
  // From noon to midnight; from noon to noon.
  EXPECT_TRUE(Open("days: 1 from_minute: 720", "2026-06-01T23:59:59Z"));
  EXPECT_FALSE(Open("days: 1 from_minute: 720", "2026-06-02T00:00:00Z"));
  EXPECT_TRUE(
      Open("days: 1 from_minute: 720 to_minute: 720", "2026-06-02T11:59:59Z"));
  EXPECT_FALSE(
      Open("days: 1 from_minute: 720 to_minute: 720", "2026-06-02T12:00:00Z"));
}

// 2026-03-29 has 23 hours in Berlin (02:00 becomes 03:00 at 01:00Z),
// 2026-10-25 has 25 (03:00 becomes 02:00 at 01:00Z).
TEST(Targeting, TimeWindowFollowsTheWallClockOnDstDays) {
  const std::string from2to3 =
      "from_minute: 120 to_minute: 180 "
      "time_zone: 'Europe/Berlin'";
  const std::string from3to4 =
      "from_minute: 180 to_minute: 240 "
      "time_zone: 'Europe/Berlin'";
  for (const char* moment : {"2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z",
                             "2026-03-29T01:30:00Z"}) {
    EXPECT_FALSE(Open(from2to3, moment)) << moment;  // there is no such hour
  }
  EXPECT_TRUE(Open(from3to4, "2026-03-29T01:00:00Z"));
  EXPECT_FALSE(Open(from3to4, "2026-03-29T02:00:00Z"));
  // Twice 02:30.
  EXPECT_TRUE(Open(from2to3, "2026-10-25T00:30:00Z"));
  EXPECT_TRUE(Open(from2to3, "2026-10-25T01:30:00Z"));
  EXPECT_FALSE(Open(from2to3, "2026-10-25T02:00:00Z"));
  // Sunday's whole day ends at midnight of the clock on both.
  const std::string sunday = "days: 7 time_zone: 'Europe/Berlin'";
  EXPECT_FALSE(Open(sunday, "2026-03-28T22:59:59Z"));
  EXPECT_TRUE(Open(sunday, "2026-03-28T23:00:00Z"));
  EXPECT_TRUE(Open(sunday, "2026-03-29T21:59:59Z"));
  EXPECT_FALSE(Open(sunday, "2026-03-29T22:00:00Z"));
  EXPECT_TRUE(Open(sunday, "2026-10-24T22:00:00Z"));
  EXPECT_TRUE(Open(sunday, "2026-10-25T22:59:59Z"));
  EXPECT_FALSE(Open(sunday, "2026-10-25T23:00:00Z"));
}

TEST(Targeting, TimeWindowSaysWhatTimeItIs) {
  const std::string office =
      "time_window { days: 1 days: 5 from_minute: 540 "
      "to_minute: 1020 time_zone: 'Europe/Berlin' }";
  EXPECT_EQ(Ask(office, Moment("2026-05-31T07:12:00Z")).failure,
            "time_window(Mon,Fri 09:00-17:00 Europe/Berlin): it is Sun 09:12 "
            "Europe/Berlin");
  EXPECT_THAT(Ask(office, Moment("2026-06-01T07:12:00Z")).evidence,
              ElementsAre("time=Mon 09:12 Europe/Berlin"));
  EXPECT_EQ(Ask("none_of { expressions { " + office + " } }",
                Moment("2026-06-01T07:12:00Z"))
                .failure,
            "none_of(time_window(Mon,Fri 09:00-17:00 Europe/Berlin))");
}

TEST(Targeting, WhatIsNoCircleOrWindowIsRefused) {
  const auto refuses = [](const char* expression, const char* why) {
    TargetingSet set;
    EXPECT_THAT(set.Add(Parse<v1::TargetingExpression>(expression)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)))
        << expression;
  };
  refuses("geo_radius { latitude: 91 radius_km: 1 }", "no circle");
  refuses("geo_radius { latitude: nan radius_km: 1 }", "no circle");
  refuses("geo_radius { longitude: inf radius_km: 1 }", "no circle");
  refuses("geo_radius { radius_km: 0 }", "no circle");
  refuses("time_window { time_zone: 'Mars/Utopia' }",
          "\"Mars/Utopia\" is not known");
  refuses("time_window { days: 8 }", "8 not in [1, 7]");
  refuses("time_window { from_minute: 1440 }", "beyond a day");
  refuses("time_window { to_minute: 1441 }", "beyond a day");
}

TEST(Targeting, EvidenceIsWhatMadeTheExpressionTrue) {
  const std::string context =
      "query: 'shoes' attributes { name: 'country' text: 'FR' text: 'DE' } "
      "attributes { name: 'age' number: 30 number: 99 } "
      "attributes { name: 'zip' text: '10115' }";
  const std::string country =
      "expressions { in_set { attribute: 'country' values: 'DE' } }";
  const std::string age = "expressions { range { attribute: 'age' max: 40 } }";
  const std::string never =
      "expressions { in_set { attribute: 'country' values: 'XX' } }";
  EXPECT_THAT(
      Ask("all_of { " + country + age + country +
              "expressions { prefix { attribute: 'zip' prefixes: '1' "
              "prefixes: '101' } } expressions { in_set { attribute: 'query' "
              "values: 'shoes' } } }",
          context)
          .evidence,
      ElementsAre("country=DE", "age=30", "zip=10115", "query=shoes"));
  // A branch that is false proves nothing, nor does what is denied.
  EXPECT_THAT(Ask("any_of { expressions { all_of { " + age + never + " } } " +
                      country + "expressions { none_of { " + never + " } } }",
                  context)
                  .evidence,
              ElementsAre("country=DE"));
}

// T1 for one expression at a time, by the interpreter of the messages.
TEST(T1, ExpressionsOfEveryKindEqualTheInterpreter) {
  size_t matched = 0, kinds[3] = {};
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    TargetingSet set;
    std::vector<v1::TargetingExpression> all;
    for (int i = 0; i < 20; ++i) {
      all.push_back(RandomExpression(&rng, 3));
      ASSERT_OK(set.Add(all.back()));
      kinds[0] += all.back().has_prefix();
      kinds[1] += all.back().has_geo_radius();
      kinds[2] += all.back().has_time_window();
    }
    ResolvedContext resolved;
    for (int r = 0; r < 20; ++r) {
      const v1::Context context = RandomContext(&rng);
      set.Resolve(context, &resolved);
      for (const auto& e : all) {
        const bool expected = Interpret(e, context);
        ASSERT_EQ(set.Matches(*set.Add(e), &resolved), expected)
            << e.ShortDebugString() << "\n"
            << context.ShortDebugString();
        matched += expected;
      }
    }
  }
  EXPECT_GT(matched, 10000u);
  for (const size_t kind : kinds) EXPECT_GT(kind, 100u);
}

}  // namespace
}  // namespace adrank
