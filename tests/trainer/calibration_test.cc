#include "trainer/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "model/calibrator.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::testing::HasSubstr;

struct Sample {
  std::vector<float> logits;
  std::vector<uint8_t> labels;
  std::vector<float> weights;
  CalibrationExamples examples() const { return {logits, labels, weights}; }
};

double Logistic(double x) { return 1 / (1 + std::exp(-x)); }

// Clicks with probability sigmoid(slope x logit + intercept).
Sample ASample(size_t n, double slope, double intercept, uint64_t seed) {
  Rng rng(seed);
  Sample s;
  for (size_t i = 0; i < n; ++i) {
    s.logits.push_back(static_cast<float>(rng.Normal() - 1));
    s.labels.push_back(
        rng.Bernoulli(Logistic(slope * s.logits.back() + intercept)));
  }
  return s;
}

double PlattLoss(const Sample& s, double ridge, double slope,
                 double intercept) {
  double loss = ridge / 2 * ((slope - 1) * (slope - 1) + intercept * intercept);
  for (size_t i = 0; i < s.logits.size(); ++i) {
    const double p = Logistic(slope * s.logits[i] + intercept);
    const double w = s.weights.empty() ? 1 : s.weights[i];
    loss -= w * std::log(s.labels[i] ? p : 1 - p);
  }
  return loss;
}

TEST(FitPlatt, FindsThePlantedLine) {
  const PlattFit fit = FitPlatt(ASample(100000, 0.7, -0.4, 1).examples());
  EXPECT_TRUE(fit.converged);
  EXPECT_NEAR(fit.slope, 0.7, 0.02);
  EXPECT_NEAR(fit.intercept, -0.4, 0.03);
}

TEST(FitPlatt, NoNeighbourIsBetter) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Sample s = ASample(60, 2.0, 1.0, seed);
    if (seed % 2) {
      for (size_t i = 0; i < 60; ++i) {
        s.weights.push_back(static_cast<float>(i % 3));
      }
    }
    const PlattFit fit = FitPlatt(s.examples(), 0.5);
    ASSERT_TRUE(fit.converged);
    const double best = PlattLoss(s, 0.5, fit.slope, fit.intercept);
    for (const double step : {1e-1, 1e-2, 1e-3}) {
      for (const int direction : {0, 1, 2, 3}) {
        const double d0 = direction < 2 ? (direction ? step : -step) : 0;
        const double d1 = direction >= 2 ? (direction == 2 ? step : -step) : 0;
        ASSERT_GT(PlattLoss(s, 0.5, fit.slope + d0, fit.intercept + d1), best);
      }
    }
  }
}

TEST(FitPlatt, SeparableAndExtremeLogitsConverge) {
  Sample s;
  for (int i = 0; i < 100; ++i) {
    s.logits.push_back(i < 50 ? -300.0f : 300.0f);
    s.labels.push_back(i >= 50);
  }
  PlattFit fit = FitPlatt(s.examples());
  EXPECT_TRUE(fit.converged);
  EXPECT_GT(fit.slope, 0);
  EXPECT_TRUE(std::isfinite(fit.intercept));
  s.logits.assign(100, 0);
  for (int i = 0; i < 100; ++i) s.logits[i] = i < 50 ? -0.001f : 0.001f;
  fit = FitPlatt(s.examples());
  EXPECT_TRUE(fit.converged);
  EXPECT_GT(fit.slope, 0);
}

TEST(FitPlatt, AnInvertedModelKeepsAPositiveSlope) {
  const Sample s = ASample(5000, -1.5, 0.2, 3);
  const PlattFit fit = FitPlatt(s.examples());
  EXPECT_TRUE(fit.bounded);
  EXPECT_EQ(fit.slope, 0.01);
  double clicks = 0, sum = 0;
  for (size_t i = 0; i < 5000; ++i) {
    clicks += s.labels[i];
    sum += Logistic(fit.slope * s.logits[i] + fit.intercept);
  }
  EXPECT_NEAR(sum / clicks, 1, 0.01);
}

// Every way to cut 0..n-1 into stretches; the best non-decreasing one.
std::vector<double> SlowIsotonic(const std::vector<double>& y,
                                 const std::vector<double>& w) {
  const size_t n = y.size();
  std::vector<double> best;
  double best_loss = std::numeric_limits<double>::infinity();
  for (uint32_t cuts = 0; cuts < 1u << (n - 1); ++cuts) {
    std::vector<double> fitted;
    double before = -std::numeric_limits<double>::infinity(), loss = 0;
    bool monotone = true;
    for (size_t first = 0, last = 0; first < n; first = last) {
      double sum = 0, mass = 0;
      do {
        sum += w[last] * y[last];
        mass += w[last];
        ++last;
      } while (last < n && !(cuts >> (last - 1) & 1));
      monotone &= sum / mass >= before;
      before = sum / mass;
      for (size_t i = first; i < last; ++i) {
        loss += w[i] * (y[i] - before) * (y[i] - before);
        fitted.push_back(before);
      }
    }
    if (monotone && loss < best_loss - 1e-12) {
      best_loss = loss;
      best = fitted;
    }
  }
  return best;
}

TEST(PoolAdjacentViolators, IsTheBestOfAllNonDecreasingFits) {
  Rng rng(1);
  for (int trial = 0; trial < 300; ++trial) {
    const size_t n = 1 + rng.Below(9);
    std::vector<double> y, w;
    for (size_t i = 0; i < n; ++i) {
      y.push_back(trial % 2 ? rng.Uniform()
                            : static_cast<double>(rng.Below(3)));
      w.push_back(0.1 + rng.Uniform());
    }
    const std::vector<double> fast = PoolAdjacentViolators(y, w);
    const std::vector<double> slow = SlowIsotonic(y, w);
    ASSERT_EQ(fast.size(), n);
    for (size_t i = 0; i < n; ++i) ASSERT_NEAR(fast[i], slow[i], 1e-9);
  }
  EXPECT_TRUE(PoolAdjacentViolators({}, {}).empty());
}

void ExpectMonotone(const v1::Calibrator::Isotonic& isotonic) {
  ASSERT_EQ(isotonic.x_size(), isotonic.y_size());
  for (int i = 0; i < isotonic.x_size(); ++i) {
    EXPECT_GT(isotonic.y(i), 0);
    EXPECT_LT(isotonic.y(i), 1);
    if (i == 0) continue;
    EXPECT_GT(isotonic.x(i), isotonic.x(i - 1));
    EXPECT_GE(isotonic.y(i), isotonic.y(i - 1));
  }
}

TEST(FitIsotonic, RecoversABentCurve) {
  Rng rng(2);
  std::vector<double> p;
  std::vector<uint8_t> labels;
  for (int i = 0; i < 200000; ++i) {
    p.push_back(rng.Uniform());
    labels.push_back(rng.Bernoulli(p.back() * p.back()));
  }
  const v1::Calibrator::Isotonic isotonic = FitIsotonic(p, labels, {}, 200);
  ExpectMonotone(isotonic);
  EXPECT_GT(isotonic.x_size(), 50);
  for (int i = 0; i < isotonic.x_size(); ++i) {
    EXPECT_NEAR(isotonic.y(i), isotonic.x(i) * isotonic.x(i), 0.04);
  }
}

TEST(FitIsotonic, DegenerateInputs) {
  EXPECT_EQ(FitIsotonic({}, {}, {}, 10).x_size(), 0);
  // One probability: one bin, smoothed by one example at .2.
  const auto one = FitIsotonic({0.2, 0.2, 0.2}, {1, 1, 1}, {}, 10);
  ASSERT_EQ(one.x_size(), 1);
  EXPECT_NEAR(one.y(0), 3.2 / 4, 1e-12);
  // Falling click rates: one pool.
  const auto falling = FitIsotonic({0.1, 0.2, 0.3, 0.4}, {1, 1, 0, 0}, {}, 4);
  ExpectMonotone(falling);
  EXPECT_EQ(falling.x_size(), 1);
  EXPECT_NEAR(falling.x(0), 0.25, 1e-12);
  // Zero weights vanish; certainties stay inside (0, 1).
  const auto extreme =
      FitIsotonic({0.0, 0.0, 1.0, 0.5}, {0, 0, 1, 1}, {1, 1, 1, 0}, 4);
  ExpectMonotone(extreme);
  EXPECT_EQ(extreme.x_size(), 2);
}

double MeanPctr(const v1::Calibrator& proto, const Sample& s) {
  const auto calibrator = Calibrator::Create(proto);
  EXPECT_OK(calibrator.status());
  double sum = 0;
  for (const float logit : s.logits) sum += calibrator->Probability(logit);
  return sum / static_cast<double>(s.logits.size());
}

TEST(FitCalibrator, CalibratesByEachMethodAfterDownSampling) {
  const Sample s = ASample(50000, 0.8, -1.0, 4);
  double clicks = 0;
  for (const uint8_t label : s.labels) clicks += label;
  for (const auto method :
       {v1::CalibrationConfig::METHOD_UNSPECIFIED, v1::CalibrationConfig::PLATT,
        v1::CalibrationConfig::PLATT_ISOTONIC}) {
    for (const double keep : {0.0, 0.25, 1.0}) {
      v1::CalibrationConfig config;
      config.set_method(method);
      const CalibrationFit fit = FitCalibrator(config, keep, s.examples());
      EXPECT_EQ(fit.calibrator.negative_keep_rate(), keep == 0.25 ? 0.25 : 0);
      EXPECT_TRUE(fit.calibrator.has_platt()) << fit.reason;
      EXPECT_EQ(fit.calibrator.has_isotonic(),
                method == v1::CalibrationConfig::PLATT_ISOTONIC);
      EXPECT_NEAR(MeanPctr(fit.calibrator, s) * 50000 / clicks, 1, 0.01)
          << fit.reason;
      EXPECT_THAT(fit.reason, HasSubstr("Platt on 50000 examples"));
    }
  }
}

TEST(FitTemperature, FindsThePlantedTemperatureAndNoNeighbourIsBetter) {
  const Sample s = ASample(100000, 0.6, 0, 7);
  const PlattFit fit = FitTemperature(s.examples());
  EXPECT_TRUE(fit.converged);
  EXPECT_EQ(fit.intercept, 0);
  EXPECT_NEAR(fit.slope, 0.6, 0.02);
  const double best = PlattLoss(s, 1, fit.slope, 0);
  for (const double step : {-1e-1, -1e-2, 1e-2, 1e-1}) {
    EXPECT_GT(PlattLoss(s, 1, fit.slope + step, 0), best);
  }
  EXPECT_EQ(FitTemperature(ASample(5000, -1.5, 0, 3).examples()).slope, 0.01);
}

// Clicks with probability sigmoid(logit + shift of the slice); slice 0: none.
Sample ASlicedSample(size_t n, const std::vector<double>& shifts,
                     std::vector<uint64_t>* slices, uint64_t seed) {
  Rng rng(seed);
  Sample s;
  for (size_t i = 0; i < n; ++i) {
    slices->push_back(rng.Below(shifts.size()));
    s.logits.push_back(static_cast<float>(rng.Normal() - 1));
    s.labels.push_back(
        rng.Bernoulli(Logistic(s.logits.back() + shifts[slices->back()])));
  }
  return s;
}

TEST(FitSliceBias, IsTheShrunkMinimumOfEachSlice) {
  const std::vector<double> shifts = {3, 0.8, -0.5, 0};
  std::vector<uint64_t> slices;
  const Sample s = ASlicedSample(40000, shifts, &slices, 5);
  CalibrationExamples examples = s.examples();
  examples.slices = slices;
  const auto loss = [&](uint64_t slice, double bias) {
    double sum = bias * bias / 2;
    for (size_t i = 0; i < slices.size(); ++i) {
      if (slices[i] != slice) continue;
      const double p = Logistic(s.logits[i] + bias);
      sum -= std::log(s.labels[i] ? p : 1 - p);
    }
    return sum;
  };
  const auto fit = FitSliceBias("city", examples, 500);
  ASSERT_EQ(fit.id_size(), 3);  // nothing for "none"
  for (int k = 0; k < 3; ++k) {
    const uint64_t id = fit.id(k);
    EXPECT_EQ(id, k + 1);
    const auto n =
        static_cast<double>(std::count(slices.begin(), slices.end(), id));
    const double full = fit.bias(k) * (n + 500) / n;
    EXPECT_NEAR(full, shifts[id], 0.08);
    for (const double step : {-1e-3, 1e-3}) {
      EXPECT_GT(loss(id, full + step), loss(id, full));
    }
  }
}

TEST(FitSliceBias, SmallSlicesGetNoneAndASliceWithoutClicksAFiniteOne) {
  Sample s;
  std::vector<uint64_t> slices;
  for (int i = 0; i < 299; ++i) {
    s.logits.push_back(-1);
    s.labels.push_back(0);
    slices.push_back(i < 99 ? 4 : 9);
  }
  CalibrationExamples examples = s.examples();
  examples.slices = slices;
  const auto fit = FitSliceBias("city", examples, 0);
  ASSERT_EQ(fit.id_size(), 1);
  EXPECT_EQ(fit.id(0), 9);
  EXPECT_LT(fit.bias(0), -2);
  EXPECT_GT(fit.bias(0), -10);
}

TEST(FitCalibrator, TheStackWithSlicesIsCalibratedInEachAndReordersNone) {
  const std::vector<double> shifts = {0, 1, -1, 0.3};
  std::vector<uint64_t> slices;
  const Sample s = ASlicedSample(60000, shifts, &slices, 11);
  for (const auto method : {v1::CalibrationConfig::PLATT_ISOTONIC,
                            v1::CalibrationConfig::TEMPERATURE_ISOTONIC}) {
    v1::CalibrationConfig config;
    config.set_method(method);
    config.set_slice_field("city");
    config.set_slice_prior(10);
    CalibrationExamples examples = s.examples();
    examples.slices = slices;
    const CalibrationFit fit = FitCalibrator(config, 0.5, examples);
    EXPECT_THAT(fit.reason, HasSubstr("; 3 values of city with biases from -"));
    const auto calibrator = Calibrator::Create(fit.calibrator);
    ASSERT_OK(calibrator.status());
    for (uint64_t slice = 0; slice < 4; ++slice) {
      double sum = 0, clicks = 0;
      for (size_t i = 0; i < slices.size(); ++i) {
        if (slices[i] != slice) continue;
        sum += calibrator->Probability(s.logits[i], slice);
        clicks += s.labels[i];
      }
      // The examples without a value have no bias of their own.
      EXPECT_NEAR(sum / clicks, 1, slice == 0 ? 0.3 : 0.01) << slice;
      std::vector<float> logits = s.logits;
      std::sort(logits.begin(), logits.end());
      float last = 0;
      for (const float logit : logits) {
        const float p = calibrator->Probability(logit, slice);
        ASSERT_LE(last, p);
        last = p;
      }
    }
  }
}

TEST(FitCalibrator, TooLittleDataIsTheIdentityWithTheReason) {
  v1::CalibrationConfig config;
  config.set_method(v1::CalibrationConfig::PLATT_ISOTONIC);
  const auto identity = [&](const Sample& s, const char* why) {
    const CalibrationFit fit = FitCalibrator(config, 1, s.examples());
    EXPECT_EQ(fit.calibrator.ByteSizeLong(), 0);
    EXPECT_THAT(fit.reason, HasSubstr(why));
  };
  identity({}, "0 clicks and 0 non-clicks");
  Sample s = ASample(1000, 1, 0, 1);
  s.labels.assign(1000, 0);
  identity(s, "0 clicks and 1000 non-clicks, 10 of each are needed");
  s.labels.assign(1000, 1);
  identity(s, "1000 clicks and 0 non-clicks");
  s = ASample(1000, 1, 0, 1);
  s.logits.assign(1000, -2.5f);
  identity(s, "all logits are the same");
  s.logits.assign(1000, NAN);
  identity(s, "0 clicks");
  config.set_method(v1::CalibrationConfig::NONE);
  identity(ASample(1000, 1, 0, 1), "method is NONE");
}

TEST(FitCalibrator, FewExamplesGetNoIsotonicStage) {
  v1::CalibrationConfig config;
  config.set_method(v1::CalibrationConfig::PLATT_ISOTONIC);
  const CalibrationFit fit =
      FitCalibrator(config, 1, ASample(999, 1, 0, 1).examples());
  EXPECT_TRUE(fit.calibrator.has_platt());
  EXPECT_FALSE(fit.calibrator.has_isotonic());
  EXPECT_THAT(fit.reason, HasSubstr("no isotonic stage: 1000 examples"));
}

}  // namespace
}  // namespace adrank
