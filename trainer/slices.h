// The report's rows by value: how good the model is for each device, each
// advertiser...
#ifndef ADRANK_TRAINER_SLICES_H_
#define ADRANK_TRAINER_SLICES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "features/feature_extractor.h"
#include "proto/feature_spec.pb.h"
#include "proto/trainer_config.pb.h"
#include "proto/training_report.pb.h"
#include "storage/event_log_reader.h"
#include "trainer/evaluation_scan.h"

namespace adrank {

// The spec's zone; InvalidArgument when there is no such zone.
absl::StatusOr<absl::TimeZone> SpecTimeZone(const v1::FeatureSpec& spec);

// A spec of one field a slice: the named field itself (an hour, a learnt bin, a
// token), else the attribute of that name as a category. So the values of
// slices are what the features layer says they are. InvalidArgument names the
// slice.
absl::StatusOr<v1::FeatureSpec> ResolveSlices(
    const v1::EvaluationConfig& config, const v1::FeatureSpec& spec);

// More values of one slice than this share the row "other" whatever their size.
inline constexpr size_t kMaxSliceValues = 1000;

// Metrics of candidate and incumbent (empty span: none) for every value with at
// least config.min_slice_examples examples, largest first, then "other"
// (smaller values; a row may count in several) and "(absent)" if they occur.
// `extractor` is that of ResolveSlices' spec; values are read back from the
// log.
absl::StatusOr<std::vector<v1::Slice>> ComputeSlices(
    const v1::EvaluationConfig& config, const FeatureExtractor& extractor,
    const EvaluationRows& rows, absl::Span<const float> candidate_pctr,
    EventLogReader* reader);

}  // namespace adrank

#endif  // ADRANK_TRAINER_SLICES_H_
