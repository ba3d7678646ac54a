// Forward and backward of a Graph over one mini-batch, on a team of threads.
#ifndef ADRANK_TRAINER_GRAPH_TRAINER_H_
#define ADRANK_TRAINER_GRAPH_TRAINER_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "model/graph.h"
#include "model/graph_forward.h"
#include "model/kernels/gemm.h"
#include "trainer/huge_array.h"
#include "trainer/thread_team.h"

namespace adrank {

// Calls work(task, thread) for every task < tasks, each on one of the team's
// threads; which one is a race.
void ParallelFor(ThreadTeam* team, size_t tasks,
                 absl::FunctionRef<void(size_t, uint32_t)> work);

// The caller fills input(), square() and shared() of a batch, calls Forward,
// fills the deltas, calls Backward and reads the gradients. Every number is
// computed in an order that depends on neither the threads nor the split of
// the work: the same bits for any team. One caller at a time.
//
// Batch norm in training: mean and variance (biased) of the batch; running
// statistics move by `kMomentum`, the variance unbiased (PyTorch's rules).
// Dropout keeps an activation when the hash of (seed, step, place) says so and
// scales it by 1 / (1 - rate).
class GraphTrainer {
 public:
  struct Options {
    uint64_t seed = 0;
    // Products of bf16 multiplicands and float sums: about twice as fast where
    // the CPU has them; see gemm.h. In training: evaluation is float.
    bool bf16 = false;
  };
  static constexpr float kMomentum = 0.1f;

  // `graph` is one for training. Parameters start as their tensors say, drawn
  // from the seed; the bias is 0.
  GraphTrainer(Graph graph, const Options& options, ThreadTeam* team);

  const Graph& graph() const { return graph_; }
  std::vector<float>& parameters() { return parameters_; }
  const std::vector<float>& parameters() const { return parameters_; }
  // Call after parameters() changed and before Forward.
  void ParametersChanged() { packed_ = false; }

  // Starts a batch of so many rows.
  void Resize(size_t rows);
  size_t rows() const { return rows_; }
  // [rows][graph().input_width()]
  float* input() { return buffers_[0].data(); }
  // [rows] sum of |x v|^2; only read when graph().has_fm.
  float* square() { return square_.data(); }
  // [rows] the linear part.
  float* linear() { return linear_.data(); }

  // `parameters`: those to compute with (training: parameters()). In training
  // `step` numbers the batch, for dropout.
  void Forward(bool training, uint64_t step);
  absl::Span<const float> logits() const { return logits_; }
  // Logit of stream `o` alone: shared parts + its head (for self-distillation).
  float OutputLogit(uint16_t o, size_t row) const {
    return shared_[row] + outputs_[o][row];
  }

  // [rows] dL/d logit through everything but the heads, and by output the
  // dL/d head; set by the caller before Backward.
  std::vector<float>& shared_deltas() { return shared_deltas_; }
  std::vector<float>& output_deltas(uint16_t o) { return output_deltas_[o]; }

  // Fills gradients() and input_gradient().
  void Backward();
  // [graph().parameters]; 0 for running statistics.
  std::vector<float>& gradients() { return gradients_; }
  // [rows][input_width]
  const float* input_gradient() const { return deltas_[0].data(); }

 private:
  friend class NodeBackward;

  void Pack();
  GraphRows RowsFrom(size_t begin, size_t end);
  void PlanGradients();
  void PlanRounding();
  void ForwardBf16(size_t n, size_t first, const GraphRows& rows);
  void BatchStatistics(const Node& node);
  void NormRows(const Node& node, bool training, size_t begin, size_t end);
  // Multiplies row r of what node n puts out, or its gradient, by 0 where the
  // step drops it and else by 1 / (1 - rate).
  void DropRow(size_t n, size_t r, float* x) const;
  bool UsesBf16(const Node& node) const;
  float* Buffer(BufferId b, size_t row = 0) {
    return buffers_[b].data() + row * graph_.widths[b];
  }
  float* Delta(BufferId b, size_t row = 0) {
    return deltas_[b].data() + row * graph_.widths[b];
  }
  // Runs work(begin, end) over chunks of rows / of columns.
  void ByRows(absl::FunctionRef<void(size_t, size_t)> work);
  void ByColumns(size_t columns, absl::FunctionRef<void(size_t, size_t)> work);

  const Graph graph_;
  const Options options_;
  ThreadTeam* const team_;

  std::vector<float> parameters_, gradients_;
  bool packed_ = false;
  PackedTensors forward_;
  // Transposed right operands, for the gradients of activations.
  std::vector<std::vector<PackedMatrix>> backward_;
  std::vector<PackedMatrixBf16> forward16_, backward16_;  // by tensor
  // Rounded once for all products: inputs by buffer, by the first node that
  // multiplies them (rounds_), and gradients of products by node.
  std::vector<Bf16Matrix> inputs16_, deltas16_;
  std::vector<bool> rounds_;

  size_t rows_ = 0;
  // Of the last Forward.
  bool training_ = true;
  uint64_t step_ = 0;
  // At cache lines and on huge pages: rows of a chunk lie in many small ones.
  std::vector<HugeArray<float>> buffers_, deltas_;
  std::vector<float> square_, linear_, shared_, logits_, shared_deltas_;
  std::vector<std::vector<float>> outputs_, output_deltas_;
  // By node: whether the gradients of `in` and `in2` are already begun when the
  // node is reached.
  std::vector<std::pair<bool, bool>> begun_;
  // By node: batch mean, inverse deviation (for kNorm with batch norm).
  std::vector<std::vector<float>> mean_, inverse_;
  // By node: partial sums of small parameters' gradients, one a chunk.
  std::vector<std::vector<float>> partial_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_GRAPH_TRAINER_H_
