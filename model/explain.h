// Why a candidate got its logit.
#ifndef ADRANK_MODEL_EXPLAIN_H_
#define ADRANK_MODEL_EXPLAIN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/logistic_model.h"
#include "model/model.h"

namespace adrank {

// What one feature adds to a logit.
struct Contribution {
  // Index in the candidate's full row (context, ad, crosses): the index of its
  // name in FeatureExtractor::Describe().
  uint32_t entry = 0;
  // Index into FeatureExtractor::field_names().
  uint16_t field = 0;
  float value = 0;
  // 0 for a feature that the model does not know.
  float weight = 0;
  // weight x value, exact.
  double contribution = 0;
};

// One a feature of candidate `i`, in the order of its full row. Their sum and
// the bias are the logit, up to the order of the additions and the rounding to
// float. REQUIRES: i < features.candidates(), rows belongs to features.
std::vector<Contribution> Explain(const LogisticModel& model,
                                  const RequestFeatures& features,
                                  const RequestRows& rows, size_t i);

}  // namespace adrank

#endif  // ADRANK_MODEL_EXPLAIN_H_
