// EmbeddingModel::Explain. With e the embeddings of a row, G_f the gradient of
// the logit by those of field f, averaged over the straight path from 0 to e,
// entry i of field f gets
//
//   phi_i = x_i w_i + <x_i v_i, G_f> - [FM] 1/2 |x_i v_i|^2.
//
// For FM, FwFM and FvFM the gradient is linear along the path: its mean is its
// middle, and phi_i = x_i w_i + 1/2 <x_i v_i, sum of its partners>, the Shapley
// split of every pair. The baseline 0 is "the row has no features", which any
// bundle knows; a mean of yesterday's embeddings would be measured from an
// average row, and share out what each feature adds to that.
#include <algorithm>
#include <cmath>
#include <vector>

#include "model/embedding_model.h"
#include "model/explain.h"
#include "model/graph_gradient.h"

namespace adrank {
namespace {

// Gauss-Legendre, 16 nodes on [-1, 1]; the other half is symmetric.
constexpr double kNodes[8] = {0.09501250983763744, 0.28160355077925891,
                              0.45801677765722739, 0.61787624440264375,
                              0.75540440835500303, 0.86563120238783174,
                              0.94457502307323258, 0.98940093499164993};
constexpr double kWeights[8] = {0.18945061045506850, 0.18260341504492359,
                                0.16915651939500254, 0.14959598881657673,
                                0.12462897125553387, 0.09515851168249278,
                                0.06225352393864789, 0.02715245941175409};

// ReLUs bend the path: it is cut into pieces until the gap is below this share
// of the sum of the contributions' sizes, or into so many.
constexpr double kGapShare = 0.01;
constexpr int kMaxPieces = 8;

struct Node1D {
  double at, weight;
};

// Of the mean over [0, 1], cut into `pieces`.
std::vector<Node1D> PathNodes(bool linear, int pieces) {
  if (linear) return {{0.5, 1}};
  std::vector<Node1D> nodes;
  for (int p = 0; p < pieces; ++p) {
    for (int i = 0; i < 8; ++i) {
      for (const double side : {-1.0, 1.0}) {
        nodes.push_back({(p + (1 + side * kNodes[i]) / 2) / pieces,
                         kWeights[i] / 2 / pieces});
      }
    }
  }
  return nodes;
}

}  // namespace

// Rows between 0 and one row.
class EmbeddingModel::Path {
 public:
  Path(const EmbeddingModel& model, const RequestFeatures& features,
       const RequestRows& rows, size_t i)
      : model_(model), x_(model.graph_.input_width()) {
    std::vector<float> context_x;
    const Pooled context = model.PoolContext(features, rows, &context_x);
    pooled_ = model.PoolRow(features, rows, i, context_x, context, x_.data());
  }

  // The logit of `share` of the row.
  float Logit(double share) {
    Forward({{share, 1}});
    float logit = 0;
    CombineOutputs(model_.graph_, Rows(), &logit);
    return logit;
  }

  // [input_width]
  std::vector<double> MeanGradient(const std::vector<Node1D>& nodes) {
    Forward(nodes);
    std::vector<float> gradients(nodes.size() * x_.size());
    InputGradient(model_.graph_, model_.weights_.parameters(), Rows(),
                  gradients.data());
    std::vector<double> mean(x_.size());
    for (size_t n = 0; n < nodes.size(); ++n) {
      for (size_t j = 0; j < x_.size(); ++j) {
        mean[j] +=
            nodes[n].weight * static_cast<double>(gradients[n * x_.size() + j]);
      }
    }
    return mean;
  }

 private:
  void Forward(const std::vector<Node1D>& nodes) {
    const Graph& graph = model_.graph_;
    Resize(nodes.size());
    const float bias = model_.weights_.parameters()[0];
    for (size_t n = 0; n < nodes.size(); ++n) {
      const auto share = static_cast<float>(nodes[n].at);
      for (size_t j = 0; j < x_.size(); ++j) {
        buffers_[0][n * x_.size() + j] = share * x_[j];
      }
      square_[n] = share * share * pooled_.square;
      shared_[n] = bias + share * static_cast<float>(pooled_.linear);
    }
    const GraphRows rows = Rows();
    for (const Node& node : graph.nodes) {
      ForwardNode(graph, node, model_.weights_.parameters(), model_.packed_,
                  rows);
    }
  }

  void Resize(size_t rows) {
    const Graph& graph = model_.graph_;
    buffers_.clear();
    outputs_.assign(graph.outputs, std::vector<float>(rows));
    square_.resize(rows);
    shared_.resize(rows);
    pointers_.clear();
    for (const uint32_t width : graph.widths) {
      buffers_.emplace_back(rows * width);
      pointers_.push_back(buffers_.back().data());
    }
    for (std::vector<float>& o : outputs_) pointers_.push_back(o.data());
  }

  GraphRows Rows() {
    GraphRows rows;
    rows.rows = square_.size();
    rows.buffers = absl::MakeConstSpan(pointers_).first(buffers_.size());
    rows.outputs = absl::MakeConstSpan(pointers_).subspan(buffers_.size());
    rows.square = square_.data();
    rows.shared = shared_.data();
    return rows;
  }

  const EmbeddingModel& model_;
  std::vector<float> x_;
  Pooled pooled_;
  std::vector<std::vector<float>> buffers_, outputs_;
  std::vector<float> square_, shared_;
  std::vector<float*> pointers_;
};

void EmbeddingModel::Contribute(const std::vector<uint32_t>& table_rows,
                                const std::vector<double>& gradient,
                                std::vector<Contribution>* out) const {
  std::vector<float> xv(graph_.dim);
  for (Contribution& c : *out) {
    const uint32_t row = table_rows[c.entry];
    if (row == kNoRow) continue;
    const GraphField& field = graph_.fields[c.field];
    std::fill(xv.begin(), xv.end(), 0.0f);
    weights_.AddTo(row, c.value, field.dim, xv.data());
    c.weight = graph_.linear ? weights_.linear()[row] : 0.0f;
    double sum = static_cast<double>(c.weight) * static_cast<double>(c.value);
    for (uint32_t d = 0; d < field.dim; ++d) {
      const double x = static_cast<double>(xv[d]);
      sum += x * gradient[field.column + d];
      if (graph_.has_fm) sum -= 0.5 * x * x;
    }
    c.contribution = sum;
  }
}

Explanation EmbeddingModel::Explain(const RequestFeatures& features,
                                    const RequestRows& rows, size_t i) const {
  const bool exact = graph_.outputs == 0;
  Explanation result;
  result.method = exact ? Explanation::Method::kExact
                        : Explanation::Method::kIntegratedGradients;
  std::vector<uint32_t> table_rows;
  result.contributions = FullRow(features, rows, i, &table_rows);
  Path path(*this, features, rows, i);
  result.base = static_cast<double>(path.Logit(0));
  result.logit = path.Logit(1);
  for (int pieces = 1;; pieces *= 2) {
    Contribute(table_rows, path.MeanGradient(PathNodes(exact, pieces)),
               &result.contributions);
    CloseExplanation(&result);
    double size = 0;
    for (const Contribution& c : result.contributions) {
      size += std::abs(c.contribution);
    }
    if (exact || pieces == kMaxPieces ||
        std::abs(result.gap) <= kGapShare * size) {
      return result;
    }
  }
}

}  // namespace adrank
