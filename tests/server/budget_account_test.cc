#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "server/budget/account.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kStartMs = 1'800'057'600'000;  // 2027-01-16 00:00 UTC
constexpr int64_t kDayMs = 86'400'000;

// A day on which more traffic comes than the budget can pay.
struct SoftDay {
  double clicks = 100;  // of the mean price that the budget pays
  double pctr = 0.01;
  double demand = 3;  // requests over those that spend the budget
  bool mixed_prices = true;
  double delay_seconds = 60;  // mean of a click's
};

struct SoftResult {
  double spent = 0;  // share of the budget
  uint64_t unbilled_events = 0;
  double unbilled = 0;  // share of the budget
};

// The account alone, its clicks and expiries in their order.
SoftResult RunDay(const SoftDay& day, const BudgetPolicy& policy,
                  uint64_t seed) {
  struct Open {
    int64_t expires_ms;
    SlotCost cost;
    Hold hold;
    bool settled = false;
  };
  using Click = std::pair<int64_t, size_t>;  // when, of which
  Rng rng(seed);
  CampaignAccount account(&policy);
  constexpr int64_t kPrice = 1'000'000;
  v1::Budget budget;
  budget.set_daily_micros(
      static_cast<int64_t>(day.clicks * static_cast<double>(kPrice)));
  account.SetTerms(budget, absl::UTCTimeZone(), kStartMs);
  const int32_t number = account.today().day;
  std::vector<Open> served;
  size_t first_open = 0;
  std::priority_queue<Click, std::vector<Click>, std::greater<Click>> clicks;
  int64_t now_ms = kStartMs;
  // Everything that happens until `until_ms`.
  const auto pass = [&](int64_t until_ms) {
    for (;;) {
      while (first_open < served.size() && served[first_open].settled) {
        ++first_open;
      }
      const int64_t expires = first_open < served.size()
                                  ? served[first_open].expires_ms
                                  : INT64_MAX;
      const int64_t clicked = clicks.empty() ? INT64_MAX : clicks.top().first;
      if (std::min(expires, clicked) > until_ms) break;
      if (clicked < expires) {
        Open& open = served[clicks.top().second];
        clicks.pop();
        if (!open.settled) {
          account.Bill(number, open.cost, open.hold);
          open.settled = true;
        } else {
          account.BillLate(number, open.cost);
        }
      } else {
        Open& open = served[first_open];
        account.GiveBack(number, open.cost, open.hold, true);
        open.settled = true;
      }
    }
    now_ms = until_ms;
  };
  const auto requests =
      static_cast<uint64_t>(day.demand * day.clicks / day.pctr);
  for (uint64_t i = 0; i < requests; ++i) {
    pass(now_ms + static_cast<int64_t>(rng.Exponential() * kDayMs /
                                       static_cast<double>(requests)));
    if (now_ms >= kStartMs + kDayMs) break;
    account.Roll(std::min(now_ms, kStartMs + kDayMs - 1));
    const auto price = day.mixed_prices
                           ? static_cast<int64_t>(rng.Below(2 * kPrice)) + 1
                           : kPrice;
    const SlotCost cost =
        SlotCost::Of(v1::BID_TYPE_CPC, price, static_cast<float>(day.pctr));
    if (account.Closed()) continue;
    const Hold hold = account.Take(number, cost);
    if (hold == Hold::kRefused) continue;
    served.push_back({now_ms + policy.reservation_ms, cost, hold});
    if (rng.Bernoulli(day.pctr)) {
      clicks.push({now_ms + static_cast<int64_t>(1000 * day.delay_seconds *
                                                 rng.Exponential()),
                   served.size() - 1});
    }
  }
  pass(kStartMs + 2 * kDayMs);
  const auto total = static_cast<double>(budget.daily_micros());
  EXPECT_LE(account.life().spent, budget.daily_micros());
  EXPECT_TRUE(account.life().full == 0 && account.life().soft == 0 &&
              account.life().mean == 0 && account.life().variance == 0);
  return {static_cast<double>(account.life().spent) / total,
          account.unbilled_events(),
          static_cast<double>(account.unbilled()) / total};
}

// The stated bound: the clicks of open decisions cost more than what is held
// with a probability of at most 1 / (1 + deviations^2), whatever prices and
// probabilities are.
TEST(BudgetAccount, B1WhatIsHeldIsExceededAsSeldomAsStated) {
  Rng rng(20260309);
  for (int portfolio = 0; portfolio < 300; ++portfolio) {
    const double deviations = 1 + 2 * rng.Uniform();
    const uint64_t n = 1 + rng.Below(uint64_t{1} << rng.Below(9));
    const double most = rng.Uniform();
    BudgetBook book;
    std::vector<std::pair<int64_t, double>> open;
    for (uint64_t i = 0; i < n; ++i) {
      const auto price = static_cast<int64_t>(1 + rng.Below(1'000'000));
      const auto pctr = static_cast<float>(most * rng.Uniform());
      open.emplace_back(price, pctr);
      book.Add(SlotCost::Of(v1::BID_TYPE_CPC, price, pctr), Hold::kExpected, 1);
    }
    const WideMicros held = book.Held(deviations);
    constexpr int kTrials = 400;
    int exceeded = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      WideMicros cost = 0;
      for (const auto& [price, pctr] : open) {
        if (rng.Bernoulli(pctr)) cost += price;
      }
      exceeded += cost > held;
    }
    const double bound = kTrials / (1 + deviations * deviations);
    EXPECT_LE(exceeded, bound + 4 * std::sqrt(bound))
        << "portfolio " << portfolio;
  }
}

// On days with three times the demand that the budget can pay: nearly all of it
// is spent, and seldom does any click go unbilled.
TEST(BudgetAccount, B1SoftModeSpendsTheBudgetAndSeldomMore) {
  struct Case {
    SoftDay day;
    int days;
    double least_spent;
    int64_t reservation_ms = 600'000;
  };
  const Case cases[] = {
      {{.clicks = 1, .mixed_prices = false}, 300, 0.90},
      {{.clicks = 10}, 300, 0.95},
      {{.clicks = 10, .pctr = 0.1}, 300, 0.95},
      {{.clicks = 100}, 100, 0.99},
      {{.clicks = 100, .pctr = 0.1}, 300, 0.99},
      {{.clicks = 1000, .pctr = 0.1}, 30, 0.99},
      // Clicks that take ten minutes, and as much longer a reservation.
      {{.clicks = 100, .pctr = 0.1, .delay_seconds = 600},
       100,
       0.98,
       6'000'000},
  };
  for (const Case& c : cases) {
    BudgetPolicy policy;
    policy.reservation_ms = c.reservation_ms;
    const double bound = 1 / (1 + policy.deviations * policy.deviations);
    int over = 0;
    double unbilled = 0, spent = 0;
    for (int i = 0; i < c.days; ++i) {
      const SoftResult r = RunDay(c.day, policy, 1000 + i);
      over += r.unbilled_events > 0;
      unbilled = std::max(unbilled, r.unbilled);
      spent += r.spent / c.days;
    }
    const std::string name =
        absl::StrCat(c.day.clicks, " clicks, pctr ", c.day.pctr, ", delay ",
                     c.day.delay_seconds, " s");
    std::printf(
        "%s: %.3f of the budget spent; %d of %d days with an unbilled click, "
        "at most %.4f of the budget\n",
        name.c_str(), spent, over, c.days, unbilled);
    EXPECT_LE(over, bound * c.days + 3 * std::sqrt(bound * c.days)) << name;
    EXPECT_GE(spent, c.least_spent) << name;
  }
}

TEST(BudgetAccount, B1HardModeHasNoUnbilledClick) {
  BudgetPolicy policy;
  policy.hard_share = 1;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SoftDay day;
    day.pctr = 0.2;
    const SoftResult r = RunDay(day, policy, seed);
    EXPECT_EQ(r.unbilled_events, 0u) << "seed " << seed;
  }
}

TEST(BudgetAccount, HoldsTheFullPriceOfAnImpression) {
  const SlotCost cost = SlotCost::Of(v1::BID_TYPE_CPM, 70, 0.01f);
  EXPECT_EQ(cost.mean, 70);
  EXPECT_TRUE(cost.variance == 0);
}

TEST(BudgetAccount, AnyPriceAndProbabilityCanBeAddedAndTakenAway) {
  Rng rng(20260310);
  BudgetBook book;
  std::vector<SlotCost> costs;
  for (int i = 0; i < 2000; ++i) {
    const auto price = static_cast<int64_t>(rng() >> (2 + rng.Below(60)));
    costs.push_back(SlotCost::Of(v1::BID_TYPE_CPC, price,
                                 static_cast<float>(rng.Uniform())));
    EXPECT_GE(costs.back().mean, 0);
    EXPECT_LE(costs.back().mean, price);
    book.Add(costs.back(), Hold::kExpected, 1);
    EXPECT_LE(book.Held(3), book.soft);
    EXPECT_GE(book.Held(3), book.mean);
  }
  for (const SlotCost& cost : costs) book.Add(cost, Hold::kExpected, -1);
  EXPECT_TRUE(book.soft == 0 && book.mean == 0 && book.variance == 0);
}

// The day's expected cost overflowed.
TEST(BudgetAccount, TheDearestAdsAddUp) {
  const BudgetPolicy policy;
  CampaignAccount account(&policy);
  account.SetTerms(v1::Budget(), absl::UTCTimeZone(), kStartMs);
  const int32_t day = account.DayNumber(kStartMs);
  const SlotCost cost = SlotCost::Of(v1::BID_TYPE_CPM, int64_t{1} << 62, 1.0f);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(account.Take(day, cost), Hold::kExpected);
  }
  EXPECT_TRUE(account.Today().expected == 5 * (WideMicros{1} << 62));
  EXPECT_TRUE(account.Bill(day, cost, Hold::kExpected));
  EXPECT_TRUE(account.life().spent == (WideMicros{1} << 62));
}

TEST(BudgetPolicy, NamesTheFieldThatIsOutOfRange) {
  v1::BudgetConfig config;
  ASSERT_OK_AND_ASSIGN(const BudgetPolicy policy, BudgetPolicy::Create(config));
  EXPECT_EQ(policy.reservation_ms, 600'000);
  EXPECT_EQ(policy.billing_ms, kDayMs);
  const auto expect_bad = [&](const char* field) {
    EXPECT_THAT(BudgetPolicy::Create(config),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
    config.Clear();
  };
  config.set_reservation_seconds(3'000'000);
  expect_bad("budget.reservation_seconds");
  config.set_reserve_deviations(-1);
  expect_bad("budget.reserve_deviations");
  config.set_reserve_deviations(NAN);
  expect_bad("budget.reserve_deviations");
  config.set_hard_share(1.5);
  expect_bad("budget.hard_share");
}

}  // namespace
}  // namespace adrank
