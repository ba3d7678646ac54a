// Hashes that may be written to disk. absl::Hash is salted per process and
// stays in memory; these are frozen by golden tests.
#ifndef ADRANK_BASE_HASH_H_
#define ADRANK_BASE_HASH_H_

#include <cstdint>
#include <utility>

#include "absl/strings/string_view.h"

namespace adrank {

// XXH3-64 of the bytes (xxhash 0.8's frozen format). Thread-safe.
uint64_t Hash64(absl::string_view bytes, uint64_t seed = 0);

struct Hash128Value {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const Hash128Value&, const Hash128Value&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Hash128Value& v) {
    return H::combine(std::move(h), v.low);
  }
};

// XXH3-128 of the bytes. For content addresses: 2^64 items before a collision is
// likely.
Hash128Value Hash128(absl::string_view bytes);

}  // namespace adrank

#endif  // ADRANK_BASE_HASH_H_
