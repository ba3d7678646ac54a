// The inputs that a bundle proves itself with wherever it is loaded.
#ifndef ADRANK_TRAINER_GOLDEN_CHOICE_H_
#define ADRANK_TRAINER_GOLDEN_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/model_manifest.pb.h"
#include "storage/decision_id.h"
#include "storage/event_log_reader.h"

namespace adrank {

inline constexpr size_t kGoldenDecisions = 16;
// Ads of one example at most.
inline constexpr int kGoldenAds = 64;

// Inputs without answers: the decisions that the hash of id and seed picks,
// with the ads of one placement; then the edges: the first of them with an ad
// that nothing is known of, and an empty context with that ad. Never empty. The
// choice depends on the set of `decisions` alone.
absl::StatusOr<std::vector<v1::GoldenExample>> ChooseGolden(
    absl::Span<const DecisionId> decisions, uint64_t seed,
    EventLogReader* reader);

}  // namespace adrank

#endif  // ADRANK_TRAINER_GOLDEN_CHOICE_H_
