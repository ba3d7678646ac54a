#include "model/graph.h"

#include <algorithm>
#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "features/spec_check.h"

namespace adrank {
namespace {

constexpr uint32_t kMaxDim = 128;
constexpr uint32_t kMaxUnits = 8192;
constexpr int kMaxStreams = 8;
constexpr int kMaxLayers = 32;

template <typename... Args>
absl::Status Bad(Args&&... args) {
  return absl::InvalidArgumentError(absl::StrCat("graph.", args...));
}

// Builds a Graph part by part.
class Builder {
 public:
  Builder(const v1::ModelGraph& spec, const FieldLayout& fields, bool training)
      : layout_(fields), training_(training) {
    g_.spec = spec;
    if (g_.spec.dim() == 0) g_.spec.set_dim(16);
    g_.linear = spec.linear();
    g_.mean = spec.combine() == v1::ModelGraph::MEAN;
  }

  absl::StatusOr<Graph> Build() {
    if (g_.spec.combine() > v1::ModelGraph::MEAN || g_.spec.combine() < 0) {
      return Bad("combine: unknown value ", g_.spec.combine());
    }
    RETURN_IF_ERROR(PlaceFields());
    RETURN_IF_ERROR(CheckOneSize());
    // The bias of the logit; the first tensor.
    AddTensor("bias", 1, 1, Tensor::Init::kZero);
    RETURN_IF_ERROR(AddPairwise());
    if (g_.spec.streams_size() > kMaxStreams) {
      return Bad("streams: ", g_.spec.streams_size(), ", at most ",
                 kMaxStreams);
    }
    std::vector<BufferId> tops;
    for (int s = 0; s < g_.spec.streams_size(); ++s) {
      ASSIGN_OR_RETURN(const BufferId top, AddStream(s));
      tops.push_back(top);
    }
    g_.outputs = static_cast<uint16_t>(tops.size());
    RETURN_IF_ERROR(AddFusion(tops));
    if (!g_.linear && !g_.has_fm && g_.nodes.empty()) {
      return absl::InvalidArgumentError(
          "graph: no part is on: set linear, pairwise or streams (an empty "
          "graph predicts the base rate)");
    }
    return std::move(g_);
  }

 private:
  absl::Status PlaceFields() {
    const size_t n = layout_.names.size();
    const uint32_t dim = g_.spec.dim();
    if (dim > kMaxDim)
      return Bad("dim: ", dim, " is not in [1, ", kMaxDim, "]");
    g_.fields.resize(n);
    absl::flat_hash_map<std::string, size_t> index;
    for (size_t f = 0; f < n; ++f) {
      index[layout_.names[f]] = f;
      g_.fields[f].dim = layout_.position[f] ? 0 : dim;
    }
    for (const v1::FieldDim& d : g_.spec.field_dims()) {
      const auto it = index.find(d.field());
      if (it == index.end()) {
        return Bad("field_dims: no field or cross is called \"", d.field(),
                   "\"");
      }
      if (d.dim() > kMaxDim) {
        return Bad("field_dims: \"", d.field(), "\": ", d.dim(),
                   " is not in [0, ", kMaxDim, "]");
      }
      g_.fields[it->second].dim = d.dim();
    }
    uint32_t column = 0;
    for (const bool context : {true, false}) {
      for (size_t f = 0; f < n; ++f) {
        if (layout_.context[f] != context || g_.fields[f].dim == 0) continue;
        g_.fields[f].column = column;
        column += g_.fields[f].dim;
        g_.dim = std::max(g_.dim, g_.fields[f].dim);
        g_.order.push_back(static_cast<uint16_t>(f));
      }
      if (context) g_.context_columns = column;
    }
    AddBuffer(column);
    return absl::OkStatus();
  }

  bool OneSize() const {
    return std::all_of(g_.order.begin(), g_.order.end(),
                       [&](uint16_t f) { return g_.fields[f].dim == g_.dim; });
  }
  absl::Status CheckOneSize() const {
    bool needs = g_.spec.pairwise() != v1::ModelGraph::PAIRWISE_UNSPECIFIED;
    for (const v1::Stream& s : g_.spec.streams()) {
      needs |= s.emit() || s.gate().kind() == v1::Gate::FIELD;
    }
    if (needs && !OneSize()) {
      return Bad(
          "field_dims: pairwise parts, emit and FIELD gates need one size for "
          "all fields that have an embedding");
    }
    const bool used = needs || g_.spec.streams_size() > 0;
    if (used && g_.order.empty()) {
      return Bad("field_dims: no field has an embedding, yet parts need one");
    }
    return absl::OkStatus();
  }

  uint16_t AddTensor(std::string name, uint32_t rows, uint32_t cols,
                     Tensor::Init init, bool product = false) {
    g_.tensors.push_back(
        {std::move(name), rows, cols, g_.parameters, init, product});
    g_.parameters += g_.tensors.back().size();
    return static_cast<uint16_t>(g_.tensors.size() - 1);
  }
  BufferId AddBuffer(uint32_t width) {
    g_.widths.push_back(width);
    return static_cast<BufferId>(g_.widths.size() - 1);
  }
  uint32_t Fields() const { return static_cast<uint32_t>(g_.order.size()); }

  absl::Status AddPairwise() {
    switch (g_.spec.pairwise()) {
      case v1::ModelGraph::PAIRWISE_UNSPECIFIED:
        return absl::OkStatus();
      case v1::ModelGraph::FM: {
        g_.has_fm = true;
        Node node;
        node.kind = NodeKind::kFm;
        node.in = 0;
        g_.nodes.push_back(node);
        return absl::OkStatus();
      }
      case v1::ModelGraph::FWFM: {
        const uint32_t pairs = Fields() * (Fields() - 1) / 2;
        Node node;
        node.kind = NodeKind::kFwfm;
        node.in = 0;
        node.t[0] = AddTensor("fwfm.r", pairs, 1, Tensor::Init::kOne);
        g_.nodes.push_back(node);
        return absl::OkStatus();
      }
      case v1::ModelGraph::FVFM: {
        // r and m apart, not their product: r finds the pairs that matter as
        // fast as in FwFM, and the many m of those that do not are scaled by an
        // r near 0 (bench/RESULTS.md, planted pair effects).
        const uint32_t pairs = Fields() * (Fields() - 1) / 2;
        Node node;
        node.kind = NodeKind::kFvfm;
        node.in = 0;
        node.t[0] = AddTensor("fvfm.r", pairs, 1, Tensor::Init::kOne);
        node.t[1] = AddTensor("fvfm.m", pairs, g_.dim, Tensor::Init::kOne);
        g_.nodes.push_back(node);
        return absl::OkStatus();
      }
      default:
        return Bad("pairwise: unknown value ", g_.spec.pairwise());
    }
  }

  absl::StatusOr<BufferId> AddStream(int s) {
    const v1::Stream& stream = g_.spec.streams(s);
    where_ = absl::StrCat("streams[", s, "]");
    ASSIGN_OR_RETURN(BufferId at, AddGate(stream.gate()));
    if (stream.emit()) at = AddEmit(at);
    if (stream.layers_size() > kMaxLayers) {
      return Bad(where_, ".layers: ", stream.layers_size(), ", at most ",
                 kMaxLayers);
    }
    const BufferId first = at;
    for (int l = 0; l < stream.layers_size(); ++l) {
      where_ = absl::StrCat("streams[", s, "].layers[", l, "]");
      ASSIGN_OR_RETURN(at, AddLayer(stream.layers(l), first, at));
    }
    Node head;
    head.kind = NodeKind::kHead;
    head.in = at;
    head.output = static_cast<uint16_t>(s);
    head.t[0] = AddTensor(absl::StrCat("streams[", s, "].head.w"),
                          g_.widths[at], 1, Tensor::Init::kXavier);
    g_.nodes.push_back(head);
    return at;
  }

  absl::StatusOr<BufferId> AddGate(const v1::Gate& gate) {
    const uint32_t width = g_.widths[0];
    Node node;
    node.in = 0;
    switch (gate.kind()) {
      case v1::Gate::KIND_UNSPECIFIED:
        return BufferId{0};
      case v1::Gate::CONSTANT:
        node.kind = NodeKind::kConstantGate;
        node.out = AddBuffer(width);
        node.t[0] =
            AddTensor(where_ + ".gate.c", 1, width, Tensor::Init::kZero);
        break;
      case v1::Gate::FIELD: {
        node.kind = NodeKind::kFieldGate;
        node.out = AddBuffer(2 * width);
        node.t[0] = AddTensor(where_ + ".gate.A", Fields(), Fields(),
                              Tensor::Init::kZero);
        node.t[1] =
            AddTensor(where_ + ".gate.a", 1, Fields(), Tensor::Init::kOne);
        break;
      }
      case v1::Gate::FIELDS: {
        ASSIGN_OR_RETURN(BufferId at, AddGateColumns(gate));
        for (int i = 0; i < gate.hidden_size(); ++i) {
          const uint32_t units = gate.hidden(i);
          if (units == 0 || units > kMaxUnits) {
            return Bad(where_, ".gate.hidden: ", units, " is not in [1, ",
                       kMaxUnits, "]");
          }
          at = AddDense(absl::StrCat(where_, ".gate.hidden[", i, "]"), at,
                        units, Activation::kRelu);
        }
        node.kind = NodeKind::kGateProduct;
        node.in2 =
            AddDense(where_ + ".gate.out", at, width, Activation::kSigmoid);
        node.out = AddBuffer(width);
        break;
      }
      default:
        return Bad(where_, ".gate.kind: unknown value ", gate.kind());
    }
    g_.nodes.push_back(node);
    return node.out;
  }

  absl::StatusOr<BufferId> AddGateColumns(const v1::Gate& gate) {
    if (gate.fields_size() == 0) {
      return Bad(where_, ".gate.fields: none, FIELDS needs at least one");
    }
    Node node;
    node.kind = NodeKind::kColumns;
    node.in = 0;
    uint32_t width = 0;
    for (const std::string& name : gate.fields()) {
      const auto it =
          std::find(layout_.names.begin(), layout_.names.end(), name);
      if (it == layout_.names.end()) {
        return Bad(where_, ".gate.fields: no field or cross is called \"", name,
                   "\"");
      }
      const GraphField& field =
          g_.fields[static_cast<size_t>(it - layout_.names.begin())];
      if (field.dim == 0) {
        return Bad(where_, ".gate.fields: \"", name, "\" has no embedding");
      }
      node.columns.emplace_back(field.column, field.dim);
      width += field.dim;
    }
    node.out = AddBuffer(width);
    g_.nodes.push_back(node);
    return node.out;
  }

  BufferId AddDense(const std::string& name, BufferId in, uint32_t units,
                    Activation activation) {
    Node node;
    node.kind = NodeKind::kDense;
    node.in = in;
    node.out = AddBuffer(units);
    node.activation = activation;
    node.t[0] = AddTensor(name + ".W", g_.widths[in], units,
                          Tensor::Init::kXavier, true);
    node.t[1] = AddTensor(name + ".b", 1, units, Tensor::Init::kZero);
    g_.nodes.push_back(node);
    return node.out;
  }

  BufferId AddEmit(BufferId in) {
    Node node;
    node.kind = NodeKind::kEmit;
    node.in = in;
    // A FIELD gate doubled the fields.
    const uint32_t fields = g_.widths[in] / g_.dim;
    node.out = AddBuffer(g_.widths[in] + fields * (fields - 1) / 2);
    g_.nodes.push_back(node);
    return node.out;
  }

  absl::StatusOr<BufferId> AddLayer(const v1::Layer& layer, BufferId first,
                                    BufferId at) {
    // As float: what it is used as.
    if (!(layer.dropout() >= 0 && static_cast<float>(layer.dropout()) < 1)) {
      return Bad(where_, ".dropout: ", layer.dropout(), " is not in [0, 1)");
    }
    if (layer.activation() > v1::Layer::NONE || layer.activation() < 0) {
      return Bad(where_, ".activation: unknown value ", layer.activation());
    }
    switch (layer.kind()) {
      case v1::Layer::KIND_UNSPECIFIED:
      case v1::Layer::DENSE:
        RETURN_IF_ERROR(CheckUnits(layer));
        return AddDenseLayer(layer, at);
      case v1::Layer::FINT:
        RETURN_IF_ERROR(CheckUnits(layer));
        if (layer.units() % 2 != 0) {
          return Bad(where_, ".units: ", layer.units(), " is odd, FINT halves");
        }
        return AddFint(layer, at);
      case v1::Layer::CROSS:
      case v1::Layer::CROSS_TRIANGULAR:
        return AddCross(layer, first, at);
      default:
        return Bad(where_, ".kind: unknown value ", layer.kind());
    }
  }

  absl::Status CheckUnits(const v1::Layer& layer) const {
    if (layer.units() == 0 || layer.units() > kMaxUnits) {
      return Bad(where_, ".units: ", layer.units(), " is not in [1, ",
                 kMaxUnits, "]");
    }
    return absl::OkStatus();
  }

  static Activation ActivationOf(const v1::Layer& layer) {
    return layer.activation() == v1::Layer::NONE ? Activation::kNone
                                                 : Activation::kRelu;
  }

  BufferId AddDenseLayer(const v1::Layer& layer, BufferId at) {
    const bool norm = layer.batch_norm() && training_;
    const bool after = norm || (layer.dropout() > 0 && training_);
    at = AddDense(where_, at, layer.units(),
                  after ? Activation::kNone : ActivationOf(layer));
    if (after) at = AddNorm(layer, at, ActivationOf(layer));
    return at;
  }

  BufferId AddFint(const v1::Layer& layer, BufferId at) {
    at = AddDense(where_, at, layer.units(), Activation::kNone);
    Node node;
    node.kind = NodeKind::kFint;
    node.in = at;
    node.out = AddBuffer(layer.units());
    g_.nodes.push_back(node);
    return AddNorm(layer, node.out, ActivationOf(layer));
  }

  // Batch norm, activation and dropout; `in` itself when all are off.
  BufferId AddNorm(const v1::Layer& layer, BufferId in, Activation activation) {
    Node node;
    node.kind = NodeKind::kNorm;
    node.in = in;
    node.activation = activation;
    node.batch_norm = layer.batch_norm() && training_;
    node.dropout = training_ ? static_cast<float>(layer.dropout()) : 0.0f;
    if (!layer.batch_norm() && node.dropout == 0 &&
        activation == Activation::kNone) {
      return in;
    }
    const uint32_t width = g_.widths[in];
    if (layer.batch_norm()) {
      node.t[0] =
          AddTensor(where_ + ".norm.scale", 1, width, Tensor::Init::kOne);
      node.t[1] =
          AddTensor(where_ + ".norm.shift", 1, width, Tensor::Init::kZero);
    }
    if (node.batch_norm) {
      node.t[2] =
          AddTensor(where_ + ".norm.mean", 1, width, Tensor::Init::kZero);
      node.t[3] =
          AddTensor(where_ + ".norm.variance", 1, width, Tensor::Init::kOne);
    }
    node.out = AddBuffer(width);
    g_.nodes.push_back(node);
    return node.out;
  }

  absl::StatusOr<BufferId> AddCross(const v1::Layer& layer, BufferId first,
                                    BufferId at) {
    const uint32_t width = g_.widths[first];
    if (g_.widths[at] != width) {
      return Bad(where_, ": a cross layer after ", g_.widths[at],
                 " columns; it needs the stream's ", width,
                 " (cross layers come before dense ones)");
    }
    if (layer.rank() > kMaxUnits) {
      return Bad(where_, ".rank: ", layer.rank(), ", at most ", kMaxUnits);
    }
    Node node;
    node.in = at;
    node.in2 = first;
    if (layer.kind() == v1::Layer::CROSS_TRIANGULAR) {
      if (layer.rank() > 0) {
        return Bad(where_, ".rank: CROSS_TRIANGULAR has none");
      }
      if (first != 0) {
        return Bad(where_,
                   ": CROSS_TRIANGULAR needs the embeddings themselves: no "
                   "gate, no emit before it");
      }
      node.context_columns = g_.context_columns;
    }
    if (layer.rank() > 0) {
      node.kind = NodeKind::kLowRankCross;
      node.t[0] = AddTensor(where_ + ".V", width, layer.rank(),
                            Tensor::Init::kXavier, true);
      node.t[1] = AddTensor(where_ + ".U", layer.rank(), width,
                            Tensor::Init::kXavier, true);
      node.t[2] = AddTensor(where_ + ".b", 1, width, Tensor::Init::kZero);
      node.aux2 = AddBuffer(layer.rank());
    } else {
      node.kind = NodeKind::kCross;
      node.t[0] =
          AddTensor(where_ + ".W", width, width, Tensor::Init::kXavier, true);
      node.t[1] = AddTensor(where_ + ".b", 1, width, Tensor::Init::kZero);
    }
    node.aux = AddBuffer(width);
    node.out = AddBuffer(width);
    g_.nodes.push_back(node);
    return AddNorm(layer, node.out, Activation::kNone);
  }

  absl::Status AddFusion(const std::vector<BufferId>& tops) {
    const uint32_t heads = g_.spec.fusion().heads();
    if (heads == 0) return absl::OkStatus();
    if (tops.size() < 2) {
      return Bad("fusion: needs two streams, there are ", tops.size());
    }
    const uint32_t w1 = g_.widths[tops[0]], w2 = g_.widths[tops[1]];
    if (heads > kMaxUnits || w1 % heads != 0 || w2 % heads != 0) {
      return Bad("fusion.heads: ", heads, " does not divide the widths ", w1,
                 " and ", w2, " of the first two streams");
    }
    Node node;
    node.kind = NodeKind::kFusion;
    node.in = tops[0];
    node.in2 = tops[1];
    node.heads = static_cast<uint16_t>(heads);
    node.aux = AddBuffer(w2);
    node.t[0] = AddTensor("fusion.W", w1, w2 / heads, Tensor::Init::kXavier);
    g_.nodes.push_back(node);
    return absl::OkStatus();
  }

  const FieldLayout& layout_;
  const bool training_;
  Graph g_;
  std::string where_;
};

const Tensor* TensorNamed(const Graph& graph, const std::string& name) {
  for (const Tensor& t : graph.tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<FieldLayout> LayoutOf(const v1::FeatureSpec& spec) {
  ASSIGN_OR_RETURN(const ResolvedSpec resolved, ResolveSpec(spec, true));
  FieldLayout layout;
  for (const ResolvedField& f : resolved.fields) {
    layout.names.push_back(f.name);
    layout.context.push_back(f.part == Part::kContext);
    layout.position.push_back(f.source.kind == SourceKind::kPosition);
  }
  for (const ResolvedCross& c : resolved.crosses) {
    layout.names.push_back(c.name);
    layout.context.push_back(c.part == Part::kContext);
    layout.position.push_back(
        std::any_of(c.fields.begin(), c.fields.end(), [&](uint16_t f) {
          return resolved.fields[f].source.kind == SourceKind::kPosition;
        }));
  }
  return layout;
}

absl::StatusOr<Graph> Graph::Create(const v1::ModelGraph& spec,
                                    const FieldLayout& fields, bool training) {
  return Builder(spec, fields, training).Build();
}

bool Graph::IsPlainFm() const { return linear && has_fm && nodes.size() == 1; }

uint64_t Graph::MultiplyAdds() const {
  uint64_t sum = 0;
  for (const Tensor& t : tensors) sum += t.product ? t.size() : 0;
  const uint64_t f = order.size();
  for (const Node& n : nodes) {
    const uint64_t pairs = uint64_t{widths[n.in]} / std::max(1u, dim);
    if (n.kind == NodeKind::kHead) sum += widths[n.in];
    if (n.kind == NodeKind::kFusion) sum += tensors[n.t[0]].size();
    if (n.kind == NodeKind::kFwfm) sum += f * f * dim / 2;
    if (n.kind == NodeKind::kFvfm) sum += f * f * dim;
    if (n.kind == NodeKind::kEmit) sum += pairs * (pairs - 1) / 2 * dim;
    if (n.kind == NodeKind::kFieldGate) sum += f * f * dim;
  }
  return sum;
}

std::vector<float> FoldBatchNorm(const Graph& training,
                                 const std::vector<float>& parameters,
                                 const Graph& inference) {
  std::vector<float> folded(inference.parameters);
  for (const Tensor& to : inference.tensors) {
    const Tensor* from = TensorNamed(training, to.name);
    if (from == nullptr) continue;
    std::copy_n(&parameters[from->offset], from->size(), &folded[to.offset]);
  }
  for (const Node& node : training.nodes) {
    if (node.kind != NodeKind::kNorm || !node.batch_norm) continue;
    const Tensor& scale = training.tensors[node.t[0]];
    const float* g = &parameters[scale.offset];
    const float* shift = &parameters[training.tensors[node.t[1]].offset];
    const float* mean = &parameters[training.tensors[node.t[2]].offset];
    const float* variance = &parameters[training.tensors[node.t[3]].offset];
    const std::string base = scale.name.substr(0, scale.name.rfind(".norm"));
    const Tensor* own = TensorNamed(inference, scale.name);
    const Tensor* w = TensorNamed(inference, base + ".W");
    const Tensor* b = TensorNamed(inference, base + ".b");
    for (uint32_t j = 0; j < scale.cols; ++j) {
      // In double: it is done once, and rounds once.
      const double s = g[j] / std::sqrt(static_cast<double>(variance[j]) +
                                        kBatchNormEpsilon);
      if (own != nullptr) {
        folded[own->offset + j] = static_cast<float>(s);
        folded[own->offset + own->cols + j] =
            static_cast<float>(shift[j] - s * mean[j]);
        continue;
      }
      for (uint32_t i = 0; i < w->rows; ++i) {
        float& weight = folded[w->offset + size_t{i} * w->cols + j];
        weight = static_cast<float>(weight * s);
      }
      float& bias = folded[b->offset + j];
      bias = static_cast<float>((bias - mean[j]) * s + shift[j]);
    }
  }
  return folded;
}

}  // namespace adrank
