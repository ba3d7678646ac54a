// B4: the pacing simulator, reduced; bench/run.sh pacing runs 10,000 days.
#include "server/budget/pacing_simulation.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

using ::testing::IsEmpty;

class PacingSimulation : public ::testing::TestWithParam<std::string> {};

TEST_P(PacingSimulation, B4_SpendFollowsTheTargetWithoutBlackoutOrOscillation) {
  const PacingScenario* scenario = FindPacingScenario(GetParam());
  ASSERT_NE(scenario, nullptr);
  for (const double clicks : {1., 10., 100., 300.}) {
    SCOPED_TRACE(clicks);
    const PacingSummary summary =
        SummarisePacing(*scenario, clicks, clicks < 100 ? 10 : 2, 600'000);
    EXPECT_GT(summary.days, 0);
    EXPECT_THAT(summary.shares, ::testing::Not(IsEmpty()));
    EXPECT_THAT(MissedPacingBars(*scenario, clicks, summary), IsEmpty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PacingSimulation,
    ::testing::Values("flat", "diurnal", "step", "drop", "spike", "zero_hour",
                      "clock_forward", "clock_back", "dst_23h", "dst_25h",
                      "reserve", "steep", "optimistic", "pessimistic"),
    [](const auto& info) { return info.param; });

TEST(PacingSimulation, ABudgetOfTenThousandClicksIsSpentThroughASpike) {
  SimulatedCampaign campaign;
  campaign.clicks = 10'000;
  const SimulatedRun run =
      SimulatePacing(*FindPacingScenario("spike"), campaign, false);
  ASSERT_EQ(run.days.size(), 5u);
  for (const SimulatedDay& day : run.days) {
    EXPECT_GT(day.Share(), 0.97);
    EXPECT_LE(day.Share(), 1);
    EXPECT_LE(day.blackout_minutes, 15);
  }
}

TEST(PacingSimulation, ADayOf23HoursEndsAnHourEarlier) {
  SimulatedCampaign campaign;
  const SimulatedRun run =
      SimulatePacing(*FindPacingScenario("dst_23h"), campaign, true);
  double last = 0;
  for (const SimulatedMinute& m : run.minutes) {
    if (m.day == 3) last = m.hour;
  }
  EXPECT_NEAR(last, 23, 1e-9);
}

TEST(PacingSimulation, WithoutPacingABudgetIsGoneByNoon) {
  PacingScenario scenario = *FindPacingScenario("diurnal");
  scenario.delivery = v1::Budget::ACCELERATED;
  SimulatedCampaign campaign;
  campaign.clicks = 1000;
  const SimulatedRun run = SimulatePacing(scenario, campaign, true);
  for (const SimulatedMinute& m : run.minutes) {
    if (m.hour == 12) {
      EXPECT_GT(m.spent, 0.94);
      EXPECT_LT(m.ideal, 0.4);
    }
  }
  for (const SimulatedDay& day : run.days) EXPECT_EQ(day.Overspend(), 0);
}

}  // namespace
}  // namespace adrank
