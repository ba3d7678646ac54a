// How often each ad was answered, for the newcomer boost.
//
// <data_dir>/impressions.bin, written now and then and when the server stops;
// a crash loses the counts since, which is no more than some boost too much:
//
//   file := magic "ADRKIMP1" n:u64 entry[n] u64 XXH3-64 of all bytes before
//   entry := Hash64(ad id):u64 count:u64              sorted by the hash
#ifndef ADRANK_SERVER_IMPRESSION_COUNTS_H_
#define ADRANK_SERVER_IMPRESSION_COUNTS_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace adrank {

// Thread-safe. Exact, but for ads whose 64-bit hashes are equal. 16 to 32 bytes
// for each ad that was ever answered.
class ImpressionCounts {
 public:
  uint32_t Of(absl::string_view ad_id) const;
  void Add(absl::string_view ad_id);

  // Adds what the file holds. OK when there is none; DataLoss, and nothing
  // added, when it is damaged.
  absl::Status Load(const std::string& path);
  absl::Status Save(const std::string& path) const;

 private:
  // As many locks as make a wait unlikely on machines of today.
  static constexpr size_t kShards = 64;
  struct alignas(64) Shard {
    mutable absl::Mutex mu;
    absl::flat_hash_map<uint64_t, uint32_t> counts ABSL_GUARDED_BY(mu);
  };
  // By the top bits; the table within uses others.
  static size_t ShardOf(uint64_t hash) { return hash >> 58; }

  std::array<Shard, kShards> shards_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_IMPRESSION_COUNTS_H_
