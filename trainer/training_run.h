// One night's work: join, extract, learn, calibrate, evaluate, gate, publish.
#ifndef ADRANK_TRAINER_TRAINING_RUN_H_
#define ADRANK_TRAINER_TRAINING_RUN_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "model/graph.h"
#include "proto/trainer_config.pb.h"
#include "proto/training_report.pb.h"
#include "trainer/example_blocks.h"
#include "trainer/step_progress.h"

namespace adrank {

// Files that a trainer adds to a bundle.
inline constexpr char kOptimizerFile[] = "optimizer.bin";
inline constexpr char kReportFile[] = "report.json";
// Of a run that was killed, in the model's folder.
inline constexpr char kCheckpointFile[] = ".checkpoint";
// Reports of the last run and the last evaluate_only run, in the model's
// folder.
inline constexpr char kLastReportFile[] = "last_report.json";
inline constexpr char kLastEvaluationFile[] = "last_evaluation.json";

// Runs the resolved config (config.h) to a verdict: a new version is published,
// or the live model stays and the report says why (or how good it is, with
// evaluate_only). Not OK: nothing was
// published (but see ModelStore::Publish), the status says what failed, with
// the path of a damaged or missing log.
//
// The bytes of a published bundle are a function of the log's content, the
// config (without threads and directories) and the live bundle.
//
// `step` is called after every block that is learnt, when its checkpoint is
// written if one was due, and goes to ModelStore::Publish.
absl::StatusOr<v1::TrainingReport> RunTraining(
    const v1::TrainerConfig& config, StepProgress* progress,
    const std::function<void(const char*)>& step = {});

// What trials of a search learn from; valid while it is passed on.
struct PackedLog {
  const FieldLayout& fields;
  uint64_t rows;  // of the model
  const ExampleBlocks& training;
  const ExampleBlocks& validation;  // of the calibration window
};

// The same as far as packing, from scratch, then `use`. The report has a verdict
// when there was nothing to train. REQUIRES: config.has_search().
absl::StatusOr<v1::TrainingReport> PackLog(
    const v1::TrainerConfig& config, StepProgress* progress,
    const std::function<absl::Status(const PackedLog&)>& use);

}  // namespace adrank

#endif  // ADRANK_TRAINER_TRAINING_RUN_H_
