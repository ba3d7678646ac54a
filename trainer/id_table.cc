#include "trainer/id_table.h"

#include <algorithm>
#include <limits>

namespace adrank {
namespace {

// Handles stay below kNoRow.
constexpr size_t kMaxInShard = (size_t{1} << (32 - IdTable::kShardBits)) - 1;

uint32_t SaturatingAdd(uint32_t a, uint32_t b) {
  return b > std::numeric_limits<uint32_t>::max() - a
             ? std::numeric_limits<uint32_t>::max()
             : a + b;
}

}  // namespace

uint32_t IdTable::Intern(uint64_t id, uint16_t field, uint32_t examples) {
  const uint32_t s = static_cast<uint32_t>(id) & (kShards - 1);
  Shard& shard = shards_[s];
  absl::MutexLock lock(&shard.mu);
  const auto [it, added] =
      shard.index.try_emplace(id, static_cast<uint32_t>(shard.entries.size()));
  if (added) {
    if (shard.entries.size() < kMaxInShard) {
      shard.entries.push_back({id, 0, field});
    } else {
      shard.full = true;
      it->second = static_cast<uint32_t>(kMaxInShard - 1);
    }
  }
  Entry& entry = shard.entries[it->second];
  entry.examples = SaturatingAdd(entry.examples, examples);
  return (it->second << kShardBits) | s;
}

void IdTable::AddExamples(uint32_t handle, uint32_t examples) {
  Shard& shard = shards_[handle & (kShards - 1)];
  absl::MutexLock lock(&shard.mu);
  Entry& entry = shard.entries[handle >> kShardBits];
  entry.examples = SaturatingAdd(entry.examples, examples);
}

bool IdTable::overflowed() const {
  return std::any_of(shards_.begin(), shards_.end(), [](const Shard& shard) {
    absl::MutexLock lock(&shard.mu);
    return shard.full;
  });
}

size_t IdTable::size() const {
  size_t ids = 0;
  for (uint32_t s = 0; s < kShards; ++s) ids += shard(s).size();
  return ids;
}

void IdCache::Flush() {
  for (Slot& slot : slots_) {
    if (slot.examples > 0) table_->AddExamples(slot.handle, slot.examples);
    slot.examples = 0;
  }
}

}  // namespace adrank
