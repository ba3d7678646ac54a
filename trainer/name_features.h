// What the ids of a model say: the names that travel beside it.
#ifndef ADRANK_TRAINER_NAME_FEATURES_H_
#define ADRANK_TRAINER_NAME_FEATURES_H_

#include <vector>

#include "absl/types/span.h"
#include "model/feature_names.h"
#include "model/model_bundle.h"
#include "trainer/sample_rows.h"

namespace adrank {

// More names than this are not kept: the commonest are.
inline constexpr size_t kMaxFeatureNames = 50'000;

// Of the ids that the sample has and the model knows, with the rows of the
// sample; then those of `before` (the live model's) that the model knows still.
// Ties in the order of ids.
std::vector<FeatureName> NameFeatures(const ModelBundle& model,
                                      absl::Span<const SampledRow> sample,
                                      std::vector<FeatureName> before);

}  // namespace adrank

#endif  // ADRANK_TRAINER_NAME_FEATURES_H_
