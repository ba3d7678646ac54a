// FTRL-Proximal logistic regression: the logistic Learner.
#ifndef ADRANK_TRAINER_FTRL_H_
#define ADRANK_TRAINER_FTRL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/trainer_config.pb.h"
#include "trainer/learner.h"

namespace adrank {

struct FtrlOptions {
  // Per-coordinate rate alpha / (beta + sqrt(n)). alpha > 0, beta >= 0; not
  // both beta and l2 may be 0.
  double alpha = 0.05;
  double beta = 1;
  // >= 0. Not applied to the bias.
  double l1 = 0;
  double l2 = 0;
  // Largest mini-batch, in [1, 4096]; see FtrlLearner. 1: strictly one example
  // at a time.
  uint32_t max_batch = 256;
  // Bias before the first example, for example the logit of the base rate.
  // Finite.
  double initial_bias = 0;
  // 0: all cores. No effect on what is learnt.
  uint32_t threads = 1;
};

// The options of a config, its zeros replaced by the defaults it documents.
FtrlOptions FtrlOptionsFrom(const v1::LogisticConfig& config, uint32_t threads);

// InvalidArgument names the option out of its range.
absl::Status CheckFtrlOptions(const FtrlOptions& options, uint64_t rows);

// What a LogisticModel and a bundle need.
struct FrozenLogistic {
  std::vector<float> weights;  // [rows]
  float bias = 0;
  uint64_t nonzero = 0;
  // [rows] 1 / (1 / prior_variance + n): n, the sum of squared gradients, is
  // the diagonal of the log-likelihood's curvature (the empirical Fisher
  // information). After several passes each example counts as often.
  std::vector<float> variances;
  // What a weight is before it is seen: the mean square of the weights with
  // n >= 1, in [0.01, 100]; 1 without any.
  float prior_variance = 1;
};

// McMahan et al. 2013, Algorithm 1, for every coordinate of an example with
// gradient g = weight * (p - label) * value:
//
//   w     = 0 if |z| <= l1 else -(z - sgn(z) l1) / ((beta + sqrt n)/alpha + l2)
//   sigma = (sqrt(n + g^2) - sqrt(n)) / alpha
//   z    += g - sigma w;  n += g^2
//
// L2 enters here only, not in g. The bias is a coordinate of value 1 with
// l1 = l2 = 0.
//
// Mini-batches: the p of the examples of a batch are computed with the weights
// before the batch; then each coordinate takes their gradients one by one in
// example order, as above. The batch that starts after t examples has
// clamp(isqrt(t) / 4, 1, max_batch) examples, less at the end of an Update:
// with the per-coordinate rate ~ alpha / sqrt(t) this keeps rate x batch, and
// so what the delay costs, bounded from the first example on (measured in
// ftrl_test.cc); a small log is learnt nearly one example at a time.
//
// Threads own coordinates, not examples: each computes its share of the batch's
// logits, they exchange the partial sums, each updates its own coordinates.
// Each product w x value is rounded to a multiple of 2^-30, which makes the
// sums exact in double in any order, hence the same bits for any number of
// threads.
//
// State is float z and n, 8 bytes a row.
class FtrlLearner : public Learner {
 public:
  // All weights 0. InvalidArgument names the option out of its range.
  static absl::StatusOr<std::unique_ptr<FtrlLearner>> Create(
      const FtrlOptions& options, uint64_t rows);
  ~FtrlLearner() override;

  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order = {}) override;
  // float(bias + sum in entry order in double), as LogisticModel with all
  // entries in one part.
  absl::Status Predict(const ExampleBlock& block,
                       absl::Span<float> logits) const override;
  v1::Metrics Progress() const override;
  void ResetProgress() override;
  ProgressMeter Meter() const override;
  void SetMeter(const ProgressMeter& meter) override;

  // state := magic "AXFTRL01", u64 rows, u64 examples seen, f64 bias z,
  //          f64 bias n, f64 initial bias, (f32 z, f32 n)[rows],
  //          u64 XXH3-64 of all bytes before
  std::string Save() const override;
  // Replaces rows() by the state's; the options stay this learner's. z and n of
  // other options are accepted: a changed alpha takes effect from here on.
  absl::Status Restore(absl::string_view state) override;
  absl::Status CheckFinite() const override;

  absl::Status Remap(absl::Span<const uint32_t> source) override;
  void FreezeInto(BundleContents* contents) const override;
  // Keeps all rows in place and adds new ones at the end.
  // REQUIRES: rows >= rows().
  absl::Status Grow(uint64_t rows);

  FrozenLogistic Freeze() const;

  uint64_t rows() const;
  // Examples learnt so far, over all passes and restores.
  uint64_t examples() const;

 private:
  class Impl;
  explicit FtrlLearner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_FTRL_H_
