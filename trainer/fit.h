// Passes of a learner over packed examples, with a look at a validation window
// after each.
#ifndef ADRANK_TRAINER_FIT_H_
#define ADRANK_TRAINER_FIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/trainer_config.pb.h"
#include "proto/training_report.pb.h"
#include "trainer/checkpoint.h"
#include "trainer/example_blocks.h"
#include "trainer/learner.h"
#include "trainer/step_progress.h"

namespace adrank {

struct FitOptions {
  uint32_t passes = 1;
  // Blocks, and examples within each, in a seeded random order: in passes after
  // the first, and in the first.
  bool shuffle = false;
  bool shuffle_first = false;
  uint64_t seed = 0;
  v1::EarlyStopping early_stopping;
  // After a pass that did not improve the metric: learning rates x 0.1, while
  // their factor is above this. 0: no plateau schedule.
  double plateau_floor = 0;
  // Over all passes: after so many blocks Fit writes a checkpoint and returns,
  // to go on in a later call. 0: at the end.
  uint64_t pause_after_blocks = 0;
  // What the progress line calls a pass, before its number.
  std::string step = "learn";
};

struct FitResult {
  // One a pass: "predict, then learn", and the validation window after it.
  std::vector<v1::Metrics> progressive;
  std::vector<v1::Metrics> validation;
  // The pass (from 0) whose state the learner has: the best with early
  // stopping, else the last.
  uint32_t best_pass = 0;
  double seconds = 0;
  // False: paused.
  bool finished = true;
};

// `validation` may be empty when neither early stopping nor a plateau asks for
// it. With `checkpoints` the learner, which is new, goes on where the
// checkpoint was written, and its result is that of a run without interruption
// but for `seconds`; checkpoints are written when they are due. Errors are the
// blocks' and the learner's. REQUIRES: checkpoints, when it pauses.
absl::StatusOr<FitResult> Fit(const FitOptions& options,
                              const ExampleBlocks& training,
                              const ExampleBlocks& validation, Learner* learner,
                              StepProgress* progress,
                              Checkpoints* checkpoints = nullptr);

// Metrics of the learner's predictions, without calibration.
absl::StatusOr<v1::Metrics> Validate(const ExampleBlocks& blocks,
                                     const Learner& learner);

}  // namespace adrank

#endif  // ADRANK_TRAINER_FIT_H_
