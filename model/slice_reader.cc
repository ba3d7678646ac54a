#include "model/slice_reader.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

// The field's first id in a row, or 0.
uint64_t FirstId(const FeatureBatch& batch, size_t row, uint16_t field) {
  for (uint32_t e = batch.offsets[row]; e < batch.offsets[row + 1]; ++e) {
    if (batch.fields[e] == field) return batch.ids[e];
  }
  return 0;
}

}  // namespace

absl::StatusOr<SliceReader> SliceReader::Create(
    const FeatureExtractor& extractor, const std::string& field) {
  const auto& names = extractor.field_names();
  const auto it = std::find(names.begin(), names.end(), field);
  if (it == names.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", field, "\" is no field and no cross of the feature spec"));
  }
  for (const v1::Field& f : extractor.spec().fields()) {
    if (f.name() == field &&
        (f.kind() == v1::Field::LOG1P || f.kind() == v1::Field::IDENTITY)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", field, "\" is a number without bins"));
    }
  }
  return SliceReader(static_cast<uint16_t>(it - names.begin()));
}

uint64_t SliceReader::Slice(const RequestFeatures& features, size_t i) const {
  uint64_t id = FirstId(features.context, 0, field_);
  if (id == 0) id = FirstId(features.ads, i, field_);
  if (id == 0) id = FirstId(features.crosses, i, field_);
  return id;
}

}  // namespace adrank
