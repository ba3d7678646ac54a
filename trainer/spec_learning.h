// From the configured feature spec to the one that is trained: quantile
// boundaries learnt, or continued from the live model.
#ifndef ADRANK_TRAINER_SPEC_LEARNING_H_
#define ADRANK_TRAINER_SPEC_LEARNING_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "proto/feature_spec.pb.h"
#include "storage/event_log_reader.h"
#include "trainer/label_joiner.h"
#include "trainer/windows.h"

namespace adrank {

// The configured spec with the incumbent's boundaries where it has none of its
// own and the fields are otherwise the same.
v1::FeatureSpec WithBoundariesOf(const v1::FeatureSpec& incumbent,
                                 v1::FeatureSpec spec);

// Whether a model of `a` may be continued with `b`: the same features.
// (min_count may differ: it says which of them get a row.)
bool SameFeatures(const v1::FeatureSpec& a, const v1::FeatureSpec& b);

// Whether some QUANTILE_BIN field has no boundaries.
bool HasUnlearntBins(const v1::FeatureSpec& spec);

// Examples of [begin_ms, end_ms) by time, without parsing a decision: events of
// test traffic and orphan positions are counted with the others.
absl::StatusOr<TimeHistogram> CountExamples(EventLogReader* reader,
                                            int64_t begin_ms, int64_t end_ms,
                                            bool served_is_seen);

// Examples that are looked at for boundaries, about.
inline constexpr uint64_t kBoundaryExamples = 200'000;

// Learns the missing boundaries from the seen ads of about kBoundaryExamples of
// the `examples` examples of [begin_ms, end_ms): those of decisions that the
// hash of id and seed picks.
absl::StatusOr<v1::FeatureSpec> LearnSpec(EventLogReader* reader,
                                          const v1::FeatureSpec& spec,
                                          int64_t begin_ms, int64_t end_ms,
                                          uint64_t examples,
                                          const LabelOptions& labels,
                                          uint64_t seed);

}  // namespace adrank

#endif  // ADRANK_TRAINER_SPEC_LEARNING_H_
