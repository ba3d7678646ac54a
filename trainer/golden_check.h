// What a candidate answers to its golden requests before it is published.
#ifndef ADRANK_TRAINER_GOLDEN_CHECK_H_
#define ADRANK_TRAINER_GOLDEN_CHECK_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/calibrator.h"
#include "model/model_bundle.h"
#include "proto/model_manifest.pb.h"
#include "proto/training_report.pb.h"

namespace adrank {

// Asks `candidate`, calibrated by `calibrator` instead of its own, and `live`
// (may be null) every request as a server would, ads at kServingPosition. The
// time is that of one thread's CPU, features and scores together, on tables
// that are warm. InvalidArgument when the calibrator's slices are not those of
// the candidate's spec.
absl::StatusOr<v1::GoldenCheck> CheckGolden(
    const ModelBundle& candidate, const Calibrator& calibrator,
    const ModelBundle* live, absl::Span<const v1::GoldenExample> requests);

}  // namespace adrank

#endif  // ADRANK_TRAINER_GOLDEN_CHECK_H_
