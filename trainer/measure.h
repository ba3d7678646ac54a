// The evaluation window's rows -> what the report says of the candidate. Pure.
#ifndef ADRANK_TRAINER_MEASURE_H_
#define ADRANK_TRAINER_MEASURE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "proto/trainer_config.pb.h"
#include "proto/training_report.pb.h"
#include "trainer/evaluation_scan.h"

namespace adrank {

// Fills candidate, reliability, calibration_interval, largest_logit and
// non_finite_scores of the report, and where the rows have a live model's pctrs
// also incumbent, the differences and psi. `pctr` ([rows]) is the candidate's,
// calibrated.
void MeasureQuality(const v1::EvaluationConfig& config, uint64_t seed,
                    const EvaluationRows& rows, absl::Span<const float> pctr,
                    v1::TrainingReport* report);

// `stored` and `exact`: raw logits of the same rows.
v1::StorageLoss MeasureStorage(absl::Span<const float> stored,
                               absl::Span<const float> exact,
                               absl::Span<const uint8_t> labels);

}  // namespace adrank

#endif  // ADRANK_TRAINER_MEASURE_H_
