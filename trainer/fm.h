// One-pass factorization machine: the fast Learner of linear weights plus
// pairwise vectors.
#ifndef ADRANK_TRAINER_FM_H_
#define ADRANK_TRAINER_FM_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/embedding_weights.h"
#include "trainer/fm_kernel.h"
#include "trainer/ftrl.h"
#include "trainer/learner.h"

namespace adrank {

struct FmOptions {
  // Of the linear weights and the bias; also the batch, initial bias, threads.
  FtrlOptions linear;
  // A multiple of 4 in [4, 64]; 8 and 16 are fastest.
  uint32_t dim = 8;
  FmOptimizer optimizer = FmOptimizer::kAdagrad;
  // > 0. kFtrl's alpha.
  double lr = 0.05;
  // >= 0, added to the root of the accumulator. kFtrl's beta; not both it and
  // l2 may be 0 there.
  double eps = 1;
  // >= 0; not with kFtrl. Not both it and eps may be 0.
  double initial_accumulator = 0;
  // >= 0. kAdagrad, kRowAdagrad: l2 v joins the gradient of every row that an
  // example names. kFtrl: its l2.
  double l2 = 0;
  // >= 0; only with kFtrl. Vectors of rare rows become exactly 0.
  double l1 = 0;
  // >= 0; 0 learns no vectors, as all stay 0.
  double init_std = 0.01;
  uint64_t seed = 1;
};

// Rendle 2010, equation 1, over the entries e of an example, those of one field
// included, x_e their values:
//
//   logit = bias + sum_e w_e x_e + 1/2 (|s|^2 - sum_e |v_e x_e|^2),
//   s     = sum_e v_e x_e;   d logit / d v_e = x_e (s - v_e x_e)
//
// The linear weights and the bias learn as FtrlLearner's, the vectors by
// FmOptimizer. Batches and threads are FtrlLearner's too: the logits and s of
// a batch are those before it, then each row takes its gradients one by one in
// example order, with its own v as it is by then. Entries of one example that
// name the same row follow each other the same way.
//
// A row gets its initial vector when it is first met in an Update; until then
// its vector is 0 in Predict and Freeze, so that unknown ids add no noise.
//
// State is one to three cache lines a row: dim 8 takes 64 bytes (kRowAdagrad)
// or 128, dim 16 takes 128 or 192.
class FmLearner : public Learner {
 public:
  // InvalidArgument names the option out of its range.
  static absl::StatusOr<std::unique_ptr<FmLearner>> Create(
      const FmOptions& options, uint64_t rows);
  ~FmLearner() override;

  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order = {}) override;
  // The formula in entry order in double, rounded to float once.
  absl::Status Predict(const ExampleBlock& block,
                       absl::Span<float> logits) const override;
  v1::Metrics Progress() const override;
  void ResetProgress() override;
  ProgressMeter Meter() const override;
  void SetMeter(const ProgressMeter& meter) override;

  // state := magic "AXFMLR01", u64 rows, u64 examples seen, f64 bias z,
  //          f64 bias n, f64 initial bias, u32 dim, u32 optimizer,
  //          (FmHead, f32 v[dim], f32 accumulators[dim] but for kRowAdagrad)
  //          [rows], u64 XXH3-64 of all bytes before
  std::string Save() const override;
  // Replaces rows() by the state's; the options stay this learner's, of which
  // dim and optimizer must be the state's (FailedPrecondition).
  absl::Status Restore(absl::string_view state) override;
  absl::Status CheckFinite() const override;

  absl::Status Remap(absl::Span<const uint32_t> source) override;
  // Sets the graph too: linear, FM, this dim.
  void FreezeInto(BundleContents* contents) const override;
  // As FtrlLearner's. REQUIRES: rows >= rows().
  absl::Status Grow(uint64_t rows);

  // What is published for the graph of a linear part and a pairwise fm: its one
  // parameter is the bias.
  EmbeddingWeights Freeze() const;

  uint64_t rows() const;
  // Examples learnt so far, over all passes and restores.
  uint64_t examples() const;

 private:
  class Impl;
  explicit FmLearner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_FM_H_
