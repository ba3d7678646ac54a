// A scoring function learnt from data.
#ifndef ADRANK_MODEL_MODEL_H_
#define ADRANK_MODEL_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "features/feature_batch.h"
#include "model/explain.h"

namespace adrank {

// Row of the model's tables that a feature uses; kNoRow: it contributes
// nothing.
inline constexpr uint32_t kNoRow = 0xffffffffu;

// RequestFeatures after the vocabulary: rows[e] replaces ids[e].
struct RequestRows {
  std::vector<uint32_t> context;
  std::vector<uint32_t> ads;
  std::vector<uint32_t> crosses;
};

// Immutable and thread-safe.
class Model {
 public:
  virtual ~Model() = default;

  // logits[i] is candidate i's, a pure function of its own row and the shared
  // context: neither the other candidates nor their number change a bit of it.
  // REQUIRES: logits.size() == features.candidates(), rows belongs to features.
  virtual void Logits(const RequestFeatures& features, const RequestRows& rows,
                      absl::Span<float> logits) const = 0;

  // Why candidate `i` got its logit. Slow. REQUIRES: i < features.candidates(),
  // rows belongs to features.
  virtual Explanation Explain(const RequestFeatures& features,
                              const RequestRows& rows, size_t i) const = 0;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_MODEL_H_
