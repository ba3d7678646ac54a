// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/trigger/sort_distinct.h"

#include <algorithm>
#include <cstddef>

namespace adrank {

void SortDistinct(uint32_t begin, uint32_t end, std::vector<uint64_t>* bitmap,
                  std::vector<uint32_t>* numbers) {
  const size_t words = (size_t{end} - begin + 63) / 64;
  // A word costs about as much as one number in eight comparisons.
  if (words > 8 * numbers->size()) {
    std::sort(numbers->begin(), numbers->end());
    numbers->erase(std::unique(numbers->begin(), numbers->end()),
                   numbers->end());
    return;
  }
  if (bitmap->size() < words) bitmap->resize(words, 0);
  for (const uint32_t n : *numbers) {
    (*bitmap)[(n - begin) / 64] |= uint64_t{1} << ((n - begin) % 64);
  }
  size_t out = 0;
  for (size_t w = 0; w < words; ++w) {
    for (uint64_t word = (*bitmap)[w]; word != 0; word &= word - 1) {
      (*numbers)[out++] = begin + static_cast<uint32_t>(w * 64) +
                          static_cast<uint32_t>(__builtin_ctzll(word));
    }
    (*bitmap)[w] = 0;
  }
  numbers->resize(out);
}

}  // namespace adrank
