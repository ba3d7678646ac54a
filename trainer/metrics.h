// Offline metrics, exact, with intervals. Pure functions.
//
// Everywhere: pctr in [0, 1], label 0 or 1, weight >= 0 (empty: all 1). An
// example of weight w counts as w examples, so that down-sampled negatives with
// weight 1/rate stand for those that were left out; intervals treat the
// examples as what was drawn. A value that is not defined (no examples, one
// class only) is NaN; nothing else is.
#ifndef ADRANK_TRAINER_METRICS_H_
#define ADRANK_TRAINER_METRICS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "proto/training_report.pb.h"

namespace adrank {

// Columns of equal length (or empty where said). Does not own.
struct Scored {
  absl::Span<const float> pctr;
  absl::Span<const uint8_t> labels;
  absl::Span<const float> weights = {};    // empty: all 1
  absl::Span<const uint64_t> groups = {};  // empty: every example its own group

  size_t size() const { return labels.size(); }
  float weight(size_t i) const { return weights.empty() ? 1.0f : weights[i]; }
};

// Probability that a click scores above a non-click, ties half (mid-ranks).
// NaN with one class.
double Auc(const Scored& s);

// 95 % interval of the AUC (DeLong, DeLong and Clarke-Pearson 1988, with the
// mid-rank algorithm of Sun and Xu 2014, O(n log n)), cut to [0, 1]. NaN bounds
// with fewer than two examples of a class.
v1::Interval AucInterval(const Scored& s);
// Variance of the AUC by DeLong.
double AucVariance(const Scored& s);
// 95 % interval of AUC(a) - AUC(b) on the same examples.
// REQUIRES: a and b have the same labels and weights.
v1::Interval DeltaAuc(const Scored& a, const Scored& b);

// sum n_g AUC_g / sum n_g over groups with both labels, n_g the examples'
// weight; NaN when there is none.
double Gauc(const Scored& s);

// Mean of -y ln p - (1 - y) ln(1 - p), p cut to [1e-15, 1 - 1e-15], in double.
// NaN when empty.
double LogLoss(const Scored& s);
// LogLoss / entropy of the observed rate (He et al. 2014). NaN with one class.
double NormalizedEntropy(const Scored& s);
// sum of pctr / clicks; NaN without clicks.
double CalibrationRatio(const Scored& s);
// sum n_b / N |mean pctr_b - ctr_b| over `bins` bins of equally many examples
// in order of pctr (examples of equal pctr in the order given); NaN when empty.
double ExpectedCalibrationError(const Scored& s, int bins = 100);

// Average precision: sum over thresholds, from the highest score down, of
// (recall gained) x precision at the threshold; examples of equal pctr pass
// together. NaN without clicks.
double AveragePrecision(const Scored& s);

// All of the above.
v1::Metrics ComputeMetrics(const Scored& s);

// At most `bins` rows of equally many examples in order of pctr, as in
// ExpectedCalibrationError, with Wilson's 95 % interval of the click rate.
std::vector<v1::ReliabilityBin> Reliability(const Scored& s, int bins = 20);

// Population stability index: sum over bins of (q - p) ln(q / p), where p and q
// are the shares of `reference` and `other`, each bin counting half an example
// more. Bins end at the quantiles of `reference`; equal values share one. 0:
// the same distribution; above 0.25 is commonly called a shift. NaN when one is
// empty.
double PopulationStabilityIndex(absl::Span<const float> reference,
                                absl::Span<const float> other, int bins = 10);

// 95 % percentile intervals of a Poisson bootstrap by group: replicate b counts
// group g Poisson(1) times, drawn from MixBits of (seed, b, g), so that groups
// stay whole and the result does not depend on the order of examples beyond
// rounding. Bounds are NaN when fewer than 2 groups or replicates.
v1::Interval CalibrationInterval(const Scored& s, int replicates,
                                 uint64_t seed);
struct Deltas {
  // a - b. The paired replicates see the same groups.
  v1::Interval logloss;
  v1::Interval ne;
};
// REQUIRES: a and b have the same labels, weights and groups.
Deltas BootstrapDeltas(const Scored& a, const Scored& b, int replicates,
                       uint64_t seed);

}  // namespace adrank

#endif  // ADRANK_TRAINER_METRICS_H_
