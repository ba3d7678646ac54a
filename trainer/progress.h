// Progressive validation in constant memory.
#ifndef ADRANK_TRAINER_PROGRESS_H_
#define ADRANK_TRAINER_PROGRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/training_report.pb.h"

namespace adrank {

// Sums of loss, pctr and clicks, and a histogram of logits by label for the
// AUC. All sums are fixed-point integers: Merge in any order gives the same
// numbers. Not thread-safe.
class ProgressMeter {
 public:
  ProgressMeter();

  // p = sigmoid(logit). NaN counts as the worst prediction. REQUIRES: weight >=
  // 0, the sum of weights < 2^40.
  void Add(double logit, double p, bool label, float weight);
  void Merge(const ProgressMeter& other);
  void Reset();

  // Undefined values (no examples, one class) are NaN, as are GAUC and ECE.
  v1::Metrics Metrics() const;

  // All sums, little endian; DataLoss, and no change, for other bytes.
  std::string Save() const;
  absl::Status Restore(absl::string_view state);

 private:
  // 2^16 bins of 1/2048 over [-16, 16): two examples of one bin count as a tie.
  static constexpr int kBins = 1 << 16;
  double HistogramAuc() const;

  struct Sums {
    uint64_t examples = 0;
    uint64_t clicks = 0;
    int64_t loss = 0;
    int64_t pctr = 0;
    int64_t weight = 0;
    int64_t click_weight = 0;
  };
  Sums sums_;
  std::vector<int64_t> bins_;  // [2 kBins]: of label 0, of label 1
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_PROGRESS_H_
