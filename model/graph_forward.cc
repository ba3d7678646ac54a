// Hot path: no allocation after warm-up, no locks, no logging.
#include "model/graph_forward.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "model/kernels/clones.h"
#include "model/kernels/vector.h"

namespace adrank {
namespace {

ADRANK_CLONES void BiasRelu(size_t n, const float* b, float* x) {
  for (size_t i = 0; i < n; ++i) {
    const float z = x[i] + b[i];
    x[i] = z > 0 ? z : 0.0f;
  }
}

// out = x0 * (u + b) + x, u becomes u + b.
ADRANK_CLONES void CrossRow(size_t n, const float* x0, const float* x,
                            const float* b, float* u, float* out) {
  for (size_t i = 0; i < n; ++i) {
    u[i] += b[i];
    out[i] = x0[i] * u[i] + x[i];
  }
}

ADRANK_CLONES void ScaleShift(size_t n, const float* scale, const float* shift,
                              const float* x, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * scale[i] + shift[i];
}

ADRANK_CLONES void ReluInto(size_t n, const float* x, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] > 0 ? x[i] : 0.0f;
}

ADRANK_CLONES void DoubleProduct(size_t n, const float* x, const float* y,
                                 float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = 2 * (x[i] * y[i]);
}

// One node over some rows.
class NodeForward {
 public:
  NodeForward(const Graph& graph, const Node& node,
              absl::Span<const float> parameters, const PackedTensors* packed,
              const GraphRows& rows)
      : g_(graph), node_(node), p_(parameters), packed_(packed), rows_(rows) {}

  void Run() {
    switch (node_.kind) {
      case NodeKind::kColumns:
        return Columns();
      case NodeKind::kDense:
        return Dense();
      case NodeKind::kFint:
        return Fint();
      case NodeKind::kNorm:
        return Norm();
      case NodeKind::kCross:
        return Cross();
      case NodeKind::kLowRankCross:
        return LowRankCross();
      case NodeKind::kConstantGate:
        return ConstantGate();
      case NodeKind::kGateProduct:
        return DoubleProduct(rows_.rows * Width(node_.out), Row(node_.in),
                             Row(node_.in2), Row(node_.out));
      case NodeKind::kFieldGate:
        return FieldGate();
      case NodeKind::kEmit:
        return Emit();
      case NodeKind::kHead:
        return Head();
      case NodeKind::kFusion:
        return Fusion();
      case NodeKind::kFm:
        return Fm();
      case NodeKind::kFwfm:
        return Fwfm();
      case NodeKind::kFvfm:
        return Fvfm();
    }
  }

  // After the product.
  void Finish() {
    if (node_.kind == NodeKind::kDense) return FinishDense();
    AddCross(Parameter(node_.kind == NodeKind::kCross ? 1 : 2));
  }

 private:
  uint32_t Width(BufferId b) const { return g_.widths[b]; }
  float* Row(BufferId b, size_t r = 0) const {
    return rows_.buffers[b] + r * g_.widths[b];
  }
  const float* Parameter(int i) const {
    return p_.data() + g_.tensors[node_.t[i]].offset;
  }
  const PackedMatrix& Packed(int i, size_t part = 0) const {
    return packed_->of(node_.t[i])[part];
  }

  void Columns() {
    for (size_t r = 0; r < rows_.rows; ++r) {
      const float* in = Row(node_.in, r);
      float* out = Row(node_.out, r);
      for (const auto& [first, n] : node_.columns) {
        out = std::copy_n(in + first, n, out);
      }
    }
  }

  void Dense() {
    Gemm(rows_.rows, Row(node_.in), Width(node_.in), Packed(0), false,
         Row(node_.out), Width(node_.out));
    FinishDense();
  }

  void FinishDense() {
    const uint32_t n = Width(node_.out);
    const float* b = Parameter(1);
    for (size_t r = 0; r < rows_.rows; ++r) {
      float* out = Row(node_.out, r);
      if (node_.activation == Activation::kRelu) {
        BiasRelu(n, b, out);
      } else {
        AddTo(n, b, out);
      }
    }
    if (node_.activation == Activation::kSigmoid) {
      SigmoidInPlace(Row(node_.out), rows_.rows * n);
    }
  }

  void Fint() {
    const uint32_t half = Width(node_.out) / 2;
    for (size_t r = 0; r < rows_.rows; ++r) {
      const float* in = Row(node_.in, r);
      float* out = Row(node_.out, r);
      std::copy_n(in, half, out);
      MultiplyInto(half, in, in + half, out + half);
    }
  }

  void Norm() {
    DCHECK(!node_.batch_norm);
    const uint32_t n = Width(node_.out);
    for (size_t r = 0; r < rows_.rows; ++r) {
      const float* in = Row(node_.in, r);
      float* out = Row(node_.out, r);
      if (node_.t[0] != kNone) {
        ScaleShift(n, Parameter(0), Parameter(1), in, out);
        in = out;
      }
      if (node_.activation == Activation::kRelu) {
        ReluInto(n, in, out);
      } else if (in != out) {
        std::copy_n(in, n, out);
      }
    }
  }

  void Cross() {
    const uint32_t n = Width(node_.out);
    const uint32_t c = node_.context_columns;
    Gemm(rows_.rows, Row(node_.in), n, Packed(0), false, Row(node_.aux), n);
    if (c > 0 && c < n) {
      Gemm(rows_.rows, Row(node_.in), n, Packed(0, 1), false,
           Row(node_.aux) + c, n);
    }
    Finish();
  }

  void LowRankCross() {
    const uint32_t n = Width(node_.out), rank = Width(node_.aux2);
    Gemm(rows_.rows, Row(node_.in), n, Packed(0), false, Row(node_.aux2), rank);
    Gemm(rows_.rows, Row(node_.aux2), rank, Packed(1), false, Row(node_.aux),
         n);
    Finish();
  }

  void AddCross(const float* b) {
    for (size_t r = 0; r < rows_.rows; ++r) {
      CrossRow(Width(node_.out), Row(node_.in2, r), Row(node_.in, r), b,
               Row(node_.aux, r), Row(node_.out, r));
    }
  }

  void ConstantGate() {
    const uint32_t n = Width(node_.out);
    thread_local std::vector<float> gate;
    gate.assign(Parameter(0), Parameter(0) + n);
    SigmoidInPlace(gate.data(), n);
    for (size_t r = 0; r < rows_.rows; ++r) {
      DoubleProduct(n, Row(node_.in, r), gate.data(), Row(node_.out, r));
    }
  }

  // gate_g = a_g + sum_f A_fg e_f; out = [e ; e * gate].
  void FieldGate() {
    const uint32_t n = Width(node_.in), dim = g_.dim;
    const size_t fields = n / dim;
    const float* weights = Parameter(0);
    const float* bias = Parameter(1);
    for (size_t r = 0; r < rows_.rows; ++r) {
      const float* e = Row(node_.in, r);
      float* out = Row(node_.out, r);
      float* gated = out + n;
      std::copy_n(e, n, out);
      for (size_t f = 0; f < fields; ++f) {
        std::fill_n(gated + f * dim, dim, bias[f]);
      }
      for (size_t f = 0; f < fields; ++f) {
        for (size_t to = 0; to < fields; ++to) {
          AddScaled(dim, weights[f * fields + to], e + f * dim,
                    gated + to * dim);
        }
      }
      MultiplyInto(n, gated, e, gated);
    }
  }

  void Emit() {
    const uint32_t n = Width(node_.in);
    const size_t fields = n / g_.dim;
    thread_local std::vector<float> scratch;
    scratch.resize(n);
    for (size_t r = 0; r < rows_.rows; ++r) {
      float* out = Row(node_.out, r);
      std::copy_n(Row(node_.in, r), n, out);
      PairDots(fields, g_.dim, Row(node_.in, r), out + n, scratch.data());
    }
  }

  void Head() {
    float* out = rows_.outputs[node_.output];
    for (size_t r = 0; r < rows_.rows; ++r) {
      out[r] = DotFixed(Row(node_.in, r), Parameter(0), Width(node_.in));
    }
  }

  void Fusion() {
    const uint32_t w1 = Width(node_.in), w2 = Width(node_.in2);
    const size_t h1 = w1 / node_.heads, h2 = w2 / node_.heads;
    for (size_t h = 0; h < node_.heads; ++h) {
      Gemm(rows_.rows, Row(node_.in) + h * h1, w1, Packed(0, h), false,
           Row(node_.aux) + h * h2, w2);
    }
    for (size_t r = 0; r < rows_.rows; ++r) {
      rows_.shared[r] += DotFixed(Row(node_.aux, r), Row(node_.in2, r), w2);
    }
  }

  void Fm() {
    const uint32_t n = Width(node_.in), dim = g_.dim;
    float sum[128];
    for (size_t r = 0; r < rows_.rows; ++r) {
      const float* e = Row(node_.in, r);
      std::fill_n(sum, dim, 0.0f);
      for (uint32_t f = 0; f < n; f += dim) AddTo(dim, e + f, sum);
      rows_.shared[r] += 0.5f * (DotFixed(sum, sum, dim) - rows_.square[r]);
    }
  }

  void Fwfm() {
    const uint32_t n = Width(node_.in);
    thread_local std::vector<float> q;
    q.resize(n);
    for (size_t r = 0; r < rows_.rows; ++r) {
      FwfmProducts(n / g_.dim, g_.dim, Parameter(0), Row(node_.in, r),
                   q.data());
      rows_.shared[r] += 0.5f * DotFixed(Row(node_.in, r), q.data(), n);
    }
  }

  void Fvfm() {
    const uint32_t n = Width(node_.in);
    thread_local std::vector<float> q;
    q.resize(n);
    for (size_t r = 0; r < rows_.rows; ++r) {
      FvfmProducts(n / g_.dim, g_.dim, Parameter(0), Parameter(1),
                   Row(node_.in, r), q.data());
      rows_.shared[r] += 0.5f * DotFixed(Row(node_.in, r), q.data(), n);
    }
  }

  const Graph& g_;
  const Node& node_;
  const absl::Span<const float> p_;
  const PackedTensors* packed_;
  const GraphRows& rows_;
};

}  // namespace

ADRANK_CLONES void AddTo(size_t n, const float* x, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += x[i];
}
ADRANK_CLONES void AddScaled(size_t n, float scale, const float* x, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += scale * x[i];
}
ADRANK_CLONES void MultiplyInto(size_t n, const float* x, const float* y,
                                float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * y[i];
}
ADRANK_CLONES void AddProduct(size_t n, const float* x, const float* y,
                              float* out) {
  for (size_t i = 0; i < n; ++i) out[i] += x[i] * y[i];
}

void FwfmProducts(size_t fields, size_t dim, const float* r, const float* e,
                  float* q) {
  std::fill_n(q, fields * dim, 0.0f);
  for (size_t i = 0; i < fields; ++i) {
    for (size_t j = i + 1; j < fields; ++j, ++r) {
      AddScaled(dim, *r, e + j * dim, q + i * dim);
      AddScaled(dim, *r, e + i * dim, q + j * dim);
    }
  }
}

ADRANK_CLONES void FvfmProducts(size_t fields, size_t dim, const float* r,
                                const float* m, const float* e, float* q) {
  std::fill_n(q, fields * dim, 0.0f);
  for (size_t i = 0; i < fields; ++i) {
    for (size_t j = i + 1; j < fields; ++j, ++r, m += dim) {
      const float rij = *r, *x = e + i * dim, *y = e + j * dim;
      float *const p = q + i * dim, *const o = q + j * dim;
      for (size_t d = 0; d < dim; ++d) {
        const float weight = rij * m[d];
        p[d] += weight * y[d];
        o[d] += weight * x[d];
      }
    }
  }
}

// The sums run over d, so that all pairs of i are one vector.
ADRANK_CLONES void PairDots(size_t fields, size_t dim, const float* e,
                            float* dots, float* scratch) {
  for (size_t f = 0; f < fields; ++f) {
    for (size_t d = 0; d < dim; ++d) scratch[d * fields + f] = e[f * dim + d];
  }
  for (size_t i = 0; i + 1 < fields; ++i) {
    const size_t n = fields - i - 1;
    for (size_t j = 0; j < n; ++j) dots[j] = 0;
    for (size_t d = 0; d < dim; ++d) {
      const float x = e[i * dim + d];
      const float* y = scratch + d * fields + i + 1;
      for (size_t j = 0; j < n; ++j) dots[j] += x * y[j];
    }
    dots += n;
  }
}

void PackedTensors::PackNode(const Graph& graph, const Node& node,
                             absl::Span<const float> parameters) {
  const auto pack = [&](uint16_t tensor) {
    const Tensor& t = graph.tensors[tensor];
    auto& parts = by_tensor_[tensor];
    parts.resize(1);
    parts[0].Pack(&parameters[t.offset], t.rows, t.cols, t.cols, false);
  };
  switch (node.kind) {
    case NodeKind::kDense:
      return pack(node.t[0]);
    case NodeKind::kLowRankCross:
      pack(node.t[0]);
      return pack(node.t[1]);
    case NodeKind::kCross: {
      const uint32_t c = node.context_columns;
      const Tensor& t = graph.tensors[node.t[0]];
      if (c == 0 || c == t.cols) return pack(node.t[0]);
      auto& parts = by_tensor_[node.t[0]];
      parts.resize(2);
      const float* w = &parameters[t.offset];
      parts[0].Pack(w, c, c, t.cols, false);
      parts[1].Pack(w + c, t.rows, t.cols - c, t.cols, false);
      return;
    }
    case NodeKind::kFusion: {
      const Tensor& t = graph.tensors[node.t[0]];
      auto& parts = by_tensor_[node.t[0]];
      parts.resize(node.heads);
      const uint32_t h1 = t.rows / node.heads;
      for (size_t h = 0; h < node.heads; ++h) {
        parts[h].Pack(&parameters[t.offset + h * h1 * t.cols], h1, t.cols,
                      t.cols, false);
      }
      return;
    }
    default:
      return;
  }
}

void PackedTensors::Pack(const Graph& graph,
                         absl::Span<const float> parameters) {
  Reset(graph);
  for (const Node& node : graph.nodes) PackNode(graph, node, parameters);
}

void ForwardNode(const Graph& graph, const Node& node,
                 absl::Span<const float> parameters,
                 const PackedTensors& packed, const GraphRows& rows) {
  NodeForward(graph, node, parameters, &packed, rows).Run();
}

void FinishProduct(const Graph& graph, const Node& node,
                   absl::Span<const float> parameters, const GraphRows& rows) {
  NodeForward(graph, node, parameters, nullptr, rows).Finish();
}

void CombineOutputs(const Graph& graph, const GraphRows& rows, float* logits) {
  const float share =
      graph.mean && graph.outputs > 0 ? 1.0f / graph.outputs : 1.0f;
  for (size_t r = 0; r < rows.rows; ++r) {
    float sum = 0;
    for (uint16_t o = 0; o < graph.outputs; ++o) sum += rows.outputs[o][r];
    logits[r] = rows.shared[r] + share * sum;
  }
}

}  // namespace adrank
