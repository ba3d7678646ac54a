// How many examples an id occurs in, at most, in memory that is fixed
// beforehand: what decides which ids are worth an entry of the IdTable.
#ifndef ADRANK_TRAINER_ID_FILTER_H_
#define ADRANK_TRAINER_ID_FILTER_H_

#include <cstdint>
#include <vector>

#include "model/vocabulary.h"
#include "trainer/huge_array.h"

namespace adrank {

// A count-min sketch (Cormode and Muthukrishnan 2005) of counters that stop
// at 15, blocked: the four counters of an id lie in one 64-bit word, one in
// each quarter, so that counting is one cache miss and one atomic write.
//
// A counter holds the smaller of 15 and a sum, whatever the order of its
// terms: the content is a function of what was counted, not of the threads.
//
// Share of ids seen once that look like more, at w words for d distinct ids:
// 0.5 % at d = w / 2, 1.9 % at d = w, 7 % at d = 2 w, 23 % at d = 4 w.
class IdFilter {
 public:
  static constexpr uint32_t kMaxCount = 15;

  // Rounded down to whole words, at least one. Throws std::bad_alloc.
  explicit IdFilter(uint64_t bytes);

  // Thread-safe.
  void Add(uint64_t id, uint32_t examples);
  // At least min(kMaxCount, what was added for the id), at most kMaxCount.
  // Exact for what is counted when no thread adds any more.
  uint32_t AtMost(uint64_t id) const;

  uint64_t bytes() const { return words_.size() * sizeof(uint64_t); }

 private:
  HugeArray<uint64_t> words_;
};

// Which ids get an entry: those that may occur often enough, and those that
// have a row already.
struct IdAdmission {
  const IdFilter* filter = nullptr;
  std::vector<uint32_t> min_counts;   // [fields]
  const Vocabulary* known = nullptr;  // may be null

  bool Admits(uint64_t id, uint16_t field) const;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_ID_FILTER_H_
