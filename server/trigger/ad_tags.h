// Exclusion labels and categories of ads, and what a request blocks.
#ifndef ADRANK_SERVER_TRIGGER_AD_TAGS_H_
#define ADRANK_SERVER_TRIGGER_AD_TAGS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/repeated_field.h"
#include "proto/catalog.pb.h"

namespace adrank {

// Texts as their Hash64, sorted. Two of 2^32 texts would meet by chance.
struct AdTags {
  std::vector<uint64_t> labels;      // Ad.exclusion_labels
  std::vector<uint64_t> categories;  // Ad.categories

  static AdTags Of(const v1::Ad& ad);
  bool empty() const { return labels.empty() && categories.empty(); }
};

// RankRequest.blocked_ad_ids and blocked_categories. Reused, one a thread.
class BlockedTags {
 public:
  using Texts = google::protobuf::RepeatedPtrField<std::string>;

  // Null: none.
  void Set(const Texts* ad_ids, const Texts* categories);
  bool empty() const { return ads_.empty() && categories_.empty(); }
  bool Blocks(absl::string_view ad_id, const AdTags* tags) const;

 private:
  std::vector<uint64_t> ads_, categories_;  // hashes, sorted
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_AD_TAGS_H_
