// How much worse the model gets when one thing it looks at is shuffled.
#ifndef ADRANK_TRAINER_IMPORTANCE_H_
#define ADRANK_TRAINER_IMPORTANCE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/calibrator.h"
#include "model/model_bundle.h"
#include "proto/training_report.pb.h"
#include "storage/event_log_reader.h"
#include "trainer/evaluation_scan.h"

namespace adrank {

struct ImportanceOptions {
  // Of the evaluation window, chosen by seed; at most.
  size_t rows = 4000;
  uint64_t seed = 1;
  uint32_t threads = 1;
};

// Permutation importance (Breiman 2001, section 10; model-agnostic as in
// Fisher, Rudin and Dominici 2019) of everything that the spec reads: user_id,
// context.device, ad.category... Each in turn gets, in every row, the value
// that another row has, by one seeded permutation; fields and crosses are
// extracted again, so what depends on the source moves with it. Largest first.
//
// Sources that say nearly the same stand in for each other: each looks
// unimportant then. `calibrator` instead of the bundle's own. A pure function
// of its arguments, whatever the number of threads. Errors are the reader's.
absl::StatusOr<std::vector<v1::FeatureImportance>> PermutationImportance(
    const ModelBundle& model, const Calibrator& calibrator,
    const EvaluationRows& rows, const ImportanceOptions& options,
    EventLogReader* reader);

}  // namespace adrank

#endif  // ADRANK_TRAINER_IMPORTANCE_H_
