// X1, X3 and the config of exploration policies. The auction's part (A10) is in
// exploration_auction_test.cc.
#include "server/rank/exploration.h"

#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ParseText;
using ::testing::HasSubstr;

ExplorationPolicy APolicy(const std::string& text) {
  auto policy =
      ExplorationPolicy::Create(ParseText<v1::ExplorationConfig>(text));
  EXPECT_OK(policy);
  return *policy;
}

// Options in falling order of score; some certain, some equal, some at 0.
std::vector<SlotOption> SomeOptions(size_t n, Rng* rng) {
  std::vector<SlotOption> options(n);
  for (SlotOption& o : options) {
    o.score = std::exp(5 + rng->Normal());
    o.deviation = rng->Bernoulli(0.2) ? 0 : rng->Exponential();
    o.impressions = static_cast<uint32_t>(rng->Below(200));
  }
  if (n > 1 && rng->Bernoulli(0.3)) options[1] = options[0];
  if (n > 2 && rng->Bernoulli(0.2)) options[2].score = 0;
  std::stable_sort(options.begin(), options.end(),
                   [](const SlotOption& a, const SlotOption& b) {
                     return a.score > b.score;
                   });
  return options;
}

const char* const kPolicies[] = {
    "policy: EPSILON_GREEDY epsilon: 0.2",
    "policy: THOMPSON epsilon: 0.05 max_explored: 40",
    "policy: THOMPSON epsilon: 1e-9 thompson_scale: 0.5",
    "policy: GREEDY newcomer_boost: 1.5 newcomer_impressions: 100",
    "policy: EPSILON_GREEDY newcomer_boost: 2 newcomer_impressions: 50",
    "policy: THOMPSON newcomer_boost: 2 newcomer_impressions: 150",
    "policy: GREEDY",
};

std::vector<double> ProbabilitiesOf(const ExplorationPolicy& policy,
                                    const std::vector<SlotOption>& options) {
  ExplorationScratch scratch;
  std::vector<double> p(options.size());
  policy.Probabilities(options, &scratch, absl::MakeSpan(p));
  return p;
}

TEST(Exploration, X1PropensitiesSumToOneAndReachTheFloor) {
  Rng rng(21);
  for (const char* text : kPolicies) {
    const ExplorationPolicy policy = APolicy(text);
    for (int trial = 0; trial < 500; ++trial) {
      SCOPED_TRACE(absl::StrCat(text, " trial ", trial));
      const size_t n = 1 + rng.Below(20);
      const std::vector<double> p =
          ProbabilitiesOf(policy, SomeOptions(n, &rng));
      EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-12);
      for (const double x : p) {
        EXPECT_GE(x, policy.epsilon() / static_cast<double>(n) * (1 - 1e-12));
        EXPECT_LE(x, 1 + 1e-12);
      }
    }
  }
}

// What Choose reports is the probability that Probabilities gives, bit for bit.
TEST(Exploration, X1ReportedPropensityIsThatOfTheOption) {
  Rng rng(22);
  ExplorationScratch scratch;
  for (const char* text : kPolicies) {
    const ExplorationPolicy policy = APolicy(text);
    for (int trial = 0; trial < 500; ++trial) {
      const std::vector<SlotOption> options =
          SomeOptions(1 + rng.Below(20), &rng);
      const std::vector<double> p = ProbabilitiesOf(policy, options);
      const ExplorationChoice choice = policy.Choose(options, &rng, &scratch);
      ASSERT_LT(choice.option, options.size());
      EXPECT_EQ(choice.propensity, p[choice.option]) << text;
    }
  }
}

// Upper bound of chi-square by Wilson and Hilferty 1931, at 4.5 deviations
// (one false alarm in 300,000 looks).
double ChiSquareBound(double degrees) {
  const double c = 2 / (9 * degrees);
  return degrees * std::pow(1 - c + 4.5 * std::sqrt(c), 3);
}

TEST(Exploration, X1PropensitiesEqualTheFrequenciesOfAMillionReplays) {
  constexpr int kReplays = 1000000;
  Rng rng(23);
  ExplorationScratch scratch;
  for (const char* text :
       {"policy: EPSILON_GREEDY epsilon: 0.2", "policy: THOMPSON epsilon: 0.05",
        "policy: THOMPSON newcomer_boost: 2 newcomer_impressions: 150"}) {
    const ExplorationPolicy policy = APolicy(text);
    const std::vector<SlotOption> options = SomeOptions(7, &rng);
    const std::vector<double> p = ProbabilitiesOf(policy, options);
    std::vector<int> count(options.size());
    for (int i = 0; i < kReplays; ++i) {
      Rng decision(static_cast<uint64_t>(i));
      ++count[policy.Choose(options, &decision, &scratch).option];
    }
    double chi = 0, degrees = -1;
    for (size_t i = 0; i < options.size(); ++i) {
      const double expected = p[i] * kReplays;
      ASSERT_GE(expected, 5) << text;
      chi += (count[i] - expected) * (count[i] - expected) / expected;
      degrees += 1;
    }
    EXPECT_LT(chi, ChiSquareBound(degrees)) << text;
  }
}

// All kQuantiles^3 draws of three options.
TEST(Exploration, X1WinProbabilitiesEqualTheCountOfAllDraws) {
  constexpr size_t kQ = ExplorationPolicy::kQuantiles;
  const ExplorationPolicy policy =
      APolicy("policy: THOMPSON epsilon: 1e-15 thompson_scale: 0.7");
  // z, as the policy draws it: its own sample of a lone uncertain option.
  std::vector<double> z;
  {
    ExplorationScratch scratch;
    const std::vector<SlotOption> one(1, {1.0, 1.0, 0});
    const ExplorationPolicy unit = APolicy("policy: THOMPSON");
    std::vector<double> p(1);
    unit.Probabilities(one, &scratch, absl::MakeSpan(p));
    z = scratch.samples;
  }
  ASSERT_EQ(z.size(), kQ);
  double squares = 0;
  for (size_t k = 0; k < kQ; ++k) {
    squares += z[k] * z[k] / kQ;
    EXPECT_EQ(z[k], -z[kQ - 1 - k]);
  }
  EXPECT_NEAR(squares, 1, 1e-12);
  Rng rng(24);
  for (int trial = 0; trial < 40; ++trial) {
    const std::vector<SlotOption> options = SomeOptions(3, &rng);
    std::vector<std::vector<double>> draws;
    for (const SlotOption& o : options) {
      draws.emplace_back();
      for (const double x : z) {
        draws.back().push_back(std::log(o.score) + 0.7 * o.deviation * x);
      }
    }
    std::vector<double> wins(3);
    for (const double a : draws[0]) {
      for (const double b : draws[1]) {
        for (const double c : draws[2]) {
          const size_t first = b > a ? 1 : 0;
          ++wins[c > (first == 0 ? a : b) ? 2 : first];
        }
      }
    }
    const std::vector<double> p = ProbabilitiesOf(policy, options);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(p[i], wins[i] / std::pow(kQ, 3), 1e-9) << trial;
    }
  }
}

// 32 draws stand for the Gaussian they are the quantiles of.
TEST(Exploration, WinProbabilitiesAreNearThoseOfGaussians) {
  const ExplorationPolicy policy = APolicy("policy: THOMPSON epsilon: 1e-9");
  Rng rng(25);
  for (int trial = 0; trial < 10; ++trial) {
    const std::vector<SlotOption> options = SomeOptions(5, &rng);
    const std::vector<double> p = ProbabilitiesOf(policy, options);
    std::vector<double> wins(5);
    constexpr int kDraws = 200000;
    for (int i = 0; i < kDraws; ++i) {
      size_t best = 0;
      double most = -INFINITY;
      for (size_t j = 0; j < 5; ++j) {
        const double draw =
            std::log(options[j].score) + options[j].deviation * rng.Normal();
        if (draw > most) {
          most = draw;
          best = j;
        }
      }
      wins[best] += 1.0 / kDraws;
    }
    for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(p[i], wins[i], 0.03) << trial;
  }
}

TEST(Exploration, X3TheSameSeedAndOptionsGiveTheSameChoice) {
  Rng rng(26);
  for (const char* text : kPolicies) {
    const ExplorationPolicy policy = APolicy(text);
    const std::vector<SlotOption> options = SomeOptions(12, &rng);
    for (uint64_t seed = 0; seed < 200; ++seed) {
      ExplorationScratch fresh, used;
      Rng a(seed), b(seed);
      policy.Choose(SomeOptions(5, &rng), &rng, &used);
      const ExplorationChoice x = policy.Choose(options, &a, &fresh);
      const ExplorationChoice y = policy.Choose(options, &b, &used);
      EXPECT_EQ(x.option, y.option);
      EXPECT_EQ(x.propensity, y.propensity);
      EXPECT_EQ(a(), b());
    }
  }
}

TEST(Exploration, A10WithoutChanceTheFirstOptionWinsForSure) {
  Rng rng(27);
  ExplorationScratch scratch;
  const ExplorationPolicy greedy = APolicy("");
  EXPECT_FALSE(greedy.active());
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<SlotOption> options = SomeOptions(1 + rng.Below(20), &rng);
    const ExplorationChoice choice = greedy.Choose(options, &rng, &scratch);
    EXPECT_EQ(choice.option, 0u);
    EXPECT_EQ(choice.propensity, 1);
    // THOMPSON of a model that is sure is greedy up to epsilon.
    for (SlotOption& o : options) o.deviation = 0;
    const std::vector<double> p =
        ProbabilitiesOf(APolicy("policy: THOMPSON epsilon: 0.1"), options);
    EXPECT_NEAR(p[0], 0.9 + 0.1 / static_cast<double>(options.size()), 1e-12);
  }
}

TEST(Exploration, NewcomersAreFavouredUntilTheyWereSeen) {
  const ExplorationPolicy policy =
      APolicy("newcomer_boost: 0.5 newcomer_impressions: 100");
  const auto favourite = [&](uint32_t impressions) {
    const std::vector<SlotOption> options = {{100, 0, 5000},
                                             {80, 0, impressions}};
    return ProbabilitiesOf(policy, options)[1];
  };
  EXPECT_EQ(favourite(0), 1);   // 80 x 1.5
  EXPECT_EQ(favourite(49), 1);  // 80 x 1.255
  EXPECT_EQ(favourite(51), 0);  // 80 x 1.245
  EXPECT_EQ(favourite(100000), 0);
}

TEST(Exploration, UncertaintyMakesAnAdWorthTrying) {
  const ExplorationPolicy policy = APolicy("policy: THOMPSON epsilon: 1e-9");
  double before = 0;
  for (const double deviation : {0.0, 0.1, 0.3, 1.0}) {
    const std::vector<SlotOption> options = {{100, 0, 0}, {70, deviation, 0}};
    const double p = ProbabilitiesOf(policy, options)[1];
    EXPECT_GE(p, before);
    before = p;
  }
  EXPECT_NEAR(before, 0.36, 0.02);  // Phi(ln 0.7)
}

TEST(Exploration, ConfigErrorsNameTheField) {
  const auto error = [](const std::string& text) {
    return std::string(
        ExplorationPolicy::Create(ParseText<v1::ExplorationConfig>(text))
            .status()
            .message());
  };
  EXPECT_THAT(error("policy: EPSILON_GREEDY epsilon: 1.5"),
              HasSubstr("rank.exploration.epsilon: 1.5 not in [0, 1]"));
  EXPECT_THAT(error("policy: EPSILON_GREEDY epsilon: nan"),
              HasSubstr("rank.exploration.epsilon"));
  EXPECT_THAT(error("epsilon: 0.1"), HasSubstr("GREEDY"));
  EXPECT_THAT(error("newcomer_boost: 11 newcomer_impressions: 1"),
              HasSubstr("newcomer_boost: 11 not in [0, 10]"));
  EXPECT_THAT(error("newcomer_boost: 1"), HasSubstr("go together"));
  EXPECT_THAT(error("newcomer_impressions: 1"), HasSubstr("go together"));
  EXPECT_THAT(error("policy: THOMPSON thompson_scale: -1"),
              HasSubstr("thompson_scale"));
  EXPECT_THAT(error("policy: THOMPSON max_explored: 1001"),
              HasSubstr("max_explored"));
}

}  // namespace
}  // namespace adrank
