// The forward pass of a Graph. The trainer computes its batches by the same
// functions, node by node (all but batch norm and dropout, which serving does
// not have).
#ifndef ADRANK_MODEL_GRAPH_FORWARD_H_
#define ADRANK_MODEL_GRAPH_FORWARD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "model/graph.h"
#include "model/kernels/gemm.h"

namespace adrank {

// Right operands of a graph's products, packed for the kernels: by tensor, one
// matrix each, but two of a triangular cross layer (context columns to context
// columns; all columns to the others) and one a head of the fusion. Immutable
// after Pack and thread-safe.
class PackedTensors {
 public:
  // [graph.parameters]
  void Pack(const Graph& graph, absl::Span<const float> parameters);
  // One tensor's share of the work: for callers with several threads, after
  // Reset(graph).
  void Reset(const Graph& graph) { by_tensor_.resize(graph.tensors.size()); }
  void PackNode(const Graph& graph, const Node& node,
                absl::Span<const float> parameters);

  const std::vector<PackedMatrix>& of(uint16_t tensor) const {
    return by_tensor_[tensor];
  }

 private:
  std::vector<std::vector<PackedMatrix>> by_tensor_;
};

// Some rows of a batch, in place. Nothing is owned.
struct GraphRows {
  size_t rows = 0;
  // By BufferId: [rows][width]; buffer 0 holds the embeddings.
  absl::Span<float* const> buffers;
  // [rows] sum of |x v|^2 over the row's entries; read by FM only.
  const float* square = nullptr;
  // [rows]: what parts that are no stream add to the logit; set by the caller
  // to bias + linear before the first node.
  float* shared = nullptr;
  // By output: [rows], each set by its head.
  absl::Span<float* const> outputs;
};

// Computes one node. Each row's bits depend on that row alone. A node kNorm
// applies its scale, shift and activation: REQUIRES no batch norm.
void ForwardNode(const Graph& graph, const Node& node,
                 absl::Span<const float> parameters,
                 const PackedTensors& packed, const GraphRows& rows);

// What follows the product of a dense or cross node: bias, activation; for a
// cross also the elementwise product. `rows` as for ForwardNode, the product in
// the node's `out` or `aux`.
void FinishProduct(const Graph& graph, const Node& node,
                   absl::Span<const float> parameters, const GraphRows& rows);

// shared + sum (or mean) of the outputs. `logits` may be `rows.shared`.
void CombineOutputs(const Graph& graph, const GraphRows& rows, float* logits);

// q_i = sum_j r_ij e_j for one row e [F][dim] with F (F - 1) / 2 weights r,
// pairs in the order (0, 1), (0, 2) .. (1, 2) ..
void FwfmProducts(size_t fields, size_t dim, const float* r, const float* e,
                  float* q);
// The same with r_ij m_ij, elementwise, instead of r_ij; m: [F (F - 1) /
// 2][dim].
void FvfmProducts(size_t fields, size_t dim, const float* r, const float* m,
                  const float* e, float* q);
// dots[p] = <e_i, e_j> for pairs in that order. scratch: [dim x fields].
void PairDots(size_t fields, size_t dim, const float* e, float* dots,
              float* scratch);

// y[i] += x[i] etc. over n floats, in IEEE operations only.
void AddTo(size_t n, const float* x, float* y);
void AddScaled(size_t n, float scale, const float* x, float* y);
void MultiplyInto(size_t n, const float* x, const float* y, float* out);
void AddProduct(size_t n, const float* x, const float* y, float* out);

}  // namespace adrank

#endif  // ADRANK_MODEL_GRAPH_FORWARD_H_
