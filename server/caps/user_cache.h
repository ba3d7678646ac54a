// The rows of users who were seen lately, each with its lock.
#ifndef ADRANK_SERVER_CAPS_USER_CACHE_H_
#define ADRANK_SERVER_CAPS_USER_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "storage/cap_row.h"

namespace adrank {

struct CachedUser {
  absl::Mutex mu;
  CapRow row ABSL_GUARDED_BY(mu);
  // The row is what the store has (else it must be read first).
  bool read ABSL_GUARDED_BY(mu) = false;
  // The store's row cannot be decoded.
  bool damaged ABSL_GUARDED_BY(mu) = false;
};

// Thread-safe. Of one user there is never more than one CachedUser, so that its
// lock orders all that is done to the row; hence one that is in use is not
// evicted, and the capacity may be exceeded by as many as are in use.
class UserCache {
 private:
  struct Node {
    CapUser user;
    uint32_t uses = 0;  // guarded by the shard's mutex
    CachedUser cached;
  };

 public:
  // At least `capacity` users, rounded up to a multiple of the shards.
  explicit UserCache(size_t capacity)
      : shard_capacity_((capacity + kShards - 1) / kShards) {}

  // Keeps a user in the cache while it lives.
  class Use {
   public:
    Use(UserCache* cache, const CapUser& user)
        : cache_(cache), node_(cache->Take(user)) {}
    ~Use() { cache_->Give(node_); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    CachedUser* get() const { return &node_->cached; }

   private:
    UserCache* const cache_;
    Node* const node_;
  };

  size_t size() const;

 private:
  struct Shard {
    mutable absl::Mutex mu;
    std::list<Node> nodes ABSL_GUARDED_BY(mu);  // used last: first
    absl::flat_hash_map<CapUser, std::list<Node>::iterator> by_user
        ABSL_GUARDED_BY(mu);
  };
  // Far more than threads that could meet in one.
  static constexpr size_t kShards = 256;

  Shard* ShardOf(const CapUser& user) { return &shards_[user.high % kShards]; }
  Node* Take(const CapUser& user);
  void Give(Node* node);

  const size_t shard_capacity_;
  std::array<Shard, kShards> shards_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_CAPS_USER_CACHE_H_
