// A ModelGraph made ready: parameters with their places, and the parts in the
// order in which they are computed. One description, read by the forward pass
// (graph_forward.h), the backward pass (trainer/graph_backward.h) and their
// tests.
#ifndef ADRANK_MODEL_GRAPH_H_
#define ADRANK_MODEL_GRAPH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/feature_spec.pb.h"
#include "proto/model_graph.pb.h"

namespace adrank {

// A matrix of parameters, row-major, inside one flat array.
struct Tensor {
  enum class Init {
    kZero,
    kOne,
    // Uniform within +-sqrt(6 / (rows + cols)) (Glorot and Bengio 2010 call the
    // normal twin of it what FuxiCTR uses; only the variance matters here).
    kXavier,
  };
  std::string name;
  uint32_t rows = 0;
  uint32_t cols = 0;
  size_t offset = 0;
  Init init = Init::kZero;
  // Right operand of a product: packed, and L2-regularised as a weight.
  bool product = false;

  size_t size() const { return size_t{rows} * cols; }
};

// Activations: [rows of the batch][width].
using BufferId = uint16_t;
inline constexpr uint16_t kNone = 0xffff;

enum class Activation : uint8_t { kNone, kRelu, kSigmoid };

enum class NodeKind : uint8_t {
  // out = columns `fields_of` of in. t: none.
  kColumns,
  // out = act(in W + b). t: W, b.
  kDense,
  // out = [h2 ; h1 * h2] of in = [h2 ; h1].
  kFint,
  // out = dropout(act(norm(in))). t: scale, shift (both or none), and with
  // batch norm in training: running mean, running variance.
  kNorm,
  // out = x0 * (in W + b) + in; in2 = x0. t: W, b. aux: in W + b.
  kCross,
  // The same with W = V U. t: V, U, b. aux: as above; aux2: in V.
  kLowRankCross,
  // out = 2 sigmoid(c) * in. t: c.
  kConstantGate,
  // out = 2 in2 * in.
  kGateProduct,
  // out = [in ; in * (A in + a)]. t: A [F][F] (row f of A feeds gate f), a.
  kFieldGate,
  // out = [in ; <in_i, in_j> for i < j].
  kEmit,
  // Output `output` = in w. t: w [width][1]. (The logit has one bias.)
  kHead,
  // Adds sum_h in_h' W_h in2_h to the shared logit. t: W [heads x h1][h2].
  // aux: [heads x h2].
  kFusion,
  // Adds 1/2 (|sum_f in_f|^2 - square) to the shared logit, where `square` is
  // the input's sum of |x v|^2 over entries.
  kFm,
  // Adds sum_{i<j} r_ij <in_i, in_j> to the shared logit. t: r [F (F-1)/2][1].
  kFwfm,
  // Adds sum_{i<j} r_ij sum_k m_ijk in_ik in_jk to the shared logit. t: r
  // [F (F-1)/2][1], m [F (F-1)/2][dim].
  kFvfm,
};

struct Node {
  NodeKind kind = NodeKind::kDense;
  BufferId in = kNone;
  BufferId in2 = kNone;
  BufferId out = kNone;
  BufferId aux = kNone;
  BufferId aux2 = kNone;
  // Indexes of tensors; kNone where not used.
  uint16_t t[4] = {kNone, kNone, kNone, kNone};
  Activation activation = Activation::kNone;
  bool batch_norm = false;
  float dropout = 0;
  // Columns of `in` that belong to the context, where they must not see the
  // others (CROSS_TRIANGULAR); else 0.
  uint32_t context_columns = 0;
  uint16_t output = 0;
  uint16_t heads = 0;
  // Of kColumns: (first column of in, number) pairs, in order.
  std::vector<std::pair<uint32_t, uint32_t>> columns;
};

// Fields are indexes into FeatureExtractor::field_names().
struct GraphField {
  uint32_t dim = 0;
  // First column of the field's embedding in the input.
  uint32_t column = 0;
};

// What the graph needs to know of the fields.
struct FieldLayout {
  std::vector<std::string> names;
  std::vector<bool> context;   // of the context alone (not ad, not position)
  std::vector<bool> position;  // the position: linear unless field_dims says so
};
// REQUIRES: the spec compiles.
absl::StatusOr<FieldLayout> LayoutOf(const v1::FeatureSpec& spec);

struct Graph {
  // Constant after Create.
  v1::ModelGraph spec;
  // Largest dim of a field: what a row of the table holds.
  uint32_t dim = 0;
  bool linear = false;
  bool has_fm = false;
  bool mean = false;
  uint16_t outputs = 0;
  std::vector<GraphField> fields;
  // Fields in the order of their columns (those with dim > 0).
  std::vector<uint16_t> order;
  uint32_t context_columns = 0;
  std::vector<Tensor> tensors;
  size_t parameters = 0;
  // Width of each buffer; buffer 0 is the input.
  std::vector<uint32_t> widths;
  std::vector<Node> nodes;

  uint32_t input_width() const { return widths[0]; }
  // Multiply-adds of the products of one row, forward.
  uint64_t MultiplyAdds() const;
  // Whether only the linear part and FM are on: what FmLearner can train.
  bool IsPlainFm() const;

  // `training`: batch norm stands as nodes with their statistics; else it has
  // been folded into what precedes it (FoldBatchNorm). InvalidArgument, naming
  // the part, for a graph that is none.
  static absl::StatusOr<Graph> Create(const v1::ModelGraph& spec,
                                      const FieldLayout& fields, bool training);
};

// Parameters of the graph without batch norm that computes what `training` does
// with its running statistics (eps 1e-5, as PyTorch): the norm after a dense
// layer is folded into its weights, any other becomes a scale and a shift.
// REQUIRES: both are of one spec and layout; sizes fit.
std::vector<float> FoldBatchNorm(const Graph& training,
                                 const std::vector<float>& parameters,
                                 const Graph& inference);

inline constexpr float kBatchNormEpsilon = 1e-5f;

}  // namespace adrank

#endif  // ADRANK_MODEL_GRAPH_H_
