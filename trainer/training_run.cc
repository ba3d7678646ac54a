#include "trainer/training_run.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
#include "storage/event_log_reader.h"
#include "trainer/calibration.h"
#include "trainer/checkpoint.h"
#include "trainer/click_delay.h"
#include "trainer/drift.h"
#include "trainer/evaluation_scan.h"
#include "trainer/expiry.h"
#include "trainer/explanations.h"
#include "trainer/fit.h"
#include "trainer/gate.h"
#include "trainer/golden_check.h"
#include "trainer/golden_choice.h"
#include "trainer/importance.h"
#include "trainer/make_learner.h"
#include "trainer/measure.h"
#include "trainer/memory_budget.h"
#include "trainer/name_features.h"
#include "trainer/report.h"
#include "trainer/slices.h"
#include "trainer/spec_learning.h"
#include "trainer/training_scan.h"
#include "trainer/vocabulary_plan.h"
#include "trainer/windows.h"

namespace adrank {
namespace {

// Separate streams of chance of one seed.
constexpr uint64_t kDropSalt = 0x64726f70;

class Run {
 public:
  Run(const v1::TrainerConfig& config, StepProgress* progress,
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
    using Step = absl::Status (Run::*)();
    const std::vector<Step> steps =
        config_.evaluate_only()
            ? std::vector<Step>{&Run::OpenLog,      &Run::LoadIncumbent,
                                &Run::CutWindows,   &Run::CompileSlices,
                                &Run::ScoreLive,    &Run::Measure,
                                &Run::EndEvaluation}
            : std::vector<Step>{&Run::OpenLog,    &Run::LoadIncumbent,
                                &Run::CutWindows, &Run::CompileSpec,
                                &Run::Extract,    &Run::Pack,
                                &Run::Learn,      &Run::Score,
                                &Run::Measure,    &Run::Publish};
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
    for (auto step : {&Run::OpenLog, &Run::CutWindows, &Run::CompileSpec,
                      &Run::Extract, &Run::Pack, &Run::PackValidation}) {
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

absl::Status Run::OpenLog() {
  ASSIGN_OR_RETURN(zone_, SpecTimeZone(config_.feature_spec()));
  auto reader = EventLogReader::Open(config_.data_dir());
  if (!reader.ok()) return InLog(reader.status());
  reader_ = *std::move(reader);
  auto range = reader_->TimeRange();
  if (absl::IsNotFound(range.status())) {
    return Nothing(absl::StrCat("the event log ", config_.data_dir(),
                                " is empty: no decision was logged"));
  }
  if (!range.ok()) return InLog(range.status());
  ASSIGN_OR_RETURN(const ParsedWindows parsed,
                   ParseWindows(config_.data(), calibrates(), zone_));
  windows_ = parsed.windows;
  windows_.train_begin_ms = std::max(windows_.train_begin_ms, range->first);
  windows_.evaluation_end_ms =
      std::min(windows_.evaluation_end_ms, range->second + 1);
  return absl::OkStatus();
}

absl::Status Run::LoadIncumbent() {
  const auto published = store_.Published();
  if (absl::IsNotFound(published.status())) {
    return config_.evaluate_only()
               ? Nothing("no version is live: there is nothing to evaluate")
               : absl::OkStatus();
  }
  RETURN_IF_ERROR(published.status());
  report_.set_incumbent_version(*published);
  auto bundle = ModelBundle::Load(store_.VersionDir(*published));
  if (!bundle.ok()) {
    if (config_.evaluate_only()) return bundle.status();
    Note(absl::StrCat("the live version ", *published,
                      " cannot be compared with, its bundle does not load: ",
                      bundle.status().message()));
    return absl::OkStatus();
  }
  incumbent_ = *std::move(bundle);
  return absl::OkStatus();
}

absl::Status Run::CheckWindow(absl::string_view name, int64_t begin_ms,
                              int64_t end_ms) {
  const bool any =
      begin_ms < end_ms && reader_->Join(begin_ms, end_ms)->Valid();
  if (any || report_.verdict() != v1::TrainingReport::VERDICT_UNSPECIFIED) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto range, reader_->TimeRange());
  return Nothing(NoDecisions(name, begin_ms, end_ms, range, zone_));
}

// Newest decisions whose clicks may still come are in no window.
absl::Status Run::CutUnripe() {
  const double quantile = config_.data().attribution_quantile();
  if (quantile == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto range, reader_->TimeRange());
  progress_->Begin("delays");
  auto delay = MeasureClickDelay(reader_.get(), windows_.train_begin_ms,
                                 windows_.evaluation_end_ms, range.second,
                                 labels_.attribution_window_ms, quantile);
  if (!delay.ok()) return InLog(delay.status());
  windows_.evaluation_end_ms =
      std::min(windows_.evaluation_end_ms, delay->ripe_end_ms());
  End("delays", delay->clicks());
  *report_.mutable_click_delay() = *std::move(delay);
  return absl::OkStatus();
}

absl::Status Run::CutWindows() {
  RETURN_IF_ERROR(CutUnripe());
  const auto parsed = ParseWindows(config_.data(), calibrates(), zone_);
  RETURN_IF_ERROR(parsed.status());
  if (parsed->by_share ||
      (!config_.evaluate_only() && HasUnlearntBins(config_.feature_spec()))) {
    progress_->Begin("count");
    auto histogram =
        CountExamples(reader_.get(), windows_.train_begin_ms,
                      windows_.evaluation_end_ms, labels_.served_is_seen);
    if (!histogram.ok()) return InLog(histogram.status());
    counted_ = histogram->examples();
    if (parsed->by_share) {
      windows_ =
          CutByShare(windows_, *histogram,
                     calibrates() ? config_.data().calibration_share() : 0,
                     config_.data().evaluation_share());
    }
    End("count", counted_);
    if (counted_ == 0 && parsed->by_share &&
        windows_.train_begin_ms < windows_.evaluation_end_ms) {
      return Nothing(NoImpressions(windows_, labels_.served_is_seen, zone_));
    }
  }
  report_.set_train_begin_ms(windows_.train_begin_ms);
  report_.set_train_end_ms(windows_.train_end_ms);
  report_.set_calibration_end_ms(windows_.calibration_end_ms);
  report_.set_evaluation_end_ms(windows_.evaluation_end_ms);
  if (!config_.evaluate_only()) {
    RETURN_IF_ERROR(CheckWindow("training", windows_.train_begin_ms,
                                windows_.train_end_ms));
  }
  if (calibrates() && !config_.evaluate_only()) {
    RETURN_IF_ERROR(CheckWindow("calibration", windows_.train_end_ms,
                                windows_.calibration_end_ms));
  }
  return CheckWindow("evaluation", windows_.calibration_end_ms,
                     windows_.evaluation_end_ms);
}

absl::Status Run::CompileSpec() {
  v1::FeatureSpec spec = config_.feature_spec();
  if (config_.warm_start() && incumbent_ != nullptr) {
    const v1::FeatureSpec& old = incumbent_->manifest().feature_spec();
    const v1::FeatureSpec continued = WithBoundariesOf(old, spec);
    auto state = files::Read(files::Join(
        store_.VersionDir(report_.incumbent_version()), kOptimizerFile));
    if (!SameFeatures(continued, old)) {
      Note("cold start: the feature spec is not that of the live model");
    } else if (!state.ok()) {
      Note(absl::StrCat("cold start: ", state.status().message()));
    } else {
      spec = continued;
      optimizer_state_ = *std::move(state);
      report_.set_parent_version(report_.incumbent_version());
    }
  } else if (config_.warm_start()) {
    Note("cold start: there is no live model to continue");
  }
  if (HasUnlearntBins(spec)) {
    progress_->Begin("boundaries");
    auto learnt =
        LearnSpec(reader_.get(), spec, windows_.train_begin_ms,
                  windows_.train_end_ms, counted_, labels_, config_.seed());
    if (!learnt.ok()) return InLog(learnt.status());
    spec = *std::move(learnt);
    End("boundaries", std::min(counted_, kBoundaryExamples));
  }
  ASSIGN_OR_RETURN(extractor_, FeatureExtractor::Create(spec));
  return CompileSlices();
}

absl::Status Run::CompileSlices() {
  const v1::FeatureSpec& spec = config_.evaluate_only()
                                    ? incumbent_->manifest().feature_spec()
                                    : extractor_->spec();
  ASSIGN_OR_RETURN(const v1::FeatureSpec slices,
                   ResolveSlices(config_.evaluation(), spec));
  if (!slices.fields().empty()) {
    ASSIGN_OR_RETURN(slices_, FeatureExtractor::Create(slices));
  }
  return absl::OkStatus();
}

ExampleBlocksOptions Run::Blocks() const {
  ExampleBlocksOptions options;
  options.max_memory_bytes = budget_.examples;
  options.spill_dir = files::Join(config_.model_dir(), config_.model_name());
  return options;
}

TrainingScanOptions Run::ScanOptions() const {
  TrainingScanOptions options;
  options.begin_ms = windows_.train_begin_ms;
  options.end_ms = windows_.train_end_ms;
  options.labels = labels_;
  options.negative_keep_rate = config_.data().negative_keep_rate();
  options.seed = config_.seed();
  options.threads = config_.threads();
  options.blocks = Blocks();
  return options;
}

absl::Status Run::CountInFilter() {
  if (config_.vocabulary().filter_bytes() == 0) return absl::OkStatus();
  progress_->Begin("filter");
  filter_ = std::make_unique<IdFilter>(config_.vocabulary().filter_bytes());
  auto counted = CountIds(reader_.get(), *extractor_, ScanOptions(),
                          filter_.get(), progress_);
  if (!counted.ok()) return InLog(counted.status());
  admission_ = {filter_.get(),
                MinCounts(*extractor_, VocabularyNeedsOf(config_).min_count),
                optimizer_state_ ? &incumbent_->vocabulary() : nullptr};
  report_.mutable_memory()->set_filter_bytes(filter_->bytes());
  End("filter", *counted);
  return absl::OkStatus();
}

absl::Status Run::Extract() {
  RETURN_IF_ERROR(files::MakeDirectories(
      files::Join(config_.model_dir(), config_.model_name())));
  RETURN_IF_ERROR(CountInFilter());
  ids_ =
      std::make_unique<IdTable>(filter_ ? &admission_ : nullptr, budget_.ids);
  progress_->Begin("extract");
  auto rows = ScanTraining(reader_.get(), *extractor_, ScanOptions(),
                           ids_.get(), progress_);
  if (!rows.ok()) return InLog(rows.status());
  rows_ = *std::move(rows);
  End("extract", rows_->seen,
      absl::StrCat(WithCommas(ids_->size()), " feature ids"));
  filter_.reset();
  v1::MemoryReport* memory = report_.mutable_memory();
  memory->set_interned_ids(ids_->size());
  memory->set_id_table_bytes(ids_->bytes());
  memory->set_example_memory_bytes(rows_->raw.memory_bytes());
  memory->set_example_disk_bytes(rows_->raw.spilled_bytes());
  *report_.mutable_join() = rows_->join;
  report_.set_training_examples(rows_->raw.examples());
  if (rows_->seen > 0) {
    report_.set_training_ctr(static_cast<double>(rows_->seen_clicks) /
                             static_cast<double>(rows_->seen));
  }
  auto reason =
      WhyNothingToLearn(*rows_, windows_, labels_.served_is_seen, zone_);
  const std::string skew =
      SkewReason(rows_->join, config_.gate().max_skewed_events());
  if (reason && !skew.empty()) absl::StrAppend(&*reason, "; ", skew);
  return reason ? Nothing(*std::move(reason)) : absl::OkStatus();
}

absl::Status Run::Pack() {
  progress_->Begin("pack");
  const VocabularyNeeds needs = VocabularyNeedsOf(config_);
  Expiry expiry;
  expiry.after_days = config_.vocabulary().expire_after_days();
  expiry.last_day = DayOf(rows_->last_ms);
  if (optimizer_state_) {
    ASSIGN_OR_RETURN(
        expiry.seen,
        ReadSeen(store_.VersionDir(report_.parent_version()), *incumbent_));
  }
  plan_.emplace(*ids_, MinCounts(*extractor_, needs.min_count),
                needs.out_of_vocabulary != v1::OOV_DROP,
                optimizer_state_ ? &incumbent_->vocabulary() : nullptr,
                std::move(expiry));
  PackOptions options;
  options.unknown_to_oov = needs.out_of_vocabulary == v1::OOV_RARE;
  options.oov_rate = options.unknown_to_oov ? 0 : needs.oov_rate;
  options.seed = config_.seed() ^ kDropSalt;
  packed_.emplace(Blocks());
  RETURN_IF_ERROR(
      PackExamples(std::move(rows_->raw), *ids_, *plan_, options, &*packed_));
  ids_.reset();
  report_.set_vocabulary_rows(plan_->rows());
  report_.set_new_ids(plan_->added());
  report_.set_expired_ids(plan_->forgotten());
  End("pack", packed_->examples(),
      absl::StrCat(WithCommas(plan_->rows()), " rows of the model"));
  return absl::OkStatus();
}

// Examples of the calibration window with the rows of the plan, as serving
// would find them: what is looked at between passes.
absl::Status Run::PackValidation() {
  validation_.emplace();
  if (!NeedsValidation(config_)) return validation_->Finish();
  progress_->Begin("validation");
  TrainingScanOptions options = ScanOptions();
  options.begin_ms = windows_.train_end_ms;
  options.end_ms = windows_.calibration_end_ms;
  options.negative_keep_rate = 1;
  IdTable ids;
  auto rows =
      ScanTraining(reader_.get(), *extractor_, options, &ids, progress_);
  if (!rows.ok()) return InLog(rows.status());
  const std::string bytes =
      Vocabulary::Serialize(plan_->ids(), plan_->oov_rows());
  ASSIGN_OR_RETURN(const Vocabulary known, Vocabulary::Parse(bytes));
  const size_t fields = extractor_->field_names().size();
  const VocabularyPlan plan(ids, std::vector<uint32_t>(fields, ~0u),
                            !plan_->oov_rows().empty(), &known);
  PackOptions pack;
  pack.unknown_to_oov = true;
  RETURN_IF_ERROR(
      PackExamples(std::move(rows->raw), ids, plan, pack, &*validation_));
  End("validation", validation_->examples());
  return absl::OkStatus();
}

// From the parent's optimizer state, or cold when it is of another family,
// graph or optimizer.
absl::Status Run::ContinueLearner() {
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

absl::Status Run::Learn() {
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

CheckpointOptions Run::CheckpointPlan() const {
  CheckpointOptions options;
  options.path = files::Join(
      files::Join(config_.model_dir(), config_.model_name()), kCheckpointFile);
  options.every = absl::Seconds(config_.checkpoint().every_s());
  options.every_blocks = config_.checkpoint().every_blocks();
  if (step_) options.learnt = [this] { step_("learnt a block"); };
  return options;
}

absl::Status Run::FreezeContents() {
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

absl::Status Run::Score() {
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
absl::Status Run::CompareStorage() {
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

void Run::MeasureDrift(const ModelBundle& candidate) {
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

absl::Status Run::Golden(const ModelBundle& candidate) {
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

absl::Status Run::ScoreLive() {
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

absl::Status Run::Scan(const ModelBundle& candidate,
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

absl::Status Run::CheckFingerprints() {
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

absl::Status Run::Calibrate() {
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

void Run::ApplyCalibrator(const Calibrator& calibrator) {
  const EvaluationRows& rows = scored_.evaluation;
  pctr_.reserve(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    pctr_.push_back(calibrator.Probability(
        rows.logits[r], rows.slices.empty() ? 0 : rows.slices[r]));
  }
}

absl::Status Run::Measure() {
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

absl::Status Run::MeasureImportance(const ModelBundle& model,
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

void Run::NameTheFeatures(const ModelBundle& model,
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

absl::Status Run::MeasureSlices() {
  if (slices_ == nullptr) return absl::OkStatus();
  auto slices = ComputeSlices(config_.evaluation(), *slices_,
                              scored_.evaluation, pctr_, reader_.get());
  if (!slices.ok()) return InLog(slices.status());
  for (v1::Slice& slice : *slices) *report_.add_slices() = std::move(slice);
  return absl::OkStatus();
}

absl::Status Run::Publish() {
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

absl::Status Run::EndEvaluation() {
  report_.set_verdict(v1::TrainingReport::EVALUATED);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::TrainingReport> RunTraining(
    const v1::TrainerConfig& config, StepProgress* progress,
    const std::function<void(const char*)>& step) {
  return Run(config, progress, step).Go();
}

absl::StatusOr<v1::TrainingReport> PackLog(
    const v1::TrainerConfig& config, StepProgress* progress,
    const std::function<absl::Status(const PackedLog&)>& use) {
  const std::function<void(const char*)> no_step;
  return Run(config, progress, no_step).PackFor(use);
}

}  // namespace adrank
