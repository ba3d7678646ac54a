// What one thread keeps of the ads it met lately.
#ifndef ADRANK_TRAINER_AD_CACHE_H_
#define ADRANK_TRAINER_AD_CACHE_H_

#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "storage/event_log_reader.h"

namespace adrank {

// Snapshot hash -> T, in bounded memory: two generations of at most `capacity`
// ads; when the young one is full it becomes the old one, and what was not used
// since is dropped. A log with a few ads extracts each once, a log in which
// every row has its own ad does not grow. Not thread-safe.
template <typename T>
class AdCache {
 public:
  // `drop` is called for everything that leaves, at the end too.
  explicit AdCache(size_t capacity, std::function<void(T*)> drop = {})
      : capacity_(capacity), drop_(std::move(drop)) {}
  ~AdCache() { Clear(); }
  AdCache(const AdCache&) = delete;
  AdCache& operator=(const AdCache&) = delete;

  // Pointers live until the next Rotate. REQUIRES: hash has 16 bytes.
  T* Find(absl::string_view hash) {
    const Hash128Value key = Key(hash);
    if (auto it = young_.find(key); it != young_.end()) return it->second.get();
    auto it = old_.find(key);
    if (it == old_.end()) return nullptr;
    T* value = it->second.get();
    young_[key] = std::move(it->second);
    old_.erase(it);
    return value;
  }
  T* Insert(absl::string_view hash, std::unique_ptr<T> value) {
    T* pointer = value.get();
    young_[Key(hash)] = std::move(value);
    return pointer;
  }
  // The ad of `hash`: kept, or read from the log and passed to
  // `extract(const v1::AdSnapshot&, T*)`. One that the log lacks has
  // T::missing set and is kept too; the error is the log's.
  template <typename Extract>
  absl::StatusOr<T*> FindOrRead(EventLogReader* reader, const std::string& hash,
                                Extract extract) {
    if (T* known = Find(hash)) return known;
    auto value = std::make_unique<T>();
    const absl::StatusOr<v1::AdSnapshot> snapshot = reader->GetSnapshot(hash);
    if (absl::IsNotFound(snapshot.status())) {
      value->missing = true;
    } else if (!snapshot.ok()) {
      return snapshot.status();
    } else {
      extract(*snapshot, value.get());
    }
    return Insert(hash, std::move(value));
  }
  // Call where no pointer is held, often enough that the young generation does
  // not outgrow its capacity by much.
  void Rotate() {
    if (young_.size() < capacity_) return;
    Drop(&old_);
    std::swap(old_, young_);
  }
  void Clear() {
    Drop(&old_);
    Drop(&young_);
  }

 private:
  using Map = absl::flat_hash_map<Hash128Value, std::unique_ptr<T>>;

  static Hash128Value Key(absl::string_view hash) {
    Hash128Value key;
    std::memcpy(&key.high, hash.data(), 8);
    std::memcpy(&key.low, hash.data() + 8, 8);
    return key;
  }
  void Drop(Map* map) {
    if (drop_) {
      for (auto& [key, value] : *map) drop_(value.get());
    }
    map->clear();
  }

  const size_t capacity_;
  const std::function<void(T*)> drop_;
  Map young_, old_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_AD_CACHE_H_
