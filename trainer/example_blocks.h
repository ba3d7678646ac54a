// Packed training examples: what every pass after the extraction reads, at
// memory bandwidth, from memory or from spilled files.
#ifndef ADRANK_TRAINER_EXAMPLE_BLOCKS_H_
#define ADRANK_TRAINER_EXAMPLE_BLOCKS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace adrank {

// Some thousands of examples; one contiguous buffer, the same in memory and on
// disk (little endian):
//
//   block    := header rows [offsets] [values] [fields] labels [weights]
//               [groups]
//   header   := 64 bytes: u32 magic "AXB2", u32 flags, u32 examples, u32 width,
//               u64 entries, u64 bytes (of the whole block), u32 row_limit,
//               u32 field_limit, zeros, u64 checksum (last; XXH3-64 of all
//               other bytes, the header's first 56 seeded with the body's)
//   rows     := u32[entries]         table row of each entry
//   offsets  := u32[examples + 1]    only when width is 0
//   values   := f32[entries]         only when some value is not 1
//   fields   := u16[entries]         only when some entry j is not of field j,
//                                    or width is 0 and there are entries
//   labels   := u8[examples]         0 or 1
//   weights  := f32[examples]        only when some weight is not 1
//   groups   := u64[examples]        only when some group is not 0
//
// Each part starts at a multiple of 64 bytes; gaps are zero. When all examples
// have the same number of entries, it is `width` and there are no offsets.
// Immutable and thread-safe.
class ExampleBlock {
 public:
  // Takes a serialized block. DataLoss, with the reason, when a byte is wrong.
  static absl::StatusOr<ExampleBlock> Parse(std::vector<uint64_t> words);

  size_t examples() const { return examples_; }
  size_t entries() const { return entries_; }
  // Entries of every example, or 0 when they differ (or are none).
  uint32_t width() const { return width_; }
  // All rows are below it.
  uint32_t row_limit() const { return row_limit_; }
  // All fields are below it.
  uint32_t field_limit() const { return field_limit_; }
  // No example names a row twice.
  bool distinct() const { return distinct_; }

  // Entries of example i are [begin(i), begin(i + 1)).
  size_t begin(size_t i) const { return offsets_ ? offsets_[i] : i * width_; }
  // [entries]
  const uint32_t* rows() const { return rows_; }
  // [entries]; nullptr: all 1.
  const float* values() const { return values_; }
  // [entries] feature field of each entry; nullptr: every example has width()
  // entries, entry j of field j.
  const uint16_t* fields() const { return fields_; }
  // Field of entry j of an example that begins at entry `begin`.
  uint16_t field(size_t begin, size_t j) const {
    return fields_ ? fields_[begin + j] : static_cast<uint16_t>(j);
  }
  // [examples]
  absl::Span<const uint8_t> labels() const { return {labels_, examples_}; }
  bool label(size_t i) const { return labels_[i] != 0; }
  // nullptr: all 1.
  const float* weights() const { return weights_; }
  float weight(size_t i) const { return weights_ ? weights_[i] : 1.0f; }
  uint64_t group(size_t i) const { return groups_ ? groups_[i] : 0; }

  // The bytes of the grammar.
  absl::Span<const uint64_t> words() const { return words_; }
  uint64_t bytes() const { return words_.size() * sizeof(uint64_t); }

 private:
  ExampleBlock() = default;
  absl::Status Bind();

  std::vector<uint64_t> words_;
  const uint32_t* rows_ = nullptr;
  const uint32_t* offsets_ = nullptr;
  const float* values_ = nullptr;
  const uint16_t* fields_ = nullptr;
  const uint8_t* labels_ = nullptr;
  const float* weights_ = nullptr;
  const uint64_t* groups_ = nullptr;
  size_t examples_ = 0;
  size_t entries_ = 0;
  uint32_t width_ = 0;
  uint32_t row_limit_ = 0;
  uint32_t field_limit_ = 0;
  bool distinct_ = false;
};

struct ExampleBlocksOptions {
  // A block is closed at this size. REQUIRES: in [1 KiB, 1 GiB].
  size_t block_bytes = 4 << 20;
  // Blocks past this total go to files in `spill_dir`. 0: all stay in memory.
  uint64_t max_memory_bytes = 0;
  // Must exist when max_memory_bytes is set. The file made there has no name,
  // so that a crash leaves nothing behind.
  std::string spill_dir;
};

// Examples in order of arrival. Add from one thread; once finished, Read and
// ForEach are const and thread-safe.
class ExampleBlocks {
 public:
  explicit ExampleBlocks(const ExampleBlocksOptions& options = {});
  ~ExampleBlocks();
  ExampleBlocks(ExampleBlocks&&) noexcept;
  ExampleBlocks& operator=(ExampleBlocks&&) noexcept;

  // Appends an example. Entries whose row is kNoRow are left out. `values` is
  // empty (all 1) or as long as `rows`. `group` is any id that metrics group by
  // (user, decision). `fields` is empty (entry j of `rows` is of field j, also
  // where others are left out) or as long as `rows`. InvalidArgument for a
  // non-finite value, a weight that is not finite and >= 0, more than 65536
  // entries without fields; errors of the file system when spilling.
  absl::Status Add(absl::Span<const uint32_t> rows,
                   absl::Span<const float> values, bool label, float weight = 1,
                   uint64_t group = 0, absl::Span<const uint16_t> fields = {});
  // Closes the last block. Must be called before reading; Add may not follow.
  absl::Status Finish();

  uint64_t examples() const { return examples_; }
  uint64_t clicks() const { return clicks_; }
  uint64_t entries() const { return entries_; }
  // Of the blocks' checksums in their order.
  uint64_t checksum() const { return checksum_; }
  size_t blocks() const { return slots_.size(); }
  uint64_t memory_bytes() const { return memory_bytes_; }
  uint64_t spilled_bytes() const { return spilled_bytes_; }

  // Block i, from memory (shared, no copy) or from the file (DataLoss when it
  // is damaged). REQUIRES: i < blocks().
  absl::StatusOr<std::shared_ptr<const ExampleBlock>> Read(size_t i) const;

  // Calls `visit` for every block in order, or in the order given (indexes of
  // blocks), asking the system to read ahead; stops at the first error.
  absl::Status ForEach(
      absl::FunctionRef<absl::Status(const ExampleBlock&)> visit) const;
  absl::Status ForEach(
      absl::Span<const uint32_t> order,
      absl::FunctionRef<absl::Status(const ExampleBlock&)> visit) const;
  // Visits every block in order and frees each, in memory and on disk, once it
  // was visited. Nothing may be read afterwards.
  absl::Status Drain(
      absl::FunctionRef<absl::Status(const ExampleBlock&)> visit);

 private:
  class Builder;
  class SpillFile;
  // A block in memory, or where it lies in the file.
  struct Slot {
    std::shared_ptr<const ExampleBlock> block;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  absl::Status CloseBlock();
  void ReadAhead(size_t i) const;

  ExampleBlocksOptions options_;
  std::unique_ptr<Builder> builder_;
  std::unique_ptr<SpillFile> file_;
  std::vector<Slot> slots_;
  uint64_t examples_ = 0;
  uint64_t clicks_ = 0;
  uint64_t entries_ = 0;
  uint64_t checksum_ = 0;
  uint64_t memory_bytes_ = 0;
  uint64_t spilled_bytes_ = 0;
};

// 0 .. n-1 in an order that is a function of n and the seed (Fisher-Yates).
std::vector<uint32_t> Permutation(size_t n, uint64_t seed);

}  // namespace adrank

#endif  // ADRANK_TRAINER_EXAMPLE_BLOCKS_H_
