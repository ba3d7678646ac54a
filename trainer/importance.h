// How much worse the model gets when one thing it looks at is shuffled.
#ifndef ADRANK_TRAINER_IMPORTANCE_H_
#define ADRANK_TRAINER_IMPORTANCE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/calibrator.h"
#include "model/model_bundle.h"
#include "proto/training_report.pb.h"
#include "trainer/sample_rows.h"

namespace adrank {

// Permutation importance (Breiman 2001, section 10; model-agnostic as in
// Fisher, Rudin and Dominici 2019) of everything that the spec reads: user_id,
// context.device, ad.category... Each in turn gets, in every row, the value
// that another row has, by one seeded permutation; fields and crosses are
// extracted again, so what depends on the source moves with it. Largest first.
//
// Sources that say nearly the same stand in for each other: each looks
// unimportant then. `calibrator` instead of the bundle's own. A pure function
// of its arguments, whatever the number of threads. InvalidArgument when the
// calibrator's slices are not those of the model's spec.
absl::StatusOr<std::vector<v1::FeatureImportance>> PermutationImportance(
    const ModelBundle& model, const Calibrator& calibrator,
    absl::Span<const SampledRow> sample, uint64_t seed, uint32_t threads);

}  // namespace adrank

#endif  // ADRANK_TRAINER_IMPORTANCE_H_
