// Examples with a planted XOR, and learners of the embedding family for them.
#ifndef ADRANK_TESTS_TRAINER_EMBEDDING_TESTING_H_
#define ADRANK_TESTS_TRAINER_EMBEDDING_TESTING_H_

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/rng.h"
#include "tests/testing/graph_specs.h"
#include "tests/testing/status_matchers.h"
#include "trainer/embedding_learner.h"
#include "trainer/metrics.h"

namespace adrank::testing {

inline constexpr uint32_t kFields = 6;     // of ALayout()
inline constexpr uint32_t kFieldRows = 7;  // rows of a field
inline constexpr uint32_t kRows = kFields * kFieldRows;

struct Shape {
  size_t examples = 300;
  bool multi = true;  // fields missing, or with several entries, values not 1
  bool weights = true;
  uint64_t seed = 1;
  ExampleBlocksOptions blocks;
};

// Clicks where the ad's row and the user's have different parity.
inline ExampleBlocks AnXor(const Shape& shape) {
  ExampleBlocks blocks(shape.blocks);
  Rng rng(shape.seed);
  for (size_t i = 0; i < shape.examples; ++i) {
    std::vector<uint32_t> rows;
    std::vector<float> values;
    std::vector<uint16_t> fields;
    const auto add = [&](uint32_t f) {
      rows.push_back(f * kFieldRows +
                     static_cast<uint32_t>(rng.Below(kFieldRows)));
      fields.push_back(static_cast<uint16_t>(f));
      values.push_back(shape.multi ? static_cast<float>(rng.Uniform() * 2 - 0.5)
                                   : 1.0f);
    };
    const bool empty = shape.multi && rng.Bernoulli(0.05);
    for (uint32_t f = 0; f < kFields && !empty; ++f) {
      const uint64_t entries = shape.multi ? rng.Below(4) : 1;
      for (uint64_t n = 0; n < entries; ++n) add(f);
      if (entries == 3) {  // a row twice
        rows.push_back(rows.back());
        fields.push_back(fields.back());
        values.push_back(0.5f);
      }
    }
    const bool click = rows.size() > 1 && (rows[0] + rows[1]) % 2 == 1
                           ? rng.Bernoulli(0.9)
                           : rng.Bernoulli(0.1);
    const float weight =
        shape.weights ? static_cast<float>(rng.Below(3)) * 0.5f : 1.0f;
    CHECK(blocks.Add(rows, values, click, weight, i, fields).ok());
  }
  CHECK(blocks.Finish().ok());
  return blocks;
}

inline EmbeddingOptions OptionsOf(const char* graph,
                                  RowTableOptions::Optimizer optimizer =
                                      RowTableOptions::Optimizer::kAdagradRow) {
  EmbeddingOptions o;
  o.graph = GraphOf(graph);
  o.table.optimizer = optimizer;
  o.batch_size = 64;
  o.seed = 9;
  o.initial_bias = -0.5f;
  if (optimizer == RowTableOptions::Optimizer::kAdam ||
      optimizer == RowTableOptions::Optimizer::kAdamLazy) {
    o.table.learning_rate = 0.01f;
  }
  return o;
}

inline std::unique_ptr<EmbeddingLearner> ALearner(
    const EmbeddingOptions& options, uint64_t rows = kRows) {
  auto learner = EmbeddingLearner::Create(options, ALayout(), rows);
  CHECK(learner.ok()) << learner.status();
  return *std::move(learner);
}

inline void Learn(const ExampleBlocks& blocks, EmbeddingLearner* learner) {
  EXPECT_OK(blocks.ForEach(
      [&](const ExampleBlock& block) { return learner->Update(block); }));
}

inline std::vector<float> Logits(const EmbeddingLearner& learner,
                                 const ExampleBlock& block) {
  std::vector<float> logits(block.examples());
  EXPECT_OK(learner.Predict(block, absl::MakeSpan(logits)));
  return logits;
}

inline double Auc(const EmbeddingLearner& learner, const ExampleBlock& block) {
  std::vector<float> p = Logits(learner, block);
  for (float& x : p) x = 1 / (1 + std::exp(-x));
  return ComputeMetrics({p, block.labels()}).auc();
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TRAINER_EMBEDDING_TESTING_H_
