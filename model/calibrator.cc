#include "model/calibrator.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/portable_math.h"

namespace adrank {
namespace {

absl::Status CheckIsotonic(const v1::Calibrator::Isotonic& isotonic) {
  if (isotonic.x_size() != isotonic.y_size() || isotonic.x_size() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("isotonic: ", isotonic.x_size(), " x and ",
                     isotonic.y_size(), " y; need as many, at least 1"));
  }
  for (int i = 0; i < isotonic.x_size(); ++i) {
    const double x = isotonic.x(i);
    const double y = isotonic.y(i);
    if (!(x >= 0 && x <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("isotonic: x[", i, "] = ", x, " not in [0, 1]"));
    }
    if (!(y >= 0 && y <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("isotonic: y[", i, "] = ", y, " not in [0, 1]"));
    }
    if (i > 0 && !(x > isotonic.x(i - 1))) {
      return absl::InvalidArgumentError(
          absl::StrCat("isotonic: x[", i, "] = ", x, " not above x[", i - 1,
                       "] = ", isotonic.x(i - 1)));
    }
    if (i > 0 && !(y >= isotonic.y(i - 1))) {
      return absl::InvalidArgumentError(
          absl::StrCat("isotonic: y[", i, "] = ", y, " below y[", i - 1,
                       "] = ", isotonic.y(i - 1)));
    }
  }
  return absl::OkStatus();
}

// e^bias stays a normal number, far from both ends.
constexpr double kMaxSliceBias = 100;

absl::Status CheckSliceBias(const v1::Calibrator::SliceBias& slices) {
  if (slices.field().empty()) {
    return absl::InvalidArgumentError("slice_bias: no field");
  }
  if (slices.id_size() != slices.bias_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("slice_bias: ", slices.id_size(), " ids and ",
                     slices.bias_size(), " biases"));
  }
  for (int i = 0; i < slices.id_size(); ++i) {
    if (slices.id(i) <= (i > 0 ? slices.id(i - 1) : 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("slice_bias: id[", i,
                       "] is 0 or not above the one "
                       "before"));
    }
    if (!(std::fabs(slices.bias(i)) <= kMaxSliceBias)) {
      return absl::InvalidArgumentError(
          absl::StrCat("slice_bias: bias[", i, "] = ", slices.bias(i),
                       " not in [-", kMaxSliceBias, ", ", kMaxSliceBias, "]"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Calibrator> Calibrator::Create(const v1::Calibrator& proto) {
  Calibrator result;
  const double rate = proto.negative_keep_rate();
  // Below 1e-300 the logarithm would see subnormal numbers; nobody keeps those.
  if (!(rate == 0 || (rate >= 1e-300 && rate <= 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("negative_keep_rate ", rate, " not 0 or in (0, 1]"));
  }
  if (rate > 0) result.offset_ = PortableLog(rate);
  if (proto.has_platt()) {
    result.slope_ = proto.platt().slope();
    result.intercept_ = proto.platt().intercept();
    if (!(std::isfinite(result.slope_) && result.slope_ > 0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "platt: slope ", result.slope_, " not a finite number above 0"));
    }
    if (!std::isfinite(result.intercept_)) {
      return absl::InvalidArgumentError(
          absl::StrCat("platt: intercept ", result.intercept_, " not finite"));
    }
  }
  if (proto.has_isotonic()) {
    RETURN_IF_ERROR(CheckIsotonic(proto.isotonic()));
    result.x_.assign(proto.isotonic().x().begin(), proto.isotonic().x().end());
    result.y_.assign(proto.isotonic().y().begin(), proto.isotonic().y().end());
  }
  if (proto.has_slice_bias()) {
    const v1::Calibrator::SliceBias& slices = proto.slice_bias();
    RETURN_IF_ERROR(CheckSliceBias(slices));
    result.slice_field_ = slices.field();
    result.slices_.assign(slices.id().begin(), slices.id().end());
    for (double bias : slices.bias()) {
      result.slice_factors_.push_back(PortableExp(bias));
    }
  }
  return result;
}

float Calibrator::Probability(float logit, uint64_t slice) const {
  const double z = slope_ * (static_cast<double>(logit) + offset_) + intercept_;
  const float sigmoid = Sigmoid(static_cast<float>(z));
  if (std::isnan(sigmoid)) return sigmoid;
  double p = static_cast<double>(sigmoid);
  if (!x_.empty()) p = Isotonic(p);
  if (slice != 0 && !slices_.empty()) p = Biased(p, slice);
  return static_cast<float>(p);
}

// p / (1 - p) times the factor. In this form every operation is monotone in p,
// its rounding too; p = 0 gives 1 / infinity.
double Calibrator::Biased(double p, uint64_t slice) const {
  const auto it = std::lower_bound(slices_.begin(), slices_.end(), slice);
  if (it == slices_.end() || *it != slice || p <= 0) return p;
  const double factor = slice_factors_[it - slices_.begin()];
  return 1 / (1 + (1 - p) / (factor * p));
}

// Every operation below is monotone in p, its rounding too, and no segment
// leaves [y0, y1]: so is the whole.
double Calibrator::Isotonic(double p) const {
  if (p <= x_.front()) return y_.front();
  if (p >= x_.back()) return y_.back();
  const size_t i = std::upper_bound(x_.begin(), x_.end(), p) - x_.begin();
  const double share = (p - x_[i - 1]) / (x_[i] - x_[i - 1]);
  return std::min(y_[i - 1] + share * (y_[i] - y_[i - 1]), y_[i]);
}

}  // namespace adrank
