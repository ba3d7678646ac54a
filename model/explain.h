// Why a candidate got its logit.
#ifndef ADRANK_MODEL_EXPLAIN_H_
#define ADRANK_MODEL_EXPLAIN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "features/feature_batch.h"

namespace adrank {

struct RequestRows;

// What one feature adds to a logit.
struct Contribution {
  // Index in the candidate's full row (context, ad, crosses): the index of its
  // name in FeatureExtractor::Describe().
  uint32_t entry = 0;
  // Index into FeatureExtractor::field_names().
  uint16_t field = 0;
  float value = 0;
  // Of the linear part; 0 without one and for a feature that the model does not
  // know.
  float weight = 0;
  double contribution = 0;
};

// base + sum of the contributions + gap = logit.
struct Explanation {
  enum class Method : uint8_t {
    // The contributions are the model's own summands; a pair's is halved
    // between its two features. The gap is rounding.
    kExact,
    // Integrated gradients (Sundararajan et al. 2017): the gap is what the
    // quadrature left over.
    kIntegratedGradients,
  };
  Method method = Method::kExact;
  // The logit of a row without any feature: what contributions are measured
  // from.
  double base = 0;
  // Model::Logits' bits.
  float logit = 0;
  double gap = 0;
  // One a feature, in the order of the full row.
  std::vector<Contribution> contributions;
};

// One contribution a feature of candidate `i`'s full row, each of no weight and
// 0: what a model fills in. table_rows, by entry, are its rows of the
// vocabulary (kNoRow: unknown). REQUIRES: i < features.candidates(), rows
// belongs to features.
std::vector<Contribution> FullRow(const RequestFeatures& features,
                                  const RequestRows& rows, size_t i,
                                  std::vector<uint32_t>* table_rows);

// Sets the gap from all else.
void CloseExplanation(Explanation* explanation);

}  // namespace adrank

#endif  // ADRANK_MODEL_EXPLAIN_H_
