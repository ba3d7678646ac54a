#include "trainer/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"

namespace adrank {
namespace {

// Owns the columns of a Scored.
struct Sample {
  std::vector<float> pctr;
  std::vector<uint8_t> labels;
  std::vector<float> weights;
  std::vector<uint64_t> groups;
  Scored scored() const { return {pctr, labels, weights, groups}; }
};

// `levels` distinct scores: few make many ties.
Sample ASample(size_t n, int levels, bool weighted, uint64_t seed) {
  Rng rng(seed);
  Sample s;
  for (size_t i = 0; i < n; ++i) {
    const double p = (static_cast<double>(rng.Below(levels)) + 0.5) / levels;
    s.pctr.push_back(static_cast<float>(p));
    s.labels.push_back(rng.Bernoulli(0.2 + p / 2));
    if (weighted) s.weights.push_back(static_cast<float>(rng.Below(4)) * 0.5f);
    s.groups.push_back(rng.Below(n / 5 + 1));
  }
  return s;
}

double Psi(float click, float other) {
  return click > other ? 1.0 : click == other ? 0.5 : 0.0;
}

// All pairs.
double SlowAuc(const Scored& s) {
  double pairs = 0, mass = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    for (size_t j = 0; j < s.size(); ++j) {
      if (!s.labels[i] || s.labels[j]) continue;
      const double w = static_cast<double>(s.weight(i)) * s.weight(j);
      pairs += w * Psi(s.pctr[i], s.pctr[j]);
      mass += w;
    }
  }
  return pairs / mass;
}

// DeLong's covariance of two AUCs from all pairs, without weights.
double SlowCovariance(const Scored& a, const Scored& b) {
  std::vector<double> va[2], vb[2];
  for (size_t i = 0; i < a.size(); ++i) {
    double sa = 0, sb = 0, n = 0;
    for (size_t j = 0; j < a.size(); ++j) {
      if (a.labels[i] == a.labels[j]) continue;
      const bool click = a.labels[i];
      sa += click ? Psi(a.pctr[i], a.pctr[j]) : Psi(a.pctr[j], a.pctr[i]);
      sb += click ? Psi(b.pctr[i], b.pctr[j]) : Psi(b.pctr[j], b.pctr[i]);
      n += 1;
    }
    va[a.labels[i]].push_back(sa / n);
    vb[a.labels[i]].push_back(sb / n);
  }
  const double auc_a = SlowAuc(a), auc_b = SlowAuc(b);
  double covariance = 0;
  for (int label : {0, 1}) {
    const double n = static_cast<double>(va[label].size());
    double sum = 0;
    for (size_t i = 0; i < va[label].size(); ++i) {
      sum += (va[label][i] - auc_a) * (vb[label][i] - auc_b);
    }
    covariance += sum / (n - 1) / n;
  }
  return covariance;
}

TEST(Metrics, AucIsTheShareOfOrderedPairs) {
  for (const int levels : {1, 2, 10, 1000000}) {
    for (const size_t n : {2, 3, 17, 200}) {
      for (const bool weighted : {false, true}) {
        const Sample s = ASample(n, levels, weighted, n + levels);
        const double slow = SlowAuc(s.scored());
        if (std::isnan(slow)) {
          EXPECT_TRUE(std::isnan(Auc(s.scored())));
        } else {
          EXPECT_NEAR(Auc(s.scored()), slow, 1e-12) << n << " " << levels;
        }
      }
    }
  }
}

TEST(Metrics, WeightsCountAsRepeatedExamples) {
  const Sample s = ASample(300, 20, false, 5);
  Sample repeated = s, weighted = s;
  for (size_t i = 0; i < 300; i += 3) {
    for (int k = 0; k < 2; ++k) {
      repeated.pctr.push_back(s.pctr[i]);
      repeated.labels.push_back(s.labels[i]);
      repeated.groups.push_back(s.groups[i]);
    }
  }
  for (size_t i = 0; i < 300; ++i) weighted.weights.push_back(i % 3 ? 1 : 3);
  const Scored a = repeated.scored(), b = weighted.scored();
  EXPECT_NEAR(Auc(a), Auc(b), 1e-12);
  EXPECT_NEAR(Gauc(a), Gauc(b), 1e-12);
  EXPECT_NEAR(LogLoss(a), LogLoss(b), 1e-12);
  EXPECT_NEAR(NormalizedEntropy(a), NormalizedEntropy(b), 1e-12);
  EXPECT_NEAR(CalibrationRatio(a), CalibrationRatio(b), 1e-12);
}

TEST(Metrics, DeLongIsTheFormulaOverAllPairs) {
  for (const int levels : {3, 1000}) {
    const Sample a = ASample(150, levels, false, 1);
    Sample b = a;
    Rng rng(9);
    for (float& p : b.pctr)
      p = static_cast<float>(0.7 * p + 0.3 * rng.Uniform());
    const double var_a = SlowCovariance(a.scored(), a.scored());
    const double var_b = SlowCovariance(b.scored(), b.scored());
    const double cov = SlowCovariance(a.scored(), b.scored());
    EXPECT_NEAR(AucVariance(a.scored()), var_a, 1e-12);
    const v1::Interval delta = DeltaAuc(a.scored(), b.scored());
    EXPECT_NEAR(delta.estimate(), SlowAuc(a.scored()) - SlowAuc(b.scored()),
                1e-12);
    const double half = 1.959963984540054 * std::sqrt(var_a + var_b - 2 * cov);
    EXPECT_NEAR(delta.high() - delta.estimate(), half, 1e-10);
    EXPECT_NEAR(delta.estimate() - delta.low(), half, 1e-10);
  }
}

TEST(Metrics, DeLongIntervalsHoldTheTruthNineteenTimesInTwenty) {
  // P(click scores above non-click) for N(1, 1) against N(0, 1).
  const double truth = 0.5 * std::erfc(-0.5);
  int inside = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Rng rng(seed);
    Sample s;
    for (int i = 0; i < 300; ++i) {
      s.labels.push_back(rng.Bernoulli(0.3));
      const double x = rng.Normal() + s.labels.back();
      s.pctr.push_back(static_cast<float>(1 / (1 + std::exp(-x))));
    }
    const v1::Interval interval = AucInterval(s.scored());
    inside += interval.low() <= truth && truth <= interval.high();
  }
  EXPECT_GE(inside, 0.92 * 400);
  EXPECT_LE(inside, 0.98 * 400);
}

TEST(Metrics, GaucAveragesTheGroupsThatHaveBothLabels) {
  const Sample s = ASample(500, 10, true, 4);
  std::map<uint64_t, Sample> groups;
  for (size_t i = 0; i < 500; ++i) {
    Sample& g = groups[s.groups[i]];
    g.pctr.push_back(s.pctr[i]);
    g.labels.push_back(s.labels[i]);
    g.weights.push_back(s.weights[i]);
  }
  double sum = 0, mass = 0;
  for (const auto& [id, g] : groups) {
    const double auc = SlowAuc(g.scored());
    if (std::isnan(auc)) continue;
    double weight = 0;
    for (const float w : g.weights) weight += w;
    sum += weight * auc;
    mass += weight;
  }
  EXPECT_NEAR(Gauc(s.scored()), sum / mass, 1e-12);
}

TEST(Metrics, LossEntropyAndCalibrationByHand) {
  const std::vector<float> pctr = {0.5f, 0.25f, 0.75f, 1.0f};
  const std::vector<uint8_t> labels = {1, 0, 0, 1};
  const Scored s = {pctr, labels};
  const double loss = (std::log(2) - std::log(0.75) - std::log(0.25)) / 4;
  EXPECT_NEAR(LogLoss(s), loss, 1e-12);
  EXPECT_NEAR(NormalizedEntropy(s), loss / std::log(2), 1e-12);
  EXPECT_NEAR(CalibrationRatio(s), 2.5 / 2, 1e-12);
  // One example a bin: |.5 - 1| + .25 + .75 + 0
  EXPECT_NEAR(ExpectedCalibrationError(s, 4), 1.5 / 4, 1e-12);
  EXPECT_NEAR(ExpectedCalibrationError(s, 100), 1.5 / 4, 1e-12);
  // Two bins: {.25, .5} has 1 click, {.75, 1} too.
  EXPECT_NEAR(ExpectedCalibrationError(s, 2), (0.25 + 0.75) / 4, 1e-12);
}

// By the definition: precision and recall at every distinct score.
double SlowAveragePrecision(const Scored& s) {
  std::vector<float> thresholds(s.pctr.begin(), s.pctr.end());
  std::sort(thresholds.rbegin(), thresholds.rend());
  thresholds.erase(std::unique(thresholds.begin(), thresholds.end()),
                   thresholds.end());
  double clicks = 0, sum = 0, recall = 0;
  for (size_t i = 0; i < s.size(); ++i) clicks += s.labels[i] * s.weight(i);
  for (const float threshold : thresholds) {
    double hits = 0, shown = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      if (s.pctr[i] < threshold) continue;
      shown += s.weight(i);
      hits += s.labels[i] * s.weight(i);
    }
    if (shown == 0) continue;
    sum += (hits / clicks - recall) * hits / shown;
    recall = hits / clicks;
  }
  return sum;
}

TEST(Metrics, AveragePrecisionIsItsDefinition) {
  for (const int levels : {1, 2, 10, 1000000}) {
    for (const size_t n : {5, 17, 200}) {
      for (const bool weighted : {false, true}) {
        const Sample s = ASample(n, levels, weighted, n + levels);
        const double fast = AveragePrecision(s.scored());
        if (std::isnan(fast)) continue;
        EXPECT_NEAR(fast, SlowAveragePrecision(s.scored()), 1e-12);
      }
    }
  }
  // The example of scikit-learn's average_precision_score: 0.83.
  const std::vector<float> pctr = {0.1f, 0.4f, 0.35f, 0.8f};
  EXPECT_NEAR(AveragePrecision({pctr, std::vector<uint8_t>{0, 0, 1, 1}}),
              0.8333333, 1e-7);
  EXPECT_TRUE(
      std::isnan(AveragePrecision({pctr, std::vector<uint8_t>{0, 0, 0, 0}})));
}

TEST(Metrics, ReliabilityRowsAreEqualMassAndHoldEveryExample) {
  const Sample s = ASample(1003, 1000000, false, 3);
  const auto rows = Reliability(s.scored(), 10);
  ASSERT_EQ(rows.size(), 10);
  std::vector<size_t> order(1003);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return s.pctr[a] < s.pctr[b]; });
  size_t k = 0;
  double error = 0;
  for (const v1::ReliabilityBin& row : rows) {
    EXPECT_NEAR(static_cast<double>(row.examples()), 100.3, 0.71);
    double pctr = 0, clicks = 0;
    const auto n = static_cast<double>(row.examples());
    for (size_t e = 0; e < row.examples(); ++e, ++k) {
      pctr += s.pctr[order[k]];
      clicks += s.labels[order[k]];
    }
    EXPECT_EQ(row.clicks(), clicks);
    EXPECT_NEAR(row.mean_pctr(), pctr / n, 1e-12);
    EXPECT_NEAR(row.ctr().estimate(), clicks / n, 1e-12);
    EXPECT_LT(row.ctr().low(), row.ctr().estimate());
    EXPECT_GT(row.ctr().high(), row.ctr().estimate());
    error += std::fabs(pctr - clicks);
  }
  EXPECT_EQ(k, 1003);
  EXPECT_NEAR(error / 1003, ExpectedCalibrationError(s.scored(), 10), 1e-12);
  EXPECT_TRUE(Reliability({}).empty());
  EXPECT_EQ(Reliability({{0.5f, 0.5f}, {0, 1}}, 20).size(), 2);
}

// Brown, Cai and DasGupta 2001, section 3.1.1, by its roots: the rates whose
// score test just accepts the observed one.
TEST(Metrics, WilsonsBoundsSolveTheScoreTest) {
  const std::vector<float> pctr(40, 0.3f);
  std::vector<uint8_t> labels(40, 0);
  std::fill(labels.begin(), labels.begin() + 7, 1);
  const auto rows = Reliability({pctr, labels}, 1);
  ASSERT_EQ(rows.size(), 1);
  for (const double p : {rows[0].ctr().low(), rows[0].ctr().high()}) {
    EXPECT_NEAR(std::fabs(7.0 / 40 - p) / std::sqrt(p * (1 - p) / 40),
                1.959963984540054, 1e-9);
  }
}

TEST(Metrics, PopulationStabilityByHand) {
  // Quarters of 8 values; 8, 4, 3, 1 of the others fall into them.
  const std::vector<float> reference = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<float> other = {0, 0, 1, 1, 1, 2, 2, 2,
                                    3, 4, 4, 4, 5, 5, 6, 9};
  double psi = 0;
  for (const double count : {8.0, 4.0, 3.0, 1.0}) {
    const double p = 2.5 / 10, q = (count + 0.5) / 18;
    psi += (q - p) * std::log(q / p);
  }
  EXPECT_NEAR(PopulationStabilityIndex(reference, other, 4), psi, 1e-12);
  EXPECT_EQ(PopulationStabilityIndex(reference, reference, 4), 0);
  EXPECT_TRUE(std::isnan(PopulationStabilityIndex({}, other)));
  // A constant model has one bin: nothing can leave it.
  EXPECT_EQ(PopulationStabilityIndex({0.5f, 0.5f, 0.5f}, other), 0);
}

TEST(Metrics, PopulationStabilityGrowsWithTheShift) {
  Rng rng(5);
  std::vector<float> reference, none, shifted, far;
  for (int i = 0; i < 20000; ++i) {
    reference.push_back(static_cast<float>(rng.Normal()));
    none.push_back(static_cast<float>(rng.Normal()));
    shifted.push_back(static_cast<float>(rng.Normal() + 0.5));
    far.push_back(static_cast<float>(rng.Normal() + 2));
  }
  EXPECT_LT(PopulationStabilityIndex(reference, none), 0.005);
  // Of N(m, 1) against N(0, 1) the continuous index is m^2.
  EXPECT_NEAR(PopulationStabilityIndex(reference, shifted), 0.25, 0.04);
  EXPECT_GT(PopulationStabilityIndex(reference, far), 2);
}

TEST(Metrics, AWrongCertaintyCostsAtMostTheClip) {
  const std::vector<float> pctr = {0.0f, 1.0f};
  const std::vector<uint8_t> labels = {1, 0};
  EXPECT_NEAR(LogLoss({pctr, labels}), -std::log(1e-15), 1e-2);
}

TEST(Metrics, OneClassLeavesTheRankingMetricsUndefined) {
  const std::vector<float> pctr = {0.1f, 0.2f, 0.3f};
  for (const uint8_t label : {0, 1}) {
    const std::vector<uint8_t> labels(3, label);
    const v1::Metrics m = ComputeMetrics({pctr, labels});
    EXPECT_EQ(m.examples(), 3);
    EXPECT_EQ(m.clicks(), label * 3);
    EXPECT_TRUE(std::isnan(m.auc()));
    EXPECT_TRUE(std::isnan(m.auc_interval().low()));
    EXPECT_TRUE(std::isnan(m.gauc()));
    EXPECT_TRUE(std::isnan(m.normalized_entropy()));
    EXPECT_FALSE(std::isnan(m.logloss()));
    EXPECT_FALSE(std::isnan(m.ece()));
    EXPECT_EQ(std::isnan(m.calibration_ratio()), label == 0);
    EXPECT_TRUE(std::isnan(DeltaAuc({pctr, labels}, {pctr, labels}).low()));
  }
}

TEST(Metrics, NoExamplesLeaveEverythingUndefined) {
  const v1::Metrics m = ComputeMetrics({});
  EXPECT_EQ(m.examples(), 0);
  for (const double x :
       {m.mean_pctr(), m.ctr(), m.auc(), m.auc_interval().high(), m.gauc(),
        m.logloss(), m.normalized_entropy(), m.calibration_ratio(), m.ece()}) {
    EXPECT_TRUE(std::isnan(x));
  }
  EXPECT_TRUE(std::isnan(CalibrationInterval({}, 100, 1).low()));
  EXPECT_TRUE(std::isnan(BootstrapDeltas({}, {}, 100, 1).ne.low()));
}

TEST(Metrics, BootstrapIsDecidedByTheSeedAndNotByTheOrder) {
  const Sample a = ASample(2000, 50, false, 1);
  Sample b = a;
  for (float& p : b.pctr) p = 0.9f * p + 0.03f;
  const Deltas deltas = BootstrapDeltas(a.scored(), b.scored(), 200, 3);
  const Deltas again = BootstrapDeltas(a.scored(), b.scored(), 200, 3);
  EXPECT_EQ(deltas.ne.low(), again.ne.low());
  EXPECT_NE(deltas.ne.low(),
            BootstrapDeltas(a.scored(), b.scored(), 200, 4).ne.low());
  EXPECT_NEAR(deltas.logloss.estimate(),
              LogLoss(a.scored()) - LogLoss(b.scored()), 1e-12);
  EXPECT_LT(deltas.logloss.low(), deltas.logloss.estimate());
  EXPECT_GT(deltas.logloss.high(), deltas.logloss.estimate());
  Sample ra = a, rb = b;
  for (Sample* s : {&ra, &rb}) {
    std::reverse(s->pctr.begin(), s->pctr.end());
    std::reverse(s->labels.begin(), s->labels.end());
    std::reverse(s->groups.begin(), s->groups.end());
  }
  const Deltas reversed = BootstrapDeltas(ra.scored(), rb.scored(), 200, 3);
  EXPECT_NEAR(reversed.ne.low(), deltas.ne.low(), 1e-12);
  EXPECT_NEAR(reversed.ne.high(), deltas.ne.high(), 1e-12);
}

TEST(Metrics, BootstrapOfIndependentExamplesHasTheWidthOfTheTextbook) {
  // Calibration ratio n p / k: relative deviation sqrt((1 - q) / k).
  Rng rng(8);
  Sample s;
  for (int i = 0; i < 20000; ++i) {
    s.pctr.push_back(0.1f);
    s.labels.push_back(rng.Bernoulli(0.1));
  }
  const v1::Interval interval = CalibrationInterval(s.scored(), 500, 1);
  const double half = 1.96 * std::sqrt(0.9 / 2000);
  EXPECT_NEAR(interval.high() - interval.low(), 2 * half, 0.3 * half);
  EXPECT_LT(interval.low(), interval.estimate());
}

TEST(Metrics, BootstrapKeepsGroupsWhole) {
  // 100 groups of 100 equal examples: as wide as 100 examples would be.
  Rng rng(8);
  Sample s;
  for (int g = 0; g < 100; ++g) {
    const bool click = rng.Bernoulli(0.3);
    for (int i = 0; i < 100; ++i) {
      s.pctr.push_back(0.3f);
      s.labels.push_back(click);
      s.groups.push_back(g);
    }
  }
  Sample alone = s;
  alone.groups.clear();
  const v1::Interval grouped = CalibrationInterval(s.scored(), 500, 1);
  const v1::Interval single = CalibrationInterval(alone.scored(), 500, 1);
  EXPECT_GT(grouped.high() - grouped.low(), 7 * (single.high() - single.low()));
}

}  // namespace
}  // namespace adrank
