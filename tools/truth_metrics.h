// How well predictors do where the true probability of each row is known.
#ifndef ADRANK_TOOLS_TRUTH_METRICS_H_
#define ADRANK_TOOLS_TRUTH_METRICS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/simulate_report.pb.h"

namespace adrank {

// Columns of equal length, one row an impression.
struct TruthRows {
  std::vector<float> truth;
  std::vector<float> main_logit;  // bias + main + position of the planted model
  std::vector<float> served;      // pctr in the log
  std::vector<float> model;       // pctr of the bundle; empty without one
  std::vector<uint8_t> clicked;
  std::vector<uint8_t> position;  // in its placement

  size_t size() const { return truth.size(); }
  uint64_t bytes() const { return size() * (4 * sizeof(float) + 2); }
};

// logit = slope x planted logit without pair effects + intercept.
struct MainEffectsFit {
  double slope = 1;
  double intercept = 0;
};

// The slope and intercept of least expected logloss against the true
// probabilities (Newton's method). They stand for what is left out: averaging a
// probability over the pair effects pulls it toward 1/2. Identity without rows.
MainEffectsFit FitMainEffects(const TruthRows& rows);

// One line per predictor, "truth" and "main_effects" first, over the rows at
// `position` (0: all). `model_name` is empty when rows.model is. Values that do
// not exist (no clicks, a predictor of 0 or 1 that was wrong) are NaN or inf.
std::vector<v1::Predictor> ComparePredictors(const TruthRows& rows,
                                             const MainEffectsFit& fit,
                                             uint32_t position,
                                             const std::string& model_name);

}  // namespace adrank

#endif  // ADRANK_TOOLS_TRUTH_METRICS_H_
