// The mutable twin of a Model.
#ifndef ADRANK_TRAINER_LEARNER_H_
#define ADRANK_TRAINER_LEARNER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/training_report.pb.h"
#include "trainer/example_blocks.h"
#include "trainer/progress.h"

namespace adrank {

struct BundleContents;

// Learns from blocks in the order given. What it becomes is a pure function of
// its options and of the examples and their order: neither the number of
// threads nor the instruction set changes a bit. One caller at a time.
class Learner {
 public:
  virtual ~Learner() = default;

  // Predicts each example, then learns from it. `order`: indexes of the block's
  // examples to visit (each at most once); empty: all, in their order.
  // InvalidArgument when the block names a row that the learner does not have;
  // then nothing is learnt.
  virtual absl::Status Update(const ExampleBlock& block,
                              absl::Span<const uint32_t> order = {}) = 0;

  // Logits of the block's examples under what is learnt so far.
  // REQUIRES: logits.size() == block.examples().
  virtual absl::Status Predict(const ExampleBlock& block,
                               absl::Span<float> logits) const = 0;

  // Progressive validation since the last ResetProgress: every example judged
  // by the prediction made before it was learnt (McMahan et al. 2013, section
  // 5). AUC is of a histogram of logits (error below 1e-4); no GAUC, no ECE.
  virtual v1::Metrics Progress() const = 0;
  // Starts a new pass.
  virtual void ResetProgress() = 0;
  // What Progress is computed from, to be put back after a Restore within a
  // pass.
  virtual ProgressMeter Meter() const = 0;
  virtual void SetMeter(const ProgressMeter& meter) = 0;

  // The whole optimizer state; Restore continues as if never interrupted (but
  // for the meter).
  virtual std::string Save() const = 0;
  // DataLoss for damaged bytes, FailedPrecondition for another learner's or a
  // newer format; on error the learner is unchanged.
  virtual absl::Status Restore(absl::string_view state) = 0;

  // Finite?
  virtual absl::Status CheckFinite() const = 0;

  // For a warm start whose vocabulary grew or moved: row r of the result is the
  // old row source[r], or new when that is kNoRow.
  virtual absl::Status Remap(absl::Span<const uint32_t> source) = 0;
  // Passes over `examples` examples in all begin: where a schedule starts anew.
  virtual void Begin(uint64_t examples) {}
  // Multiplies the learning rates that have a schedule.
  virtual void ScaleRate(double factor) {}
  // Sets the family's part of what is published: weights (and the manifest's
  // graph).
  virtual void FreezeInto(BundleContents* contents) const = 0;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_LEARNER_H_
