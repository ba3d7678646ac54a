// What KeywordSet and KeywordIndex make of token numbers; in memory only.
#ifndef ADRANK_SERVER_TRIGGER_KEYWORD_HASH_H_
#define ADRANK_SERVER_TRIGGER_KEYWORD_HASH_H_

#include <cstdint>

#include "base/rng.h"

namespace adrank {

// A set hashes to the exclusive or of its tokens.
inline uint64_t HashToken(uint32_t token) { return MixBits(token); }

inline uint64_t SignatureBit(uint32_t token) {
  // Fibonacci hashing: neighbouring numbers fall on distant bits.
  return uint64_t{1} << ((token * 0x9e3779b97f4a7c15ull) >> 58);
}

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_KEYWORD_HASH_H_
