// The embedding family: a graph over embeddings of the row's features.
#ifndef ADRANK_MODEL_EMBEDDING_MODEL_H_
#define ADRANK_MODEL_EMBEDDING_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/embedding_weights.h"
#include "model/graph.h"
#include "model/graph_forward.h"
#include "model/model.h"

namespace adrank {

// Embeddings of a field's entries are summed, each times its value, in entry
// order; those of the context once for all candidates. The linear part is
// summed in double, as LogisticModel does. Everything after is per row, in one
// order whatever the CPU and the number of candidates.
class EmbeddingModel : public Model {
 public:
  // InvalidArgument when the weights are not of the graph. What `weights` views
  // must outlive the model.
  static absl::StatusOr<std::unique_ptr<const EmbeddingModel>> Create(
      const v1::ModelGraph& graph, const FieldLayout& fields,
      const EmbeddingView& weights);

  void Logits(const RequestFeatures& features, const RequestRows& rows,
              absl::Span<float> logits) const override;
  // Exact for the linear part, FM, FwFM and FvFM; with streams or fusion,
  // integrated gradients from the row without features (all embeddings 0) to
  // the row.
  Explanation Explain(const RequestFeatures& features, const RequestRows& rows,
                      size_t i) const override;

  const Graph& graph() const { return graph_; }
  const EmbeddingView& weights() const { return weights_; }

 private:
  // What the entries of a row (or of a part of it) come to.
  struct Pooled {
    double linear = 0;
    float square = 0;
  };
  struct Scratch;
  class Path;  // of an explanation

  EmbeddingModel(Graph graph, const EmbeddingView& weights);
  // Adds entries [begin, end) to the row's embeddings x [input_width].
  void Pool(const FeatureBatch& batch, const std::vector<uint32_t>& rows,
            size_t begin, size_t end, float* x, Pooled* pooled) const;
  // Of the context; sets x to its columns.
  Pooled PoolContext(const RequestFeatures& features, const RequestRows& rows,
                     std::vector<float>* x) const;
  // Of candidate i's full row; sets x [input_width].
  Pooled PoolRow(const RequestFeatures& features, const RequestRows& rows,
                 size_t i, const std::vector<float>& context_x,
                 const Pooled& context, float* x) const;
  // Sets weight and contribution from the mean gradient [input_width].
  void Contribute(const std::vector<uint32_t>& table_rows,
                  const std::vector<double>& gradient,
                  std::vector<Contribution>* out) const;

  const Graph graph_;
  const EmbeddingView weights_;
  PackedTensors packed_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_EMBEDDING_MODEL_H_
