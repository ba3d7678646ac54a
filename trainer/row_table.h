// The rows of the embedding family in training: an embedding and a linear
// weight a feature id, with the state of their optimizer.
#ifndef ADRANK_TRAINER_ROW_TABLE_H_
#define ADRANK_TRAINER_ROW_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/adam_step.h"
#include "trainer/ftrl_kernel.h"
#include "trainer/huge_array.h"

namespace adrank {

struct RowTableOptions {
  enum class Optimizer { kAdagradRow, kAdagrad, kAdam, kAdamLazy };
  Optimizer optimizer = Optimizer::kAdagradRow;
  // Numbers of an embedding; 0: linear weights only.
  uint32_t dim = 16;
  bool linear = true;
  float learning_rate = 0.05f;
  float l2 = 0;
  float linear_l2 = 0;
  bool l2_by_frequency = false;
  float initial_std = 0.01f;
  float initial_accumulator = 1e-6f;
  // Of the exponential average of the weights, a step (AverageKeep); 0: none is
  // kept.
  float average_decay = 0;
  // The linear weights by FTRL-Proximal (trainer/ftrl.h) instead.
  bool linear_ftrl = false;
  FtrlScale ftrl = {20, 1, 0, 0};
  uint64_t seed = 0;
};

// A row is [embedding, linear weight, padding] of stride() floats. New rows are
// nearly N(0, initial_std) in the embedding, a function of seed and row, and 0
// in the linear weight. Different rows may be worked on by different threads.
class RowTable {
 public:
  RowTable(const RowTableOptions& options, uint64_t rows);

  uint64_t rows() const { return rows_; }
  uint32_t dim() const { return options_.dim; }
  size_t stride() const { return stride_; }
  const RowTableOptions& options() const { return options_; }

  // Weights as they are learnt, and what is evaluated: the average where one is
  // kept. The linear weight is element dim().
  const float* row(uint64_t r) const { return &weights_[r * stride_]; }
  const float* evaluated(uint64_t r) const {
    return options_.average_decay > 0 ? &average_[r * stride_] : row(r);
  }

  // Fetches what CatchUp and Step of the row will read.
  void Prefetch(uint64_t r) const;

  // Steps are numbered 1, 2, ...: begins the next with this factor of the
  // learning rate. The gradients are of the mean loss of `batch` examples:
  // FTRL, whose numbers are those of single examples, takes the sum. One
  // thread, no row at work.
  void BeginStep(float rate_factor, size_t batch = 1);
  uint64_t step() const { return rates_.size(); }

  // kAdamLazy: brings the row to where it stood had it taken part in all steps
  // before this one. To be called before row() is read in a step. No effect for
  // others.
  void CatchUp(uint64_t r);
  // One step of one row with the sum of its gradients [stride] and the number
  // of examples that touched it. Not for kAdam.
  void Step(uint64_t r, const float* gradient, uint32_t examples);

  // kAdam: adds to the row's gradient of this step, once a row; then StepAll
  // over all rows, in ranges, after the gradient was scaled (clipping) by
  // `scale`.
  void AddGradient(uint64_t r, const float* gradient, uint32_t examples);
  // Adds l2 (but l2_by_frequency: that is of touched rows) and returns the sum
  // of squares of the gradients of rows [begin, end).
  double Regularize(uint64_t begin, uint64_t end);
  void StepAll(uint64_t begin, uint64_t end, float scale);

  // Brings rows [begin, end) to the end of the current step: weights of
  // kAdamLazy, averages of all. Before evaluated() is read. Threads may settle
  // disjoint ranges.
  void Settle(uint64_t begin, uint64_t end);

  // Row r of the result is the old row source[r], or new when that is kNoRow.
  void Remap(absl::Span<const uint32_t> source);

  // state := u64 rows, u64 dim, u64 kind, u64 steps, rates, then the arrays
  void Save(std::string* out) const;
  // Takes its part from the front of *in. DataLoss, FailedPrecondition (another
  // kind or dim); on error the table is unchanged.
  absl::Status Restore(absl::string_view* in);

  // The first row with a number that is not finite, or rows().
  uint64_t FirstNotFinite() const;
  uint64_t bytes() const;

 private:
  bool adam() const {
    return options_.optimizer == RowTableOptions::Optimizer::kAdam ||
           options_.optimizer == RowTableOptions::Optimizer::kAdamLazy;
  }
  size_t state_stride() const;
  void Allocate(uint64_t rows);
  void Initialize(uint64_t r);
  void AverageTo(uint64_t r, uint64_t step);
  // Of kAdamLazy: as if the row had taken part in steps 1 .. `step`.
  void CatchUpTo(uint64_t r, uint64_t step);
  // What the average keeps at step s; sums of its logarithms up to this step.
  float Keep(uint64_t s) const;
  void CountKeep();
  void StepLinearFtrl(uint64_t r, float gradient);
  float Share(uint64_t r, uint32_t examples);
  void Decay(uint64_t r, float share, float* gradient) const;
  void Swap(RowTable* other);

  const RowTableOptions options_;
  const size_t stride_;
  uint64_t rows_ = 0;
  std::vector<AdamStep> rates_;  // of steps 1, 2, ...
  float peak_ = 0;               // highest of their rates
  // With averages: [steps + 1], the sum of log Keep(s) over s = 1 .. i.
  std::vector<double> log_keep_;
  float batch_ = 1;           // of the current step
  HugeArray<float> weights_;  // [rows][stride]
  HugeArray<float> average_;  // [rows][stride] or empty
  // Adam: first moments, then second moments, [rows][2 stride]. Adagrad:
  // [rows][stride]; by row: G of the embedding, G of the linear weight.
  HugeArray<float> state_;
  HugeArray<FtrlSlot> ftrl_;     // [rows] with linear_ftrl
  HugeArray<float> gradient_;    // [rows][stride] with kAdam
  HugeArray<uint32_t> settled_;  // [rows] step that the row has reached
  HugeArray<uint32_t> touched_;  // [rows] examples, with l2_by_frequency
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_ROW_TABLE_H_
