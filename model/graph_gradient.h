// The gradient of a Graph's logit by its embeddings, for explanations.
#ifndef ADRANK_MODEL_GRAPH_GRADIENT_H_
#define ADRANK_MODEL_GRAPH_GRADIENT_H_

#include "absl/types/span.h"
#include "model/graph.h"
#include "model/graph_forward.h"

namespace adrank {

// gradient [rows][input_width] = d logit / d input of each row, at the
// activations that the forward pass left in `rows`. FM's square is held
// constant: what an entry takes from itself is known to those who pool entries.
// At the kink of a ReLU the slope is 0. One row after the other, without packed
// operands: slow, and short enough to be checked by eye against the formulas.
// REQUIRES: no batch norm in the graph.
void InputGradient(const Graph& graph, absl::Span<const float> parameters,
                   const GraphRows& rows, float* gradient);

}  // namespace adrank

#endif  // ADRANK_MODEL_GRAPH_GRADIENT_H_
