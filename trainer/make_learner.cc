#include "trainer/make_learner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status_macros.h"
#include "trainer/embedding_learner.h"
#include "trainer/fm.h"
#include "trainer/ftrl.h"

namespace adrank {
namespace {

// Of all examples, half an example of each class added.
double BaseLogit(const ExampleBlocks& training) {
  const double n = static_cast<double>(training.examples());
  const double p = (static_cast<double>(training.clicks()) + 0.5) / (n + 1);
  return std::log(p / (1 - p));
}

absl::StatusOr<std::unique_ptr<Learner>> MakeLogistic(
    const v1::TrainerConfig& config, uint64_t rows, double bias) {
  FtrlOptions options = FtrlOptionsFrom(config.logistic(), config.threads());
  options.initial_bias = bias;
  ASSIGN_OR_RETURN(auto learner, FtrlLearner::Create(options, rows));
  return std::unique_ptr<Learner>(std::move(learner));
}

// Whether FmLearner learns it.
bool IsPlainFm(const v1::EmbeddingConfig& config, const Graph& graph) {
  const v1::TableOptimizer& table = config.table();
  const bool steps = table.kind() != v1::TableOptimizer::ADAM &&
                     table.kind() != v1::TableOptimizer::ADAM_LAZY;
  return graph.IsPlainFm() && steps && table.has_linear_ftrl() &&
         config.average_decay() == 0 && graph.dim % 4 == 0 && graph.dim <= 64 &&
         std::all_of(
             graph.fields.begin(), graph.fields.end(),
             [&](const GraphField& f) { return f.dim == graph.dim; });
}

absl::StatusOr<std::unique_ptr<Learner>> MakeFm(
    const v1::TrainerConfig& config, uint32_t dim, uint64_t rows, double bias) {
  const v1::TableOptimizer& table = config.embedding().table();
  FmOptions options;
  options.linear = FtrlOptionsFrom(table.linear_ftrl(), config.threads());
  options.linear.initial_bias = bias;
  options.dim = dim;
  options.optimizer = table.kind() == v1::TableOptimizer::FTRL
                          ? FmOptimizer::kFtrl
                      : table.kind() == v1::TableOptimizer::ADAGRAD
                          ? FmOptimizer::kAdagrad
                          : FmOptimizer::kRowAdagrad;
  if (table.learning_rate() != 0) options.lr = table.learning_rate();
  if (table.epsilon() != 0) options.eps = table.epsilon();
  if (table.initial_std() != 0) options.init_std = table.initial_std();
  options.initial_accumulator = table.initial_accumulator();
  options.l1 = table.l1();
  options.l2 = table.l2();
  options.seed = config.seed();
  ASSIGN_OR_RETURN(auto learner, FmLearner::Create(options, rows));
  return std::unique_ptr<Learner>(std::move(learner));
}

absl::StatusOr<std::unique_ptr<Learner>> MakeEmbedding(
    const v1::TrainerConfig& config, const FieldLayout& fields, uint64_t rows,
    double bias) {
  ASSIGN_OR_RETURN(const Graph graph,
                   Graph::Create(config.embedding().graph(), fields, true));
  if (IsPlainFm(config.embedding(), graph)) {
    return MakeFm(config, graph.dim, rows, bias);
  }
  if (config.embedding().table().kind() == v1::TableOptimizer::FTRL) {
    return absl::InvalidArgumentError(
        "embedding.table.kind: FTRL is for a linear part and FM alone, with "
        "linear_ftrl and no average_decay");
  }
  EmbeddingOptions options =
      EmbeddingOptionsFrom(config.embedding(), config.seed(), config.threads());
  options.initial_bias = static_cast<float>(bias);
  ASSIGN_OR_RETURN(auto learner,
                   EmbeddingLearner::Create(options, fields, rows));
  return std::unique_ptr<Learner>(std::move(learner));
}

}  // namespace

VocabularyNeeds VocabularyNeedsOf(const v1::TrainerConfig& config) {
  const auto needs = [](const auto& family) {
    return VocabularyNeeds{std::max(1u, family.min_count()),
                           family.out_of_vocabulary(), family.oov_rate()};
  };
  return config.has_embedding() ? needs(config.embedding())
                                : needs(config.logistic());
}

FitOptions FitOptionsOf(const v1::TrainerConfig& config) {
  FitOptions options;
  options.seed = config.seed();
  if (!config.has_embedding()) {
    options.passes = std::max(1u, config.logistic().passes());
    options.shuffle = config.logistic().shuffle();
    return options;
  }
  const v1::EmbeddingConfig& embedding = config.embedding();
  options.passes = std::max(1u, embedding.passes());
  options.shuffle = options.shuffle_first = embedding.shuffle();
  options.early_stopping = embedding.early_stopping();
  if (embedding.schedule().decay() == v1::Schedule::PLATEAU) {
    options.plateau_floor = std::max(1e-6, embedding.schedule().final_factor());
  }
  return options;
}

bool NeedsValidation(const v1::TrainerConfig& config) {
  const FitOptions options = FitOptionsOf(config);
  return options.early_stopping.patience() > 0 || options.plateau_floor > 0 ||
         config.has_search();
}

absl::StatusOr<std::unique_ptr<Learner>> MakeLearner(
    const v1::TrainerConfig& config, const FieldLayout& fields, uint64_t rows,
    const ExampleBlocks& training) {
  const double bias = BaseLogit(training);
  ASSIGN_OR_RETURN(std::unique_ptr<Learner> learner,
                   config.has_embedding()
                       ? MakeEmbedding(config, fields, rows, bias)
                       : MakeLogistic(config, rows, bias));
  learner->Begin(training.examples() * FitOptionsOf(config).passes);
  return learner;
}

}  // namespace adrank
