#include "trainer/graph_backward.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/graph_forward.h"
#include "model/kernels/clones.h"
#include "model/kernels/vector.h"

namespace adrank {
namespace {

// d = 0 where out is not positive.
ADRANK_CLONES void MaskPositive(size_t n, const float* out, float* d) {
  for (size_t j = 0; j < n; ++j) d[j] = out[j] > 0 ? d[j] : 0.0f;
}
ADRANK_CLONES void SigmoidSlope(size_t n, const float* out, float* d) {
  for (size_t j = 0; j < n; ++j) d[j] *= out[j] * (1 - out[j]);
}
ADRANK_CLONES void AddDoubleProduct(size_t n, const float* x, const float* y,
                                    float* out) {
  for (size_t j = 0; j < n; ++j) out[j] += 2 * (x[j] * y[j]);
}
ADRANK_CLONES void Scale(size_t n, float s, const float* x, float* out) {
  for (size_t j = 0; j < n; ++j) out[j] = s * x[j];
}

// Sums over ascending rows of d and of d * (x - mean) * inverse.
ADRANK_CLONES void NormSums(size_t rows, size_t width, size_t begin, size_t end,
                            const float* d, const float* x, const float* mean,
                            const float* inverse, float* sum, float* sum_x) {
  for (size_t j = begin; j < end; ++j) sum[j] = sum_x[j] = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = begin; j < end; ++j) {
      const size_t i = r * width + j;
      sum[j] += d[i];
      sum_x[j] += d[i] * ((x[i] - mean[j]) * inverse[j]);
    }
  }
}

// out += scale inverse (d - sum / rows - xhat sum_x / rows).
ADRANK_CLONES void NormToIn(size_t n, float share, const float* d,
                            const float* x, const float* mean,
                            const float* inverse, const float* scale,
                            const float* sum, const float* sum_x, float* out) {
  for (size_t j = 0; j < n; ++j) {
    const float xhat = (x[j] - mean[j]) * inverse[j];
    out[j] += scale[j] * inverse[j] *
              (d[j] - share * sum[j] - xhat * (share * sum_x[j]));
  }
}

// Sums over ascending rows of weight[r] x[r][j].
ADRANK_CLONES void WeightedColumnSums(size_t rows, size_t width, size_t begin,
                                      size_t end, const float* weights,
                                      const float* x, float* sums) {
  for (size_t j = begin; j < end; ++j) sums[j] = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = begin; j < end; ++j) {
      sums[j] += weights[r] * x[r * width + j];
    }
  }
}
ADRANK_CLONES void ColumnSums(size_t rows, size_t width, size_t begin,
                              size_t end, const float* x, float* sums) {
  for (size_t j = begin; j < end; ++j) sums[j] = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = begin; j < end; ++j) sums[j] += x[r * width + j];
  }
}
// Sums over ascending rows of x * y.
ADRANK_CLONES void ProductColumnSums(size_t rows, size_t width, size_t begin,
                                     size_t end, const float* x, const float* y,
                                     float* sums) {
  for (size_t j = begin; j < end; ++j) sums[j] = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = begin; j < end; ++j) {
      sums[j] += x[r * width + j] * y[r * width + j];
    }
  }
}

// sums_ijd += delta e_id e_jd for pairs of fields in their order.
ADRANK_CLONES void AddPairProducts(size_t fields, size_t dim, float delta,
                                   const float* e, float* sums) {
  for (size_t i = 0; i < fields; ++i) {
    for (size_t j = i + 1; j < fields; ++j, sums += dim) {
      const float *x = e + i * dim, *y = e + j * dim;
      for (size_t d = 0; d < dim; ++d) sums[d] += delta * (x[d] * y[d]);
    }
  }
}

// A chunk of rows whose small sums are kept apart.
constexpr size_t kPartialRows = 128;

// Part `part` of `parts` nearly equal ones of [0, n), cut at multiples of 8: a
// tile of the products' kernels.
std::pair<size_t, size_t> PartOf(size_t n, size_t part, size_t parts) {
  const size_t tiles = (n + 7) / 8;
  return {std::min(n, tiles * part / parts * 8),
          std::min(n, tiles * (part + 1) / parts * 8)};
}

std::vector<float>& Scratch() {
  thread_local std::vector<float> scratch;
  return scratch;
}

}  // namespace

void PackTransposed(const Graph& graph, const Node& node,
                    absl::Span<const float> parameters,
                    std::vector<std::vector<PackedMatrix>>* by_tensor) {
  const auto pack = [&](uint16_t tensor) {
    const Tensor& t = graph.tensors[tensor];
    auto& parts = (*by_tensor)[tensor];
    parts.resize(1);
    parts[0].Pack(&parameters[t.offset], t.cols, t.rows, t.cols, true);
  };
  switch (node.kind) {
    case NodeKind::kDense:
      return pack(node.t[0]);
    case NodeKind::kLowRankCross:
      pack(node.t[0]);
      return pack(node.t[1]);
    case NodeKind::kCross: {
      const Tensor& t = graph.tensors[node.t[0]];
      const uint32_t c = node.context_columns;
      if (c == 0 || c == t.cols) return pack(node.t[0]);
      auto& parts = (*by_tensor)[node.t[0]];
      parts.resize(2);
      const float* w = &parameters[t.offset];
      parts[0].Pack(w, c, c, t.cols, true);
      parts[1].Pack(w + c, t.cols - c, t.rows, t.cols, true);
      return;
    }
    case NodeKind::kFusion: {
      const Tensor& t = graph.tensors[node.t[0]];
      auto& parts = (*by_tensor)[node.t[0]];
      parts.resize(node.heads);
      const uint32_t h1 = t.rows / node.heads;
      for (size_t h = 0; h < node.heads; ++h) {
        parts[h].Pack(&parameters[t.offset + h * h1 * t.cols], t.cols, h1,
                      t.cols, true);
      }
      return;
    }
    default:
      return;
  }
}

void NodeBackward::Run() {
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
      return GateProduct();
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

void NodeBackward::BeginIn(size_t first, size_t last) {
  if (t_.begun_[n_].first) return;
  std::fill(t_.Delta(node_.in, first), t_.Delta(node_.in, last), 0.0f);
}
void NodeBackward::BeginIn2(size_t first, size_t last) {
  if (t_.begun_[n_].second) return;
  std::fill(t_.Delta(node_.in2, first), t_.Delta(node_.in2, last), 0.0f);
}

void NodeBackward::ProductToIn(int i, const float* d, BufferId in, bool begun,
                               size_t first, size_t last) {
  const Tensor& w = g_.tensors[node_.t[i]];
  if (i == 0 && t_.UsesBf16(node_)) {
    Bf16Matrix& rounded = t_.deltas16_[n_];
    rounded.AssignRows(first, last - first, d, w.cols);
    GemmBf16(last - first, rounded, first, t_.backward16_[node_.t[i]], begun,
             t_.Delta(in, first), w.rows);
  } else {
    Gemm(last - first, d, w.cols, t_.backward_[node_.t[i]][0], begun,
         t_.Delta(in, first), w.rows);
  }
}

// The longer side of W is cut, one part a thread: every part packs the other
// operand anew.
void NodeBackward::ProductGradient(int i, int bias, BufferId in,
                                   const float* d) {
  const Tensor& w = g_.tensors[node_.t[i]];
  const float* x = t_.Buffer(in);
  float* const out = Gradient(i);
  const bool bf16 = i == 0 && t_.UsesBf16(node_);
  const bool cut_rows = bf16 || w.rows >= w.cols;
  const size_t parts = t_.team_->size();
  ParallelFor(t_.team_, parts, [&](size_t part, uint32_t) {
    const auto [top, bottom] =
        PartOf(w.rows, cut_rows ? part : 0, cut_rows ? parts : 1);
    const auto [left, right] =
        PartOf(w.cols, cut_rows ? 0 : part, cut_rows ? 1 : parts);
    if (bf16) {
      GemmTransposedABf16(bottom - top, t_.inputs16_[in], top, t_.deltas16_[n_],
                          false, out + top * w.cols, w.cols, &Scratch());
    } else {
      GemmTransposedA(bottom - top, right - left, rows_, x + top, w.rows,
                      d + left, w.cols, false, out + top * w.cols + left,
                      w.cols, &Scratch());
    }
    if (bias >= 0) {
      const auto [begin, end] = PartOf(w.cols, part, parts);
      ColumnSums(rows_, w.cols, begin, end, d, Gradient(bias));
    }
  });
}

float* NodeBackward::Partial(size_t first, size_t size) {
  return t_.partial_[n_].data() + first / kPartialRows * size;
}

void NodeBackward::SumPartials(size_t size, float* out) {
  std::fill_n(out, size, 0.0f);
  for (size_t first = 0; first < rows_; first += kPartialRows) {
    AddTo(size, Partial(first, size), out);
  }
}

void NodeBackward::Columns() {
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    for (size_t r = first; r < last; ++r) {
      const float* g = t_.Delta(node_.out, r);
      for (const auto& [column, n] : node_.columns) {
        AddTo(n, g, t_.Delta(node_.in, r) + column);
        g += n;
      }
    }
  });
}

// dz = g act'(z); d in = dz W'; dW = in' dz; db = sum dz.
void NodeBackward::Dense() {
  const uint32_t width = Width(node_.out);
  t_.ByRows([&](size_t first, size_t last) {
    const size_t n = (last - first) * width;
    float* d = t_.Delta(node_.out, first);
    if (node_.activation == Activation::kRelu) {
      MaskPositive(n, t_.Buffer(node_.out, first), d);
    } else if (node_.activation == Activation::kSigmoid) {
      SigmoidSlope(n, t_.Buffer(node_.out, first), d);
    }
    ProductToIn(0, d, node_.in, t_.begun_[n_].first, first, last);
  });
  ProductGradient(0, 1, node_.in, t_.Delta(node_.out));
}

// in = [h2 ; h1], out = [h2 ; h1 h2]: d h2 = g2 + g1 h1; d h1 = g1 h2.
void NodeBackward::Fint() {
  const uint32_t half = Width(node_.out) / 2;
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    for (size_t r = first; r < last; ++r) {
      const float* in = t_.Buffer(node_.in, r);
      const float* g = t_.Delta(node_.out, r);
      float* d = t_.Delta(node_.in, r);
      AddTo(half, g, d);
      AddProduct(half, g + half, in + half, d);
      AddProduct(half, g + half, in, d + half);
    }
  });
}

void NodeBackward::Norm() {
  const uint32_t width = Width(node_.out);
  t_.ByRows([&](size_t first, size_t last) {
    const size_t n = (last - first) * width;
    float* g = t_.Delta(node_.out, first);
    // By the hash, not by which outputs are 0: a kept one may be.
    for (size_t r = first; r < last; ++r) {
      t_.DropRow(n_, r, t_.Delta(node_.out, r));
    }
    if (node_.activation == Activation::kRelu) {
      MaskPositive(n, t_.Buffer(node_.out, first), g);
    }
    if (node_.batch_norm) return;
    BeginIn(first, last);
    AddTo(n, g, t_.Delta(node_.in, first));
  });
  if (node_.batch_norm) BatchNorm();
}

// xh = (x - mean) / sqrt(var + eps), n = scale xh + shift:
// d x = scale / sqrt(var + eps) (g - mean(g) - xh mean(g xh)).
// Ioffe and Szegedy 2015.
void NodeBackward::BatchNorm() {
  const uint32_t width = Width(node_.out);
  const float* mean = t_.mean_[n_].data();
  const float* inverse = t_.inverse_[n_].data();
  float* const d_scale = Gradient(0);
  float* const d_shift = Gradient(1);
  t_.ByColumns(width, [&](size_t begin, size_t end) {
    NormSums(rows_, width, begin, end, t_.Delta(node_.out), t_.Buffer(node_.in),
             mean, inverse, d_shift, d_scale);
  });
  const float share = 1 / static_cast<float>(rows_);
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    for (size_t r = first; r < last; ++r) {
      NormToIn(width, share, t_.Delta(node_.out, r), t_.Buffer(node_.in, r),
               mean, inverse, Parameter(0), d_shift, d_scale,
               t_.Delta(node_.in, r));
    }
  });
}

// out = x0 u + x, u = x W + b: du = g x0; d x0 += g u; d x += g + du W'.
void NodeBackward::Cross() {
  const uint32_t n = Width(node_.out), c = node_.context_columns;
  const bool triangular = c > 0 && c < n;
  t_.ByRows([&](size_t first, size_t last) {
    const size_t size = (last - first) * n;
    const float* g = t_.Delta(node_.out, first);
    float* du = t_.Delta(node_.aux, first);
    MultiplyInto(size, g, t_.Buffer(node_.in2, first), du);
    BeginIn2(first, last);
    AddProduct(size, g, t_.Buffer(node_.aux, first),
               t_.Delta(node_.in2, first));
    BeginIn(first, last);
    AddTo(size, g, t_.Delta(node_.in, first));
    if (!triangular) return ProductToIn(0, du, node_.in, true, first, last);
    const auto& parts = t_.backward_[node_.t[0]];
    Gemm(last - first, du, n, parts[0], true, t_.Delta(node_.in, first), n);
    Gemm(last - first, du + c, n, parts[1], true, t_.Delta(node_.in, first), n);
  });
  const float* du = t_.Delta(node_.aux);
  ProductGradient(0, 1, node_.in, du);
  if (triangular) {  // the block that is not there
    for (uint32_t i = c; i < n; ++i) {
      std::fill_n(Gradient(0) + size_t{i} * n, c, 0.0f);
    }
  }
}

// u = t U + b, t = x V: dt = du U'; d x += g + dt V'.
void NodeBackward::LowRankCross() {
  const uint32_t n = Width(node_.out), rank = Width(node_.aux2);
  t_.ByRows([&](size_t first, size_t last) {
    const size_t size = (last - first) * n;
    const float* g = t_.Delta(node_.out, first);
    float* du = t_.Delta(node_.aux, first);
    float* dt = t_.Delta(node_.aux2, first);
    MultiplyInto(size, g, t_.Buffer(node_.in2, first), du);
    BeginIn2(first, last);
    AddProduct(size, g, t_.Buffer(node_.aux, first),
               t_.Delta(node_.in2, first));
    BeginIn(first, last);
    AddTo(size, g, t_.Delta(node_.in, first));
    Gemm(last - first, du, n, t_.backward_[node_.t[1]][0], false, dt, rank);
    Gemm(last - first, dt, rank, t_.backward_[node_.t[0]][0], true,
         t_.Delta(node_.in, first), n);
  });
  ProductGradient(1, 2, node_.aux2, t_.Delta(node_.aux));
  ProductGradient(0, -1, node_.in, t_.Delta(node_.aux2));
}

// out = 2 s in, s = sigmoid(c): d in = 2 s g; dc = 2 s (1 - s) sum g in.
void NodeBackward::ConstantGate() {
  const uint32_t n = Width(node_.out);
  std::vector<float> s(Parameter(0), Parameter(0) + n);
  SigmoidInPlace(s.data(), n);
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    for (size_t r = first; r < last; ++r) {
      AddDoubleProduct(n, s.data(), t_.Delta(node_.out, r),
                       t_.Delta(node_.in, r));
    }
  });
  float* const dc = Gradient(0);
  t_.ByColumns(n, [&](size_t begin, size_t end) {
    ProductColumnSums(rows_, n, begin, end, t_.Delta(node_.out),
                      t_.Buffer(node_.in), dc);
    for (size_t j = begin; j < end; ++j) dc[j] *= 2 * s[j] * (1 - s[j]);
  });
}

// out = 2 in2 in.
void NodeBackward::GateProduct() {
  const uint32_t width = Width(node_.out);
  t_.ByRows([&](size_t first, size_t last) {
    const size_t n = (last - first) * width;
    BeginIn2(first, last);
    AddDoubleProduct(n, t_.Delta(node_.out, first), t_.Buffer(node_.in, first),
                     t_.Delta(node_.in2, first));
    BeginIn(first, last);
    AddDoubleProduct(n, t_.Delta(node_.out, first), t_.Buffer(node_.in2, first),
                     t_.Delta(node_.in, first));
  });
}

// out = [e ; e gate], gate_g = a_g + sum_f A_fg e_f. With g = [g1 ; g2],
// d gate = g2 e; d e = g1 + g2 gate + sum_g A_fg d gate_g; dA_fg = <e_f, d
// gate_g>; da_g = sum over the dims of d gate_g.
void NodeBackward::FieldGate() {
  const uint32_t n = Width(node_.in), dim = g_.dim;
  const size_t fields = n / dim;
  const size_t size = fields * fields + fields;
  const float* weights = Parameter(0);
  const float* bias = Parameter(1);
  t_.partial_[n_].assign((rows_ / kPartialRows + 1) * size, 0.0f);
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    float* sums = Partial(first, size);
    std::vector<float> gate(n), d_gate(n);
    for (size_t r = first; r < last; ++r) {
      const float* e = t_.Buffer(node_.in, r);
      const float* g1 = t_.Delta(node_.out, r);
      const float* g2 = g1 + n;
      float* d = t_.Delta(node_.in, r);
      MultiplyInto(n, g2, e, d_gate.data());
      AddTo(n, g1, d);
      for (size_t to = 0; to < fields; ++to) {
        std::fill_n(&gate[to * dim], dim, bias[to]);
        float sum = 0;
        for (size_t k = 0; k < dim; ++k) sum += d_gate[to * dim + k];
        sums[fields * fields + to] += sum;
      }
      for (size_t f = 0; f < fields; ++f) {
        for (size_t to = 0; to < fields; ++to) {
          const float a = weights[f * fields + to];
          AddScaled(dim, a, e + f * dim, &gate[to * dim]);
          AddScaled(dim, a, &d_gate[to * dim], d + f * dim);
          sums[f * fields + to] +=
              DotFixed(e + f * dim, &d_gate[to * dim], dim);
        }
      }
      AddProduct(n, g2, gate.data(), d);
    }
  });
  SumPartials(size, Gradient(0));  // A, then a, side by side
}

// out = [in ; <in_i, in_j>]: d in_i = g_i + sum_j g_ij in_j.
void NodeBackward::Emit() {
  const uint32_t n = Width(node_.in);
  const size_t fields = n / g_.dim;
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    std::vector<float> q(n);
    for (size_t r = first; r < last; ++r) {
      const float* g = t_.Delta(node_.out, r);
      float* d = t_.Delta(node_.in, r);
      AddTo(n, g, d);
      FwfmProducts(fields, g_.dim, g + n, t_.Buffer(node_.in, r), q.data());
      AddTo(n, q.data(), d);
    }
  });
}

// y = in w: d in = delta w; dw = sum delta in.
void NodeBackward::Head() {
  const uint32_t n = Width(node_.in);
  const std::vector<float>& delta = t_.output_deltas_[node_.output];
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    for (size_t r = first; r < last; ++r) {
      AddScaled(n, delta[r], Parameter(0), t_.Delta(node_.in, r));
    }
  });
  t_.ByColumns(n, [&](size_t begin, size_t end) {
    WeightedColumnSums(rows_, n, begin, end, delta.data(), t_.Buffer(node_.in),
                       Gradient(0));
  });
}

// y = sum_h t_h o2_h, t_h = o1_h W_h: d o2 = delta t; with s = delta o2,
// d o1_h = s_h W_h'; dW_h = o1_h' s_h.
void NodeBackward::Fusion() {
  const uint32_t w1 = Width(node_.in), w2 = Width(node_.in2);
  const size_t h1 = w1 / node_.heads, h2 = w2 / node_.heads;
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn2(first, last);
    for (size_t r = first; r < last; ++r) {
      const float delta = t_.shared_deltas_[r];
      AddScaled(w2, delta, t_.Buffer(node_.aux, r), t_.Delta(node_.in2, r));
      Scale(w2, delta, t_.Buffer(node_.in2, r), t_.Delta(node_.aux, r));
    }
    for (size_t h = 0; h < node_.heads; ++h) {
      Gemm(last - first, t_.Delta(node_.aux, first) + h * h2, w2,
           t_.backward_[node_.t[0]][h], t_.begun_[n_].first,
           t_.Delta(node_.in, first) + h * h1, w1);
    }
  });
  ParallelFor(t_.team_, node_.heads, [&](size_t h, uint32_t) {
    GemmTransposedA(h1, h2, rows_, t_.Buffer(node_.in) + h * h1, w1,
                    t_.Delta(node_.aux) + h * h2, w2, false,
                    Gradient(0) + h * h1 * h2, h2, &Scratch());
  });
}

// y = 1/2 |s|^2 - ..., s = sum e_f: d e_f = delta s. (What an entry takes from
// itself is the table's: it knows the entries.)
void NodeBackward::Fm() {
  const uint32_t n = Width(node_.in), dim = g_.dim;
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    float sum[128];
    for (size_t r = first; r < last; ++r) {
      const float* e = t_.Buffer(node_.in, r);
      std::fill_n(sum, dim, 0.0f);
      for (uint32_t f = 0; f < n; f += dim) AddTo(dim, e + f, sum);
      for (uint32_t f = 0; f < n; f += dim) {
        AddScaled(dim, t_.shared_deltas_[r], sum, t_.Delta(node_.in, r) + f);
      }
    }
  });
}

// y = sum r_ij <e_i, e_j>: d e_i = delta sum_j r_ij e_j; dr_ij = delta <e_i,
// e_j>.
void NodeBackward::Fwfm() {
  const uint32_t n = Width(node_.in);
  const size_t fields = n / g_.dim;
  const size_t pairs = fields * (fields - 1) / 2;
  t_.partial_[n_].assign((rows_ / kPartialRows + 1) * pairs, 0.0f);
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    std::vector<float> q(n), dots(pairs), scratch(n);
    float* sums = Partial(first, pairs);
    for (size_t r = first; r < last; ++r) {
      const float* e = t_.Buffer(node_.in, r);
      const float delta = t_.shared_deltas_[r];
      FwfmProducts(fields, g_.dim, Parameter(0), e, q.data());
      AddScaled(n, delta, q.data(), t_.Delta(node_.in, r));
      PairDots(fields, g_.dim, e, dots.data(), scratch.data());
      AddScaled(pairs, delta, dots.data(), sums);
    }
  });
  SumPartials(pairs, Gradient(0));
}

// y = sum r_ij m_ijd e_id e_jd: d e_i = delta sum_j r_ij m_ij e_j; with s_ijd =
// sum delta e_id e_jd over the rows, dm_ijd = r_ij s_ijd; dr_ij = <m_ij, s_ij>.
void NodeBackward::Fvfm() {
  const uint32_t n = Width(node_.in), dim = g_.dim;
  const size_t fields = n / dim;
  const size_t pairs = fields * (fields - 1) / 2, size = pairs * dim;
  const float *r = Parameter(0), *m = Parameter(1);
  t_.partial_[n_].assign((rows_ / kPartialRows + 1) * size, 0.0f);
  t_.ByRows([&](size_t first, size_t last) {
    BeginIn(first, last);
    std::vector<float> q(n);
    float* sums = Partial(first, size);
    for (size_t i = first; i < last; ++i) {
      const float* e = t_.Buffer(node_.in, i);
      const float delta = t_.shared_deltas_[i];
      FvfmProducts(fields, dim, r, m, e, q.data());
      AddScaled(n, delta, q.data(), t_.Delta(node_.in, i));
      AddPairProducts(fields, dim, delta, e, sums);
    }
  });
  float* const dm = Gradient(1);
  SumPartials(size, dm);
  for (size_t p = 0; p < pairs; ++p, m += dim) {
    float* const s = dm + p * dim;
    Gradient(0)[p] = DotFixed(m, s, dim);
    Scale(dim, r[p], s, s);
  }
}

}  // namespace adrank
