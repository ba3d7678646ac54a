#include "trainer/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "features/feature_extractor.h"
#include "model/graph.h"
#include "model/slice_reader.h"
#include "trainer/make_learner.h"
#include "trainer/search_space.h"
#include "trainer/slices.h"
#include "trainer/windows.h"

namespace adrank {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

absl::Status Wrong(absl::string_view field, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", reason));
}

// Finite and within [low, high], or the open interval when `open`.
absl::Status InRange(absl::string_view field, double value, double low,
                     double high, bool open = false) {
  const bool inside =
      open ? value > low && value < high : value >= low && value <= high;
  if (std::isfinite(value) && inside) return absl::OkStatus();
  return Wrong(field, absl::StrCat(value, " is not in ", open ? "(" : "[", low,
                                   ", ", high, open ? ")" : "]"));
}

absl::Status ResolveData(v1::DataConfig* data) {
  for (auto [name, share] :
       {std::pair("data.calibration_share", data->calibration_share()),
        std::pair("data.evaluation_share", data->evaluation_share())}) {
    RETURN_IF_ERROR(InRange(name, share, 0, 0.5));
  }
  if (data->calibration_share() == 0) data->set_calibration_share(0.1);
  if (data->evaluation_share() == 0) data->set_evaluation_share(0.1);
  if (data->attribution_window_s() == 0) data->set_attribution_window_s(86400);
  RETURN_IF_ERROR(
      InRange("data.negative_keep_rate", data->negative_keep_rate(), 0, 1));
  if (data->negative_keep_rate() == 0) data->set_negative_keep_rate(1);
  const double quantile = data->attribution_quantile();
  if (!(quantile >= 0 && quantile < 1)) {
    return Wrong("data.attribution_quantile",
                 absl::StrCat(quantile, " is not in [0, 1)"));
  }
  return absl::OkStatus();
}

absl::Status ResolveLogistic(v1::LogisticConfig* logistic) {
  RETURN_IF_ERROR(InRange("logistic.alpha", logistic->alpha(), 0, 100));
  RETURN_IF_ERROR(InRange("logistic.beta", logistic->beta(), 0, 1e6));
  RETURN_IF_ERROR(InRange("logistic.l1", logistic->l1(), 0, 1e9));
  RETURN_IF_ERROR(InRange("logistic.l2", logistic->l2(), 0, 1e9));
  RETURN_IF_ERROR(InRange("logistic.passes", logistic->passes(), 0, 1000));
  if (logistic->alpha() == 0) logistic->set_alpha(0.05);
  if (logistic->beta() == 0) logistic->set_beta(1);
  if (logistic->passes() == 0) logistic->set_passes(1);
  if (logistic->min_count() == 0) logistic->set_min_count(2);
  if (!v1::OutOfVocabulary_IsValid(logistic->out_of_vocabulary())) {
    return Wrong("logistic.out_of_vocabulary", "is no known value");
  }
  if (logistic->out_of_vocabulary() == v1::OUT_OF_VOCABULARY_UNSPECIFIED) {
    logistic->set_out_of_vocabulary(v1::OOV_DROP);
  }
  if (logistic->oov_rate() == 0) logistic->set_oov_rate(0.005);
  return InRange("logistic.oov_rate", logistic->oov_rate(), 0, 0.5, true);
}

absl::Status ResolveTable(v1::TableOptimizer* table) {
  const bool adam = table->kind() == v1::TableOptimizer::ADAM ||
                    table->kind() == v1::TableOptimizer::ADAM_LAZY;
  if (!v1::TableOptimizer::Kind_IsValid(table->kind())) {
    return Wrong("embedding.table.kind", "is no known value");
  }
  if (table->kind() == v1::TableOptimizer::KIND_UNSPECIFIED) {
    table->set_kind(v1::TableOptimizer::ADAGRAD_ROW);
  }
  for (auto [name, value, high] :
       {std::tuple("learning_rate", table->learning_rate(), 100.0),
        std::tuple("l2", table->l2(), 1e6),
        std::tuple("initial_std", table->initial_std(), 10.0),
        std::tuple("initial_accumulator", table->initial_accumulator(), 1e6)}) {
    RETURN_IF_ERROR(
        InRange(absl::StrCat("embedding.table.", name), value, 0, high));
  }
  if (table->learning_rate() == 0) {
    table->set_learning_rate(adam ? 0.001 : 0.05);
  }
  if (table->initial_std() == 0) table->set_initial_std(adam ? 1e-4 : 0.01);
  if (table->has_linear_ftrl()) {
    RETURN_IF_ERROR(Annotate(ResolveLogistic(table->mutable_linear_ftrl()),
                             "embedding.table.linear_ftrl"));
  }
  return absl::OkStatus();
}

absl::Status ResolveSchedule(v1::Schedule* schedule) {
  if (!v1::Schedule::Decay_IsValid(schedule->decay())) {
    return Wrong("embedding.schedule.decay", "is no known value");
  }
  for (auto [name, share] :
       {std::pair("warm_up", schedule->warm_up()),
        std::pair("decay_begin", schedule->decay_begin()),
        std::pair("final_factor", schedule->final_factor())}) {
    RETURN_IF_ERROR(
        InRange(absl::StrCat("embedding.schedule.", name), share, 0, 1));
  }
  return absl::OkStatus();
}

absl::Status ResolveEmbedding(const v1::FeatureSpec& spec, bool calibrates,
                              v1::EmbeddingConfig* embedding) {
  ASSIGN_OR_RETURN(const FieldLayout layout, LayoutOf(spec));
  if (embedding->graph().dim() == 0) embedding->mutable_graph()->set_dim(16);
  RETURN_IF_ERROR(Annotate(
      Graph::Create(embedding->graph(), layout, true).status(), "embedding"));
  RETURN_IF_ERROR(ResolveTable(embedding->mutable_table()));
  if (embedding->table().kind() == v1::TableOptimizer::FTRL &&
      !(embedding->graph().linear() &&
        embedding->graph().pairwise() == v1::ModelGraph::FM &&
        embedding->graph().streams().empty() &&
        embedding->table().has_linear_ftrl())) {
    return Wrong("embedding.table.kind",
                 "FTRL is for a linear part and FM alone, with linear_ftrl");
  }
  RETURN_IF_ERROR(ResolveSchedule(embedding->mutable_schedule()));
  RETURN_IF_ERROR(InRange("embedding.passes", embedding->passes(), 0, 1000));
  RETURN_IF_ERROR(
      InRange("embedding.batch_size", embedding->batch_size(), 0, 1 << 20));
  RETURN_IF_ERROR(InRange("embedding.average_decay", embedding->average_decay(),
                          0, 0.999999));
  RETURN_IF_ERROR(InRange("embedding.dense.learning_rate",
                          embedding->dense().learning_rate(), 0, 100));
  RETURN_IF_ERROR(
      InRange("embedding.dense.l2", embedding->dense().l2(), 0, 1e6));
  if (embedding->passes() == 0) embedding->set_passes(1);
  if (embedding->batch_size() == 0) embedding->set_batch_size(2048);
  if (embedding->min_count() == 0) embedding->set_min_count(2);
  if (!v1::OutOfVocabulary_IsValid(embedding->out_of_vocabulary())) {
    return Wrong("embedding.out_of_vocabulary", "is no known value");
  }
  if (embedding->out_of_vocabulary() == v1::OUT_OF_VOCABULARY_UNSPECIFIED) {
    embedding->set_out_of_vocabulary(v1::OOV_DROP);
  }
  if (embedding->oov_rate() == 0) embedding->set_oov_rate(0.005);
  const bool watches = embedding->early_stopping().patience() > 0 ||
                       embedding->schedule().decay() == v1::Schedule::PLATEAU;
  if (watches && !calibrates) {
    return Wrong("embedding.early_stopping",
                 "looks at the calibration window: calibration.method NONE "
                 "leaves none");
  }
  if (!v1::EmbeddingStorage_IsValid(embedding->storage())) {
    return Wrong("embedding.storage", "is no known value");
  }
  return InRange("embedding.oov_rate", embedding->oov_rate(), 0, 0.5, true);
}

absl::Status ResolveCalibration(const FeatureExtractor& extractor,
                                v1::CalibrationConfig* calibration) {
  if (!v1::CalibrationConfig::Method_IsValid(calibration->method())) {
    return Wrong("calibration.method", "is no known value");
  }
  if (calibration->method() == v1::CalibrationConfig::METHOD_UNSPECIFIED) {
    calibration->set_method(v1::CalibrationConfig::PLATT);
  }
  if (calibration->bins() == 0) calibration->set_bins(200);
  if (calibration->slice_prior() == 0) calibration->set_slice_prior(1000);
  RETURN_IF_ERROR(InRange("calibration.bins", calibration->bins(), 2, 100000));
  RETURN_IF_ERROR(
      InRange("calibration.slice_prior", calibration->slice_prior(), 0, 1e12));
  if (calibration->slice_field().empty()) return absl::OkStatus();
  if (calibration->method() == v1::CalibrationConfig::NONE) {
    return Wrong("calibration.slice_field", "needs a method other than NONE");
  }
  return Annotate(
      SliceReader::Create(extractor, calibration->slice_field()).status(),
      "calibration.slice_field");
}

absl::Status ResolveEvaluation(v1::EvaluationConfig* evaluation) {
  if (evaluation->group_by().empty()) evaluation->set_group_by("user_id");
  if (evaluation->group_by() != "user_id" &&
      evaluation->group_by() != "decision") {
    return Wrong("evaluation.group_by",
                 absl::StrCat("\"", evaluation->group_by(),
                              "\" is neither \"user_id\" nor \"decision\""));
  }
  if (evaluation->min_slice_examples() == 0) {
    evaluation->set_min_slice_examples(1000);
  }
  if (evaluation->bootstrap_replicates() == 0) {
    evaluation->set_bootstrap_replicates(200);
  }
  if (evaluation->importance_rows() == 0) {
    evaluation->set_importance_rows(4000);
  }
  return InRange("evaluation.bootstrap_replicates",
                 evaluation->bootstrap_replicates(), 20, 10000);
}

// Limits that are above 0; `preset` stands for 0, and 0 for "unlimited".
absl::Status ResolveLimits(v1::GateConfig* gate) {
  struct Limit {
    const char* name;
    double (v1::GateConfig::*get)() const;
    void (v1::GateConfig::*set)(double);
    double preset;
  };
  using Gate = v1::GateConfig;
  for (const Limit& limit : {
           Limit{"min_auc", &Gate::min_auc, &Gate::set_min_auc, 0.5},
           {"max_auc", &Gate::max_auc, &Gate::set_max_auc, 0.999},
           {"max_auc_increase", &Gate::max_auc_increase,
            &Gate::set_max_auc_increase, 0.2},
           {"max_auc_decrease", &Gate::max_auc_decrease,
            &Gate::set_max_auc_decrease, 0.1},
           {"max_ctr_change", &Gate::max_ctr_change, &Gate::set_max_ctr_change,
            5},
           {"max_coverage_decrease", &Gate::max_coverage_decrease,
            &Gate::set_max_coverage_decrease, 0.3},
           {"max_oov_increase", &Gate::max_oov_increase,
            &Gate::set_max_oov_increase, 0.3},
           {"max_psi", &Gate::max_psi, &Gate::set_max_psi, 0},
           {"max_logit", &Gate::max_logit, &Gate::set_max_logit, 30},
           {"max_score_micros", &Gate::max_score_micros,
            &Gate::set_max_score_micros, 0},
           {"max_golden_change", &Gate::max_golden_change,
            &Gate::set_max_golden_change, 0},
           {"max_skewed_events", &Gate::max_skewed_events,
            &Gate::set_max_skewed_events, 0.05},
       }) {
    RETURN_IF_ERROR(InRange(absl::StrCat("gate.", limit.name),
                            (gate->*limit.get)(), 0, 1e9));
    if ((gate->*limit.get)() == 0) (gate->*limit.set)(limit.preset);
  }
  return absl::OkStatus();
}

absl::Status ResolveGate(v1::GateConfig* gate) {
  RETURN_IF_ERROR(
      InRange("gate.max_ne_increase", gate->max_ne_increase(), 0, 1e6));
  RETURN_IF_ERROR(
      InRange("gate.min_calibration", gate->min_calibration(), 0, 1));
  RETURN_IF_ERROR(
      InRange("gate.max_calibration", gate->max_calibration(), 0, 1e6));
  RETURN_IF_ERROR(InRange("gate.max_ne", gate->max_ne(), 0, 1e6));
  if (gate->min_examples() == 0) gate->set_min_examples(1000);
  if (gate->min_clicks() == 0) gate->set_min_clicks(50);
  if (gate->max_ne_increase() == 0) gate->set_max_ne_increase(0.001);
  if (gate->min_calibration() == 0) gate->set_min_calibration(0.9);
  if (gate->max_calibration() == 0) gate->set_max_calibration(1.1);
  if (gate->max_calibration() < 1) {
    return Wrong("gate.max_calibration",
                 absl::StrCat(gate->max_calibration(), " is below 1"));
  }
  if (gate->max_ne() == 0) gate->set_max_ne(1);
  return ResolveLimits(gate);
}

absl::Status ResolvePlaces(v1::TrainerConfig* config) {
  if (config->data_dir().empty()) return Wrong("data_dir", "is required");
  if (config->model_dir().empty()) return Wrong("model_dir", "is required");
  if (config->model_name().empty()) config->set_model_name("ctr");
  const std::string& name = config->model_name();
  if (name[0] == '.' || absl::StrContains(name, "/") || name.size() > 128) {
    return Wrong("model_name",
                 absl::StrCat("\"", name, "\" is not the name of a folder"));
  }
  if (config->threads() == 0) {
    config->set_threads(std::max(1u, std::thread::hardware_concurrency()));
  }
  if (config->checkpoint().every_s() == 0) {
    config->mutable_checkpoint()->set_every_s(300);
  }
  return InRange("threads", config->threads(), 1, 1024);
}

absl::Status CheckMemory(const v1::TrainerConfig& config) {
  constexpr uint64_t kLeast = uint64_t{64} << 20;
  const uint64_t filter = config.vocabulary().filter_bytes();
  if (config.max_memory_bytes() > 0 &&
      (config.max_memory_bytes() < kLeast ||
       config.max_memory_bytes() - kLeast < filter)) {
    return Wrong("max_memory_bytes",
                 absl::StrCat(config.max_memory_bytes(), " is below ", kLeast,
                              " + vocabulary.filter_bytes"));
  }
  return InRange("vocabulary.expire_after_days",
                 config.vocabulary().expire_after_days(), 0, 65535);
}

}  // namespace

absl::StatusOr<v1::TrainerConfig> ResolveConfig(v1::TrainerConfig config) {
  RETURN_IF_ERROR(ResolvePlaces(&config));
  RETURN_IF_ERROR(CheckMemory(config));
  if (config.feature_spec().fields().empty()) {
    return Wrong("feature_spec", "declares no fields");
  }
  auto extractor = FeatureExtractor::Create(config.feature_spec(),
                                            /*allow_unlearnt_bins=*/true);
  if (!extractor.ok()) return Annotate(extractor.status(), "feature_spec");
  RETURN_IF_ERROR(ResolveData(config.mutable_data()));
  RETURN_IF_ERROR(ResolveLogistic(config.mutable_logistic()));
  RETURN_IF_ERROR(
      ResolveCalibration(**extractor, config.mutable_calibration()));
  if (config.has_embedding()) {
    RETURN_IF_ERROR(ResolveEmbedding(
        config.feature_spec(),
        config.calibration().method() != v1::CalibrationConfig::NONE,
        config.mutable_embedding()));
  }
  if (config.has_search()) {
    RETURN_IF_ERROR(ResolveSearch(config, config.mutable_search()));
  }
  if (VocabularyNeedsOf(config).out_of_vocabulary == v1::OOV_RARE &&
      config.vocabulary().filter_bytes() > 0) {
    return Wrong("vocabulary.filter_bytes",
                 "the filter forgets the rare ids that OOV_RARE learns from");
  }
  RETURN_IF_ERROR(ResolveEvaluation(config.mutable_evaluation()));
  RETURN_IF_ERROR(ResolveGate(config.mutable_gate()));
  RETURN_IF_ERROR(
      ResolveSlices(config.evaluation(), config.feature_spec()).status());
  ASSIGN_OR_RETURN(const absl::TimeZone zone,
                   SpecTimeZone(config.feature_spec()));
  RETURN_IF_ERROR(
      ParseWindows(config.data(),
                   config.calibration().method() != v1::CalibrationConfig::NONE,
                   zone)
          .status());
  return config;
}

absl::StatusOr<v1::TrainerConfig> LoadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(v1::TrainerConfig config,
                   ReadTextProto<v1::TrainerConfig>(path));
  auto resolved = ResolveConfig(config);
  if (!resolved.ok()) return Annotate(resolved.status(), path);
  if (config.has_search()) {
    RETURN_IF_ERROR(Annotate(PlanTrials(config).status(), path));
  }
  return resolved;
}

}  // namespace adrank
