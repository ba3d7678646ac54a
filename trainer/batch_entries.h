// The entries of one mini-batch, by example and by row.
#ifndef ADRANK_TRAINER_BATCH_ENTRIES_H_
#define ADRANK_TRAINER_BATCH_ENTRIES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "trainer/example_blocks.h"
#include "trainer/thread_team.h"

namespace adrank {

// Entries are numbered in the order of the batch's examples. Calls of one
// object one after the other; its work is spread over the team.
class BatchEntries {
 public:
  // The given examples of the block, in that order. Forgets the sorting.
  void Assign(const ExampleBlock& block, absl::Span<const uint32_t> examples,
              ThreadTeam* team);
  size_t size() const { return rows_.size(); }
  size_t examples() const { return begins_.size() - 1; }

  uint32_t row(size_t e) const { return rows_[e]; }
  float value(size_t e) const { return values_.empty() ? 1.0f : values_[e]; }
  uint16_t field(size_t e) const { return fields_[e]; }
  // Index of the entry's example in the batch.
  uint32_t example(size_t e) const { return examples_[e]; }

  // Calls work(i, first entry, end) for every example of the batch.
  void ForEachExample(
      ThreadTeam* team,
      absl::FunctionRef<void(size_t, size_t, size_t)> work) const;

  // Groups entries by row; a group's entries stay in order.
  void Sort(ThreadTeam* team);
  // Calls work(row, entries) once for every row of the batch. One row is with
  // one thread. REQUIRES: sorted.
  void ForEachRow(
      ThreadTeam* team,
      absl::FunctionRef<void(uint32_t, absl::Span<const uint32_t>)> work) const;
  // Calls prefetch(entry) ahead of time for the first kEntriesAhead entries of
  // a row, but not for every row.
  static constexpr size_t kEntriesAhead = 16;
  void ForEachRow(
      ThreadTeam* team, absl::FunctionRef<void(size_t)> prefetch,
      absl::FunctionRef<void(uint32_t, absl::Span<const uint32_t>)> work) const;

 private:
  // Rows are dealt to this many parts by their hash, by this many chunks of
  // entries at a time.
  static constexpr size_t kParts = 64;
  static constexpr size_t kChunks = 16;

  void Deal(ThreadTeam* team);
  void SortPart(size_t begin, size_t end);

  std::vector<uint32_t> rows_;
  std::vector<float> values_;
  std::vector<uint16_t> fields_;
  std::vector<uint32_t> examples_;
  std::vector<size_t> begins_;  // [examples + 1]
  // row << 32 | entry, by part, then sorted.
  std::vector<uint64_t> keys_, sorted_;
  std::vector<uint32_t> order_;      // entries as keys_ has them
  std::vector<size_t> part_begins_;  // [kParts + 1]
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_BATCH_ENTRIES_H_
