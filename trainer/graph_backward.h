// Backward of one node of a graph; inside of GraphTrainer.
#ifndef ADRANK_TRAINER_GRAPH_BACKWARD_H_
#define ADRANK_TRAINER_GRAPH_BACKWARD_H_

#include <cstddef>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "model/graph.h"
#include "model/kernels/gemm.h"
#include "trainer/graph_trainer.h"

namespace adrank {

// The transposed right operands of the node's products, by tensor: one matrix
// each, two of a triangular cross layer, one a head of the fusion.
void PackTransposed(const Graph& graph, const Node& node,
                    absl::Span<const float> parameters,
                    std::vector<std::vector<PackedMatrix>>* by_tensor);

// From the gradient of the node's output (changed in place on the way) to the
// gradients of its inputs and parameters. The formula of each part stands at
// its function; g is the gradient of `out`.
class NodeBackward {
 public:
  NodeBackward(GraphTrainer* trainer, size_t n)
      : t_(*trainer),
        g_(trainer->graph_),
        n_(n),
        node_(g_.nodes[n]),
        rows_(trainer->rows_) {}
  void Run();

 private:
  void Columns();
  void Dense();
  void Fint();
  void Norm();
  void BatchNorm();
  void Cross();
  void LowRankCross();
  void ConstantGate();
  void GateProduct();
  void FieldGate();
  void Emit();
  void Head();
  void Fusion();
  void Fm();
  void Fwfm();
  void Fvfm();

  uint32_t Width(BufferId b) const { return g_.widths[b]; }
  const float* Parameter(int i) const {
    return t_.parameters_.data() + g_.tensors[node_.t[i]].offset;
  }
  float* Gradient(int i) const {
    return t_.gradients_.data() + g_.tensors[node_.t[i]].offset;
  }
  // Zeroes the gradient of `in` (`in2`) in these rows unless it is begun.
  void BeginIn(size_t first, size_t last);
  void BeginIn2(size_t first, size_t last);
  // d in (+)= d W'; REQUIRES: the transposed W of tensor i is packed.
  void ProductToIn(int i, const float* d, BufferId in, bool begun, size_t first,
                   size_t last);
  // W's gradient = in' d, and the bias's = column sums of d, all rows.
  void ProductGradient(int i, int bias, BufferId in, const float* d);
  // Sums per-chunk partial sums [chunks][size] over ascending chunks.
  void SumPartials(size_t size, float* out);
  float* Partial(size_t chunk_first_row, size_t size);

  GraphTrainer& t_;
  const Graph& g_;
  const size_t n_;
  const Node& node_;
  const size_t rows_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_GRAPH_BACKWARD_H_
