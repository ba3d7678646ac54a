// From the log to packed examples.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "trainer/click_delay.h"
#include "trainer/expiry.h"
#include "trainer/explanations.h"
#include "trainer/gate.h"
#include "trainer/slices.h"
#include "trainer/spec_learning.h"
#include "trainer/training_steps.h"

namespace adrank {
namespace {

// Separate streams of chance of one seed.
constexpr uint64_t kDropSalt = 0x64726f70;

}  // namespace

absl::Status TrainingRun::OpenLog() {
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

absl::Status TrainingRun::LoadIncumbent() {
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

absl::Status TrainingRun::CheckWindow(absl::string_view name, int64_t begin_ms,
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
absl::Status TrainingRun::CutUnripe() {
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

absl::Status TrainingRun::CutWindows() {
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

absl::Status TrainingRun::CompileSpec() {
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

absl::Status TrainingRun::CompileSlices() {
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

ExampleBlocksOptions TrainingRun::Blocks() const {
  ExampleBlocksOptions options;
  options.max_memory_bytes = budget_.examples;
  options.spill_dir = files::Join(config_.model_dir(), config_.model_name());
  return options;
}

TrainingScanOptions TrainingRun::ScanOptions() const {
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

absl::Status TrainingRun::CountInFilter() {
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

absl::Status TrainingRun::Extract() {
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

absl::Status TrainingRun::Pack() {
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
absl::Status TrainingRun::PackValidation() {
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

}  // namespace adrank
