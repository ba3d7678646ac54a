#include "trainer/progress.h"

#include <cmath>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

TEST(ProgressMeter, AgreesWithTheExactMetrics) {
  for (const bool weighted : {false, true}) {
    Rng rng(1);
    ProgressMeter meter, parts[3];
    std::vector<float> pctr, weights;
    std::vector<uint8_t> labels;
    for (int i = 0; i < 50000; ++i) {
      const double logit = rng.Normal() * 1.5 - 3;
      const double p = 1 / (1 + std::exp(-logit));
      const bool label = rng.Bernoulli(p);
      const float weight =
          weighted ? static_cast<float>(rng.Below(5)) * 0.5f : 1.0f;
      meter.Add(logit, p, label, weight);
      parts[i % 3].Add(logit, p, label, weight);
      pctr.push_back(static_cast<float>(p));
      labels.push_back(label);
      weights.push_back(weight);
    }
    const v1::Metrics exact = ComputeMetrics({pctr, labels, weights});
    const v1::Metrics m = meter.Metrics();
    EXPECT_EQ(m.examples(), exact.examples());
    EXPECT_EQ(m.clicks(), exact.clicks());
    EXPECT_NEAR(m.mean_pctr(), exact.mean_pctr(), 1e-6);
    EXPECT_NEAR(m.ctr(), exact.ctr(), 1e-9);
    EXPECT_NEAR(m.logloss(), exact.logloss(), 1e-6);
    EXPECT_NEAR(m.normalized_entropy(), exact.normalized_entropy(), 1e-5);
    EXPECT_NEAR(m.calibration_ratio(), exact.calibration_ratio(), 1e-5);
    EXPECT_NEAR(m.auc(), exact.auc(), 1e-4);
    EXPECT_TRUE(std::isnan(m.gauc()));
    EXPECT_TRUE(std::isnan(m.ece()));
    parts[2].Merge(parts[0]);
    parts[2].Merge(parts[1]);
    EXPECT_EQ(parts[2].Metrics().SerializeAsString(), m.SerializeAsString());
  }
}

// The meter wrote outside its histogram.
TEST(ProgressMeter, PredictionsThatAreNoNumbersCountAsTheWorst) {
  ProgressMeter meter;
  meter.Add(NAN, NAN, true, 1);
  meter.Add(NAN, NAN, false, 1);
  EXPECT_EQ(meter.Metrics().examples(), 2);
  EXPECT_EQ(meter.Metrics().auc(), 0);
  EXPECT_GT(meter.Metrics().logloss(), 30);
}

TEST(ProgressMeter, UndefinedIsNotANumber) {
  ProgressMeter meter;
  v1::Metrics m = meter.Metrics();
  EXPECT_EQ(m.examples(), 0);
  EXPECT_TRUE(std::isnan(m.logloss()));
  EXPECT_TRUE(std::isnan(m.auc()));
  meter.Add(-1e9, 0, false, 1);
  m = meter.Metrics();
  EXPECT_EQ(m.logloss(), 0);
  EXPECT_TRUE(std::isnan(m.auc()));
  EXPECT_TRUE(std::isnan(m.normalized_entropy()));
  EXPECT_TRUE(std::isnan(m.calibration_ratio()));
  meter.Add(1e9, 1, true, 1);
  EXPECT_EQ(meter.Metrics().auc(), 1);
  meter.Reset();
  EXPECT_EQ(meter.Metrics().examples(), 0);
}

}  // namespace
}  // namespace adrank
