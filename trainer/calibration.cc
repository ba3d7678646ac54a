#include "trainer/calibration.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "model/calibrator.h"
#include "model/portable_math.h"

namespace adrank {
namespace {

constexpr double kMinSlope = 0.01;
constexpr uint64_t kMinPerClass = 10;
constexpr uint64_t kMinIsotonic = 1000;
constexpr uint64_t kMinSlice = 100;
constexpr uint32_t kDefaultBins = 200;
constexpr double kDefaultSlicePrior = 1000;

double Logistic(double x) {
  const double e = PortableExp(-std::fabs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

double WeightOf(const CalibrationExamples& x, size_t i) {
  return x.weights.empty() ? 1.0 : x.weights[i];
}

// The convex objective at one point: value, gradient and Hessian in
// (slope, intercept).
struct Objective {
  double value = 0;
  double g0 = 0, g1 = 0;
  double h00 = 0, h01 = 0, h11 = 0;
};

Objective Evaluate(const CalibrationExamples& x, double ridge, double slope,
                   double intercept) {
  Objective o;
  o.value = ridge / 2 * ((slope - 1) * (slope - 1) + intercept * intercept);
  o.g0 = ridge * (slope - 1);
  o.g1 = ridge * intercept;
  o.h00 = o.h11 = ridge;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = WeightOf(x, i);
    const double t = x.logits[i];
    const double logit = slope * t + intercept;
    const double e = PortableExp(-std::fabs(logit));
    const double p = (logit >= 0 ? 1 : e) / (1 + e);
    // -ln of the label's probability: ln(1 + e^m), m = -+logit
    const double margin = x.labels[i] ? -logit : logit;
    o.value += w * (std::max(margin, 0.0) + PortableLog(1 + e));
    const double error = w * (p - (x.labels[i] ? 1 : 0));
    o.g0 += error * t;
    o.g1 += error;
    const double curvature = w * p * (1 - p);
    o.h00 += curvature * t * t;
    o.h01 += curvature * t;
    o.h11 += curvature;
  }
  return o;
}

// What Minimize may move.
enum class Free { kBoth, kSlope, kIntercept };

// Newton's step at `at`.
std::pair<double, double> NewtonStep(const Objective& at, Free free) {
  switch (free) {
    case Free::kSlope:
      return {-at.g0 / at.h00, 0};
    case Free::kIntercept:
      return {0, -at.g1 / at.h11};
    case Free::kBoth:
      break;
  }
  const double det = at.h00 * at.h11 - at.h01 * at.h01;
  return {-(at.h11 * at.g0 - at.h01 * at.g1) / det,
          -(at.h00 * at.g1 - at.h01 * at.g0) / det};
}

// Newton with step halving from (slope, 0).
PlattFit Minimize(const CalibrationExamples& x, double ridge, double slope,
                  Free free) {
  PlattFit fit;
  fit.slope = slope;
  Objective at = Evaluate(x, ridge, fit.slope, fit.intercept);
  for (int round = 0; round < 100; ++round) {
    const auto [d0, d1] = NewtonStep(at, free);
    // Newton's decrement: twice what is left to gain.
    if (-(at.g0 * d0 + at.g1 * d1) <= 1e-14 * (1 + at.value)) {
      fit.converged = true;
      break;
    }
    double step = 1;
    Objective next = Evaluate(x, ridge, fit.slope + d0, fit.intercept + d1);
    while (!(next.value <= at.value) && step > 1e-9) {
      step /= 2;
      next =
          Evaluate(x, ridge, fit.slope + step * d0, fit.intercept + step * d1);
    }
    if (!(next.value <= at.value)) break;
    fit.slope += step * d0;
    fit.intercept += step * d1;
    at = next;
  }
  return fit;
}

// What fitting needs to know, over examples with a finite logit and weight > 0.
struct Usable {
  std::vector<float> logits;
  std::vector<uint8_t> labels;
  std::vector<float> weights;
  std::vector<uint64_t> slices;
  uint64_t clicks = 0;
  bool constant = true;

  CalibrationExamples examples() const {
    return {logits, labels, weights, slices};
  }
};

// `offset` is what comes before the fit in the stack.
Usable Select(const CalibrationExamples& x, double offset) {
  Usable usable;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = WeightOf(x, i);
    if (!std::isfinite(x.logits[i]) || !(w > 0) || !std::isfinite(w)) continue;
    usable.logits.push_back(static_cast<float>(x.logits[i] + offset));
    usable.labels.push_back(x.labels[i]);
    if (!x.weights.empty()) usable.weights.push_back(x.weights[i]);
    if (!x.slices.empty()) usable.slices.push_back(x.slices[i]);
    usable.clicks += x.labels[i] ? 1 : 0;
    usable.constant &= usable.logits.back() == usable.logits.front();
  }
  return usable;
}

std::string WhyNot(const Usable& usable) {
  const uint64_t n = usable.labels.size();
  if (usable.clicks < kMinPerClass || n - usable.clicks < kMinPerClass) {
    return absl::StrCat("not calibrated: ", usable.clicks, " clicks and ",
                        n - usable.clicks, " non-clicks, ", kMinPerClass,
                        " of each are needed");
  }
  if (usable.constant) {
    return "not calibrated: all logits are the same";
  }
  return "";
}

// A stretch of the isotonic fit.
struct Pool {
  double x = 0;  // sum of weight x probability
  double y = 0;  // sum of weight x label
  double weight = 0;
};

// Equal-mass bins in order of probability.
std::vector<Pool> EqualMassBins(absl::Span<const double> probability,
                                absl::Span<const uint8_t> labels,
                                absl::Span<const float> weights,
                                uint32_t bins) {
  std::vector<std::pair<double, uint32_t>> order(probability.size());
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = {probability[i], static_cast<uint32_t>(i)};
    total += weights.empty() ? 1.0 : weights[i];
  }
  std::sort(order.begin(), order.end());
  std::vector<Pool> pools;
  double before = 0;  // mass of the closed bins
  Pool open;
  for (size_t k = 0; k < order.size(); ++k) {
    const uint32_t i = order[k].second;
    const double w = weights.empty() ? 1.0 : weights[i];
    open.x += w * probability[i];
    open.y += labels[i] ? w : 0;
    open.weight += w;
    const bool tie =
        k + 1 < order.size() && order[k + 1].first == order[k].first;
    const double mass = before + open.weight;
    if (tie || (k + 1 < order.size() &&
                mass * bins < total * static_cast<double>(pools.size() + 1))) {
      continue;
    }
    before = mass;
    if (open.weight > 0) pools.push_back(open);
    open = Pool();
  }
  return pools;
}

}  // namespace

PlattFit FitPlatt(const CalibrationExamples& examples, double ridge) {
  PlattFit fit = Minimize(examples, ridge, 1, Free::kBoth);
  if (fit.slope >= kMinSlope) return fit;
  fit = Minimize(examples, ridge, kMinSlope, Free::kIntercept);
  fit.bounded = true;
  return fit;
}

PlattFit FitTemperature(const CalibrationExamples& examples, double ridge) {
  PlattFit fit = Minimize(examples, ridge, 1, Free::kSlope);
  if (fit.slope < kMinSlope) fit = {kMinSlope, 0, fit.converged, true};
  return fit;
}

v1::Calibrator::SliceBias FitSliceBias(const std::string& field,
                                       const CalibrationExamples& examples,
                                       double prior) {
  std::vector<std::pair<uint64_t, uint32_t>> order;
  for (size_t i = 0; i < examples.size(); ++i) {
    if (examples.slices[i] != 0) {
      order.emplace_back(examples.slices[i], static_cast<uint32_t>(i));
    }
  }
  std::sort(order.begin(), order.end());
  v1::Calibrator::SliceBias slices;
  slices.set_field(field);
  for (size_t first = 0, last = 0; first < order.size(); first = last) {
    Usable slice;
    double n = 0;
    for (; last < order.size() && order[last].first == order[first].first;
         ++last) {
      const uint32_t i = order[last].second;
      slice.logits.push_back(examples.logits[i]);
      slice.labels.push_back(examples.labels[i]);
      if (!examples.weights.empty()) {
        slice.weights.push_back(examples.weights[i]);
      }
      n += WeightOf(examples, i);
    }
    if (last - first < kMinSlice) continue;
    const PlattFit fit = Minimize(slice.examples(), 1, 1, Free::kIntercept);
    slices.add_id(order[first].first);
    slices.add_bias(fit.intercept * n / (n + prior));
  }
  return slices;
}

std::vector<double> PoolAdjacentViolators(absl::Span<const double> y,
                                          absl::Span<const double> weights) {
  struct Block {
    double sum, weight;
    size_t count;
    double mean() const { return sum / weight; }
  };
  std::vector<Block> blocks;
  for (size_t i = 0; i < y.size(); ++i) {
    blocks.push_back({y[i] * weights[i], weights[i], 1});
    while (blocks.size() > 1 &&
           blocks[blocks.size() - 2].mean() >= blocks.back().mean()) {
      const Block last = blocks.back();
      blocks.pop_back();
      blocks.back().sum += last.sum;
      blocks.back().weight += last.weight;
      blocks.back().count += last.count;
    }
  }
  std::vector<double> fitted;
  fitted.reserve(y.size());
  for (const Block& b : blocks) fitted.insert(fitted.end(), b.count, b.mean());
  return fitted;
}

v1::Calibrator::Isotonic FitIsotonic(absl::Span<const double> probability,
                                     absl::Span<const uint8_t> labels,
                                     absl::Span<const float> weights,
                                     uint32_t bins) {
  const std::vector<Pool> pools =
      EqualMassBins(probability, labels, weights, std::max(bins, 1u));
  std::vector<double> y, mass;
  for (const Pool& pool : pools) {
    const double mean = std::clamp(pool.x / pool.weight, 1e-12, 1 - 1e-12);
    mass.push_back(pool.weight + 1);
    y.push_back((pool.y + mean) / mass.back());
  }
  const std::vector<double> fitted = PoolAdjacentViolators(y, mass);
  v1::Calibrator::Isotonic isotonic;
  for (size_t first = 0, last = 0; first < pools.size(); first = last) {
    Pool pool;
    for (; last < pools.size() && fitted[last] == fitted[first]; ++last) {
      pool.x += pools[last].x;
      pool.weight += pools[last].weight;
    }
    const double x = pool.x / pool.weight;
    // Means of separate stretches can only meet by rounding.
    const int knots = isotonic.x_size();
    if (knots > 0 && x <= isotonic.x(knots - 1)) {
      isotonic.set_y(knots - 1, fitted[first]);
      continue;
    }
    isotonic.add_x(x);
    isotonic.add_y(fitted[first]);
  }
  return isotonic;
}

namespace {

using Config = v1::CalibrationConfig;

bool IsTemperature(Config::Method method) {
  return method == Config::TEMPERATURE ||
         method == Config::TEMPERATURE_ISOTONIC;
}

// The stages below add themselves to *fit.

// False: nothing can follow.
bool AddPlatt(const Config& config, const Usable& usable, CalibrationFit* fit) {
  fit->reason = WhyNot(usable);
  if (!fit->reason.empty()) return false;
  const bool temperature = IsTemperature(config.method());
  const PlattFit platt = temperature ? FitTemperature(usable.examples())
                                     : FitPlatt(usable.examples());
  if (!platt.converged) {
    fit->reason = "not calibrated: Newton's method did not converge";
    return false;
  }
  fit->calibrator.mutable_platt()->set_slope(platt.slope);
  fit->calibrator.mutable_platt()->set_intercept(platt.intercept);
  fit->reason = absl::StrCat(
      temperature ? "temperature" : "Platt", " on ", usable.labels.size(),
      " examples, ", usable.clicks, " clicks: slope ", platt.slope,
      ", intercept ", platt.intercept,
      platt.bounded ? " (slope held at its lower bound)" : "");
  return true;
}

void AddIsotonic(const Config& config, const Usable& usable,
                 CalibrationFit* fit) {
  if (usable.labels.size() < kMinIsotonic) {
    absl::StrAppend(&fit->reason, "; no isotonic stage: ", kMinIsotonic,
                    " examples are needed");
    return;
  }
  const v1::Calibrator::Platt& platt = fit->calibrator.platt();
  std::vector<double> probability(usable.logits.size());
  for (size_t i = 0; i < probability.size(); ++i) {
    probability[i] =
        Logistic(platt.slope() * usable.logits[i] + platt.intercept());
  }
  *fit->calibrator.mutable_isotonic() =
      FitIsotonic(probability, usable.labels, usable.weights,
                  config.bins() == 0 ? kDefaultBins : config.bins());
  absl::StrAppend(&fit->reason, "; isotonic with ",
                  fit->calibrator.isotonic().x_size(), " knots");
}

void AddSlices(const Config& config, double offset, Usable usable,
               CalibrationFit* fit) {
  const auto before = Calibrator::Create(fit->calibrator);
  CHECK(before.ok()) << before.status();
  for (float& logit : usable.logits) {
    const double p = std::clamp<double>(
        before->Probability(static_cast<float>(logit - offset)), 1e-9,
        1 - 1e-9);
    logit = static_cast<float>(PortableLog(p) - PortableLog(1 - p));
  }
  v1::Calibrator::SliceBias slices = FitSliceBias(
      config.slice_field(), usable.examples(),
      config.slice_prior() == 0 ? kDefaultSlicePrior : config.slice_prior());
  if (slices.id().empty()) {
    absl::StrAppend(&fit->reason, "; no value of ", config.slice_field(),
                    " has the ", kMinSlice, " examples that a bias needs");
    return;
  }
  const auto [least, most] =
      std::minmax_element(slices.bias().begin(), slices.bias().end());
  absl::StrAppend(&fit->reason, "; ", slices.id_size(), " values of ",
                  config.slice_field(), " with biases from ", *least, " to ",
                  *most);
  *fit->calibrator.mutable_slice_bias() = std::move(slices);
}

}  // namespace

CalibrationFit FitCalibrator(const Config& config, double negative_keep_rate,
                             const CalibrationExamples& examples) {
  CalibrationFit fit;
  double offset = 0;
  if (negative_keep_rate > 0 && negative_keep_rate < 1) {
    fit.calibrator.set_negative_keep_rate(negative_keep_rate);
    offset = PortableLog(negative_keep_rate);
  }
  if (config.method() == Config::NONE) {
    fit.reason = "not calibrated: method is NONE";
    return fit;
  }
  Usable usable = Select(examples, offset);
  if (!AddPlatt(config, usable, &fit)) return fit;
  if (config.method() == Config::PLATT_ISOTONIC ||
      config.method() == Config::TEMPERATURE_ISOTONIC) {
    AddIsotonic(config, usable, &fit);
  }
  if (!usable.slices.empty()) {
    AddSlices(config, offset, std::move(usable), &fit);
  }
  return fit;
}

}  // namespace adrank
