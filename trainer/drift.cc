#include "trainer/drift.h"

#include <algorithm>
#include <limits>

namespace adrank {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Of the field's place in the manifest; NaN when the manifest does not say.
double At(const google::protobuf::RepeatedField<float>& shares, size_t field) {
  return field < static_cast<size_t>(shares.size())
             ? static_cast<double>(shares.Get(static_cast<int>(field)))
             : kNan;
}

}  // namespace

double OovShare(const FieldCounts& counts) {
  return counts.features == 0 ? 0
                              : static_cast<double>(counts.unknown) /
                                    static_cast<double>(counts.features);
}

std::vector<v1::FieldDrift> FieldDrifts(
    const NamedManifest& candidate, absl::Span<const FieldCounts> evaluation,
    uint64_t rows, const NamedManifest* live) {
  std::vector<v1::FieldDrift> drifts;
  for (size_t f = 0; f < candidate.fields.size(); ++f) {
    v1::FieldDrift& drift = drifts.emplace_back();
    drift.set_field(candidate.fields[f]);
    drift.set_training_coverage(At(candidate.manifest.field_coverage(), f));
    drift.set_evaluation_coverage(static_cast<double>(evaluation[f].present) /
                                  static_cast<double>(rows));
    drift.set_oov(OovShare(evaluation[f]));
    drift.set_live_coverage(kNan);
    drift.set_live_oov(kNan);
    if (live == nullptr) continue;
    const auto it = std::find(live->fields.begin(), live->fields.end(),
                              candidate.fields[f]);
    if (it == live->fields.end()) continue;
    const auto place = static_cast<size_t>(it - live->fields.begin());
    drift.set_live_coverage(At(live->manifest.field_coverage(), place));
    drift.set_live_oov(At(live->manifest.field_oov(), place));
  }
  return drifts;
}

}  // namespace adrank
