#include "trainer/graph_trainer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "base/hash.h"
#include "base/rng.h"
#include "model/kernels/clones.h"
#include "trainer/graph_backward.h"

namespace adrank {
namespace {

// Rows worked on together: activations of 624 columns and their products stay
// in the second-level cache.
constexpr size_t kChunkRows = 128;

// Columns [begin, end) of x[rows][width]: sums over ascending rows.
ADRANK_CLONES void ColumnSums(size_t rows, size_t width, size_t begin,
                              size_t end, const float* x, float* sums) {
  for (size_t j = begin; j < end; ++j) sums[j] = 0;
  for (size_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    for (size_t j = begin; j < end; ++j) sums[j] += row[j];
  }
}

// Sums of (x - mean)^2.
ADRANK_CLONES void ColumnSquares(size_t rows, size_t width, size_t begin,
                                 size_t end, const float* x, const float* mean,
                                 float* sums) {
  for (size_t j = begin; j < end; ++j) sums[j] = 0;
  for (size_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    for (size_t j = begin; j < end; ++j) {
      const float d = row[j] - mean[j];
      sums[j] += d * d;
    }
  }
}

ADRANK_CLONES void Normalize(size_t n, const float* x, const float* mean,
                             const float* inverse, const float* scale,
                             const float* shift, float* out) {
  for (size_t j = 0; j < n; ++j) {
    out[j] = (x[j] - mean[j]) * inverse[j] * scale[j] + shift[j];
  }
}

ADRANK_CLONES void Relu(size_t n, float* x) {
  for (size_t j = 0; j < n; ++j) x[j] = x[j] > 0 ? x[j] : 0.0f;
}

// Keeps x[j] x `gain` when the hash of its place is at least `limit` / 2^32.
ADRANK_CLONES void Dropout(uint32_t n, uint32_t key, uint32_t limit, float gain,
                           float* x) {
  for (uint32_t j = 0; j < n; ++j) {
    // The finalizer of MurmurHash3 (Appleby).
    uint32_t h = key + j * 0x9e3779b9u;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    h ^= h >> 16;
    // Outside of the choice: a product that may trap keeps the loop scalar.
    const float kept = x[j] * gain;
    x[j] = h >= limit ? kept : 0.0f;
  }
}

void Initialize(const Tensor& t, uint64_t seed, float* out) {
  Rng rng(MixBits(seed ^ Hash64(t.name)));
  const double bound = std::sqrt(6.0 / (t.rows + t.cols));
  for (size_t i = 0; i < t.size(); ++i) {
    switch (t.init) {
      case Tensor::Init::kZero:
        out[i] = 0;
        break;
      case Tensor::Init::kOne:
        out[i] = 1;
        break;
      case Tensor::Init::kXavier:
        out[i] = static_cast<float>((2 * rng.Uniform() - 1) * bound);
        break;
    }
  }
}

}  // namespace

void ParallelFor(ThreadTeam* team, size_t tasks,
                 absl::FunctionRef<void(size_t, uint32_t)> work) {
  if (tasks <= 1 || team->size() == 1) {
    for (size_t i = 0; i < tasks; ++i) work(i, 0);
    return;
  }
  std::atomic<size_t> next{0};
  team->Run([&](uint32_t t) {
    for (size_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) {
      work(i, t);
    }
  });
}

GraphTrainer::GraphTrainer(Graph graph, const Options& options,
                           ThreadTeam* team)
    : graph_(std::move(graph)),
      options_(options),
      team_(team),
      parameters_(graph_.parameters),
      gradients_(graph_.parameters),
      buffers_(graph_.widths.size()),
      deltas_(graph_.widths.size()),
      outputs_(graph_.outputs),
      output_deltas_(graph_.outputs),
      mean_(graph_.nodes.size()),
      inverse_(graph_.nodes.size()),
      partial_(graph_.nodes.size()) {
  for (const Tensor& t : graph_.tensors) {
    Initialize(t, options_.seed, parameters_.data() + t.offset);
  }
  PlanGradients();
  PlanRounding();
}

void GraphTrainer::PlanGradients() {
  std::vector<bool> begun(graph_.widths.size());
  begun_.resize(graph_.nodes.size());
  for (size_t n = graph_.nodes.size(); n-- > 0;) {
    const Node& node = graph_.nodes[n];
    if (node.in2 != kNone) {
      begun_[n].second = begun[node.in2];
      begun[node.in2] = true;
    }
    begun_[n].first = begun[node.in];
    begun[node.in] = true;
  }
}

void GraphTrainer::PlanRounding() {
  inputs16_.resize(graph_.widths.size());
  deltas16_.resize(graph_.nodes.size());
  rounds_.resize(graph_.nodes.size());
  std::vector<bool> rounded(graph_.widths.size());
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    rounds_[n] = UsesBf16(node) && !rounded[node.in];
    if (rounds_[n]) rounded[node.in] = true;
  }
}

bool GraphTrainer::UsesBf16(const Node& node) const {
  return options_.bf16 && training_ &&
         (node.kind == NodeKind::kDense ||
          (node.kind == NodeKind::kCross && node.context_columns == 0));
}

void GraphTrainer::Resize(size_t rows) {
  rows_ = rows;
  for (size_t b = 0; b < buffers_.size(); ++b) {
    const size_t size = rows * graph_.widths[b];
    if (buffers_[b].size() < size) {
      buffers_[b] = HugeArray<float>(size);
      deltas_[b] = HugeArray<float>(size);
    }
  }
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    if (!UsesBf16(node)) continue;
    const Tensor& w = graph_.tensors[node.t[0]];
    if (rounds_[n]) inputs16_[node.in].Resize(rows, w.rows);
    deltas16_[n].Resize(rows, w.cols);
  }
  square_.resize(rows);
  linear_.resize(rows);
  shared_.resize(rows);
  logits_.resize(rows);
  shared_deltas_.resize(rows);
  for (auto& o : outputs_) o.resize(rows);
  for (auto& o : output_deltas_) o.resize(rows);
}

void GraphTrainer::ByRows(absl::FunctionRef<void(size_t, size_t)> work) {
  const size_t chunks = (rows_ + kChunkRows - 1) / kChunkRows;
  ParallelFor(team_, chunks, [&](size_t i, uint32_t) {
    work(i * kChunkRows, std::min(rows_, (i + 1) * kChunkRows));
  });
}

void GraphTrainer::ByColumns(size_t columns,
                             absl::FunctionRef<void(size_t, size_t)> work) {
  // Cut where a cache line of floats ends. A part a thread, no more: each part
  // of a product packs its left operand anew.
  const size_t lines = (columns + 15) / 16;
  const size_t tasks = std::min<size_t>(lines, team_->size());
  ParallelFor(team_, tasks, [&](size_t i, uint32_t) {
    work(std::min(columns, lines * i / tasks * 16),
         std::min(columns, lines * (i + 1) / tasks * 16));
  });
}

// Packs every right operand, forward and transposed, once a step.
void GraphTrainer::Pack() {
  if (packed_) return;
  forward_.Reset(graph_);
  backward_.resize(graph_.tensors.size());
  forward16_.resize(graph_.tensors.size());
  backward16_.resize(graph_.tensors.size());
  ParallelFor(team_, graph_.nodes.size() * 2, [&](size_t i, uint32_t) {
    const Node& node = graph_.nodes[i / 2];
    if (UsesBf16(node)) {
      const Tensor& t = graph_.tensors[node.t[0]];
      auto& to = i % 2 == 0 ? forward16_ : backward16_;
      const bool back = i % 2 != 0;
      to[node.t[0]].Pack(&parameters_[t.offset], back ? t.cols : t.rows,
                         back ? t.rows : t.cols, t.cols, back);
    } else if (i % 2 == 0) {
      forward_.PackNode(graph_, node, parameters_);
    } else {
      PackTransposed(graph_, node, parameters_, &backward_);
    }
  });
  packed_ = true;
}

GraphRows GraphTrainer::RowsFrom(size_t begin, size_t end) {
  thread_local std::vector<float*> pointers;
  pointers.clear();
  for (size_t b = 0; b < buffers_.size(); ++b) {
    pointers.push_back(buffers_[b].data() + begin * graph_.widths[b]);
  }
  for (auto& o : outputs_) pointers.push_back(o.data() + begin);
  GraphRows rows;
  rows.rows = end - begin;
  rows.buffers = absl::MakeConstSpan(pointers).first(buffers_.size());
  rows.outputs = absl::MakeConstSpan(pointers).subspan(buffers_.size());
  rows.square = square_.data() + begin;
  rows.shared = shared_.data() + begin;
  return rows;
}

void GraphTrainer::Forward(bool training, uint64_t step) {
  // What is evaluated is what is published: float.
  if (options_.bf16 && training != training_) packed_ = false;
  training_ = training;
  step_ = step;
  Pack();
  const float bias = parameters_[0];
  for (size_t r = 0; r < rows_; ++r) shared_[r] = bias + linear_[r];
  // Nodes between two batch norms need no other rows: a chunk passes through
  // all of them while it is in the cache.
  for (size_t n = 0; n < graph_.nodes.size();) {
    size_t end = n;
    while (end < graph_.nodes.size() && !graph_.nodes[end].batch_norm) ++end;
    if (end > n) {
      ByRows([&](size_t first, size_t last) {
        const GraphRows rows = RowsFrom(first, last);
        for (size_t i = n; i < end; ++i) {
          const Node& node = graph_.nodes[i];
          if (UsesBf16(node)) {
            ForwardBf16(i, first, rows);
          } else if (node.kind == NodeKind::kNorm) {
            NormRows(node, training, first, last);
          } else {
            ForwardNode(graph_, node, parameters_, forward_, rows);
          }
        }
      });
    }
    if (end < graph_.nodes.size()) {
      const Node& node = graph_.nodes[end];
      if (training) BatchStatistics(node);
      ByRows([&](size_t first, size_t last) {
        NormRows(node, training, first, last);
      });
    }
    n = end + 1;
  }
  ByRows([&](size_t first, size_t last) {
    CombineOutputs(graph_, RowsFrom(first, last), &logits_[first]);
  });
}

void GraphTrainer::BatchStatistics(const Node& node) {
  const size_t n = static_cast<size_t>(&node - graph_.nodes.data());
  const uint32_t width = graph_.widths[node.in];
  mean_[n].resize(width);
  inverse_[n].resize(width);
  float* const mean = mean_[n].data();
  float* const inverse = inverse_[n].data();
  float* const running_mean = &parameters_[graph_.tensors[node.t[2]].offset];
  float* const running_variance =
      &parameters_[graph_.tensors[node.t[3]].offset];
  const float rows = static_cast<float>(rows_);
  ByColumns(width, [&](size_t begin, size_t end) {
    ColumnSums(rows_, width, begin, end, Buffer(node.in), mean);
    for (size_t j = begin; j < end; ++j) mean[j] /= rows;
    ColumnSquares(rows_, width, begin, end, Buffer(node.in), mean, inverse);
    for (size_t j = begin; j < end; ++j) {
      const float unbiased = inverse[j] / std::max(1.0f, rows - 1);
      running_mean[j] += kMomentum * (mean[j] - running_mean[j]);
      running_variance[j] += kMomentum * (unbiased - running_variance[j]);
      inverse[j] = 1 / std::sqrt(inverse[j] / rows + kBatchNormEpsilon);
    }
  });
}

// Batch norm (with the batch's statistics in training, else the running ones),
// activation, dropout.
void GraphTrainer::NormRows(const Node& node, bool training, size_t first,
                            size_t last) {
  const size_t n = static_cast<size_t>(&node - graph_.nodes.data());
  const uint32_t width = graph_.widths[node.in];
  const float *mean = nullptr, *inverse = nullptr;
  thread_local std::vector<float> running;
  if (node.batch_norm && training) {
    mean = mean_[n].data();
    inverse = inverse_[n].data();
  } else if (node.batch_norm) {
    mean = &parameters_[graph_.tensors[node.t[2]].offset];
    const float* variance = &parameters_[graph_.tensors[node.t[3]].offset];
    running.resize(width);
    for (size_t j = 0; j < width; ++j) {
      running[j] = 1 / std::sqrt(variance[j] + kBatchNormEpsilon);
    }
    inverse = running.data();
  }
  for (size_t r = first; r < last; ++r) {
    const float* in = Buffer(node.in, r);
    float* out = Buffer(node.out, r);
    if (node.batch_norm) {
      Normalize(width, in, mean, inverse,
                &parameters_[graph_.tensors[node.t[0]].offset],
                &parameters_[graph_.tensors[node.t[1]].offset], out);
    } else {
      std::copy_n(in, width, out);
    }
    if (node.activation == Activation::kRelu) Relu(width, out);
    if (training) DropRow(n, r, out);
  }
}

void GraphTrainer::DropRow(size_t n, size_t r, float* x) const {
  const Node& node = graph_.nodes[n];
  const auto limit = static_cast<uint32_t>(node.dropout * 0x1p32);
  if (limit == 0) return;
  const uint64_t key = MixBits(MixBits(options_.seed + step_) + n);
  Dropout(graph_.widths[node.out], static_cast<uint32_t>(MixBits(key + r)),
          limit, 1 / (1 - node.dropout), x);
}

void GraphTrainer::ForwardBf16(size_t n, size_t first, const GraphRows& rows) {
  const Node& node = graph_.nodes[n];
  const BufferId to = node.kind == NodeKind::kDense ? node.out : node.aux;
  if (rounds_[n]) {
    inputs16_[node.in].AssignRows(first, rows.rows, rows.buffers[node.in],
                                  graph_.widths[node.in]);
  }
  GemmBf16(rows.rows, inputs16_[node.in], first, forward16_[node.t[0]], false,
           rows.buffers[to], graph_.widths[to]);
  FinishProduct(graph_, node, parameters_, rows);
}

void GraphTrainer::Backward() {
  if (graph_.nodes.empty()) {
    std::fill_n(deltas_[0].data(), rows_ * graph_.input_width(), 0.0f);
  }
  for (size_t n = graph_.nodes.size(); n-- > 0;) NodeBackward(this, n).Run();
  double sum = 0;
  for (size_t r = 0; r < rows_; ++r) sum += shared_deltas_[r];
  gradients_[0] = static_cast<float>(sum);  // the bias
}

}  // namespace adrank
