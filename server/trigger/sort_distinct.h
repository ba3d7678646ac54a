// Sorting of numbers from a known range, for merging lists.
#ifndef ADRANK_SERVER_TRIGGER_SORT_DISTINCT_H_
#define ADRANK_SERVER_TRIGGER_SORT_DISTINCT_H_

#include <cstdint>
#include <vector>

namespace adrank {

// Sorts *numbers, which are in [begin, end), and drops repeats. Dense ones go
// through *bitmap, which is all zero before and after: linear, and without
// comparisons.
void SortDistinct(uint32_t begin, uint32_t end, std::vector<uint64_t>* bitmap,
                  std::vector<uint32_t>* numbers);

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_SORT_DISTINCT_H_
