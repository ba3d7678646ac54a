// The one pass over the training window: join, label, sample, extract, pack.
#ifndef ADRANK_TRAINER_TRAINING_SCAN_H_
#define ADRANK_TRAINER_TRAINING_SCAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "features/feature_extractor.h"
#include "proto/training_report.pb.h"
#include "storage/event_log_reader.h"
#include "trainer/example_blocks.h"
#include "trainer/id_filter.h"
#include "trainer/id_table.h"
#include "trainer/label_joiner.h"
#include "trainer/step_progress.h"

namespace adrank {

struct TrainingScanOptions {
  int64_t begin_ms = 0;
  int64_t end_ms = 0;
  LabelOptions labels;
  // Share of the negatives that are kept.
  double negative_keep_rate = 1;
  uint64_t seed = 0;
  uint32_t threads = 1;
  ExampleBlocksOptions blocks;
};

struct TrainingRows {
  // The kept examples in the order of the log; rows are handles of the IdTable.
  ExampleBlocks raw;
  v1::JoinCounts join;
  // All examples of the window, kept or not, and their clicks.
  uint64_t seen = 0;
  uint64_t seen_clicks = 0;
  // [fields] kept examples in which the field is present.
  std::vector<uint64_t> present;
  // Times of the first and last decision with a kept example.
  int64_t first_ms = 0;
  int64_t last_ms = 0;
};

// Features are extracted at the logged position. A negative is kept when the
// hash of its decision id, position and the seed says so; every click is kept.
// `ids` gets the features of the kept examples and the day of each; entries of
// ids that it does not admit are left out. The result does not depend on the
// number of threads, but for the handles. DataLoss for a damaged log,
// ResourceExhausted when `ids` is full.
absl::StatusOr<TrainingRows> ScanTraining(EventLogReader* reader,
                                          const FeatureExtractor& extractor,
                                          const TrainingScanOptions& options,
                                          IdTable* ids, StepProgress* progress);

// Adds the features of the examples that ScanTraining would keep to `filter`.
// Returns the number of these examples.
absl::StatusOr<uint64_t> CountIds(EventLogReader* reader,
                                  const FeatureExtractor& extractor,
                                  const TrainingScanOptions& options,
                                  IdFilter* filter, StepProgress* progress);

}  // namespace adrank

#endif  // ADRANK_TRAINER_TRAINING_SCAN_H_
