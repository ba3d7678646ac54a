// Raw logit -> calibrated probability.
#ifndef ADRANK_MODEL_CALIBRATOR_H_
#define ADRANK_MODEL_CALIBRATOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/model_manifest.pb.h"

namespace adrank {

// Compiled v1::Calibrator: down-sampling correction (He et al. 2014:
// q = p / (p + (1 - p) / w), i.e. logit += ln w), Platt or temperature,
// isotonic, bias of the slice. Monotone non-decreasing in the logit for every
// slice: calibration never reorders the ads of one. Immutable and thread-safe.
class Calibrator {
 public:
  // InvalidArgument, naming the stage, the index and the value, when a
  // parameter is out of its range or not finite.
  static absl::StatusOr<Calibrator> Create(const v1::Calibrator& proto);
  // The identity: sigmoid of the logit.
  Calibrator() = default;

  // In [0, 1]; NaN for a NaN logit. The same bits on every machine of one
  // architecture. The calibrated logit and the probability before the isotonic
  // stage are rounded to float; see Sigmoid() for why that keeps the order.
  // `slice` is the feature id of slice_field(); 0, or one that has no bias, is
  // left as it is.
  float Probability(float logit, uint64_t slice = 0) const;

  // Name of the field or cross whose features are the slices; empty: there are
  // none.
  const std::string& slice_field() const { return slice_field_; }

 private:
  double Isotonic(double p) const;
  double Biased(double p, uint64_t slice) const;

  double offset_ = 0;  // ln of the negative keep rate
  double slope_ = 1;
  double intercept_ = 0;
  std::vector<double> x_, y_;  // isotonic knots; empty: none
  std::string slice_field_;
  std::vector<uint64_t> slices_;       // sorted
  std::vector<double> slice_factors_;  // of the odds; finite and above 0
};

}  // namespace adrank

#endif  // ADRANK_MODEL_CALIBRATOR_H_
