// Raw logit -> calibrated probability.
#ifndef ADRANK_MODEL_CALIBRATOR_H_
#define ADRANK_MODEL_CALIBRATOR_H_

#include <vector>

#include "absl/status/statusor.h"
#include "proto/model_manifest.pb.h"

namespace adrank {

// Compiled v1::Calibrator: down-sampling correction (He et al. 2014:
// q = p / (p + (1 - p) / w), i.e. logit += ln w), Platt, isotonic. Monotone
// non-decreasing: calibration never reorders ads. Immutable and thread-safe.
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
  float Probability(float logit) const;

 private:
  double Isotonic(double p) const;

  double offset_ = 0;  // ln of the negative keep rate
  double slope_ = 1;
  double intercept_ = 0;
  std::vector<double> x_, y_;  // isotonic knots; empty: none
};

}  // namespace adrank

#endif  // ADRANK_MODEL_CALIBRATOR_H_
