#include "server/trigger/ad_tags.h"

#include <algorithm>

#include "base/hash.h"

namespace adrank {
namespace {

void SetHashes(const BlockedTags::Texts& texts, std::vector<uint64_t>* hashes) {
  hashes->clear();
  for (const std::string& text : texts) hashes->push_back(Hash64(text));
  std::sort(hashes->begin(), hashes->end());
}

bool Has(const std::vector<uint64_t>& hashes, uint64_t hash) {
  return std::binary_search(hashes.begin(), hashes.end(), hash);
}

}  // namespace

AdTags AdTags::Of(const v1::Ad& ad) {
  AdTags tags;
  SetHashes(ad.exclusion_labels(), &tags.labels);
  SetHashes(ad.categories(), &tags.categories);
  return tags;
}

void BlockedTags::Set(const Texts* ad_ids, const Texts* categories) {
  ads_.clear();
  categories_.clear();
  if (ad_ids != nullptr) SetHashes(*ad_ids, &ads_);
  if (categories != nullptr) SetHashes(*categories, &categories_);
}

bool BlockedTags::Blocks(absl::string_view ad_id, const AdTags* tags) const {
  if (!ads_.empty() && Has(ads_, Hash64(ad_id))) return true;
  if (tags == nullptr || categories_.empty()) return false;
  return std::any_of(tags->categories.begin(), tags->categories.end(),
                     [&](uint64_t c) { return Has(categories_, c); });
}

}  // namespace adrank
