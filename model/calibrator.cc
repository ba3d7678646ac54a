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
  return result;
}

float Calibrator::Probability(float logit) const {
  const double z = slope_ * (static_cast<double>(logit) + offset_) + intercept_;
  const float p = Sigmoid(static_cast<float>(z));
  if (x_.empty() || std::isnan(p)) return p;
  return static_cast<float>(Isotonic(static_cast<double>(p)));
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
