#include "trainer/id_table.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace adrank {
namespace {

// Handles stay below kNoRow.
constexpr size_t kMaxInShard = (size_t{1} << (32 - IdTable::kShardBits)) - 1;

uint32_t SaturatingAdd(uint32_t a, uint32_t b) {
  return b > std::numeric_limits<uint32_t>::max() - a
             ? std::numeric_limits<uint32_t>::max()
             : a + b;
}

void Count(uint32_t examples, uint16_t day, IdTable::Entry* entry) {
  entry->examples = SaturatingAdd(entry->examples, examples);
  if (examples > 0) entry->day = std::max(entry->day, day);
}

}  // namespace

IdTable::IdTable(const IdAdmission* admission, uint64_t max_ids)
    : admission_(admission),
      max_in_shard_(static_cast<size_t>(
          std::min<uint64_t>(kMaxInShard, max_ids / kShards + 1))) {}

uint32_t IdTable::Intern(uint64_t id, uint16_t field, uint32_t examples,
                         uint16_t day) {
  const uint32_t s = static_cast<uint32_t>(id) & (kShards - 1);
  Shard& shard = shards_[s];
  absl::MutexLock lock(&shard.mu);
  uint32_t local = static_cast<uint32_t>(shard.entries.size());
  if (const auto it = shard.index.find(id); it != shard.index.end()) {
    local = it->second;
  } else if (admission_ != nullptr && !admission_->Admits(id, field)) {
    return kNoRow;  // most ids that come often are found above
  } else if (local < max_in_shard_) {
    shard.index.emplace(id, local);
    shard.entries.push_back({id, 0, field, 0});
  } else {
    shard.full = true;
    return kNoRow;
  }
  Count(examples, day, &shard.entries[local]);
  return (local << kShardBits) | s;
}

void IdTable::AddExamples(uint32_t handle, uint32_t examples, uint16_t day) {
  if (handle == kNoRow) return;
  Shard& shard = shards_[handle & (kShards - 1)];
  absl::MutexLock lock(&shard.mu);
  Count(examples, day, &shard.entries[handle >> kShardBits]);
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

uint64_t IdTable::bytes() const {
  uint64_t bytes = 0;
  for (const Shard& shard : shards_) {
    // A slot of the index is a pair and a byte.
    bytes +=
        shard.entries.capacity() * sizeof(Entry) +
        shard.index.capacity() * (sizeof(std::pair<uint64_t, uint32_t>) + 1);
  }
  return bytes;
}

void IdCache::Flush() {
  for (Slot& slot : slots_) {
    if (slot.examples > 0) {
      table_->AddExamples(slot.handle, slot.examples, day_);
    }
    slot.examples = 0;
  }
}

}  // namespace adrank
