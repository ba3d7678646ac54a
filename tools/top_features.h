// What a model has learnt of single features, for people.
#ifndef ADRANK_TOOLS_TOP_FEATURES_H_
#define ADRANK_TOOLS_TOP_FEATURES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/feature_names.h"
#include "model/model_bundle.h"

namespace adrank {

struct TopFeature {
  std::string text;
  uint64_t rows = 0;  // of the sample that named it
  // Of the linear part; e^weight is its factor of the odds. 0 without one.
  double weight = 0;
  // Length of its embedding; 0 for the logistic family.
  double norm = 0;
};

// The `n` named features of the largest |weight| (without a linear part: of the
// largest norm) that at least `min_rows` rows of the sample have; with `field`
// not empty only those whose text begins with "field=" or "field:".
std::vector<TopFeature> TopFeatures(const ModelBundle& model,
                                    const std::vector<FeatureName>& names,
                                    const std::string& field, uint64_t min_rows,
                                    size_t n);

}  // namespace adrank

#endif  // ADRANK_TOOLS_TOP_FEATURES_H_
