// Explanations of the embedding family.
#include <cmath>
#include <cstdio>

#include "gmock/gmock.h"
#include "model/graph_forward.h"
#include "model/graph_gradient.h"
#include "tests/model/an_embedding.h"

namespace adrank {
namespace {

using ::adrank::testing::AnEmbedding;
using ::adrank::testing::ARequest;
using ::adrank::testing::EntryVector;
using ::adrank::testing::Graphs;
using ::adrank::testing::Logits;
using ::adrank::testing::NamedGraph;
using ::adrank::testing::PooledBatch;
using ::adrank::testing::PoolSlowly;
using ::adrank::testing::ReferenceGraph;
using ::adrank::testing::Vec;

constexpr auto kFolded = ReferenceGraph::Form::kFolded;

double SizeOf(const Explanation& why) {
  double size = std::fabs(why.base);
  for (const Contribution& c : why.contributions) {
    size += std::fabs(c.contribution);
  }
  return size;
}

// The gradient at random embeddings, by the forward pass over plain arrays.
std::vector<float> Gradient(const AnEmbedding& a, const PooledBatch& batch) {
  const Graph& g = a.graph;
  const size_t n = batch.x.size();
  std::vector<std::vector<float>> arrays;
  for (const uint32_t width : g.widths) arrays.emplace_back(n * width);
  for (int o = 0; o < g.outputs; ++o) arrays.emplace_back(n);
  for (size_t r = 0; r < n; ++r) {
    for (size_t j = 0; j < batch.x[r].size(); ++j) {
      arrays[0][r * batch.x[r].size() + j] = static_cast<float>(batch.x[r][j]);
    }
  }
  std::vector<float*> at;
  for (auto& array : arrays) at.push_back(array.data());
  std::vector<float> square(n), shared(n);
  GraphRows rows;
  rows.rows = n;
  rows.buffers = absl::MakeConstSpan(at).first(g.widths.size());
  rows.outputs = absl::MakeConstSpan(at).subspan(g.widths.size());
  rows.square = square.data();
  rows.shared = shared.data();
  PackedTensors packed;
  packed.Pack(g, a.weights.parameters);
  for (const Node& node : g.nodes) {
    ForwardNode(g, node, a.weights.parameters, packed, rows);
  }
  std::vector<float> gradient(n * g.input_width());
  InputGradient(g, a.weights.parameters, rows, gradient.data());
  return gradient;
}

TEST(InputGradient, IsThatOfCentralDifferencesInDouble) {
  constexpr double kStep = 1e-6;
  for (const NamedGraph& named : Graphs()) {
    const AnEmbedding a(named.text);
    const PooledBatch batch = PoolSlowly(a, ARequest(5, 11));
    const std::vector<float> found = Gradient(a, batch);
    const size_t width = a.graph.input_width();
    for (size_t j = 0; j < width; ++j) {
      PooledBatch up = batch, down = batch;
      for (size_t r = 0; r < 5; ++r) {
        up.x[r][j] += kStep;
        down.x[r][j] -= kStep;
      }
      const Vec high = a.reference.Run(up, kFolded).logits;
      const Vec low = a.reference.Run(down, kFolded).logits;
      for (size_t r = 0; r < 5; ++r) {
        const double expected = (high[r] - low[r]) / (2 * kStep);
        EXPECT_NEAR(found[r * width + j], expected,
                    2e-5 * (1 + std::fabs(expected)))
            << named.name << " row " << r << " column " << j;
      }
    }
  }
}

// x_i w_i + 1/2 sum over the partners j of r <x_i v_i, x_j v_j>.
double PairShare(const AnEmbedding& a, const std::vector<Contribution>& row,
                 const std::vector<uint32_t>& table_rows, size_t i) {
  if (table_rows[i] == kNoRow) return 0;
  double sum = 0;
  if (a.graph.linear) {
    sum = double{row[i].value} * double{a.weights.linear[table_rows[i]]};
  }
  const auto place = [&](uint32_t field) {
    return static_cast<size_t>(
        std::find(a.graph.order.begin(), a.graph.order.end(), field) -
        a.graph.order.begin());
  };
  const bool fvfm = a.spec.pairwise() == v1::ModelGraph::FVFM;
  const bool fields = fvfm || a.spec.pairwise() == v1::ModelGraph::FWFM;
  if (!fields && !a.graph.has_fm) return sum;
  const size_t n = a.graph.order.size();
  for (size_t j = 0; j < row.size(); ++j) {
    const size_t p = place(row[i].field), q = place(row[j].field);
    if (j == i || table_rows[j] == kNoRow || p == n || q == n) continue;
    double r = 1;
    size_t pair = 0;
    if (fields) {
      if (p == q) continue;
      const size_t lo = std::min(p, q), hi = std::max(p, q);
      pair = lo * (2 * n - lo - 1) / 2 + hi - lo - 1;
      r = a.reference.p.at(fvfm ? "fvfm.r" : "fwfm.r")[pair];
    }
    for (uint32_t d = 0; d < a.graph.dim; ++d) {
      const double m =
          fvfm ? a.reference.p.at("fvfm.m")[pair * a.graph.dim + d] : 1;
      sum += 0.5 * r * m * double{row[i].value} * double{row[j].value} *
             double{a.weights.vectors[table_rows[i] * a.graph.dim + d]} *
             double{a.weights.vectors[table_rows[j] * a.graph.dim + d]};
    }
  }
  return sum;
}

TEST(EmbeddingExplain, LinearFmFwfmAndFvfmAreSplitExactly) {
  for (const char* text :
       {"dim: 3 linear: true", "dim: 5 linear: true pairwise: FM",
        "dim: 17 pairwise: FM", "dim: 3 linear: true pairwise: FWFM",
        "dim: 5 linear: true pairwise: FVFM"}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const AnEmbedding a(text, v1::STORE_FP32, seed);
      const ARequest request(3, seed);
      const std::vector<float> logits = Logits(*a.model, request);
      for (size_t i = 0; i < 3; ++i) {
        const Explanation why =
            a.model->Explain(request.features, request.rows, i);
        EXPECT_EQ(why.method, Explanation::Method::kExact);
        EXPECT_EQ(why.logit, logits[i]);
        EXPECT_EQ(why.base, double{a.weights.parameters[0]});
        std::vector<uint32_t> rows;
        const auto row = FullRow(request.features, request.rows, i, &rows);
        ASSERT_EQ(why.contributions.size(), row.size());
        double sum = 0;
        const double size = SizeOf(why);
        for (size_t e = 0; e < row.size(); ++e) {
          sum += why.contributions[e].contribution;
          EXPECT_NEAR(why.contributions[e].contribution,
                      PairShare(a, row, rows, e), 1e-6 * (1 + size))
              << text << " seed " << seed << " entry " << e;
        }
        EXPECT_NEAR(sum, double{why.logit} - why.base, 2e-6 * (1 + size));
        EXPECT_NEAR(why.gap, double{why.logit} - why.base - sum, 1e-12 * size);
      }
    }
  }
}

TEST(EmbeddingExplain, EveryGraphIsCompleteUpToTheGapItReports) {
  for (const NamedGraph& named : Graphs()) {
    double worst = 0;
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      const AnEmbedding a(named.text, v1::STORE_FP32, seed);
      const ARequest request(3, seed);
      const std::vector<float> logits = Logits(*a.model, request);
      for (size_t i = 0; i < 3; ++i) {
        const Explanation why =
            a.model->Explain(request.features, request.rows, i);
        EXPECT_EQ(why.logit, logits[i]) << named.name;
        double sum = why.base;
        for (const Contribution& c : why.contributions) sum += c.contribution;
        EXPECT_NEAR(why.logit, sum + why.gap, 1e-9) << named.name;
        worst = std::max(worst, std::fabs(why.gap) / (1e-3 + SizeOf(why)));
        std::vector<uint32_t> rows;
        FullRow(request.features, request.rows, i, &rows);
        for (const Contribution& c : why.contributions) {
          if (rows[c.entry] == kNoRow) {
            EXPECT_EQ(c.contribution, 0);
          }
        }
      }
    }
    EXPECT_LT(worst, 0.01) << named.name;
  }
}

// phi of entry e by 2000 midpoints of the path and differences, all in double.
double PathShare(const AnEmbedding& a, const PooledBatch& row, const Vec& xv) {
  constexpr int kPoints = 2000;
  constexpr double kStep = 1e-6;
  PooledBatch up, down;
  for (int t = 0; t < kPoints; ++t) {
    const double share = (t + 0.5) / kPoints;
    for (const double side : {kStep, -kStep}) {
      PooledBatch& to = side > 0 ? up : down;
      to.x.push_back(row.x[0]);
      to.square.push_back(0);
      to.linear.push_back(0);
      for (size_t j = 0; j < xv.size(); ++j) {
        to.x.back()[j] = share * row.x[0][j] + side * xv[j];
      }
    }
  }
  const Vec high = a.reference.Run(up, kFolded).logits;
  const Vec low = a.reference.Run(down, kFolded).logits;
  double sum = 0;
  for (int t = 0; t < kPoints; ++t) sum += (high[t] - low[t]) / (2 * kStep);
  return sum / kPoints;
}

TEST(EmbeddingExplain, DeepPartsAreIntegratedFromTheRowWithoutFeatures) {
  for (const char* text :
       {"dim: 3 streams { layers { kind: CROSS } layers { kind: CROSS } }",
        "dim: 3 streams { gate { kind: FIELDS fields: 'ad' } }",
        "dim: 3 streams { layers { units: 7 } layers { units: 5 } }",
        "dim: 3 streams {} streams {} fusion { heads: 5 }"}) {
    const AnEmbedding a(text);
    const ARequest request = ARequest(4, 7).Only(2);
    const PooledBatch row = PoolSlowly(a, request);
    const Explanation why = a.model->Explain(request.features, request.rows, 0);
    EXPECT_EQ(why.method, Explanation::Method::kIntegratedGradients);
    PooledBatch zero = row;
    zero.x[0].assign(zero.x[0].size(), 0);
    EXPECT_NEAR(why.base, a.reference.Run(zero, kFolded).logits[0], 1e-5);
    std::vector<uint32_t> rows;
    FullRow(request.features, request.rows, 0, &rows);
    const double bound = 1e-4 + 0.01 * SizeOf(why);
    for (const Contribution& c : why.contributions) {
      const Vec xv = EntryVector(a, rows[c.entry], c.field, c.value);
      EXPECT_NEAR(c.contribution, PathShare(a, row, xv), bound)
          << text << " entry " << c.entry;
    }
  }
}

}  // namespace
}  // namespace adrank
