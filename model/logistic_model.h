// Sparse logistic regression: logit = bias + sum of weight x value.
#ifndef ADRANK_MODEL_LOGISTIC_MODEL_H_
#define ADRANK_MODEL_LOGISTIC_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "model/model.h"

namespace adrank {

// logit = float(bias + context sum + ad sum + cross sum): each part is summed
// in double in entry order, the parts are added in this order. The context part
// is summed once for all candidates.
class LogisticModel : public Model {
 public:
  // `weights` ([vocabulary rows], finite) must outlive the model.
  LogisticModel(float bias, absl::Span<const float> weights)
      : bias_(bias), weights_(weights) {}

  void Logits(const RequestFeatures& features, const RequestRows& rows,
              absl::Span<float> logits) const override;
  Explanation Explain(const RequestFeatures& features, const RequestRows& rows,
                      size_t i) const override;

  float bias() const { return bias_; }
  // 0 for kNoRow.
  float weight(uint32_t row) const {
    return row == kNoRow ? 0.0f : weights_[row];
  }

 private:
  double Sum(const FeatureBatch& batch, const std::vector<uint32_t>& rows,
             size_t begin, size_t end) const;
  void Prefetch(const std::vector<uint32_t>& rows, size_t begin,
                size_t end) const;

  const float bias_;
  const absl::Span<const float> weights_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_LOGISTIC_MODEL_H_
