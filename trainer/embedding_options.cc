#include "trainer/embedding_options.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "model/model.h"

namespace adrank {

absl::Status CheckOptions(const EmbeddingOptions& o, const Graph& graph,
                          uint64_t rows) {
  const auto bad = [](absl::string_view what, double value,
                      absl::string_view rule) {
    return absl::InvalidArgumentError(
        absl::StrCat("embedding.", what, ": ", value, " is not ", rule));
  };
  const auto positive = [](float v) { return v > 0 && std::isfinite(v); };
  const auto not_negative = [](float v) { return v >= 0 && std::isfinite(v); };
  if (!positive(o.table.learning_rate)) {
    return bad("table.learning_rate", o.table.learning_rate, "finite and > 0");
  }
  if (!not_negative(o.table.l2)) {
    return bad("table.l2", o.table.l2, "finite and >= 0");
  }
  if (!not_negative(o.table.initial_std)) {
    return bad("table.initial_std", o.table.initial_std, "finite and >= 0");
  }
  if (!not_negative(o.table.initial_accumulator)) {
    return bad("table.initial_accumulator", o.table.initial_accumulator,
               "finite and >= 0");
  }
  if (std::isnan(o.clip_norm)) {
    return bad("dense.clip_norm", o.clip_norm, "a number");
  }
  if (!positive(o.dense_rate)) {
    return bad("dense.learning_rate", o.dense_rate, "finite and > 0");
  }
  if (!not_negative(o.dense_l2)) {
    return bad("dense.l2", o.dense_l2, "finite and >= 0");
  }
  if (o.batch_size < 1 || o.batch_size > (1u << 20)) {
    return bad("batch_size", o.batch_size, "in [1, 1048576]");
  }
  if (!(o.average_decay >= 0 && o.average_decay < 1)) {
    return bad("average_decay", o.average_decay, "in [0, 1)");
  }
  if (!std::isfinite(o.initial_bias)) {
    return bad("initial_bias", o.initial_bias, "finite");
  }
  if (o.self_distillation && (!graph.mean || graph.outputs < 2)) {
    return absl::InvalidArgumentError(
        "embedding.self_distillation: needs combine MEAN and two streams");
  }
  if (rows >= kNoRow) {
    return absl::InvalidArgumentError(
        absl::StrCat("embedding: ", rows, " rows, at most ", kNoRow - 1));
  }
  return absl::OkStatus();
}

EmbeddingOptions EmbeddingOptionsFrom(const v1::EmbeddingConfig& config,
                                      uint64_t seed, uint32_t threads) {
  EmbeddingOptions o;
  const v1::TableOptimizer& table = config.table();
  o.graph = config.graph();
  using Optimizer = RowTableOptions::Optimizer;
  o.table.optimizer =
      table.kind() == v1::TableOptimizer::ADAGRAD     ? Optimizer::kAdagrad
      : table.kind() == v1::TableOptimizer::ADAM      ? Optimizer::kAdam
      : table.kind() == v1::TableOptimizer::ADAM_LAZY ? Optimizer::kAdamLazy
                                                      : Optimizer::kAdagradRow;
  const bool adam = table.kind() == v1::TableOptimizer::ADAM ||
                    table.kind() == v1::TableOptimizer::ADAM_LAZY;
  const auto or_default = [](double value, double otherwise) {
    return static_cast<float>(value == 0 ? otherwise : value);
  };
  o.table.learning_rate =
      or_default(table.learning_rate(), adam ? 0.001 : 0.05);
  o.table.l2 = static_cast<float>(table.l2());
  o.table.linear_l2 = std::max(0.0f, or_default(table.linear_l2(), table.l2()));
  o.table.l2_by_frequency = table.l2_mode() == v1::TableOptimizer::BY_FREQUENCY;
  o.table.initial_std = or_default(table.initial_std(), adam ? 1e-4 : 0.01);
  o.table.initial_accumulator = or_default(table.initial_accumulator(), 1e-6);
  o.table.average_decay = static_cast<float>(config.average_decay());
  if (table.has_linear_ftrl()) {
    const v1::LogisticConfig& ftrl = table.linear_ftrl();
    o.table.linear_ftrl = true;
    o.table.ftrl = {1 / or_default(ftrl.alpha(), 0.05),
                    or_default(ftrl.beta(), 1), static_cast<float>(ftrl.l1()),
                    static_cast<float>(ftrl.l2())};
  }
  o.dense_rate = or_default(config.dense().learning_rate(), 0.001);
  o.dense_l2 = static_cast<float>(config.dense().l2());
  o.clip_norm = or_default(config.dense().clip_norm(), 10);
  if (config.batch_size() > 0) o.batch_size = config.batch_size();
  o.average_decay = static_cast<float>(config.average_decay());
  o.self_distillation = config.self_distillation();
  o.bf16 = config.bf16();
  o.schedule = config.schedule();
  o.seed = seed;
  o.threads = threads;
  return o;
}

}  // namespace adrank
