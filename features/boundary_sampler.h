// Learns the boundaries of QUANTILE_BIN fields from the training data.
#ifndef ADRANK_FEATURES_BOUNDARY_SAMPLER_H_
#define ADRANK_FEATURES_BOUNDARY_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "proto/common.pb.h"
#include "proto/feature_spec.pb.h"

namespace adrank {

// Keeps a uniform sample of the numbers of every QUANTILE_BIN field that has no
// boundaries yet. The trainer's use:
//
//   ASSIGN_OR_RETURN(auto sampler, BoundarySampler::Create(spec, seed));
//   if (sampler->needed()) for (each training impression) sampler->Add(...);
//   const v1::FeatureSpec learnt = sampler->Learn();  // for Create()
//
// The same examples in the same order and the same seed give the same
// boundaries. Not thread-safe.
class BoundarySampler {
 public:
  // InvalidArgument as FeatureExtractor::Create(spec, true).
  static absl::StatusOr<std::unique_ptr<BoundarySampler>> Create(
      const v1::FeatureSpec& spec, uint64_t seed, size_t max_sample = 1 << 18);
  ~BoundarySampler();

  // False when every QUANTILE_BIN field has boundaries: Add does nothing then.
  bool needed() const;

  // One impression: every number that its unlearnt fields would bin.
  void Add(const v1::Context& context, const v1::AdSnapshot& ad,
           uint32_t position);

  // The spec with boundaries for all fields (transforms.h: LearnBoundaries).
  v1::FeatureSpec Learn() const;

 private:
  struct State;
  explicit BoundarySampler(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace adrank

#endif  // ADRANK_FEATURES_BOUNDARY_SAMPLER_H_
