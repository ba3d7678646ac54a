// How the fields of today differ from those that the live model knew. Pure.
#ifndef ADRANK_TRAINER_DRIFT_H_
#define ADRANK_TRAINER_DRIFT_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/model_manifest.pb.h"
#include "proto/training_report.pb.h"
#include "trainer/evaluation_scan.h"

namespace adrank {

// A manifest with the names of its fields and crosses, in its order
// (FeatureExtractor::field_names()).
struct NamedManifest {
  const v1::ModelManifest& manifest;
  absl::Span<const std::string> fields;
};

// Share of the field's features that the vocabulary lacks; 0 when it has none.
double OovShare(const FieldCounts& counts);

// One row a field of `candidate`, whose `evaluation` window had `rows` rows.
// Fields are matched with those of `live` (may be null) by name.
std::vector<v1::FieldDrift> FieldDrifts(
    const NamedManifest& candidate, absl::Span<const FieldCounts> evaluation,
    uint64_t rows, const NamedManifest* live);

}  // namespace adrank

#endif  // ADRANK_TRAINER_DRIFT_H_
