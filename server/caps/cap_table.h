// Which ads, ad groups and campaigns of a catalogue have frequency caps.
#ifndef ADRANK_SERVER_CAPS_CAP_TABLE_H_
#define ADRANK_SERVER_CAPS_CAP_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/repeated_field.h"
#include "proto/catalog.pb.h"
#include "storage/cap_row.h"

namespace adrank {

// At most `impressions` in any stretch of `window_ms`.
struct CompiledCap {
  uint32_t impressions = 0;
  int64_t window_ms = 0;
};

struct CappedEntity {
  uint64_t key = 0;  // CapKey
  CapLevel level = CapLevel::kAd;
  uint32_t number = 0;          // AdIndex's, of its level
  uint32_t begin = 0, end = 0;  // of CapTable::caps; never empty
};

// Part of an AdIndex. Filled while that is built, then immutable and
// thread-safe. Its size is that of what has caps.
class CapTable {
 public:
  // The entity's caps are these now; none when `caps` is empty.
  void Set(CapLevel level, uint32_t number, absl::string_view id,
           const google::protobuf::RepeatedPtrField<v1::FrequencyCap>& caps);

  bool empty() const { return entities_.empty(); }
  // Null when it has no cap.
  const CappedEntity* Find(uint64_t key) const { return At(by_key_, key); }
  const CappedEntity* Of(CapLevel level, uint32_t number) const {
    return At(by_number_[static_cast<size_t>(level)], number);
  }
  bool Caps(uint32_t ad, uint32_t group, uint32_t campaign) const {
    return Of(CapLevel::kAd, ad) != nullptr ||
           Of(CapLevel::kAdGroup, group) != nullptr ||
           Of(CapLevel::kCampaign, campaign) != nullptr;
  }
  // Shortest window first.
  absl::Span<const CompiledCap> caps(const CappedEntity& entity) const {
    return absl::MakeConstSpan(caps_).subspan(entity.begin,
                                              entity.end - entity.begin);
  }

 private:
  template <typename Map, typename Key>
  const CappedEntity* At(const Map& map, Key key) const {
    if (map.empty()) return nullptr;
    const auto it = map.find(key);
    return it == map.end() ? nullptr : &entities_[it->second];
  }

  std::vector<CappedEntity> entities_;
  std::vector<CompiledCap> caps_;
  absl::flat_hash_map<uint64_t, uint32_t> by_key_;
  absl::flat_hash_map<uint32_t, uint32_t> by_number_[kCapLevels];
};

}  // namespace adrank

#endif  // ADRANK_SERVER_CAPS_CAP_TABLE_H_
