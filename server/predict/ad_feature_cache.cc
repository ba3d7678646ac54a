#include "server/predict/ad_feature_cache.h"

#include <utility>

namespace adrank {

std::shared_ptr<const AdFeatureCache> AdFeatureCache::Build(
    const ModelBundle& bundle, const AdIndex& index,
    std::shared_ptr<const AdFeatureCache> base) {
  std::shared_ptr<AdFeatureCache> cache(new AdFeatureCache);
  FeatureBatch& features = cache->features_;
  v1::AdSnapshot ad;  // reused: its strings are not allocated anew
  if (index.base() == nullptr) {
    for (uint32_t i = 0; i < index.size(); ++i) {
      ad.ParseFromString(index.SnapshotBytes(i));
      bundle.extractor().ExtractAd(ad, &features);
    }
  } else {
    cache->base_ =
        base != nullptr ? std::move(base) : Build(bundle, *index.base());
    cache->size_ = index.size();
    for (const uint32_t i : index.changed_ads()) {
      cache->row_of_.emplace(i, features.rows());
      ad.ParseFromString(index.SnapshotBytes(i));
      bundle.extractor().ExtractAd(ad, &features);
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
