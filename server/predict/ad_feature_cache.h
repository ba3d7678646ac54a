// The ad part of every row, extracted once for a pair of bundle and catalogue.
#ifndef ADRANK_SERVER_PREDICT_AD_FEATURE_CACHE_H_
#define ADRANK_SERVER_PREDICT_AD_FEATURE_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "features/feature_batch.h"
#include "model/model_bundle.h"
#include "server/trigger/ad_index.h"

namespace adrank {

// Row i belongs to ad i of the index. Immutable and thread-safe. About 18 bytes
// a feature.
class AdFeatureCache {
 public:
  // Takes time in proportion to the ads: not for the request path.
  static std::shared_ptr<const AdFeatureCache> Build(const ModelBundle& bundle,
                                                     const AdIndex& index);

  const FeatureBatch& features() const { return features_; }
  // Vocabulary row of each entry of features().
  const std::vector<uint32_t>& rows() const { return rows_; }
  uint64_t bytes() const;

 private:
  AdFeatureCache() = default;
  FeatureBatch features_;
  std::vector<uint32_t> rows_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_PREDICT_AD_FEATURE_CACHE_H_
