#include "tools/truth_metrics.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "tests/testing/status_matchers.h"
#include "tools/regret.h"

namespace adrank {
namespace {

TruthRows RandomRows(size_t n, double slope, double intercept) {
  TruthRows rows;
  Rng rng(9);
  for (size_t i = 0; i < n; ++i) {
    const double logit = -2 + rng.Normal();
    const double truth = Sigmoid(slope * logit + intercept);
    rows.main_logit.push_back(static_cast<float>(logit));
    rows.truth.push_back(static_cast<float>(truth));
    rows.served.push_back(0.2f);
    rows.clicked.push_back(rng.Bernoulli(truth));
    rows.position.push_back(1 + i % 2);
  }
  return rows;
}

TEST(FitMainEffects, FindsTheSlopeAndInterceptThatWerePlanted) {
  const MainEffectsFit fit = FitMainEffects(RandomRows(2000, 0.8, -0.3));
  EXPECT_NEAR(fit.slope, 0.8, 1e-5);
  EXPECT_NEAR(fit.intercept, -0.3, 1e-5);
}

TEST(FitMainEffects, WithoutAnySpreadIsTheIdentity) {
  TruthRows rows;
  EXPECT_EQ(FitMainEffects(rows).slope, 1);
  rows = RandomRows(3, 1, 0);
  std::fill(rows.main_logit.begin(), rows.main_logit.end(), -2.0f);
  EXPECT_EQ(FitMainEffects(rows).slope, 1);
  EXPECT_EQ(FitMainEffects(rows).intercept, 0);
}

TEST(ComparePredictors, MetricsAreTheirDefinitions) {
  TruthRows rows = RandomRows(501, 1, 0);
  double clicks = 0, loss = 0, truth = 0, expected = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    clicks += rows.clicked[i];
    truth += rows.truth[i];
    const double l1 = -std::log(0.2), l0 = -std::log(0.8);
    loss += rows.clicked[i] ? l1 : l0;
    expected += rows.truth[i] * l1 + (1 - rows.truth[i]) * l0;
  }
  const auto entropy = [](double p) {
    return -p * std::log(p) - (1 - p) * std::log(1 - p);
  };
  const auto predictors = ComparePredictors(rows, FitMainEffects(rows), 0, "");
  ASSERT_EQ(predictors.size(), 3);
  const v1::Predictor& served = predictors[2];
  EXPECT_EQ(served.impressions(), 501);
  EXPECT_NEAR(served.normalized_entropy(), loss / 501 / entropy(clicks / 501),
              1e-6);
  EXPECT_NEAR(served.expected_normalized_entropy(),
              expected / 501 / entropy(truth / 501), 1e-6);
  EXPECT_NEAR(served.calibration_ratio(), 501 * 0.2 / clicks, 1e-6);
  EXPECT_NEAR(served.calibration_to_truth(), 501 * 0.2 / truth, 1e-6);
  // There are no pair effects: main effects are the truth.
  EXPECT_NEAR(predictors[0].normalized_entropy(),
              predictors[1].normalized_entropy(), 1e-6);
  EXPECT_NEAR(
      served.ne_over_main_effects(),
      served.normalized_entropy() / predictors[1].normalized_entropy() - 1,
      1e-9);
  rows.model.assign(501, 0.1f);
  const auto second = ComparePredictors(rows, FitMainEffects(rows), 2, "m");
  ASSERT_EQ(second.size(), 4);
  EXPECT_EQ(second[3].name(), "m");
  EXPECT_EQ(second[3].impressions(), 250);
  EXPECT_NEAR(second[3].mean_pctr(), 0.1, 1e-6);
}

// All ordered choices of k ads, one by one.
TEST(RegretSum, AgreesWithTryingEveryRanking) {
  v1::MarketConfig config;
  config.set_advertisers(1);
  config.set_campaigns_per_advertiser(3);
  config.set_ads_per_ad_group(1);
  config.set_users(50);
  ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
  const ClickModel& model = market->click_model();
  const DayEffects effects = model.EffectsOfDay(35);
  EligibleScratch scratch;
  std::vector<Eligible> eligible;
  int compared = 0;
  for (uint64_t i = 0; i < 40; ++i) {
    const Visit visit = market->visits().OfDay(35, i, 40);
    market->catalog().FindEligible(visit, &scratch, &eligible);
    if (eligible.size() < 2) continue;
    ++compared;
    const size_t n = eligible.size();
    const auto ctr = [&](size_t e, uint32_t position) {
      return model.Ctr(effects, visit, eligible[e].ad, position);
    };
    double best = 0, sum = 0, best_first_value = 0, value_of_best = 0;
    for (size_t a = 0; a < n; ++a) {
      for (size_t b = 0; b < n; ++b) {
        if (a == b) continue;
        best = std::max(best, ctr(a, 1) + ctr(b, 2));
        sum += ctr(a, 1) + ctr(b, 2);
        const double value_a =
            static_cast<double>(eligible[a].bid_micros) * ctr(a, 1);
        const double value_b =
            static_cast<double>(eligible[b].bid_micros) * ctr(b, 1);
        // The pair of the two highest values in falling order.
        if (value_a >= value_b && 1e9 * value_a + value_b > best_first_value) {
          best_first_value = 1e9 * value_a + value_b;
          value_of_best =
              value_a + static_cast<double>(eligible[b].bid_micros) * ctr(b, 2);
        }
      }
    }
    RegretSum regret(market.get());
    regret.Add(effects, visit,
               {{eligible[1].ad, eligible[1].bid_micros, 1},
                {eligible[0].ad, eligible[0].bid_micros, 2}});
    const v1::Regret r = regret.Finish();
    EXPECT_EQ(r.mean_candidates(), n);
    EXPECT_NEAR(r.served_clicks(), ctr(1, 1) + ctr(0, 2), 1e-12);
    EXPECT_NEAR(r.best_clicks(), best, 1e-12);
    EXPECT_NEAR(r.random_clicks(), sum / static_cast<double>(n * (n - 1)),
                1e-12);
    EXPECT_NEAR(r.best_value_micros(), value_of_best, 1e-6);
    EXPECT_NEAR(r.click_regret(), 1 - r.served_clicks() / best, 1e-12);
  }
  EXPECT_GT(compared, 10);
}

TEST(RegretSum, AServedAdThatTheRulesDoNotAllowIsACandidateToo) {
  v1::MarketConfig config;
  config.set_advertisers(2);
  config.set_users(50);
  ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
  const DayEffects effects = market->click_model().EffectsOfDay(0);
  const Visit visit = market->visits().OfDay(0, 3, 10);
  EligibleScratch scratch;
  std::vector<Eligible> eligible;
  market->catalog().FindEligible(visit, &scratch, &eligible);
  uint32_t other = 0;
  while (std::any_of(eligible.begin(), eligible.end(),
                     [&](const Eligible& e) { return e.ad == other; })) {
    ++other;
  }
  RegretSum regret(market.get());
  regret.Add(effects, visit, {{other, 100000, 1}});
  EXPECT_EQ(regret.Finish().mean_candidates(), eligible.size() + 1);
  EXPECT_GE(regret.Finish().best_clicks(), regret.Finish().served_clicks());
}

}  // namespace
}  // namespace adrank
