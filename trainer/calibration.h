// Fits the monotone stack that turns a raw logit into a probability. Pure.
#ifndef ADRANK_TRAINER_CALIBRATION_H_
#define ADRANK_TRAINER_CALIBRATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/model_manifest.pb.h"
#include "proto/trainer_config.pb.h"

namespace adrank {

// Columns of equal length. Does not own.
struct CalibrationExamples {
  absl::Span<const float> logits;  // raw: before any correction
  absl::Span<const uint8_t> labels;
  absl::Span<const float> weights = {};  // empty: all 1
  // Feature ids of config.slice_field(), 0: none; empty when it is not set.
  absl::Span<const uint64_t> slices = {};
  size_t size() const { return labels.size(); }
};

struct CalibrationFit {
  // Acceptable to Calibrator::Create.
  v1::Calibrator calibrator;
  // What was fitted; or why a stage was left out, for the report.
  std::string reason;
};

// Fits `config.method()` on examples that were not trained on. The negatives of
// training were kept with rate `negative_keep_rate` (0 or 1: all); the examples
// here are not down-sampled (or carry weights). Examples with a non-finite
// logit are left out.
//
// Platt and temperature need 10 examples of each class and more than one logit;
// isotonic 1000 examples; a slice 100. Where data do not suffice the stage is
// left out and `reason` says so.
CalibrationFit FitCalibrator(const v1::CalibrationConfig& config,
                             double negative_keep_rate,
                             const CalibrationExamples& examples);

// argmin over (slope, intercept) of the weighted logloss of
// sigmoid(slope x logit + intercept) + ridge/2 ((slope - 1)^2 + intercept^2),
// by Newton with step halving; strictly convex, so it is the one minimum. slope
// is kept >= 0.01: calibration never reorders.
struct PlattFit {
  double slope = 1;
  double intercept = 0;
  bool converged = false;
  // The unbounded minimum had a slope below 0.01.
  bool bounded = false;
};
PlattFit FitPlatt(const CalibrationExamples& examples, double ridge = 1);
// The same with the intercept held at 0: slope = 1 / temperature (Guo et al.
// 2017, "On calibration of modern neural networks").
PlattFit FitTemperature(const CalibrationExamples& examples, double ridge = 1);

// For each slice with at least 100 examples n / (n + prior) of the bias that
// minimizes the weighted logloss of sigmoid(logit + bias) + 1/2 bias^2 over its
// examples, n their weight. `examples.logits` are those of the stages before.
v1::Calibrator::SliceBias FitSliceBias(const std::string& field,
                                       const CalibrationExamples& examples,
                                       double prior);

// Pool adjacent violators: the non-decreasing y' that minimizes
// sum weight_i (y_i - y'_i)^2. REQUIRES: weights > 0, equal lengths.
std::vector<double> PoolAdjacentViolators(absl::Span<const double> y,
                                          absl::Span<const double> weights);

// Isotonic regression of the label on `probability` over at most `bins`
// equal-mass bins: knots at the mean probability of each pooled bin, so that
// linear interpolation between them is smooth. x strictly increasing, y
// non-decreasing in (0, 1). Empty for no examples.
v1::Calibrator::Isotonic FitIsotonic(absl::Span<const double> probability,
                                     absl::Span<const uint8_t> labels,
                                     absl::Span<const float> weights,
                                     uint32_t bins);

}  // namespace adrank

#endif  // ADRANK_TRAINER_CALIBRATION_H_
