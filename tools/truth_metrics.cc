#include "tools/truth_metrics.h"

#include <cmath>

#include "absl/functional/function_ref.h"
#include "tools/click_model.h"

namespace adrank {
namespace {

double Entropy(double p) {
  return p > 0 && p < 1 ? -p * std::log(p) - (1 - p) * std::log1p(-p) : 0;
}

// Sum of a predictor's losses over the rows it is asked about.
struct Sums {
  uint64_t rows = 0;
  double clicks = 0, truth = 0, pctr = 0;
  double loss = 0, expected_loss = 0;

  void Add(double p, double t, bool clicked) {
    const double if_clicked = -std::log(p), if_not = -std::log1p(-p);
    ++rows;
    clicks += clicked;
    truth += t;
    pctr += p;
    loss += clicked ? if_clicked : if_not;
    expected_loss += t * if_clicked + (1 - t) * if_not;
  }

  v1::Predictor Finish(const std::string& name) const {
    const double n = static_cast<double>(rows);
    v1::Predictor out;
    out.set_name(name);
    out.set_impressions(rows);
    out.set_mean_pctr(pctr / n);
    out.set_normalized_entropy(loss / n / Entropy(clicks / n));
    out.set_calibration_ratio(pctr / clicks);
    out.set_expected_normalized_entropy(expected_loss / n / Entropy(truth / n));
    out.set_calibration_to_truth(pctr / truth);
    return out;
  }
};

v1::Predictor Measure(const std::string& name, const TruthRows& rows,
                      uint32_t position,
                      absl::FunctionRef<double(size_t row)> pctr) {
  Sums sums;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (position != 0 && rows.position[i] != position) continue;
    sums.Add(pctr(i), rows.truth[i], rows.clicked[i] != 0);
  }
  return sums.Finish(name);
}

}  // namespace

MainEffectsFit FitMainEffects(const TruthRows& rows) {
  MainEffectsFit fit;
  for (int iteration = 0; iteration < 25; ++iteration) {
    // Gradient, and Hessian [[aa, ab], [ab, bb]], of (slope, intercept).
    double ga = 0, gb = 0, aa = 0, ab = 0, bb = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const double x = rows.main_logit[i];
      const double p = Sigmoid(fit.slope * x + fit.intercept);
      const double error = p - rows.truth[i], w = p * (1 - p);
      ga += error * x;
      gb += error;
      aa += w * x * x;
      ab += w * x;
      bb += w;
    }
    const double determinant = aa * bb - ab * ab;
    // No rows, or all with the same logit: a slope says nothing.
    if (!(determinant > 1e-9 * aa * bb)) return {};
    const double slope = (bb * ga - ab * gb) / determinant;
    const double intercept = (aa * gb - ab * ga) / determinant;
    fit.slope -= slope;
    fit.intercept -= intercept;
    if (std::fabs(slope) + std::fabs(intercept) < 1e-10) break;
  }
  return fit;
}

std::vector<v1::Predictor> ComparePredictors(const TruthRows& rows,
                                             const MainEffectsFit& fit,
                                             uint32_t position,
                                             const std::string& model_name) {
  std::vector<v1::Predictor> out;
  out.push_back(Measure("truth", rows, position,
                        [&](size_t i) { return rows.truth[i]; }));
  out.push_back(Measure("main_effects", rows, position, [&](size_t i) {
    return Sigmoid(fit.slope * rows.main_logit[i] + fit.intercept);
  }));
  out.push_back(Measure("served", rows, position,
                        [&](size_t i) { return rows.served[i]; }));
  if (!model_name.empty()) {
    out.push_back(Measure(model_name, rows, position,
                          [&](size_t i) { return rows.model[i]; }));
  }
  const v1::Predictor main = out[1];
  for (v1::Predictor& p : out) {
    p.set_ne_over_main_effects(
        p.normalized_entropy() / main.normalized_entropy() - 1);
    p.set_expected_ne_over_main_effects(p.expected_normalized_entropy() /
                                            main.expected_normalized_entropy() -
                                        1);
  }
  return out;
}

}  // namespace adrank
