#include "model/graph.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/rng.h"
#include "gmock/gmock.h"
#include "model/graph_forward.h"
#include "tests/testing/graph_specs.h"
#include "tests/testing/reference_graph.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::GraphOf;
using ::adrank::testing::Graphs;
using ::adrank::testing::NamedGraph;
using ::adrank::testing::PooledBatch;
using ::adrank::testing::ReferenceGraph;
using ::adrank::testing::StatusIs;
using ::adrank::testing::Vec;
using ::testing::HasSubstr;

TEST(Graph, ContextColumnsComeFirst) {
  ASSERT_OK_AND_ASSIGN(
      const Graph g,
      Graph::Create(GraphOf("dim: 3 field_dims { field: 'query' dim: 7 } "
                            "field_dims { field: 'brand' dim: 0 } streams {}"),
                    ALayout(), true));
  EXPECT_EQ(g.dim, 7);
  EXPECT_EQ(g.input_width(), 3 + 7 + 3 + 3);
  EXPECT_EQ(g.context_columns, 3 + 7);
  EXPECT_THAT(g.order, ::testing::ElementsAre(1, 3, 0, 4));
  EXPECT_EQ(g.fields[1].column, 0);
  EXPECT_EQ(g.fields[3].column, 3);
  EXPECT_EQ(g.fields[0].column, 10);
  EXPECT_EQ(g.fields[2].dim, 0);  // the position: linear alone
  EXPECT_EQ(g.fields[5].dim, 0);
}

TEST(Graph, BadGraphsAreRefusedAndThePartIsNamed) {
  struct Bad {
    const char* text;
    const char* what;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"", "graph: no part is on"},
           {"dim: 200 linear: true", "graph.dim: 200 is not in [1, 128]"},
           {"field_dims { field: 'x' dim: 1 } linear: true",
            "field_dims: no field or cross is called \"x\""},
           {"field_dims { field: 'ad' dim: 129 } linear: true",
            "field_dims: \"ad\": 129"},
           {"pairwise: FM field_dims { field: 'ad' dim: 4 }", "one size"},
           {"pairwise: FWFM field_dims { field: 'ad' dim: 4 }", "one size"},
           {"streams { emit: true } field_dims { field: 'ad' dim: 4 }",
            "one size"},
           {"streams { gate { kind: FIELD } } "
            "field_dims { field: 'ad' dim: 4 }",
            "one size"},
           {"streams { gate { kind: FIELDS } }",
            "streams[0].gate.fields: none"},
           {"streams {} streams { gate { kind: FIELDS fields: 'x' } }",
            "streams[1].gate.fields: no field or cross is called \"x\""},
           {"streams { gate { kind: FIELDS fields: 'position' } }",
            "streams[0].gate.fields: \"position\" has no embedding"},
           {"streams { gate { kind: FIELDS fields: 'ad' hidden: 0 } }",
            "streams[0].gate.hidden: 0"},
           {"streams { layers {} }", "streams[0].layers[0].units: 0"},
           {"streams { layers { units: 8193 } }", "layers[0].units: 8193"},
           {"streams { layers { kind: FINT units: 3 } }",
            "streams[0].layers[0].units: 3 is odd"},
           {"streams { layers { units: 3 dropout: 1 } }",
            "streams[0].layers[0].dropout: 1"},
           {"streams { layers { units: 3 dropout: 0.999999999 } }",
            "streams[0].layers[0].dropout: 1"},  // as a float
           {"streams { layers { units: 3 dropout: -0.1 } }", "dropout: -0.1"},
           {"streams { layers { units: 3 dropout: nan } }", "dropout: nan"},
           {"streams { layers { units: 3 } layers { kind: CROSS } }",
            "streams[0].layers[1]: a cross layer after 3 columns"},
           {"streams { layers { kind: CROSS rank: 9999 } }",
            "streams[0].layers[0].rank: 9999"},
           {"streams { layers { kind: CROSS_TRIANGULAR rank: 2 } }",
            "layers[0].rank: CROSS_TRIANGULAR has none"},
           {"streams { emit: true layers { kind: CROSS_TRIANGULAR } }",
            "streams[0].layers[0]: CROSS_TRIANGULAR needs the embeddings"},
           {"streams {} fusion { heads: 1 }", "fusion: needs two streams"},
           {"streams { layers { units: 4 } } streams { layers { units: 6 } } "
            "fusion { heads: 4 }",
            "fusion.heads: 4 does not divide the widths 4 and 6"},
           {"streams {} streams {} streams {} streams {} streams {} "
            "streams {} streams {} streams {} streams {}",
            "streams: 9, at most 8"},
       }) {
    EXPECT_THAT(
        Graph::Create(GraphOf(bad.text), ALayout(), true).status(),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.what)))
        << bad.text;
  }
  v1::ModelGraph spec = GraphOf("streams { layers { units: 3 } }");
  const auto refused = [&](const char* what) {
    EXPECT_THAT(Graph::Create(spec, ALayout(), true).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
    spec = GraphOf("streams { layers { units: 3 } }");
  };
  // Numbers that a newer writer may know.
  spec.set_pairwise(static_cast<v1::ModelGraph::Pairwise>(9));
  refused("pairwise: unknown value 9");
  spec.set_combine(static_cast<v1::ModelGraph::Combine>(9));
  refused("combine: unknown value 9");
  spec.mutable_streams(0)->mutable_gate()->set_kind(
      static_cast<v1::Gate::Kind>(9));
  refused("streams[0].gate.kind: unknown value 9");
  spec.mutable_streams(0)->mutable_layers(0)->set_kind(
      static_cast<v1::Layer::Kind>(9));
  refused("streams[0].layers[0].kind: unknown value 9");
  spec.mutable_streams(0)->mutable_layers(0)->set_activation(
      static_cast<v1::Layer::Activation>(9));
  refused("streams[0].layers[0].activation: unknown value 9");
  FieldLayout none = ALayout();
  none.position.assign(6, true);
  EXPECT_THAT(Graph::Create(spec, none, true).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no field has an embedding")));
}

TEST(Graph, OnlyLinearAndFmIsPlainFm) {
  for (const NamedGraph& g : Graphs()) {
    ASSERT_OK_AND_ASSIGN(const Graph graph,
                         Graph::Create(GraphOf(g.text), ALayout(), true));
    EXPECT_EQ(graph.IsPlainFm(), g.name == std::string("Fm")) << g.name;
  }
}

std::vector<float> RandomParameters(const Graph& graph, Rng* rng) {
  std::vector<float> p(graph.parameters);
  for (const Tensor& t : graph.tensors) {
    for (size_t i = 0; i < t.size(); ++i) {
      float& x = p[t.offset + i];
      x = static_cast<float>(0.5 * rng->Normal());
      if (absl::StrContains(t.name, "variance")) x = 0.3f + std::fabs(x);
      if (absl::StrContains(t.name, "scale")) x += 1;
    }
  }
  return p;
}

// Logits by graph_forward.h.
std::vector<float> Forward(const Graph& graph, const std::vector<float>& p,
                           const PooledBatch& batch) {
  const size_t rows = batch.x.size();
  std::vector<std::vector<float>> buffers, outputs(graph.outputs);
  std::vector<float*> buffer_of, output_of;
  for (const uint32_t width : graph.widths) buffers.emplace_back(rows * width);
  for (auto& b : buffers) buffer_of.push_back(b.data());
  for (auto& o : outputs) o.resize(rows);
  for (auto& o : outputs) output_of.push_back(o.data());
  std::vector<float> square(batch.square.begin(), batch.square.end());
  std::vector<float> shared;
  for (size_t r = 0; r < rows; ++r) {
    shared.push_back(p[0] + static_cast<float>(batch.linear[r]));
    std::copy(
        batch.x[r].begin(), batch.x[r].end(),
        buffers[0].begin() + static_cast<ptrdiff_t>(r * graph.input_width()));
  }
  GraphRows at;
  at.rows = rows;
  at.buffers = buffer_of;
  at.outputs = output_of;
  at.square = square.data();
  at.shared = shared.data();
  PackedTensors packed;
  packed.Pack(graph, p);
  for (const Node& node : graph.nodes) ForwardNode(graph, node, p, packed, at);
  CombineOutputs(graph, at, shared.data());
  return shared;
}

PooledBatch ABatch(const ReferenceGraph& reference, size_t rows, Rng* rng) {
  PooledBatch b;
  for (size_t r = 0; r < rows; ++r) {
    b.x.emplace_back();
    for (size_t j = 0; j < reference.width; ++j) {
      b.x[r].push_back(static_cast<float>(0.7 * rng->Normal()));
    }
    b.linear.push_back(static_cast<float>(rng->Normal()));
    b.square.push_back(static_cast<float>(rng->Normal()));
  }
  return b;
}

TEST(FoldBatchNorm, TheFoldedGraphIsTheTrainingGraphInEvaluation) {
  Rng rng(1);
  for (const NamedGraph& g : Graphs()) {
    v1::ModelGraph spec = GraphOf(g.text);
    for (int norms = 0; norms < 2; ++norms) {
      ASSERT_OK_AND_ASSIGN(const Graph training,
                           Graph::Create(spec, ALayout(), true));
      ASSERT_OK_AND_ASSIGN(const Graph inference,
                           Graph::Create(spec, ALayout(), false));
      const std::vector<float> p = RandomParameters(training, &rng);
      const std::vector<float> folded = FoldBatchNorm(training, p, inference);
      ReferenceGraph reference(spec, ALayout()), after(spec, ALayout());
      reference.Take(training, p);
      after.Take(inference, folded);
      for (const size_t rows : {1, 17, 130}) {
        const PooledBatch batch = ABatch(reference, rows, &rng);
        const Vec expected =
            reference.Run(batch, ReferenceGraph::Form::kEvaluation).logits;
        const Vec plain =
            after.Run(batch, ReferenceGraph::Form::kFolded).logits;
        const std::vector<float> got = Forward(inference, folded, batch);
        for (size_t r = 0; r < rows; ++r) {
          const double bound = 5e-5 * (1 + std::fabs(expected[r]));
          ASSERT_NEAR(got[r], expected[r], bound) << g.name;
          ASSERT_NEAR(plain[r], expected[r], bound) << g.name;
        }
      }
      // Once more with a norm and dropout after every layer.
      for (v1::Stream& s : *spec.mutable_streams()) {
        for (v1::Layer& l : *s.mutable_layers()) {
          l.set_batch_norm(true);
          l.set_dropout(0.3);
        }
      }
    }
  }
}

TEST(GraphForward, ARowDoesNotDependOnTheRowsBesideIt) {
  Rng rng(2);
  for (const NamedGraph& g : Graphs()) {
    const v1::ModelGraph spec = GraphOf(g.text);
    ASSERT_OK_AND_ASSIGN(const Graph graph,
                         Graph::Create(spec, ALayout(), false));
    const std::vector<float> p = RandomParameters(graph, &rng);
    const PooledBatch all = ABatch(ReferenceGraph(spec, ALayout()), 37, &rng);
    const std::vector<float> together = Forward(graph, p, all);
    for (size_t r = 0; r < 37; ++r) {
      const PooledBatch one = {{all.x[r]}, {all.square[r]}, {all.linear[r]}};
      ASSERT_EQ(Forward(graph, p, one)[0], together[r]) << g.name;
    }
  }
}

}  // namespace
}  // namespace adrank
