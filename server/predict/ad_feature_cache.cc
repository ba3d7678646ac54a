#include "server/predict/ad_feature_cache.h"

namespace adrank {

std::shared_ptr<const AdFeatureCache> AdFeatureCache::Build(
    const ModelBundle& bundle, const AdIndex& index) {
  std::shared_ptr<AdFeatureCache> cache(new AdFeatureCache);
  FeatureBatch& features = cache->features_;
  for (uint32_t i = 0; i < index.size(); ++i) {
    bundle.extractor().ExtractAd(index.ad(i).snapshot, &features);
  }
  bundle.vocabulary().Lookup(features, &cache->rows_);
  return cache;
}

uint64_t AdFeatureCache::bytes() const {
  return features_.ids.size() * (sizeof(uint64_t) + sizeof(float) +
                                 sizeof(uint16_t) + sizeof(uint32_t)) +
         features_.offsets.size() * sizeof(uint32_t);
}

}  // namespace adrank
