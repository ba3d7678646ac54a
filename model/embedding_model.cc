// Hot path: no allocation after warm-up, no locks, no logging.
#include "model/embedding_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

// Candidates scored together: enough for the products' tiles, few enough that
// all activations stay in the second-level cache.
constexpr size_t kChunk = 64;

}  // namespace

// Of one thread; grows to the largest graph it has met.
struct EmbeddingModel::Scratch {
  std::vector<float> context;
  std::vector<std::vector<float>> buffers;
  std::vector<std::vector<float>> outputs;
  std::vector<float*> pointers;
  float square[kChunk];
  float shared[kChunk];

  void Resize(const Graph& graph) {
    if (buffers.size() < graph.widths.size()) {
      buffers.resize(graph.widths.size());
    }
    if (outputs.size() < graph.outputs) outputs.resize(graph.outputs);
    pointers.clear();
    for (size_t b = 0; b < graph.widths.size(); ++b) {
      const size_t size = kChunk * graph.widths[b];
      if (buffers[b].size() < size) buffers[b].resize(size);
      pointers.push_back(buffers[b].data());
    }
    for (size_t o = 0; o < graph.outputs; ++o) {
      outputs[o].resize(kChunk);
      pointers.push_back(outputs[o].data());
    }
  }
};

EmbeddingModel::EmbeddingModel(Graph graph, const EmbeddingView& weights)
    : graph_(std::move(graph)), weights_(weights) {
  packed_.Pack(graph_, weights_.parameters());
}

absl::StatusOr<std::unique_ptr<const EmbeddingModel>> EmbeddingModel::Create(
    const v1::ModelGraph& spec, const FieldLayout& fields,
    const EmbeddingView& weights) {
  ASSIGN_OR_RETURN(Graph graph, Graph::Create(spec, fields, false));
  if (graph.parameters != weights.parameters().size() ||
      graph.dim != weights.dim() || graph.linear != !weights.linear().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        weights.parameters().size(), " parameters, dim ", weights.dim(),
        weights.linear().empty() ? ", no linear part" : ", a linear part",
        "; the graph has ", graph.parameters, " parameters, dim ", graph.dim,
        graph.linear ? ", a linear part" : ", no linear part"));
  }
  return std::unique_ptr<const EmbeddingModel>(
      new EmbeddingModel(std::move(graph), weights));
}

void EmbeddingModel::Pool(const FeatureBatch& batch,
                          const std::vector<uint32_t>& rows, size_t begin,
                          size_t end, float* x, Pooled* pooled) const {
  double linear = 0;
  float square = 0;
  for (size_t e = begin; e < end; ++e) {
    if (e + 8 < rows.size() && rows[e + 8] != kNoRow) {
      weights_.Prefetch(rows[e + 8]);
    }
    if (rows[e] == kNoRow) continue;
    const float value = batch.values[e];
    const GraphField& field = graph_.fields[batch.fields[e]];
    square += value * value *
              weights_.AddTo(rows[e], value, field.dim, x + field.column);
    if (graph_.linear) {
      linear += static_cast<double>(weights_.linear()[rows[e]]) *
                static_cast<double>(value);
    }
  }
  pooled->linear += linear;
  pooled->square += square;
}

EmbeddingModel::Pooled EmbeddingModel::PoolContext(
    const RequestFeatures& features, const RequestRows& rows,
    std::vector<float>* x) const {
  x->assign(graph_.context_columns, 0.0f);
  Pooled pooled;
  Pool(features.context, rows.context, 0, rows.context.size(), x->data(),
       &pooled);
  return pooled;
}

EmbeddingModel::Pooled EmbeddingModel::PoolRow(
    const RequestFeatures& features, const RequestRows& rows, size_t i,
    const std::vector<float>& context_x, const Pooled& context,
    float* x) const {
  std::copy(context_x.begin(), context_x.end(), x);
  std::fill(x + graph_.context_columns, x + graph_.input_width(), 0.0f);
  Pooled pooled = context;
  Pool(features.ads, rows.ads, features.ads.offsets[i],
       features.ads.offsets[i + 1], x, &pooled);
  Pool(features.crosses, rows.crosses, features.crosses.offsets[i],
       features.crosses.offsets[i + 1], x, &pooled);
  return pooled;
}

void EmbeddingModel::Logits(const RequestFeatures& features,
                            const RequestRows& rows,
                            absl::Span<float> logits) const {
  DCHECK_EQ(logits.size(), features.candidates());
  thread_local Scratch scratch;
  scratch.Resize(graph_);
  const size_t width = graph_.input_width();
  const Pooled context = PoolContext(features, rows, &scratch.context);
  const float bias = weights_.parameters()[0];
  for (size_t first = 0; first < logits.size(); first += kChunk) {
    const size_t n = std::min(kChunk, logits.size() - first);
    for (size_t r = 0; r < n; ++r) {
      const Pooled pooled =
          PoolRow(features, rows, first + r, scratch.context, context,
                  scratch.buffers[0].data() + r * width);
      scratch.shared[r] = bias + static_cast<float>(pooled.linear);
      scratch.square[r] = pooled.square;
    }
    GraphRows batch;
    batch.rows = n;
    batch.buffers =
        absl::MakeConstSpan(scratch.pointers).first(graph_.widths.size());
    batch.outputs =
        absl::MakeConstSpan(scratch.pointers).subspan(graph_.widths.size());
    batch.square = scratch.square;
    batch.shared = scratch.shared;
    for (const Node& node : graph_.nodes) {
      ForwardNode(graph_, node, weights_.parameters(), packed_, batch);
    }
    CombineOutputs(graph_, batch, &logits[first]);
  }
}

}  // namespace adrank
