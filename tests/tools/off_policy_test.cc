// X2: the estimators against transcriptions of the published formulas, and
// against planted truth.
#include "tools/off_policy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

// One-slot choices as numbers, and OBP 0.5.5's estimators over them, written
// from obp/ope/estimators.py with means spelled out.
struct Rounds {
  std::vector<double> w, r, q, v;
  size_t n() const { return w.size(); }
};

double Mean(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) /
         static_cast<double>(x.size());
}

// mean of v[i] + g(w[i]) (r[i] - q[i]) / norm.
template <typename G>
double DrForm(const Rounds& t, bool model, double norm, const G& g) {
  double sum = 0;
  for (size_t i = 0; i < t.n(); ++i) {
    sum += (model ? t.v[i] : 0) +
           g(t.w[i]) * (t.r[i] - (model ? t.q[i] : 0)) / norm;
  }
  return sum / static_cast<double>(t.n());
}

double ObpValue(const Rounds& t, const EstimatorSpec& spec) {
  const double lambda = spec.bound;
  const auto same = [](double w) { return w; };
  const auto clip = [&](double w) { return std::min(w, lambda); };
  switch (spec.estimator) {
    case Estimator::kIps:
      return DrForm(t, false, 1, same);
    case Estimator::kSnips:
      return DrForm(t, false, Mean(t.w), same);
    case Estimator::kDirect:
      return Mean(t.v);
    case Estimator::kDr:
      return DrForm(t, true, 1, same);
    case Estimator::kSnDr:
      return DrForm(t, true, Mean(t.w), same);
    case Estimator::kClippedIps:
      return DrForm(t, false, 1, clip);
    case Estimator::kClippedDr:
      return DrForm(t, true, 1, clip);
    case Estimator::kSwitchDr:
      return DrForm(t, true, 1, [&](double w) { return w <= lambda ? w : 0; });
    case Estimator::kDrOs:
      return DrForm(t, true, 1,
                    [&](double w) { return lambda * w / (w * w + lambda); });
    case Estimator::kSubGaussianIps:
      return DrForm(t, false, 1,
                    [&](double w) { return w / (1 - lambda + lambda * w); });
  }
  return NAN;
}

TEST(OffPolicy, X2EstimatorsEqualTheirPublishedFormulas) {
  Rng rng(11);
  for (int trial = 0; trial < 200; ++trial) {
    SCOPED_TRACE(trial);
    Rounds rounds;
    LoggedChoices choices;
    const size_t n = 1 + rng.Below(300);
    for (size_t i = 0; i < n; ++i) {
      LoggedChoice c;
      c.weight = rng.Bernoulli(0.2) ? 0 : std::exp(2 * rng.Normal());
      c.reward = c.logged_reward = rng.Bernoulli(0.3) ? 1 : 0;
      c.predicted = rng.Uniform();
      c.target_predicted = rng.Uniform();
      choices.Add(c);
      choices.EndDecision();
      rounds.w.push_back(c.weight);
      rounds.r.push_back(c.reward);
      rounds.q.push_back(c.predicted);
      rounds.v.push_back(c.target_predicted);
    }
    if (Mean(rounds.w) == 0) continue;
    std::vector<EstimatorSpec> specs = AllEstimators(n);
    for (EstimatorSpec& spec : specs) {
      if (spec.estimator == Estimator::kSwitchDr) spec.bound = 2;
      if (spec.estimator == Estimator::kDrOs) spec.bound = 3;
    }
    IntervalOptions options;
    options.method = IntervalMethod::kNormal;
    const v1::OutcomeReport report = Estimate(choices, specs, options);
    for (size_t e = 0; e < specs.size(); ++e) {
      const v1::PolicyEstimate& got = report.estimates(static_cast<int>(e));
      const double want = ObpValue(rounds, specs[e]);
      EXPECT_NEAR(got.value(), want, 1e-9 * std::max(1.0, std::abs(want)))
          << got.estimator();
    }
  }
}

// A bandit with known click rates: contexts x actions, a logging and a target
// policy, and a model that is wrong on purpose.
struct Bandit {
  static constexpr size_t kContexts = 4, kActions = 6;
  using Table = std::array<std::array<double, kActions>, kContexts>;
  Table rate, logged, target, model;
  double value = 0;  // of the target policy

  explicit Bandit(uint64_t seed) {
    Rng rng(seed);
    const auto policy = [&](std::array<double, kActions>* p) {
      double sum = 0;
      for (double& x : *p) sum += x = 0.1 + rng.Exponential();
      for (double& x : *p) x /= sum;
    };
    for (size_t x = 0; x < kContexts; ++x) {
      policy(&logged[x]);
      policy(&target[x]);
      for (size_t a = 0; a < kActions; ++a) {
        rate[x][a] = 0.05 + 0.4 * rng.Uniform();
        model[x][a] = rng.Uniform();
        value += target[x][a] * rate[x][a] / kContexts;
      }
    }
  }

  static size_t Draw(const std::array<double, kActions>& p, Rng* rng) {
    double u = rng->Uniform();
    for (size_t a = 0; a + 1 < kActions; ++a) {
      if (u < p[a]) return a;
      u -= p[a];
    }
    return kActions - 1;
  }

  LoggedChoices Log(size_t n, Rng* rng) const {
    LoggedChoices choices;
    for (size_t i = 0; i < n; ++i) {
      const size_t x = rng->Below(kContexts), a = Draw(logged[x], rng);
      LoggedChoice c;
      c.weight = target[x][a] / logged[x][a];
      c.reward = c.logged_reward = rng->Bernoulli(rate[x][a]) ? 1 : 0;
      c.predicted = model[x][a];
      for (size_t b = 0; b < kActions; ++b) {
        c.target_predicted += target[x][b] * model[x][b];
      }
      choices.Add(c);
      choices.EndDecision();
    }
    return choices;
  }
};

struct Replications {
  std::vector<double> sum, squares;
  std::vector<int> covered;
};

Replications Repeat(const Bandit& bandit, size_t n, int times,
                    const std::vector<EstimatorSpec>& specs,
                    const IntervalOptions& options) {
  Replications r{std::vector<double>(specs.size()),
                 std::vector<double>(specs.size()),
                 std::vector<int>(specs.size())};
  Rng rng(5);
  for (int t = 0; t < times; ++t) {
    const v1::OutcomeReport report =
        Estimate(bandit.Log(n, &rng), specs, options);
    for (size_t e = 0; e < specs.size(); ++e) {
      const v1::PolicyEstimate& got = report.estimates(static_cast<int>(e));
      r.sum[e] += got.value();
      r.squares[e] += got.value() * got.value();
      r.covered[e] += got.low() <= bandit.value && bandit.value <= got.high();
    }
  }
  return r;
}

const std::vector<EstimatorSpec> kUnbiased = {{Estimator::kIps},
                                              {Estimator::kSnips},
                                              {Estimator::kDr},
                                              {Estimator::kSnDr}};

TEST(OffPolicy, X2MeansOverManyLogsAreTheTruth) {
  const Bandit bandit(3);
  IntervalOptions options;
  options.method = IntervalMethod::kNormal;
  constexpr int kTimes = 2000;
  const Replications r = Repeat(bandit, 500, kTimes, kUnbiased, options);
  for (size_t e = 0; e < kUnbiased.size(); ++e) {
    const double mean = r.sum[e] / kTimes;
    const double error =
        std::sqrt((r.squares[e] / kTimes - mean * mean) / kTimes);
    // The self-normalised ones are biased by O(1/n): a fifth of a per cent.
    EXPECT_NEAR(mean, bandit.value, 4 * error + 0.002 * bandit.value)
        << EstimatorName(kUnbiased[e].estimator);
  }
}

TEST(OffPolicy, X2EstimatesConvergeToTheTruth) {
  const Bandit bandit(7);
  IntervalOptions options;
  options.method = IntervalMethod::kNormal;
  Rng rng(1);
  const v1::OutcomeReport report =
      Estimate(bandit.Log(400000, &rng), AllEstimators(400000), options);
  for (const v1::PolicyEstimate& e : report.estimates()) {
    if (e.estimator() == "direct") continue;  // the model is wrong
    EXPECT_NEAR(e.value(), bandit.value, 0.02 * bandit.value) << e.estimator();
  }
}

// 1,000 logs: a binomial deviation of 0.7 %; the band is 95 % +- 3 deviations.
TEST(OffPolicy, X2IntervalsCoverTheTruthAsOftenAsTheySay) {
  const Bandit bandit(3);
  for (const IntervalMethod method :
       {IntervalMethod::kNormal, IntervalMethod::kBootstrap,
        IntervalMethod::kBernstein}) {
    IntervalOptions options;
    options.method = method;
    options.resamples = 300;
    constexpr int kTimes = 1000;
    const Replications r = Repeat(bandit, 600, kTimes, kUnbiased, options);
    for (size_t e = 0; e < kUnbiased.size(); ++e) {
      const double covered = r.covered[e] / static_cast<double>(kTimes);
      RecordProperty(EstimatorName(kUnbiased[e].estimator),
                     std::to_string(covered));
      EXPECT_GE(covered, 0.93) << EstimatorName(kUnbiased[e].estimator);
      if (method != IntervalMethod::kBernstein) {
        EXPECT_LE(covered, 0.971) << EstimatorName(kUnbiased[e].estimator);
      }
      std::printf("coverage method %d %s %.3f\n", static_cast<int>(method),
                  EstimatorName(kUnbiased[e].estimator), covered);
    }
  }
}

// Two slots; the click rate of the second depends on the ad in the first, and
// the policies differ in both: what is right for propensities given the slots
// before is the product.
TEST(OffPolicy, X2CascadeIsUnbiasedWhereSlotsDependOnEachOther) {
  constexpr size_t kAds = 3;
  const double logged_first[kAds] = {0.6, 0.3, 0.1};
  const double target_first[kAds] = {0.1, 0.3, 0.6};
  const auto rate = [](size_t a, size_t b) { return 0.1 + 0.2 * a + 0.05 * b; };
  double truth = 0;  // the second slot takes one of the two others
  for (size_t a = 0; a < kAds; ++a) {
    truth += target_first[a] * 0.2;
    for (size_t b = 0; b < kAds; ++b) {
      if (b == a) continue;
      const bool high = b == (a == 2 ? 1 : 2);  // the target takes the highest
      truth += target_first[a] * (high ? 0.9 : 0.1) * rate(a, b);
    }
  }
  Rng rng(9);
  const auto estimate = [&](Interaction interaction, EstimatorSpec spec) {
    LoggedChoices choices;
    for (int i = 0; i < 300000; ++i) {
      const double u = rng.Uniform();
      const size_t a = u < 0.6 ? 0 : u < 0.9 ? 1 : 2;
      size_t b = rng.Below(2);
      if (b >= a) ++b;
      const bool high = b == (a == 2 ? 1 : 2);
      std::array<LoggedChoice, 2> c;
      c[0].reward = rng.Bernoulli(0.2);
      c[1].group = 1;
      c[1].reward = rng.Bernoulli(rate(a, b));
      c[0].predicted = c[0].target_predicted = 0.3;
      c[1].predicted = 0.1 * b;
      c[1].target_predicted = 0;
      for (size_t k = 0; k < kAds; ++k) {
        if (k == a) continue;
        const bool is_high = k == (a == 2 ? 1 : 2);
        c[1].target_predicted += (is_high ? 0.9 : 0.1) * 0.1 * k;
      }
      const double ratios[] = {target_first[a] / logged_first[a],
                               (high ? 0.9 : 0.1) / 0.5};
      ApplyInteraction(interaction, ratios, absl::MakeSpan(c));
      choices.Add(c[0]);
      choices.Add(c[1]);
      choices.EndDecision();
    }
    IntervalOptions options;
    options.method = IntervalMethod::kNormal;
    return Estimate(choices, {spec}, options).estimates(0).value();
  };
  for (const EstimatorSpec& spec : kUnbiased) {
    EXPECT_NEAR(estimate(Interaction::kCascade, spec), truth, 0.012);
    EXPECT_NEAR(estimate(Interaction::kSlate, spec), truth, 0.012);
  }
  EXPECT_GT(std::abs(estimate(Interaction::kIndependent, kUnbiased[0]) - truth),
            0.05);
}

TEST(OffPolicy, TheSamePolicyHasTheLogsOwnValue) {
  LoggedChoices choices;
  Rng rng(2);
  for (int i = 0; i < 1000; ++i) {
    LoggedChoice c;
    c.reward = c.logged_reward = rng.Bernoulli(0.1) ? 2.5 : 0;
    choices.Add(c);
    choices.EndDecision();
  }
  const v1::OutcomeReport report =
      Estimate(choices, {{Estimator::kIps}, {Estimator::kSnips}}, {});
  for (const v1::PolicyEstimate& e : report.estimates()) {
    EXPECT_NEAR(e.value(), report.logged(), 1e-12);
    EXPECT_NEAR(e.difference_low(), 0, 1e-12);
    EXPECT_NEAR(e.difference_high(), 0, 1e-12);
    EXPECT_LT(e.low(), e.value());
    EXPECT_GT(e.high(), e.value());
  }
  const v1::WeightSummary weights = SummarizeWeights(choices);
  EXPECT_DOUBLE_EQ(weights.effective_sample_size(), 1000);
  EXPECT_TRUE(CheckWeights(weights, 1000).ok());
}

LoggedChoices WithWeights(size_t n, double share, double weight) {
  LoggedChoices choices;
  for (size_t i = 0; i < n; ++i) {
    LoggedChoice c;
    c.weight =
        static_cast<double>(i) < share * static_cast<double>(n) ? weight : 0;
    choices.Add(c);
    choices.EndDecision();
  }
  return choices;
}

TEST(OffPolicy, RefusesWhenFewChoicesCount) {
  const absl::Status status =
      CheckWeights(SummarizeWeights(WithWeights(10000, 0.005, 200)), 100);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_NE(status.message().find("effective sample size is 50.0"),
            absl::string_view::npos)
      << status;
}

// A deterministic log: where the policies agree the weight is 1, elsewhere 0,
// and the effective sample is large; yet what the other one shows was not seen.
TEST(OffPolicy, RefusesWhatTheLogsPolicyNeverShows) {
  const absl::Status status =
      CheckWeights(SummarizeWeights(WithWeights(10000, 0.8, 1)), 100);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_NE(status.message().find("20.0 %"), absl::string_view::npos) << status;
  EXPECT_TRUE(
      CheckWeights(SummarizeWeights(WithWeights(10000, 0.5, 2)), 100).ok());
}

TEST(OffPolicy, RefusesTooFewRewards) {
  v1::OutcomeReport outcome;
  outcome.set_outcome("clicks");
  outcome.set_rewarded(9);
  EXPECT_EQ(CheckRewarded(outcome).code(), absl::StatusCode::kOutOfRange);
  outcome.set_rewarded(10);
  EXPECT_TRUE(CheckRewarded(outcome).ok());
}

TEST(OffPolicy, AnswersAreAFunctionOfTheSeed) {
  Rng rng(4);
  const Bandit bandit(2);
  const LoggedChoices log = bandit.Log(500, &rng);
  IntervalOptions options;
  const auto text = [&] {
    return Estimate(log, AllEstimators(500), options).SerializeAsString();
  };
  const std::string first = text();
  EXPECT_EQ(first, text());
  options.seed = 2;
  EXPECT_NE(first, text());
}

}  // namespace
}  // namespace adrank
