// Random models of the embedding family over ALayout(), and requests for them.
#ifndef ADRANK_TESTS_MODEL_AN_EMBEDDING_H_
#define ADRANK_TESTS_MODEL_AN_EMBEDDING_H_

#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/rng.h"
#include "model/embedding_model.h"
#include "model/embedding_weights.h"
#include "tests/testing/graph_specs.h"
#include "tests/testing/reference_graph.h"

namespace adrank::testing {

// Numbers of about `spread`, as the graph wants them.
inline EmbeddingWeights RandomWeights(const Graph& graph, uint64_t rows,
                                      double spread, Rng* rng) {
  const auto fill = [&](size_t n) {
    std::vector<float> v(n);
    for (float& x : v) x = static_cast<float>(spread * rng->Normal());
    return v;
  };
  EmbeddingWeights w;
  w.dim = graph.dim;
  w.vectors = fill(rows * w.dim);
  if (graph.linear) w.linear = fill(rows);
  w.parameters = fill(graph.parameters);
  return w;
}

// Field f owns rows [7 f, 7 f + 7).
class AnEmbedding {
 public:
  static constexpr uint32_t kFieldRows = 7;
  static constexpr uint32_t kRows = 6 * kFieldRows;

  explicit AnEmbedding(const std::string& text,
                       v1::EmbeddingStorage storage = v1::STORE_FP32,
                       uint64_t seed = 1)
      : spec(GraphOf(text)), reference(spec, ALayout()) {
    auto created = Graph::Create(spec, ALayout(), false);
    CHECK(created.ok()) << created.status();
    graph = *std::move(created);
    Rng rng(seed);
    weights = RandomWeights(graph, kRows, 0.5, &rng);
    bytes_ = SerializeEmbedding(weights, kRows, storage);
    auto view = EmbeddingView::Parse(bytes_);
    CHECK(view.ok()) << view.status();
    auto made = EmbeddingModel::Create(spec, ALayout(), *view);
    CHECK(made.ok()) << made.status();
    model = *std::move(made);
    reference.Take(graph, weights.parameters);
  }

  // Adds entry (row, value) of the row's field to a part of a request.
  static void Add(uint32_t row, float value, FeatureBatch* batch,
                  std::vector<uint32_t>* rows, uint32_t field) {
    batch->Add(static_cast<uint16_t>(field), 1 + row, value);
    rows->push_back(row);
  }

  v1::ModelGraph spec;
  Graph graph;
  EmbeddingWeights weights;
  std::unique_ptr<const EmbeddingModel> model;
  ReferenceGraph reference;

 private:
  std::string bytes_;
};

// A request and its rows: fields with 0 to 3 entries, values of both signs, one
// entry in eight unknown.
struct ARequest {
  ARequest(size_t candidates, uint64_t seed) {
    Rng rng(seed);
    FillRow({1, 3}, &features.context, &rows.context, &rng);
    for (size_t i = 0; i < candidates; ++i) {
      FillRow({0, 5}, &features.ads, &rows.ads, &rng);
      FillRow({4, 2}, &features.crosses, &rows.crosses, &rng);
    }
  }

  static void FillRow(const std::vector<uint32_t>& fields, FeatureBatch* batch,
                      std::vector<uint32_t>* rows, Rng* rng) {
    for (const uint32_t f : fields) {
      for (uint64_t n = rng->Below(4); n > 0; --n) {
        const uint32_t row = rng->Below(8) == 0
                                 ? kNoRow
                                 : f * AnEmbedding::kFieldRows +
                                       static_cast<uint32_t>(rng->Below(7));
        AnEmbedding::Add(row, static_cast<float>(rng->Uniform() * 2 - 0.5),
                         batch, rows, f);
      }
    }
    batch->EndRow();
  }

  // Candidate i alone.
  ARequest Only(size_t i) const {
    ARequest one(0, 0);
    one.features.context = features.context;
    one.rows.context = rows.context;
    Copy(features.ads, rows.ads, i, &one.features.ads, &one.rows.ads);
    Copy(features.crosses, rows.crosses, i, &one.features.crosses,
         &one.rows.crosses);
    return one;
  }

  RequestFeatures features;
  RequestRows rows;

 private:
  static void Copy(const FeatureBatch& from, const std::vector<uint32_t>& rows,
                   size_t i, FeatureBatch* to, std::vector<uint32_t>* to_rows) {
    for (size_t e = from.offsets[i]; e < from.offsets[i + 1]; ++e) {
      AnEmbedding::Add(rows[e], from.values[e], to, to_rows, from.fields[e]);
    }
    to->EndRow();
  }
};

inline std::vector<float> Logits(const Model& model, const ARequest& request) {
  std::vector<float> logits(request.features.candidates());
  model.Logits(request.features, request.rows, absl::MakeSpan(logits));
  return logits;
}

// x v of an entry in the input's columns, in double.
inline Vec EntryVector(const AnEmbedding& a, uint32_t row, uint32_t field,
                       float value) {
  Vec x(a.graph.input_width());
  if (row == kNoRow) return x;
  for (uint32_t d = 0; d < a.graph.fields[field].dim; ++d) {
    x[a.graph.fields[field].column + d] =
        double{value} * double{a.weights.vectors[row * a.weights.dim + d]};
  }
  return x;
}

// The pooled rows of a request, in double.
inline PooledBatch PoolSlowly(const AnEmbedding& a, const ARequest& request) {
  PooledBatch batch;
  for (size_t i = 0; i < request.features.candidates(); ++i) {
    Vec x(a.graph.input_width());
    double square = 0, linear = 0;
    std::vector<uint32_t> rows;
    for (const Contribution& c :
         FullRow(request.features, request.rows, i, &rows)) {
      const uint32_t row = rows[c.entry];
      if (row == kNoRow) continue;
      const Vec xv = EntryVector(a, row, c.field, c.value);
      for (size_t j = 0; j < x.size(); ++j) {
        x[j] += xv[j];
        square += xv[j] * xv[j];
      }
      if (a.graph.linear) {
        linear += double{c.value} * double{a.weights.linear[row]};
      }
    }
    batch.x.push_back(x);
    batch.square.push_back(square);
    batch.linear.push_back(linear);
  }
  return batch;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_MODEL_AN_EMBEDDING_H_
