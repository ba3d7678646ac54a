// What a candidate, or the live model, is worth.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/files.h"
#include "trainer/calibration.h"
#include "trainer/drift.h"
#include "trainer/fit.h"
#include "trainer/gate.h"
#include "trainer/golden_check.h"
#include "trainer/golden_choice.h"
#include "trainer/importance.h"
#include "trainer/measure.h"
#include "trainer/name_features.h"
#include "trainer/report.h"
#include "trainer/slices.h"
#include "trainer/training_steps.h"

namespace adrank {

absl::Status TrainingRun::Score() {
  ASSIGN_OR_RETURN(const std::shared_ptr<const ModelBundle> candidate,
                   ModelBundle::FromContents(contents_));
  uint64_t bytes = candidate->bytes();
  for (const auto& [name, content] : contents_.extra_files) {
    bytes += content.size();
  }
  report_.set_bundle_bytes(bytes);
  report_.mutable_memory()->set_model_bytes(bytes);
  RETURN_IF_ERROR(
      Scan(*candidate, incumbent_.get(), config_.calibration().slice_field()));
  if (report_.verdict() != v1::TrainingReport::VERDICT_UNSPECIFIED) {
    return absl::OkStatus();
  }
  MeasureDrift(*candidate);
  RETURN_IF_ERROR(CompareStorage());
  RETURN_IF_ERROR(Calibrate());
  RETURN_IF_ERROR(Golden(*candidate));
  ASSIGN_OR_RETURN(const Calibrator calibrator,
                   Calibrator::Create(contents_.manifest.calibrator()));
  return MeasureImportance(*candidate, calibrator);
}

// Scores the evaluation window once more, with embeddings in fp32.
absl::Status TrainingRun::CompareStorage() {
  const v1::EmbeddingStorage storage = contents_.manifest.embedding_storage();
  if (!contents_.embedding ||
      (storage != v1::STORE_BF16 && storage != v1::STORE_INT8)) {
    return absl::OkStatus();
  }
  contents_.manifest.set_embedding_storage(v1::STORE_FP32);
  auto exact = ModelBundle::FromContents(contents_);
  contents_.manifest.set_embedding_storage(storage);
  RETURN_IF_ERROR(exact.status());
  EvaluationScanOptions options;
  options.windows = windows_;
  options.windows.train_end_ms = windows_.calibration_end_ms;
  options.labels = labels_;
  options.threads = config_.threads();
  progress_->Begin("score in fp32");
  auto scored = ScanEvaluation(reader_.get(), **exact, nullptr, nullptr,
                               options, progress_);
  if (!scored.ok()) return InLog(scored.status());
  End("score in fp32", scored->evaluation.size());
  *report_.mutable_storage_loss() =
      MeasureStorage(scored_.evaluation.logits, scored->evaluation.logits,
                     scored_.evaluation.labels);
  return absl::OkStatus();
}

void TrainingRun::MeasureDrift(const ModelBundle& candidate) {
  std::optional<NamedManifest> live;
  if (incumbent_ != nullptr) {
    live.emplace(NamedManifest{incumbent_->manifest(),
                               incumbent_->extractor().field_names()});
  }
  for (v1::FieldDrift& drift :
       FieldDrifts({candidate.manifest(), candidate.extractor().field_names()},
                   scored_.fields, scored_.evaluation.size(),
                   live ? &*live : nullptr)) {
    contents_.manifest.add_field_oov(static_cast<float>(drift.oov()));
    *report_.add_drift() = std::move(drift);
  }
}

absl::Status TrainingRun::Golden(const ModelBundle& candidate) {
  auto golden =
      ChooseGolden(scored_.evaluation.decisions, config_.seed(), reader_.get());
  if (!golden.ok()) return InLog(golden.status());
  contents_.golden = *std::move(golden);
  ASSIGN_OR_RETURN(const Calibrator calibrator,
                   Calibrator::Create(contents_.manifest.calibrator()));
  ASSIGN_OR_RETURN(
      *report_.mutable_golden(),
      CheckGolden(candidate, calibrator, incumbent_.get(), contents_.golden));
  return absl::OkStatus();
}

absl::Status TrainingRun::ScoreLive() {
  // The scan reads from train_end on; only the evaluation is wanted.
  windows_.train_begin_ms = windows_.train_end_ms = windows_.calibration_end_ms;
  RETURN_IF_ERROR(
      Scan(*incumbent_, nullptr, incumbent_->calibrator().slice_field()));
  ASSIGN_OR_RETURN(const Calibrator calibrator,
                   Calibrator::Create(incumbent_->manifest().calibrator()));
  ApplyCalibrator(calibrator);
  RETURN_IF_ERROR(MeasureImportance(*incumbent_, calibrator));
  incumbent_ = nullptr;  // nothing to compare it with
  return absl::OkStatus();
}

absl::Status TrainingRun::Scan(const ModelBundle& candidate,
                               const ModelBundle* incumbent,
                               const std::string& slice_field) {
  EvaluationScanOptions options;
  options.windows = windows_;
  options.labels = labels_;
  options.group_by_user = config_.evaluation().group_by() == "user_id";
  options.threads = config_.threads();
  if (!slice_field.empty()) {
    ASSIGN_OR_RETURN(options.calibration_slice,
                     SliceReader::Create(candidate.extractor(), slice_field));
  }
  progress_->Begin("score");
  auto scored = ScanEvaluation(reader_.get(), candidate, incumbent,
                               slices_.get(), options, progress_);
  if (!scored.ok()) return InLog(scored.status());
  scored_ = *std::move(scored);
  End("score", scored_.calibration.labels.size() + scored_.evaluation.size());
  report_.mutable_memory()->set_evaluation_bytes(scored_.bytes());
  AddCounts(scored_.join, report_.mutable_join());
  report_.set_calibration_examples(scored_.calibration.labels.size());
  RETURN_IF_ERROR(CheckFingerprints());
  for (auto [name, rows] :
       {std::pair("calibration", scored_.calibration.labels.size()),
        std::pair("evaluation", scored_.evaluation.size())}) {
    const bool used =
        name[0] == 'e' || (calibrates() && !config_.evaluate_only());
    if (rows == 0 && used) {
      return Nothing(
          absl::StrCat("the ", name, " window has decisions but no example"));
    }
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::CheckFingerprints() {
  report_.set_fingerprints_checked(scored_.fingerprints_checked);
  report_.set_fingerprints_differing(scored_.fingerprints_differing);
  if (scored_.fingerprints_differing > 0) {
    Note(absl::StrFormat(
        "%d of %d feature rows that the live model served are not what the "
        "trainer computes from the log: training and serving have drifted "
        "apart",
        scored_.fingerprints_differing, scored_.fingerprints_checked));
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::Calibrate() {
  const CalibrationRows& rows = scored_.calibration;
  CalibrationFit fit =
      FitCalibrator(config_.calibration(), config_.data().negative_keep_rate(),
                    {rows.logits, rows.labels, {}, rows.slices});
  report_.add_notes(absl::StrCat("calibration: ", fit.reason));
  ASSIGN_OR_RETURN(const Calibrator calibrator,
                   Calibrator::Create(fit.calibrator));
  *contents_.manifest.mutable_calibrator() = std::move(fit.calibrator);
  ApplyCalibrator(calibrator);
  return absl::OkStatus();
}

void TrainingRun::ApplyCalibrator(const Calibrator& calibrator) {
  const EvaluationRows& rows = scored_.evaluation;
  pctr_.reserve(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    pctr_.push_back(calibrator.Probability(
        rows.logits[r], rows.slices.empty() ? 0 : rows.slices[r]));
  }
}

absl::Status TrainingRun::Measure() {
  progress_->Begin("metrics");
  MeasureQuality(config_.evaluation(), config_.seed(), scored_.evaluation,
                 pctr_, &report_);
  if (std::string note = ShiftNote(report_); !note.empty()) {
    Note(std::move(note));
  }
  RETURN_IF_ERROR(MeasureSlices());
  End("metrics", scored_.evaluation.size());
  return absl::OkStatus();
}

absl::Status TrainingRun::MeasureImportance(const ModelBundle& model,
                                            const Calibrator& calibrator) {
  const int32_t wanted = config_.evaluation().importance_rows();
  if (wanted < 0) return absl::OkStatus();
  progress_->Begin("importance");
  auto sample = SampleRows(scored_.evaluation, static_cast<size_t>(wanted),
                           config_.seed(), reader_.get());
  if (!sample.ok()) return InLog(sample.status());
  ASSIGN_OR_RETURN(auto importance,
                   PermutationImportance(model, calibrator, *sample,
                                         config_.seed(), config_.threads()));
  for (v1::FeatureImportance& source : importance) {
    *report_.add_importance() = std::move(source);
  }
  report_.set_importance_rows(sample->size());
  if (!config_.evaluate_only()) NameTheFeatures(model, *sample);
  End("importance", sample->size());
  return absl::OkStatus();
}

void TrainingRun::NameTheFeatures(const ModelBundle& model,
                                  const std::vector<SampledRow>& sample) {
  std::vector<FeatureName> before;
  if (incumbent_ != nullptr) {
    const std::string path = files::Join(
        store_.VersionDir(incumbent_->manifest().version()), kFeatureNamesFile);
    // Bundles of before have none, and people can do without.
    auto names = [&]() -> absl::StatusOr<std::vector<FeatureName>> {
      ASSIGN_OR_RETURN(const std::string bytes, files::Read(path));
      return ParseFeatureNames(bytes);
    }();
    if (names.ok()) before = *std::move(names);
  }
  contents_.extra_files.emplace_back(
      kFeatureNamesFile,
      SerializeFeatureNames(NameFeatures(model, sample, std::move(before))));
}

absl::Status TrainingRun::MeasureSlices() {
  if (slices_ == nullptr) return absl::OkStatus();
  auto slices = ComputeSlices(config_.evaluation(), *slices_,
                              scored_.evaluation, pctr_, reader_.get());
  if (!slices.ok()) return InLog(slices.status());
  for (v1::Slice& slice : *slices) *report_.add_slices() = std::move(slice);
  return absl::OkStatus();
}

}  // namespace adrank
