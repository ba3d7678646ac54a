// The ad part of every row, extracted once for a pair of bundle and catalogue.
#ifndef ADRANK_SERVER_PREDICT_AD_FEATURE_CACHE_H_
#define ADRANK_SERVER_PREDICT_AD_FEATURE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "features/feature_batch.h"
#include "model/model_bundle.h"
#include "server/trigger/ad_index.h"

namespace adrank {

// Of an index on a base (AdIndex) it holds the rows of the ads that changed,
// and shares the rest with the base's cache. Immutable and thread-safe. About
// 18 bytes a feature.
class AdFeatureCache {
 public:
  // Takes time in proportion to the ads that the index has of its own, and to
  // those of its base when `base` is null: not for the request path. `base`: of
  // the same bundle and index.base().
  static std::shared_ptr<const AdFeatureCache> Build(
      const ModelBundle& bundle, const AdIndex& index,
      std::shared_ptr<const AdFeatureCache> base = nullptr);

  // Where the row of an ad is.
  struct Row {
    const FeatureBatch& features;
    // Vocabulary row of each entry of features.
    const std::vector<uint32_t>& rows;
    size_t row;  // of features
  };
  Row Find(uint32_t ad) const {
    if (base_ == nullptr) return {features_, rows_, ad};
    const auto it = row_of_.find(ad);
    if (it != row_of_.end()) return {features_, rows_, it->second};
    return {base_->features_, base_->rows_, ad};
  }
  // Of the ads of an index without a base.
  const std::shared_ptr<const AdFeatureCache>& base() const { return base_; }
  // Rows for so many ads.
  size_t size() const { return base_ == nullptr ? features_.rows() : size_; }
  // With the base's.
  uint64_t bytes() const;

 private:
  AdFeatureCache() = default;
  FeatureBatch features_;
  std::vector<uint32_t> rows_;
  // With a base: its cache, and the rows of the ads that changed.
  std::shared_ptr<const AdFeatureCache> base_;
  absl::flat_hash_map<uint32_t, size_t> row_of_;
  size_t size_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_PREDICT_AD_FEATURE_CACHE_H_
