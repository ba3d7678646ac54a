#include "trainer/id_filter.h"

#include <algorithm>
#include <atomic>

#include "base/rng.h"

namespace adrank {
namespace {

// An id's word, and the place of its counter in each quarter of it.
struct Place {
  Place(uint64_t id, uint64_t words) {
    const uint64_t hash = MixBits(id);
    word = static_cast<uint64_t>(
        (static_cast<unsigned __int128>(hash) * words) >> 64);
    // The upper bits chose the word.
    for (int q = 0; q < 4; ++q) {
      shift[q] = static_cast<int>(16 * q + 4 * ((hash >> (2 * q)) & 3));
    }
  }
  uint64_t word;
  int shift[4];
};

}  // namespace

IdFilter::IdFilter(uint64_t bytes)
    : words_(std::max<uint64_t>(1, bytes / sizeof(uint64_t))) {}

void IdFilter::Add(uint64_t id, uint32_t examples) {
  const Place place(id, words_.size());
  const std::atomic_ref<uint64_t> word(words_[place.word]);
  uint64_t old = word.load(std::memory_order_relaxed);
  while (true) {
    uint64_t next = old;
    for (const int shift : place.shift) {
      const uint64_t count = (old >> shift) & 15;
      const uint64_t more = std::min<uint64_t>(kMaxCount - count, examples);
      next += more << shift;
    }
    if (next == old) return;
    if (word.compare_exchange_weak(old, next, std::memory_order_relaxed)) {
      return;
    }
  }
}

uint32_t IdFilter::AtMost(uint64_t id) const {
  const Place place(id, words_.size());
  uint64_t least = kMaxCount;
  for (const int shift : place.shift) {
    least = std::min(least, (words_[place.word] >> shift) & 15);
  }
  return static_cast<uint32_t>(least);
}

bool IdAdmission::Admits(uint64_t id, uint16_t field) const {
  if (filter->AtMost(id) >= std::min(min_counts[field], IdFilter::kMaxCount)) {
    return true;
  }
  // No field has this number, hence no out-of-vocabulary row answers.
  constexpr uint16_t kNoField = 0xffff;
  return known != nullptr && known->Row(kNoField, id) != kNoRow;
}

}  // namespace adrank
