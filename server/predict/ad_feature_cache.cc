#include "server/predict/ad_feature_cache.h"

#include <utility>

namespace adrank {

std::shared_ptr<const AdFeatureCache> AdFeatureCache::Build(
    const ModelBundle& bundle, const AdIndex& index,
    std::shared_ptr<const AdFeatureCache> base) {
  std::shared_ptr<AdFeatureCache> cache(new AdFeatureCache);
  FeatureBatch& features = cache->features_;
  if (index.base() == nullptr) {
    for (uint32_t i = 0; i < index.size(); ++i) {
      bundle.extractor().ExtractAd(index.ad(i).snapshot, &features);
    }
  } else {
    cache->base_ =
        base != nullptr ? std::move(base) : Build(bundle, *index.base());
    cache->size_ = index.size();
    for (const uint32_t ad : index.changed_ads()) {
      cache->row_of_.emplace(ad, features.rows());
      bundle.extractor().ExtractAd(index.ad(ad).snapshot, &features);
    }
  }
  bundle.vocabulary().Lookup(features, &cache->rows_);
  return cache;
}

uint64_t AdFeatureCache::bytes() const {
  return (base_ == nullptr ? 0 : base_->bytes()) +
         features_.ids.size() * (sizeof(uint64_t) + sizeof(float) +
                                 sizeof(uint16_t) + sizeof(uint32_t)) +
         features_.offsets.size() * sizeof(uint32_t);
}

}  // namespace adrank
