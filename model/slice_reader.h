// The slice of a candidate: its first feature of one field.
#ifndef ADRANK_MODEL_SLICE_READER_H_
#define ADRANK_MODEL_SLICE_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "features/feature_extractor.h"

namespace adrank {

// Reads the same slice where a calibrator is fitted and where it is applied.
// Immutable and thread-safe.
class SliceReader {
 public:
  // InvalidArgument when the spec has no such field or cross, or when its
  // features are numbers and not values.
  static absl::StatusOr<SliceReader> Create(const FeatureExtractor& extractor,
                                            const std::string& field);

  // Feature id of the first value in candidate i's row; 0 when it has none.
  uint64_t Slice(const RequestFeatures& features, size_t i) const;

 private:
  explicit SliceReader(uint16_t field) : field_(field) {}

  uint16_t field_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_SLICE_READER_H_
