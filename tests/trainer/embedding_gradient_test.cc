// The embedding family's learner against the reference graph, from the entries
// of examples to the logit and back.
#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "tests/testing/reference_graph.h"
#include "tests/trainer/embedding_testing.h"
#include "trainer/graph_trainer.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::ALearner;
using ::adrank::testing::AnXor;
using ::adrank::testing::GraphOf;
using ::adrank::testing::Graphs;
using ::adrank::testing::kRows;
using ::adrank::testing::Learn;
using ::adrank::testing::Logits;
using ::adrank::testing::NamedGraph;
using ::adrank::testing::OptionsOf;
using ::adrank::testing::PooledBatch;
using ::adrank::testing::ReferenceGraph;
using ::adrank::testing::Shape;
using ::adrank::testing::Vec;

// Pools a block's entries for the reference.
struct Rows {
  std::vector<Vec> v;  // [rows][dim]
  Vec w;               // [rows]
};
PooledBatch Pool(const ExampleBlock& block, const ReferenceGraph& graph,
                 const Rows& rows) {
  const size_t n = block.examples();
  PooledBatch b{std::vector<Vec>(n, Vec(graph.width)), Vec(n), Vec(n)};
  for (size_t i = 0; i < n; ++i) {
    for (size_t e = block.begin(i); e < block.begin(i + 1); ++e) {
      const auto& field = graph.fields[block.fields()[e]];
      const uint32_t row = block.rows()[e];
      const double x = block.values() ? block.values()[e] : 1;
      for (size_t d = 0; d < field.dim; ++d) {
        const double xv = x * rows.v[row][d];
        b.x[i][field.column + d] += xv;
        b.square[i] += xv * xv;
      }
      b.linear[i] += x * rows.w[row];
    }
  }
  return b;
}

Rows RowsOf(const EmbeddingWeights& frozen) {
  Rows rows;
  for (uint32_t r = 0; r < kRows; ++r) {
    rows.v.emplace_back(frozen.vectors.begin() + r * frozen.dim,
                        frozen.vectors.begin() + (r + 1) * frozen.dim);
    rows.w.push_back(frozen.linear.empty() ? 0 : frozen.linear[r]);
  }
  return rows;
}

double Softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
}

// One step of row-wise Adagrad whose accumulator is large moves every number
// by its gradient x a constant: compares it with differences of the whole loss,
// from the entries on.
void ExpectRowGradients(const char* text, bool distillation) {
  EmbeddingOptions o = OptionsOf(text);
  o.self_distillation = distillation;
  o.table.initial_accumulator = 1e12f;
  o.table.learning_rate = 1e8f;  // a step is 100 gradients
  o.table.initial_std = 0.5f;
  o.batch_size = 1000;
  Shape shape;
  shape.examples = 50;
  const ExampleBlocks blocks = AnXor(shape);
  const auto block = *blocks.Read(0);
  const auto learner = ALearner(o);
  Rows rows = RowsOf(learner->Freeze());
  // The parameters that a learner of this seed begins with.
  ThreadTeam team(1);
  GraphTrainer initial(*Graph::Create(o.graph, ALayout(), true), {o.seed},
                       &team);
  ReferenceGraph reference(o.graph, ALayout());
  reference.Take(initial.graph(), initial.parameters());
  reference.p["bias"] = {o.initial_bias};
  Vec targets;
  const auto loss = [&] {
    const auto result = reference.Run(Pool(*block, reference, rows),
                                      ReferenceGraph::Form::kTraining);
    const double n = static_cast<double>(block->examples());
    if (targets.empty()) {
      for (const double z : result.logits) {
        targets.push_back(1 / (1 + std::exp(-z)));
      }
    }
    double sum = 0;
    for (size_t i = 0; i < block->examples(); ++i) {
      const double z = result.logits[i];
      double own = Softplus(z) - (block->label(i) ? z : 0);
      if (distillation) {
        for (const Vec& out : result.outputs) {
          const double s = result.shared[i] + out[i];
          own += Softplus(s) - targets[i] * s;
        }
      }
      sum += block->weight(i) * own / n;
    }
    return sum;
  };
  loss();
  const auto difference = [&](double* at) {
    const double before = *at;
    *at = before + 1e-5;
    const double more = loss();
    *at = before - 1e-5;
    const double less = loss();
    *at = before;
    return (more - less) / 2e-5;
  };
  ASSERT_OK(learner->Update(*block));
  const Rows after = RowsOf(learner->Freeze());
  for (uint32_t r = 0; r < kRows; r += 3) {
    for (size_t d = 0; d < rows.v[r].size(); ++d) {
      ASSERT_NEAR((rows.v[r][d] - after.v[r][d]) / 100,
                  difference(&rows.v[r][d]), 1e-6)
          << text << " row " << r;
    }
    if (o.graph.linear()) {
      ASSERT_NEAR((rows.w[r] - after.w[r]) / 100, difference(&rows.w[r]), 1e-6)
          << text << " row " << r;
    }
  }
}

TEST(EmbeddingLearner, RowsMoveByTheDifferencesOfTheWholeLoss) {
  for (const NamedGraph& graph : Graphs()) {
    ASSERT_NO_FATAL_FAILURE(ExpectRowGradients(graph.text, false));
  }
  ExpectRowGradients(
      "dim: 3 linear: true pairwise: FM combine: MEAN "
      "field_dims { field: 'brand' dim: 0 } "
      "streams { layers { units: 4 } } streams { layers { units: 6 } }",
      true);
}

TEST(EmbeddingLearner, PredictIsTheReferenceOfTheFrozenModel) {
  const ExampleBlocks blocks = AnXor({});
  for (const NamedGraph& graph : Graphs()) {
    for (const float average : {0.0f, 0.5f}) {
      EmbeddingOptions o = OptionsOf(graph.text);
      o.average_decay = average;
      const auto learner = ALearner(o);
      Learn(blocks, learner.get());
      const EmbeddingWeights frozen = learner->Freeze();
      ReferenceGraph reference(o.graph, ALayout());
      reference.Take(*Graph::Create(o.graph, ALayout(), false),
                     frozen.parameters);
      const auto block = *blocks.Read(0);
      const auto expected =
          reference.Run(Pool(*block, reference, RowsOf(frozen)),
                        ReferenceGraph::Form::kFolded);
      const std::vector<float> logits = Logits(*learner, *block);
      for (size_t i = 0; i < logits.size(); ++i) {
        ASSERT_NEAR(logits[i], expected.logits[i],
                    1e-5 * (1 + std::fabs(expected.logits[i])))
            << graph.name;
      }
    }
  }
}

}  // namespace
}  // namespace adrank
