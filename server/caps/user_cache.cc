#include "server/caps/user_cache.h"

namespace adrank {

UserCache::Node* UserCache::Take(const CapUser& user) {
  Shard* shard = ShardOf(user);
  absl::MutexLock lock(&shard->mu);
  const auto it = shard->by_user.find(user);
  if (it != shard->by_user.end()) {
    shard->nodes.splice(shard->nodes.begin(), shard->nodes, it->second);
    ++it->second->uses;
    return &*it->second;
  }
  auto last = shard->nodes.end();
  while (shard->nodes.size() >= shard_capacity_ &&
         last != shard->nodes.begin()) {
    --last;
    if (last->uses != 0) continue;
    shard->by_user.erase(last->user);
    last = shard->nodes.erase(last);
  }
  Node& node = shard->nodes.emplace_front();
  node.user = user;
  node.uses = 1;
  shard->by_user.emplace(user, shard->nodes.begin());
  return &node;
}

void UserCache::Give(Node* node) {
  absl::MutexLock lock(&ShardOf(node->user)->mu);
  --node->uses;
}

size_t UserCache::size() const {
  size_t size = 0;
  for (const Shard& shard : shards_) {
    absl::MutexLock lock(&shard.mu);
    size += shard.nodes.size();
  }
  return size;
}

}  // namespace adrank
