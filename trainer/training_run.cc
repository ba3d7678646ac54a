#include "trainer/training_run.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/files.h"
#include "trainer/expiry.h"
#include "trainer/fit.h"
#include "trainer/gate.h"
#include "trainer/report.h"
#include "trainer/spec_learning.h"
#include "trainer/training_steps.h"

namespace adrank {

// From the parent's optimizer state, or cold when it is of another family,
// graph or optimizer.
absl::Status TrainingRun::ContinueLearner() {
  const absl::Status restored = learner_->Restore(*optimizer_state_);
  optimizer_state_.reset();
  if (absl::IsFailedPrecondition(restored)) {
    Note(absl::StrCat("cold start: version ", report_.parent_version(), ": ",
                      restored.message()));
    report_.set_parent_version(0);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Annotate(restored, absl::StrCat("optimizer state of version ",
                                                  report_.parent_version())));
  RETURN_IF_ERROR(learner_->Remap(plan_->sources()));
  learner_->Begin(packed_->examples() * FitOptionsOf(config_).passes);
  return absl::OkStatus();
}

absl::Status TrainingRun::Learn() {
  RETURN_IF_ERROR(PackValidation());
  ASSIGN_OR_RETURN(const FieldLayout layout, LayoutOf(extractor_->spec()));
  ASSIGN_OR_RETURN(learner_,
                   MakeLearner(config_, layout, plan_->rows(), *packed_));
  const FitOptions fit = FitOptionsOf(config_);
  if (optimizer_state_) RETURN_IF_ERROR(ContinueLearner());
  CheckpointOptions plan = CheckpointPlan();
  plan.fingerprint = TrainingFingerprint(
      config_,
      absl::StrJoin({windows_.train_begin_ms, windows_.train_end_ms,
                     windows_.calibration_end_ms, windows_.evaluation_end_ms,
                     report_.incumbent_version(), report_.parent_version()},
                    " "),
      *packed_, *validation_);
  Checkpoints checkpoints(std::move(plan));
  ASSIGN_OR_RETURN(FitResult result,
                   Fit(fit, *packed_, *validation_, learner_.get(), progress_,
                       config_.checkpoint().off() ? nullptr : &checkpoints));
  for (v1::Metrics& m : result.progressive) {
    *report_.add_progressive() = std::move(m);
  }
  for (v1::Metrics& m : result.validation) {
    *report_.add_validation() = std::move(m);
  }
  if (!result.validation.empty()) report_.set_best_pass(result.best_pass + 1);
  (*report_.mutable_seconds())["learn"] = result.seconds;
  ReportPeak("learn");
  packed_.reset();
  validation_.reset();
  const absl::Status finite = learner_->CheckFinite();
  if (!finite.ok()) {
    report_.set_verdict(v1::TrainingReport::KEPT);
    report_.add_reasons(
        absl::StrCat("the learnt weights are not finite: ", finite.message()));
    return absl::OkStatus();
  }
  return FreezeContents();
}

CheckpointOptions TrainingRun::CheckpointPlan() const {
  CheckpointOptions options;
  options.path = files::Join(
      files::Join(config_.model_dir(), config_.model_name()), kCheckpointFile);
  options.every = absl::Seconds(config_.checkpoint().every_s());
  options.every_blocks = config_.checkpoint().every_blocks();
  if (step_) options.learnt = [this] { step_("learnt a block"); };
  return options;
}

absl::Status TrainingRun::FreezeContents() {
  learner_->FreezeInto(&contents_);
  contents_.manifest.set_embedding_storage(config_.embedding().storage());
  const std::vector<float>& weights =
      contents_.embedding ? contents_.embedding->linear : contents_.weights;
  report_.set_nonzero_weights(static_cast<uint64_t>(std::count_if(
      weights.begin(), weights.end(), [](float w) { return w != 0; })));
  contents_.ids = plan_->ids();
  contents_.oov_rows = plan_->oov_rows();
  ASSIGN_OR_RETURN(const int64_t version, store_.NextVersion());
  v1::ModelManifest& manifest = contents_.manifest;
  manifest.set_model_name(config_.model_name());
  manifest.set_version(version);
  *manifest.mutable_feature_spec() = extractor_->spec();
  manifest.set_base_rate(static_cast<double>(rows_->seen_clicks) /
                         static_cast<double>(rows_->seen));
  manifest.set_first_example_ms(rows_->first_ms);
  manifest.set_last_example_ms(rows_->last_ms);
  manifest.set_examples(report_.training_examples());
  manifest.set_clicks(rows_->seen_clicks);
  manifest.set_parent_version(report_.parent_version());
  manifest.set_vocabulary_rows(plan_->rows());
  manifest.set_seed(config_.seed());
  for (uint64_t present : rows_->present) {
    manifest.add_field_coverage(
        static_cast<float>(static_cast<double>(present) /
                           static_cast<double>(manifest.examples())));
  }
  contents_.extra_files.emplace_back(kOptimizerFile, learner_->Save());
  contents_.extra_files.emplace_back(kSeenFile, SerializeSeen(plan_->seen()));
  learner_.reset();
  return absl::OkStatus();
}

absl::Status TrainingRun::Publish() {
  GateDecision decision = Decide(config_.gate(), report_);
  for (std::string& reason : decision.reasons) {
    report_.add_reasons(std::move(reason));
  }
  if (!decision.publish) {
    report_.set_verdict(v1::TrainingReport::KEPT);
    return absl::OkStatus();
  }
  progress_->Begin("publish");
  report_.set_version(contents_.manifest.version());
  v1::TrainingReport inside = report_;
  inside.set_verdict(v1::TrainingReport::PUBLISHED);
  inside.clear_seconds();
  inside.clear_memory();
  inside.mutable_golden()->clear_score_micros();
  ASSIGN_OR_RETURN(std::string json, ReportJson(inside));
  contents_.extra_files.emplace_back(kReportFile, std::move(json));
  RETURN_IF_ERROR(store_.Publish(contents_, step_));
  End("publish", plan_->rows());
  report_.set_verdict(v1::TrainingReport::PUBLISHED);
  return absl::OkStatus();
}

absl::Status TrainingRun::EndEvaluation() {
  report_.set_verdict(v1::TrainingReport::EVALUATED);
  return absl::OkStatus();
}

absl::StatusOr<v1::TrainingReport> RunTraining(
    const v1::TrainerConfig& config, StepProgress* progress,
    const std::function<void(const char*)>& step) {
  return TrainingRun(config, progress, step).Go();
}

absl::StatusOr<v1::TrainingReport> PackLog(
    const v1::TrainerConfig& config, StepProgress* progress,
    const std::function<absl::Status(const PackedLog&)>& use) {
  const std::function<void(const char*)> no_step;
  return TrainingRun(config, progress, no_step).PackFor(use);
}

}  // namespace adrank
