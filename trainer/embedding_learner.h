// The embedding family's Learner: a graph over a table of rows.
#ifndef ADRANK_TRAINER_EMBEDDING_LEARNER_H_
#define ADRANK_TRAINER_EMBEDDING_LEARNER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/embedding_weights.h"
#include "model/graph.h"
#include "trainer/embedding_options.h"
#include "trainer/learner.h"

namespace adrank {

// Synchronous mini-batches: an Update's examples are cut into batches of nearly
// equal size, at most batch_size. Of each the gradient of the mean loss (of the
// weighted examples) is summed over the examples that name a row, in their
// order, then every row and every dense parameter takes one step. The same
// bytes for any number of threads; between CPUs they differ only with bf16.
class EmbeddingLearner : public Learner {
 public:
  // InvalidArgument names the option or the part of the graph.
  static absl::StatusOr<std::unique_ptr<EmbeddingLearner>> Create(
      const EmbeddingOptions& options, const FieldLayout& fields,
      uint64_t rows);
  ~EmbeddingLearner() override;

  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order = {}) override;
  // With the weights that would be published (averages, running statistics).
  absl::Status Predict(const ExampleBlock& block,
                       absl::Span<float> logits) const override;
  v1::Metrics Progress() const override;
  void ResetProgress() override;
  ProgressMeter Meter() const override;
  void SetMeter(const ProgressMeter& meter) override;

  // state := magic "AXEMBD01", u64 parameters, u64 steps, u64 schedule's
  //          begin, u64 its length, u64 examples, f64 rate scale, parameters,
  //          first and second moments, averages (if any), the table's state
  //          (row_table.h), u64 XXH3-64 of all before
  std::string Save() const override;
  absl::Status Restore(absl::string_view state) override;
  absl::Status CheckFinite() const override;

  absl::Status Remap(absl::Span<const uint32_t> source) override;
  // All rates but FTRL's.
  void ScaleRate(double factor) override;
  // Undoes ScaleRate too.
  void Begin(uint64_t examples) override;
  void FreezeInto(BundleContents* contents) const override;

  // What is published: batch norm folded, averages where they are kept.
  EmbeddingWeights Freeze() const;
  uint64_t rows() const;
  uint64_t bytes() const;

 private:
  class Impl;
  explicit EmbeddingLearner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_EMBEDDING_LEARNER_H_
