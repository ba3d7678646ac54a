#include "server/budget/pacer.h"

#include <cmath>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/budget/pacing_day.h"
#include "server/budget/traffic_profile.h"

namespace adrank {
namespace {

constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kHourMs = 60 * kMinuteMs;
constexpr int64_t kDayMs = 24 * kHourMs;
constexpr int64_t kDayOne = 20'600 * kDayMs;

PacingDay Utc(int64_t ms) {
  return MakePacingDay(DayOf(ms, absl::UTCTimeZone()), absl::UTCTimeZone());
}

PacerTerms Daily(int64_t micros) {
  PacerTerms terms;
  terms.daily_micros = micros;
  return terms;
}

// A market in which `share` of the bid buys that share of what could be spent.
struct Market {
  double spend_a_minute = 3000;
  uint64_t eligible = 100;
  int64_t spent = 0, spent_today = 0;
  double carry = 0;
  int64_t day = -1;

  PacerReading Minute(int64_t now_ms, const PacerOutput& pace) {
    PacerReading r;
    r.now_ms = now_ms;
    if (now_ms / kDayMs != day) spent_today = 0;
    day = now_ms / kDayMs;
    carry += spend_a_minute * pace.multiplier * pace.participation;
    r.charged_micros = static_cast<int64_t>(carry);
    carry -= static_cast<double>(r.charged_micros);
    r.charges = 1;
    r.charge_delays = 1;
    r.charge_delay_seconds = 1;
    r.served_micros = static_cast<double>(r.charged_micros);
    r.served_ads = 100;
    r.eligible = eligible;
    spent += r.charged_micros;
    spent_today += r.charged_micros;
    r.spent_micros = spent;
    r.spent_today_micros = spent_today;
    return r;
  }
};

PacerOutput RunFor(int64_t from_ms, int64_t minutes, const PacerTerms& terms,
                   Pacer* pacer, Market* market,
                   PacerOutput pace = PacerOutput()) {
  for (int64_t i = 1; i <= minutes; ++i) {
    const int64_t now = from_ms + i * kMinuteMs;
    pace = pacer->Update(Utc(now), terms, market->Minute(now, pace));
  }
  return pace;
}

TEST(Pacer, HoldsTheShareThatSpendsTheBudgetEvenly) {
  Pacer pacer;
  Market market;
  // 3,000 a minute at the full bid are 4.32 M a day: a quarter is wanted.
  const PacerTerms terms = Daily(1'080'000);
  const PacerOutput noon = RunFor(kDayOne, 720, terms, &pacer, &market);
  EXPECT_NEAR(noon.multiplier, 0.25, 0.03);
  EXPECT_EQ(noon.participation, 1);
  EXPECT_EQ(noon.budget_micros, 1'080'000);
  EXPECT_NEAR(static_cast<double>(market.spent), 540'000, 20'000);
  EXPECT_NEAR(static_cast<double>(noon.target_micros), 540'000, 3'000);
  RunFor(kDayOne + 720 * kMinuteMs, 719, terms, &pacer, &market, noon);
  EXPECT_NEAR(static_cast<double>(market.spent), 1'080'000, 10'000);
}

TEST(Pacer, OffersTheWholeBidWithoutABudgetAndWhenAccelerated) {
  Market market;
  for (PacerTerms terms : {PacerTerms(), Daily(1000)}) {
    if (terms.daily_micros > 0) terms.delivery = v1::Budget::ACCELERATED;
    Pacer pacer;
    const PacerOutput pace = RunFor(kDayOne, 100, terms, &pacer, &market);
    EXPECT_EQ(pace.multiplier, 1);
    EXPECT_EQ(pace.participation, 1);
    EXPECT_EQ(pace.budget_micros, terms.daily_micros);
  }
}

TEST(Pacer, OffersTheWholeBidWhenTrafficCannotSpendTheBudget) {
  Pacer pacer;
  Market market;
  EXPECT_EQ(
      RunFor(kDayOne, 300, Daily(100'000'000), &pacer, &market).multiplier, 1);
}

TEST(Pacer, LeavesRequestsOutOnlyUnderTheReserve) {
  Pacer pacer;
  Market market;
  PacerOutput pace;
  for (int64_t i = 1; i <= 600; ++i) {
    const int64_t now = kDayOne + i * kMinuteMs;
    PacerReading r = market.Minute(now, pace);
    r.reserve_share_sum = 0.4 * static_cast<double>(r.eligible);
    r.reserve_shares = r.eligible;
    pace = pacer.Update(Utc(now), Daily(432'000), r);
    if (pace.participation < 1) {
      EXPECT_NEAR(pace.multiplier, 0.4 * 1.02, 1e-6);
    }
  }
  EXPECT_NEAR(pace.multiplier * pace.participation, 0.1, 0.02);
  EXPECT_LT(pace.participation, 0.4);
}

TEST(Pacer, SpreadsATotalOverTheDaysToTheEnd) {
  PacerTerms terms;
  terms.total_micros = 4'000'000;
  terms.start_ms = kDayOne;
  terms.end_ms = kDayOne + 4 * kDayMs;
  Pacer pacer;
  Market market;
  PacerOutput pace;
  for (int day = 0; day < 4; ++day) {
    const int64_t before = market.spent;
    pace = RunFor(kDayOne + day * kDayMs, 1439, terms, &pacer, &market, pace);
    EXPECT_NEAR(static_cast<double>(market.spent - before), 1'000'000, 40'000)
        << day;
    pace = RunFor(kDayOne + (day + 1) * kDayMs - kMinuteMs, 1, terms, &pacer,
                  &market, pace);
  }
}

TEST(Pacer, ACampaignThatEndsAtNoonSpendsItsDayByNoon) {
  PacerTerms terms = Daily(1'000'000);
  terms.end_ms = kDayOne + 12 * kHourMs;
  Pacer pacer;
  Market market;
  RunFor(kDayOne, 719, terms, &pacer, &market);
  EXPECT_NEAR(static_cast<double>(market.spent), 1'000'000, 20'000);
}

TEST(Pacer, AnHourWithoutTrafficDoesNotWindTheMultiplierUp) {
  Pacer pacer;
  Market market;
  const PacerTerms terms = Daily(1'080'000);
  PacerOutput pace = RunFor(kDayOne, 600, terms, &pacer, &market);
  Market none = market;
  none.spend_a_minute = 0;
  none.eligible = 0;
  const PacerOutput after =
      RunFor(kDayOne + 600 * kMinuteMs, 60, terms, &pacer, &none, pace);
  EXPECT_LT(after.multiplier, 1.3 * pace.multiplier);
}

TEST(Pacer, ASurgeIsNotBoughtAndLeavesNoBlackout) {
  Pacer pacer;
  Market market;
  const PacerTerms terms = Daily(1'080'000);
  PacerOutput pace = RunFor(kDayOne, 600, terms, &pacer, &market);
  const float before = pace.multiplier;
  Market surge = market;
  surge.spend_a_minute *= 100;
  surge.eligible *= 100;
  pace = RunFor(kDayOne + 600 * kMinuteMs, 10, terms, &pacer, &surge, pace);
  // One minute at a hundred times the rate, then the usual rate.
  EXPECT_LT(surge.spent - market.spent, 130'000);
  surge.spend_a_minute = market.spend_a_minute;
  surge.eligible = market.eligible;
  pace = RunFor(kDayOne + 610 * kMinuteMs, 2, terms, &pacer, &surge, pace);
  EXPECT_GT(pace.multiplier * pace.participation, before / 2);
}

TEST(Pacer, ClocksThatJumpLeaveTheShareAlone) {
  for (const int64_t jump : {-30 * kDayMs, -kHourMs, -int64_t{1}, int64_t{0},
                             kHourMs, 30 * kDayMs}) {
    SCOPED_TRACE(jump);
    Pacer pacer;
    Market market;
    const PacerTerms terms = Daily(1'080'000);
    const PacerOutput before = RunFor(kDayOne, 720, terms, &pacer, &market);
    const int64_t now = kDayOne + 720 * kMinuteMs + jump;
    const PacerOutput after =
        pacer.Update(Utc(now), terms, market.Minute(now, before));
    EXPECT_NEAR(after.multiplier, before.multiplier, 0.1 * before.multiplier);
  }
}

TEST(Pacer, GoesOnFromItsStateAsIfNothingHadHappened) {
  const PacerTerms terms = Daily(1'080'000);
  Pacer one;
  Market market;
  PacerOutput pace = RunFor(kDayOne, 2000, terms, &one, &market);
  Market other_market = market;
  Pacer other(one.State());
  for (int64_t i = 1; i <= 500; ++i) {
    const int64_t now = kDayOne + (2000 + i) * kMinuteMs;
    const PacerOutput a = one.Update(Utc(now), terms, market.Minute(now, pace));
    const PacerOutput b =
        other.Update(Utc(now), terms, other_market.Minute(now, pace));
    ASSERT_EQ(a.multiplier, b.multiplier) << i;
    ASSERT_EQ(a.target_micros, b.target_micros) << i;
    pace = a;
  }
}

PacerReading RandomReading(int64_t now, Rng* rng) {
  const auto some = [rng](double most) {
    // Often 0, sometimes huge.
    if (rng->Bernoulli(0.2)) return 0.0;
    return std::exp(rng->Uniform() * std::log(most));
  };
  PacerReading r;
  r.now_ms = now;
  r.spent_today_micros = static_cast<int64_t>(some(1e15));
  r.spent_micros = r.spent_today_micros + static_cast<int64_t>(some(1e15));
  r.outstanding_micros = static_cast<int64_t>(some(1e15));
  r.closed = rng->Bernoulli(0.1);
  r.eligible = static_cast<uint64_t>(some(1e9));
  r.served_ads = static_cast<uint64_t>(some(1e6));
  r.served_micros = some(1e15);
  r.charges = static_cast<uint64_t>(some(1e5));
  r.charged_micros = static_cast<int64_t>(some(1e15));
  r.charge_delays = r.charges;
  r.charge_delay_seconds = some(1e7);
  r.reserve_shares = static_cast<uint64_t>(some(1e5));
  r.reserve_share_sum = some(1e6);
  return r;
}

TEST(Pacer, B4_AnyReadingsGiveAShareInRange) {
  constexpr uint64_t kSeed = 20261125;
  SCOPED_TRACE(kSeed);
  Rng rng(kSeed);
  for (int round = 0; round < 300; ++round) {
    Pacer pacer;
    PacerTerms terms =
        Daily(static_cast<int64_t>(std::exp(rng.Uniform() * std::log(1e15))));
    if (rng.Bernoulli(0.3)) terms.total_micros = terms.daily_micros * 3;
    if (rng.Bernoulli(0.3)) terms.end_ms = kDayOne + 2 * kDayMs;
    int64_t now = kDayOne;
    for (int i = 0; i < 100; ++i) {
      now += static_cast<int64_t>(rng.Below(40 * kMinuteMs)) - kMinuteMs;
      const PacerOutput out =
          pacer.Update(Utc(now), terms, RandomReading(now, &rng));
      ASSERT_GT(out.multiplier, 0);
      ASSERT_LE(out.multiplier, 1);
      ASSERT_GT(out.participation, 0);
      ASSERT_LE(out.participation, 1);
      ASSERT_GE(out.target_micros, 0);
      ASSERT_LE(out.target_micros, out.budget_micros);
    }
  }
}

// B5: what a pacer does is a function of its own readings. Campaigns that are
// stepped among others behave as alone, also the extreme ones (a pooled
// controller sees two campaigns at twice and none of their pace as perfect).
TEST(Pacer, B5_ACampaignsMultiplierDependsOnlyOnItself) {
  constexpr uint64_t kSeed = 7;
  SCOPED_TRACE(kSeed);
  constexpr int kCampaigns = 50, kSteps = 200;
  const auto rng_of = [](int c) {
    return Rng(kSeed * 1000 + static_cast<uint64_t>(c));
  };
  std::vector<std::vector<PacerOutput>> alone(kCampaigns);
  for (int c = 0; c < kCampaigns; ++c) {
    Rng rng = rng_of(c);
    Pacer pacer;
    for (int i = 1; i <= kSteps; ++i) {
      const int64_t now = kDayOne + i * kMinuteMs;
      alone[static_cast<size_t>(c)].push_back(pacer.Update(
          Utc(now), Daily((c + 1) * 1'000'000), RandomReading(now, &rng)));
    }
  }
  std::vector<Pacer> pacers(kCampaigns);
  std::vector<Rng> rngs;
  for (int c = 0; c < kCampaigns; ++c) rngs.push_back(rng_of(c));
  for (int i = 1; i <= kSteps; ++i) {
    const int64_t now = kDayOne + i * kMinuteMs;
    for (int c = kCampaigns; c-- > 0;) {
      const size_t k = static_cast<size_t>(c);
      const PacerOutput out = pacers[k].Update(
          Utc(now), Daily((c + 1) * 1'000'000), RandomReading(now, &rngs[k]));
      const PacerOutput& expected = alone[k][static_cast<size_t>(i - 1)];
      ASSERT_EQ(out.multiplier, expected.multiplier);
      ASSERT_EQ(out.participation, expected.participation);
      ASSERT_EQ(out.target_micros, expected.target_micros);
    }
  }
}

TEST(PacingDay, DaysOf23And25HoursLackOrRepeatAnHourOfTheClock) {
  absl::TimeZone berlin;
  ASSERT_TRUE(absl::LoadTimeZone("Europe/Berlin", &berlin));
  const auto quarters = [&](int month, int day) {
    const absl::Time noon =
        absl::FromCivil(absl::CivilHour(2026, month, day, 12), berlin);
    return MakePacingDay(DayOf(absl::ToUnixMillis(noon), berlin), berlin)
        .quarters;
  };
  EXPECT_EQ(quarters(6, 1).size(), 96u);
  const auto spring = quarters(3, 29);
  ASSERT_EQ(spring.size(), 92u);
  EXPECT_EQ(spring[7], 7);
  EXPECT_EQ(spring[8], 12);  // 03:00 follows 01:59
  const auto autumn = quarters(10, 25);
  ASSERT_EQ(autumn.size(), 100u);
  EXPECT_EQ(autumn[11], 11);
  EXPECT_EQ(autumn[12], 8);  // 02:00 again
  EXPECT_EQ(autumn[99], 95);
}

TEST(TrafficProfile, LearnsTheShapeAndShrugsOffASpikeAndAnEmptyHour) {
  v1::TrafficProfile profile;
  const auto usual = [](int quarter) {
    return static_cast<uint64_t>(quarter < 48 ? 10 : 30);
  };
  const auto observe = [&](int64_t day, int quarter, double factor) {
    const int64_t start = kDayOne + day * kDayMs + quarter * kQuarterMs;
    for (int m = 0; m < 15; ++m) {
      ObserveTraffic(
          Utc(start), start + m * kMinuteMs, start + (m + 1) * kMinuteMs,
          static_cast<uint64_t>(factor * static_cast<double>(usual(quarter))),
          &profile);
    }
  };
  const PacingDay day = Utc(kDayOne);
  const auto share_of_morning = [&] {
    return ForecastTraffic(profile, day, kDayOne, kDayOne + kDayMs / 2) /
           ForecastTraffic(profile, day, kDayOne, kDayOne + kDayMs);
  };
  EXPECT_DOUBLE_EQ(share_of_morning(), 0.5);
  for (int q = 0; q < 96; ++q) observe(0, q, 1);
  EXPECT_NEAR(share_of_morning(), 0.25, 0.01);
  for (int q = 0; q < 96; ++q) {
    observe(1, q, q == 20 ? 100 : q >= 60 && q < 64 ? 0 : 1);
  }
  for (int q = 0; q < 96; ++q) observe(2, q, 1);
  EXPECT_NEAR(share_of_morning(), 0.25, 0.02);
  // Nothing is believed to be empty for ever.
  EXPECT_GT(ForecastTraffic(profile, day, kDayOne + 60 * kQuarterMs,
                            kDayOne + 61 * kQuarterMs),
            100);
}

}  // namespace
}  // namespace adrank
