// weights.bin of the logistic family (header: model/binary_header.h):
//
//   weights := header weight:f32[rows]
//   header  := magic "ADRKWGT1", count = {rows, bits of the bias:f32, 0, 0}
#ifndef ADRANK_MODEL_WEIGHTS_FILE_H_
#define ADRANK_MODEL_WEIGHTS_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace adrank {

// Views the bytes it was parsed from.
struct LogisticWeights {
  float bias = 0;
  absl::Span<const float> weights;
};

// InvalidArgument with the name, index and value of the first that is not
// finite.
absl::Status CheckFinite(const LogisticWeights& weights);

std::string SerializeWeights(const LogisticWeights& weights);

// InvalidArgument when the bytes are not whole weights, not aligned to 8 in
// memory or hold one that is not finite; FailedPrecondition when newer.
absl::StatusOr<LogisticWeights> ParseWeights(absl::string_view bytes);

}  // namespace adrank

#endif  // ADRANK_MODEL_WEIGHTS_FILE_H_
