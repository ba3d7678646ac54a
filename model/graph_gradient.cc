#include "model/graph_gradient.h"

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "model/kernels/vector.h"

namespace adrank {
namespace {

// One row. g is always the gradient of a node's `out`, d that of its `in`; what
// flows to a buffer from several nodes adds up.
class RowGradient {
 public:
  RowGradient(const Graph& graph, absl::Span<const float> parameters,
              const GraphRows& rows, size_t row)
      : g_(graph),
        p_(parameters),
        rows_(rows),
        row_(row),
        head_(graph.mean && graph.outputs > 0
                  ? 1.0f / static_cast<float>(graph.outputs)
                  : 1.0f) {
    for (const uint32_t width : graph.widths) deltas_.emplace_back(width);
  }

  const std::vector<float>& Run() {
    for (size_t n = g_.nodes.size(); n-- > 0;) Back(g_.nodes[n]);
    return deltas_[0];
  }

 private:
  void Back(const Node& node) {
    switch (node.kind) {
      case NodeKind::kColumns:
        return Columns(node);
      case NodeKind::kDense:
        return Dense(node);
      case NodeKind::kFint:
        return Fint(node);
      case NodeKind::kNorm:
        return Norm(node);
      case NodeKind::kCross:
        return Cross(node);
      case NodeKind::kLowRankCross:
        return LowRankCross(node);
      case NodeKind::kConstantGate:
        return ConstantGate(node);
      case NodeKind::kGateProduct:
        return GateProduct(node);
      case NodeKind::kFieldGate:
        return FieldGate(node);
      case NodeKind::kEmit:
        return Emit(node);
      case NodeKind::kHead:
        return AddScaled(Width(node.in), head_, Parameter(node, 0), D(node.in));
      case NodeKind::kFusion:
        return Fusion(node);
      case NodeKind::kFm:
        return Fm(node);
      case NodeKind::kFwfm:
        return Pairs(node, Parameter(node, 0));
      case NodeKind::kFvfm:
        return Fvfm(node);
    }
  }

  uint32_t Width(BufferId b) const { return g_.widths[b]; }
  const float* X(BufferId b) const {
    return rows_.buffers[b] + row_ * g_.widths[b];
  }
  float* D(BufferId b) { return deltas_[b].data(); }
  const float* Parameter(const Node& node, int i) const {
    return &p_[g_.tensors[node.t[i]].offset];
  }

  // d += W g for W [rows][cols] (right operand of the forward product).
  static void AddProductBack(const float* w, size_t rows, size_t cols,
                             size_t stride, const float* g, float* d) {
    for (size_t i = 0; i < rows; ++i) d[i] += DotFixed(w + i * stride, g, cols);
  }
  static void MaskPositive(size_t n, const float* out, float* g) {
    for (size_t j = 0; j < n; ++j) g[j] = out[j] > 0 ? g[j] : 0.0f;
  }

  void Columns(const Node& node) {
    const float* g = D(node.out);
    for (const auto& [column, n] : node.columns) {
      AddTo(n, g, D(node.in) + column);
      g += n;
    }
  }

  // dz = g act'(z); d = W dz.
  void Dense(const Node& node) {
    const uint32_t n = Width(node.out);
    const float* out = X(node.out);
    float* g = D(node.out);
    if (node.activation == Activation::kRelu) MaskPositive(n, out, g);
    if (node.activation == Activation::kSigmoid) {
      for (uint32_t j = 0; j < n; ++j) g[j] *= out[j] * (1 - out[j]);
    }
    AddProductBack(Parameter(node, 0), Width(node.in), n, n, g, D(node.in));
  }

  // in = [h2 ; h1], out = [h2 ; h1 h2]: d h2 = g1 + g2 h1; d h1 = g2 h2.
  void Fint(const Node& node) {
    const uint32_t half = Width(node.out) / 2;
    const float *in = X(node.in), *g = D(node.out);
    AddTo(half, g, D(node.in));
    AddProduct(half, g + half, in + half, D(node.in));
    AddProduct(half, g + half, in, D(node.in) + half);
  }

  // out = act(scale in + shift).
  void Norm(const Node& node) {
    DCHECK(!node.batch_norm);
    const uint32_t n = Width(node.out);
    if (node.activation == Activation::kRelu) {
      MaskPositive(n, X(node.out), D(node.out));
    }
    if (node.t[0] == kNone) return AddTo(n, D(node.out), D(node.in));
    AddProduct(n, D(node.out), Parameter(node, 0), D(node.in));
  }

  // out = x0 u + x: du = g x0; d x0 += g u; d x += g.
  std::vector<float> CrossSides(const Node& node) {
    const uint32_t n = Width(node.out);
    std::vector<float> du(n);
    MultiplyInto(n, D(node.out), X(node.in2), du.data());
    AddProduct(n, D(node.out), X(node.aux), D(node.in2));
    AddTo(n, D(node.out), D(node.in));
    return du;
  }

  // u = x W + b: d x += W du; a context column of a triangular W feeds all
  // columns, any other only those that are not of the context.
  void Cross(const Node& node) {
    const std::vector<float> du = CrossSides(node);
    const size_t n = du.size(), c = node.context_columns;
    const float* w = Parameter(node, 0);
    AddProductBack(w, c, n, n, du.data(), D(node.in));
    if (c == n) return;
    AddProductBack(w + c * n + c, n - c, n - c, n, du.data() + c,
                   D(node.in) + c);
  }

  // u = t U + b, t = x V: dt = U du; d x += V dt.
  void LowRankCross(const Node& node) {
    const std::vector<float> du = CrossSides(node);
    const size_t n = du.size(), rank = Width(node.aux2);
    std::vector<float> dt(rank);
    AddProductBack(Parameter(node, 1), rank, n, n, du.data(), dt.data());
    AddProductBack(Parameter(node, 0), n, rank, rank, dt.data(), D(node.in));
  }

  // out = 2 sigmoid(c) in.
  void ConstantGate(const Node& node) {
    const uint32_t n = Width(node.out);
    std::vector<float> gate(Parameter(node, 0), Parameter(node, 0) + n);
    SigmoidInPlace(gate.data(), n);
    for (float& s : gate) s *= 2;
    AddProduct(n, D(node.out), gate.data(), D(node.in));
  }

  // out = 2 in2 in.
  void GateProduct(const Node& node) {
    const uint32_t n = Width(node.out);
    std::vector<float> twice(D(node.out), D(node.out) + n);
    for (float& g : twice) g *= 2;
    AddProduct(n, twice.data(), X(node.in2), D(node.in));
    AddProduct(n, twice.data(), X(node.in), D(node.in2));
  }

  // out = [e ; e gate], gate_g = a_g + sum_f A_fg e_f: with g = [g1 ; g2], d e
  // = g1 + g2 gate + sum_g A_fg (g2 e)_g.
  void FieldGate(const Node& node) {
    const uint32_t n = Width(node.in), dim = g_.dim;
    const size_t fields = n / dim;
    const float *e = X(node.in), *g1 = D(node.out), *g2 = g1 + n;
    const float *weights = Parameter(node, 0), *bias = Parameter(node, 1);
    std::vector<float> gate(n), d_gate(n);
    MultiplyInto(n, g2, e, d_gate.data());
    for (size_t to = 0; to < fields; ++to) {
      std::fill_n(&gate[to * dim], dim, bias[to]);
    }
    for (size_t f = 0; f < fields; ++f) {
      for (size_t to = 0; to < fields; ++to) {
        const float a = weights[f * fields + to];
        AddScaled(dim, a, e + f * dim, &gate[to * dim]);
        AddScaled(dim, a, &d_gate[to * dim], D(node.in) + f * dim);
      }
    }
    AddTo(n, g1, D(node.in));
    AddProduct(n, g2, gate.data(), D(node.in));
  }

  // out = [in ; <in_i, in_j>].
  void Emit(const Node& node) {
    AddTo(Width(node.in), D(node.out), D(node.in));
    Pairs(node, D(node.out) + Width(node.in));
  }

  // Of sum r_ij <in_i, in_j>: d in_i += sum_j r_ij in_j.
  void Pairs(const Node& node, const float* r) {
    const uint32_t n = Width(node.in);
    std::vector<float> q(n);
    FwfmProducts(n / g_.dim, g_.dim, r, X(node.in), q.data());
    AddTo(n, q.data(), D(node.in));
  }

  // Of sum r_ij <m_ij in_i, in_j>: d in_i += sum_j r_ij m_ij in_j.
  void Fvfm(const Node& node) {
    const uint32_t n = Width(node.in);
    std::vector<float> q(n);
    FvfmProducts(n / g_.dim, g_.dim, Parameter(node, 0), Parameter(node, 1),
                 X(node.in), q.data());
    AddTo(n, q.data(), D(node.in));
  }

  // y = sum_h t_h o2_h, t_h = o1_h W_h: d o2 += t; d o1_h += W_h o2_h.
  void Fusion(const Node& node) {
    const size_t w1 = Width(node.in), w2 = Width(node.in2);
    const size_t h1 = w1 / node.heads, h2 = w2 / node.heads;
    AddTo(w2, X(node.aux), D(node.in2));
    for (size_t h = 0; h < node.heads; ++h) {
      AddProductBack(Parameter(node, 0) + h * h1 * h2, h1, h2, h2,
                     X(node.in2) + h * h2, D(node.in) + h * h1);
    }
  }

  // y = 1/2 (|s|^2 - square), s = sum of the fields: d = s.
  void Fm(const Node& node) {
    const uint32_t n = Width(node.in), dim = g_.dim;
    std::vector<float> sum(dim);
    for (uint32_t f = 0; f < n; f += dim)
      AddTo(dim, X(node.in) + f, sum.data());
    for (uint32_t f = 0; f < n; f += dim) {
      AddTo(dim, sum.data(), D(node.in) + f);
    }
  }

  const Graph& g_;
  const absl::Span<const float> p_;
  const GraphRows& rows_;
  const size_t row_;
  const float head_;                        // d logit / d output of a head
  std::vector<std::vector<float>> deltas_;  // by BufferId
};

}  // namespace

void InputGradient(const Graph& graph, absl::Span<const float> parameters,
                   const GraphRows& rows, float* gradient) {
  for (size_t r = 0; r < rows.rows; ++r) {
    const std::vector<float> d = RowGradient(graph, parameters, rows, r).Run();
    std::copy(d.begin(), d.end(), gradient + r * graph.input_width());
  }
}

}  // namespace adrank
