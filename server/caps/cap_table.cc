#include "server/caps/cap_table.h"

#include <algorithm>

#include "storage/cap_window.h"

namespace adrank {

void CapTable::Set(
    CapLevel level, uint32_t number, absl::string_view id,
    const google::protobuf::RepeatedPtrField<v1::FrequencyCap>& caps) {
  CappedEntity entity;
  entity.key = CapKey(level, id);
  // What was there stays in the arrays, unreachable.
  by_key_.erase(entity.key);
  by_number_[static_cast<size_t>(level)].erase(number);
  if (caps.empty()) return;
  entity.level = level;
  entity.number = number;
  entity.begin = static_cast<uint32_t>(caps_.size());
  for (const v1::FrequencyCap& cap : caps) {
    caps_.push_back({cap.impressions(), CapWindowSeconds(cap) * 1000});
  }
  entity.end = static_cast<uint32_t>(caps_.size());
  std::sort(caps_.begin() + entity.begin, caps_.end(),
            [](const CompiledCap& a, const CompiledCap& b) {
              return a.window_ms < b.window_ms;
            });
  const auto at = static_cast<uint32_t>(entities_.size());
  by_key_.emplace(entity.key, at);
  by_number_[static_cast<size_t>(level)].emplace(number, at);
  entities_.push_back(entity);
}

}  // namespace adrank
