#include "server/impression_counts.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr absl::string_view kMagic = "ADRKIMP1";

struct Entry {
  uint64_t hash;
  uint64_t count;
};

void Append(const void* data, size_t bytes, std::string* to) {
  to->append(static_cast<const char*>(data), bytes);
}

uint32_t Sum(uint64_t a, uint64_t b) {
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  return static_cast<uint32_t>(std::min(kMost, std::min(kMost, a) + b));
}

}  // namespace

uint32_t ImpressionCounts::Of(absl::string_view ad_id) const {
  const uint64_t hash = Hash64(ad_id);
  const Shard& shard = shards_[ShardOf(hash)];
  absl::ReaderMutexLock lock(&shard.mu);
  const auto it = shard.counts.find(hash);
  return it == shard.counts.end() ? 0 : it->second;
}

void ImpressionCounts::Add(absl::string_view ad_id) {
  const uint64_t hash = Hash64(ad_id);
  Shard& shard = shards_[ShardOf(hash)];
  absl::MutexLock lock(&shard.mu);
  uint32_t& count = shard.counts[hash];
  count = Sum(count, 1);
}

absl::Status ImpressionCounts::Save(const std::string& path) const {
  std::vector<Entry> entries;
  for (const Shard& shard : shards_) {
    absl::ReaderMutexLock lock(&shard.mu);
    for (const auto& [hash, count] : shard.counts) {
      entries.push_back({hash, count});
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.hash < b.hash; });
  std::string bytes(kMagic.data(), kMagic.size());
  const uint64_t n = entries.size();
  Append(&n, sizeof(n), &bytes);
  Append(entries.data(), sizeof(Entry) * entries.size(), &bytes);
  const uint64_t checksum = Hash64(bytes);
  Append(&checksum, sizeof(checksum), &bytes);
  return files::WriteAtomically(path, bytes);
}

absl::Status ImpressionCounts::Load(const std::string& path) {
  if (!files::Exists(path)) return absl::OkStatus();
  const absl::StatusOr<std::string> content = files::Read(path);
  RETURN_IF_ERROR(content.status());
  const std::string& bytes = *content;
  const auto damaged = [&](const char* why) {
    return absl::DataLossError(absl::StrCat(path, ": ", why));
  };
  if (bytes.size() < 24 || bytes.compare(0, 8, kMagic.data(), 8) != 0) {
    return damaged("no file of impression counts");
  }
  uint64_t n, checksum;
  std::memcpy(&n, bytes.data() + 8, 8);
  std::memcpy(&checksum, bytes.data() + bytes.size() - 8, 8);
  if (n > bytes.size() || bytes.size() != 24 + n * sizeof(Entry)) {
    return damaged("of another size than it says");
  }
  const absl::string_view summed(bytes.data(), bytes.size() - 8);
  if (Hash64(summed) != checksum) return damaged("wrong checksum");
  for (uint64_t i = 0; i < n; ++i) {
    Entry entry;
    std::memcpy(&entry, bytes.data() + 16 + i * sizeof(Entry), sizeof(Entry));
    Shard& shard = shards_[ShardOf(entry.hash)];
    absl::MutexLock lock(&shard.mu);
    uint32_t& count = shard.counts[entry.hash];
    count = Sum(count, entry.count);
  }
  return absl::OkStatus();
}

}  // namespace adrank
