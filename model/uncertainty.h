// How sure a model is of its weights: what exploration draws scores from.
//
// uncertainty.bin, which a bundle may have (header: model/binary_header.h):
//
//   uncertainty := header variance:bf16[rows]
//   header      := magic "ADRKVAR1", count = {rows, bits of the prior:f32, 0,
//   0}
#ifndef ADRANK_MODEL_UNCERTAINTY_H_
#define ADRANK_MODEL_UNCERTAINTY_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/model.h"

namespace adrank {

// A Gaussian posterior with independent coordinates (Chapelle and Li 2011,
// algorithm 3): the variance of each row's weight, and `prior`, that of a
// feature that was never seen. Immutable and thread-safe; views its bytes.
class Uncertainty {
 public:
  // InvalidArgument when the bytes are not whole, not aligned to 8 in memory,
  // of another number of rows or hold a variance that is not in (0, 2^20];
  // FailedPrecondition when newer.
  static absl::StatusOr<Uncertainty> Parse(absl::string_view bytes,
                                           uint64_t rows);
  // Rounds to bf16, to nearest even: to 0.4 %.
  static std::string Serialize(float prior, absl::Span<const float> variances);

  // Variance of candidate i's logit against another candidate's: of the ad's
  // features and the crosses. What the context alone adds is the same for all
  // and decides nothing. Sums variance x value^2 in entry order.
  // REQUIRES: i < features.candidates(), rows belongs to features.
  double LogitVariance(const RequestFeatures& features, const RequestRows& rows,
                       size_t i) const;

  float prior() const { return prior_; }
  // The prior's for kNoRow.
  float variance(uint32_t row) const;

 private:
  double Sum(const FeatureBatch& batch, const std::vector<uint32_t>& rows,
             size_t i) const;

  float prior_ = 0;
  absl::Span<const uint16_t> variances_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_UNCERTAINTY_H_
