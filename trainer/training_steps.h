// One run of the trainer, step by step. Internal to training_run.
#ifndef ADRANK_TRAINER_TRAINING_STEPS_H_
#define ADRANK_TRAINER_TRAINING_STEPS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
#include "storage/event_log_reader.h"
#include "trainer/checkpoint.h"
#include "trainer/evaluation_scan.h"
#include "trainer/make_learner.h"
#include "trainer/memory_budget.h"
#include "trainer/sample_rows.h"
#include "trainer/training_run.h"
#include "trainer/training_scan.h"
#include "trainer/vocabulary_plan.h"
#include "trainer/windows.h"

namespace adrank {

// What the steps share. They are defined in the order in which they are taken:
// up to the packed examples in prepare_steps.cc, learning and publishing in
// training_run.cc, the evaluation in evaluation_steps.cc. One thread.
class TrainingRun {
 public:
  TrainingRun(const v1::TrainerConfig& config, StepProgress* progress,
              const std::function<void(const char*)>& step)
      : config_(config),
        progress_(progress),
        step_(step),
        budget_(PlanMemory(config)),
        store_(config.model_dir(), config.model_name()) {
    report_.set_model_name(config.model_name());
    report_.mutable_memory()->set_budget_bytes(budget_.total);
    labels_.attribution_window_ms =
        int64_t{1000} * config.data().attribution_window_s();
    labels_.served_is_seen = config.data().served_is_seen();
  }

  // Each step may find that there is nothing to do further: it sets the
  // verdict.
  absl::StatusOr<v1::TrainingReport> Go() {
    using Step = absl::Status (TrainingRun::*)();
    const std::vector<Step> steps =
        config_.evaluate_only()
            ? std::vector<Step>{&TrainingRun::OpenLog,
                                &TrainingRun::LoadIncumbent,
                                &TrainingRun::CutWindows,
                                &TrainingRun::CompileSlices,
                                &TrainingRun::ScoreLive,
                                &TrainingRun::Measure,
                                &TrainingRun::EndEvaluation}
            : std::vector<Step>{
                  &TrainingRun::OpenLog,    &TrainingRun::LoadIncumbent,
                  &TrainingRun::CutWindows, &TrainingRun::CompileSpec,
                  &TrainingRun::Extract,    &TrainingRun::Pack,
                  &TrainingRun::Learn,      &TrainingRun::Score,
                  &TrainingRun::Measure,    &TrainingRun::Publish};
    for (Step step : steps) {
      RETURN_IF_ERROR((this->*step)());
      if (report_.verdict() != v1::TrainingReport::VERDICT_UNSPECIFIED) break;
    }
    if (!config_.evaluate_only()) Checkpoints(CheckpointPlan()).Remove();
    return std::move(report_);
  }

  // See PackLog.
  absl::StatusOr<v1::TrainingReport> PackFor(
      const std::function<absl::Status(const PackedLog&)>& use) {
    for (auto step : {&TrainingRun::OpenLog, &TrainingRun::CutWindows,
                      &TrainingRun::CompileSpec, &TrainingRun::Extract,
                      &TrainingRun::Pack, &TrainingRun::PackValidation}) {
      RETURN_IF_ERROR((this->*step)());
      if (report_.verdict() != v1::TrainingReport::VERDICT_UNSPECIFIED) {
        return std::move(report_);
      }
    }
    ASSIGN_OR_RETURN(const FieldLayout layout, LayoutOf(extractor_->spec()));
    RETURN_IF_ERROR(use({layout, plan_->rows(), *packed_, *validation_}));
    return std::move(report_);
  }

 private:
  absl::Status Nothing(std::string reason) {
    report_.set_verdict(v1::TrainingReport::NOTHING_TO_TRAIN);
    report_.add_reasons(std::move(reason));
    return absl::OkStatus();
  }
  void Note(std::string note) {
    LOG(WARNING) << note;
    report_.add_notes(std::move(note));
  }
  bool calibrates() const {
    return config_.calibration().method() != v1::CalibrationConfig::NONE;
  }
  absl::Status InLog(const absl::Status& status) const {
    return Annotate(status, absl::StrCat("event log ", config_.data_dir()));
  }
  void End(const char* step, uint64_t rows, absl::string_view note = "") {
    (*report_.mutable_seconds())[step] = progress_->End(rows, note);
    ReportPeak(step);
  }
  void ReportPeak(const char* step) {
    (*report_.mutable_memory()->mutable_peak_resident_bytes())[step] =
        PeakResidentBytes();
  }

  absl::Status OpenLog();
  absl::Status LoadIncumbent();
  absl::Status CutWindows();
  absl::Status CheckWindow(absl::string_view name, int64_t begin_ms,
                           int64_t end_ms);
  absl::Status CutUnripe();
  absl::Status CompileSpec();
  absl::Status CompileSlices();
  TrainingScanOptions ScanOptions() const;
  absl::Status CountInFilter();
  absl::Status Extract();
  absl::Status Pack();
  absl::Status PackValidation();
  absl::Status ContinueLearner();
  absl::Status Learn();
  CheckpointOptions CheckpointPlan() const;
  absl::Status FreezeContents();
  absl::Status Score();
  absl::Status ScoreLive();
  absl::Status CompareStorage();
  absl::Status Scan(const ModelBundle& candidate, const ModelBundle* incumbent,
                    const std::string& slice_field);
  absl::Status Calibrate();
  absl::Status Golden(const ModelBundle& candidate);
  void MeasureDrift(const ModelBundle& candidate);
  void ApplyCalibrator(const Calibrator& calibrator);
  absl::Status Measure();
  absl::Status MeasureSlices();
  absl::Status MeasureImportance(const ModelBundle& model,
                                 const Calibrator& calibrator);
  void NameTheFeatures(const ModelBundle& model,
                       const std::vector<SampledRow>& sample);
  absl::Status CheckFingerprints();
  absl::Status Publish();
  absl::Status EndEvaluation();
  ExampleBlocksOptions Blocks() const;

  // Constant after construction.
  const v1::TrainerConfig& config_;
  StepProgress* const progress_;
  const std::function<void(const char*)>& step_;
  const MemoryBudget budget_;
  const ModelStore store_;
  LabelOptions labels_;

  v1::TrainingReport report_;
  // Set by the steps, in their order.
  std::unique_ptr<EventLogReader> reader_;
  absl::TimeZone zone_;
  std::shared_ptr<const ModelBundle> incumbent_;
  std::optional<std::string> optimizer_state_;  // of a warm start
  Windows windows_;
  uint64_t counted_ = 0;  // examples of all windows, about; 0: not counted
  std::unique_ptr<const FeatureExtractor> extractor_;
  std::unique_ptr<IdFilter> filter_;  // null without one
  IdAdmission admission_;             // of filter_
  std::unique_ptr<IdTable> ids_;      // until the examples are packed
  std::optional<TrainingRows> rows_;
  std::optional<VocabularyPlan> plan_;
  std::optional<ExampleBlocks> packed_;
  std::optional<ExampleBlocks> validation_;
  std::unique_ptr<Learner> learner_;
  BundleContents contents_;
  std::unique_ptr<const FeatureExtractor> slices_;
  EvaluationData scored_;
  std::vector<float> pctr_;  // candidate's, calibrated
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_TRAINING_STEPS_H_
