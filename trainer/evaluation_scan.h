// The pass over the calibration and evaluation windows: every seen ad, scored
// by the candidate and by the live model as the server would score it.
#ifndef ADRANK_TRAINER_EVALUATION_SCAN_H_
#define ADRANK_TRAINER_EVALUATION_SCAN_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "features/feature_extractor.h"
#include "model/model_bundle.h"
#include "model/slice_reader.h"
#include "proto/training_report.pb.h"
#include "storage/decision_id.h"
#include "storage/event_log_reader.h"
#include "trainer/label_joiner.h"
#include "trainer/step_progress.h"
#include "trainer/windows.h"

namespace adrank {

struct EvaluationScanOptions {
  // Reads [train_end, evaluation_end).
  Windows windows;
  LabelOptions labels;
  // Groups are users (a user without id: each decision its own), else
  // decisions.
  bool group_by_user = true;
  // Of the candidate's extractor: which slice of a calibrator a row is in.
  std::optional<SliceReader> calibration_slice;
  uint32_t threads = 1;
};

// Columns in the order of the log.
struct CalibrationRows {
  std::vector<float> logits;  // candidate's, raw
  std::vector<uint8_t> labels;
  std::vector<uint64_t> slices;  // empty without calibration_slice
};

// One value of one slice that a row belongs to.
struct SliceValue {
  uint16_t slice = 0;  // index into the slice extractor's fields
  uint64_t id = 0;
};

struct EvaluationRows {
  std::vector<float> logits;          // candidate's, raw
  std::vector<float> incumbent_pctr;  // empty without one
  std::vector<uint64_t> slices;       // empty without calibration_slice
  std::vector<uint8_t> labels;
  std::vector<uint64_t> groups;
  // Row r is ad ads[r] (index into Decision.ads) of decisions[decision[r]].
  std::vector<uint32_t> decision;
  std::vector<uint16_t> ads;
  // Row r has slice_values[slice_ends[r - 1] .. slice_ends[r]).
  std::vector<size_t> slice_ends;
  std::vector<SliceValue> slice_values;
  std::vector<DecisionId> decisions;

  size_t size() const { return labels.size(); }
};

// Of one field of the candidate's, over the rows of the evaluation window.
struct FieldCounts {
  uint64_t present = 0;   // rows that have it
  uint64_t features = 0;  // of all rows
  uint64_t unknown = 0;   // of them, those that the vocabulary lacks
};

struct EvaluationData {
  CalibrationRows calibration;
  EvaluationRows evaluation;
  v1::JoinCounts join;
  std::vector<FieldCounts> fields;  // [FeatureExtractor::field_names()]
  // Rows of the evaluation window that the incumbent version served and that
  // carry a fingerprint, and those whose recomputed serving row (at
  // kServingPosition) has another.
  uint64_t fingerprints_checked = 0;
  uint64_t fingerprints_differing = 0;

  // Of the columns: 31 bytes a row of the evaluation window (with an
  // incumbent), 16 a slice value, 16 a decision; 5 a row of calibration.
  uint64_t bytes() const;
};

// `incumbent` and `slices` may be null. Each model sees features of its own
// bundle's extractor at the logged position (the position is a bias that the
// label was subject to). The result does not depend on the number of threads.
absl::StatusOr<EvaluationData> ScanEvaluation(
    EventLogReader* reader, const ModelBundle& candidate,
    const ModelBundle* incumbent, const FeatureExtractor* slices,
    const EvaluationScanOptions& options, StepProgress* progress);

}  // namespace adrank

#endif  // ADRANK_TRAINER_EVALUATION_SCAN_H_
