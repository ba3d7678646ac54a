// Hot path: no allocation after warm-up, no locks, no logging.
#include "trainer/batch_entries.h"

#include <algorithm>

#include "trainer/graph_trainer.h"

namespace adrank {
namespace {

constexpr size_t kChunkExamples = 128;

size_t PartOf(uint32_t row) { return (row * 0x9e3779b1u) >> 26; }

}  // namespace

void BatchEntries::Assign(const ExampleBlock& block,
                          absl::Span<const uint32_t> examples,
                          ThreadTeam* team) {
  const size_t n = examples.size();
  begins_.resize(n + 1);
  begins_[0] = 0;
  for (size_t i = 0; i < n; ++i) {
    begins_[i + 1] =
        begins_[i] + block.begin(examples[i] + 1) - block.begin(examples[i]);
  }
  rows_.resize(begins_[n]);
  fields_.resize(begins_[n]);
  examples_.resize(begins_[n]);
  values_.resize(block.values() == nullptr ? 0 : begins_[n]);
  ForEachExample(team, [&](size_t i, size_t first, size_t end) {
    const size_t begin = block.begin(examples[i]);
    const size_t size = end - first;
    std::copy_n(block.rows() + begin, size, rows_.data() + first);
    if (!values_.empty()) {
      std::copy_n(block.values() + begin, size, values_.data() + first);
    }
    for (size_t j = 0; j < size; ++j) {
      fields_[first + j] = block.field(begin, j);
      examples_[first + j] = static_cast<uint32_t>(i);
    }
  });
}

void BatchEntries::ForEachExample(
    ThreadTeam* team,
    absl::FunctionRef<void(size_t, size_t, size_t)> work) const {
  const size_t n = examples();
  ParallelFor(team, (n + kChunkExamples - 1) / kChunkExamples,
              [&](size_t c, uint32_t) {
                const size_t end = std::min(n, (c + 1) * kChunkExamples);
                for (size_t i = c * kChunkExamples; i < end; ++i) {
                  work(i, begins_[i], begins_[i + 1]);
                }
              });
}

void BatchEntries::Sort(ThreadTeam* team) {
  part_begins_.assign(kParts + 1, 0);
  for (const uint32_t row : rows_) ++part_begins_[PartOf(row) + 1];
  for (size_t p = 0; p < kParts; ++p) part_begins_[p + 1] += part_begins_[p];
  size_t at[kParts];
  std::copy_n(part_begins_.begin(), kParts, at);
  keys_.resize(rows_.size());
  order_.resize(rows_.size());
  for (size_t e = 0; e < rows_.size(); ++e) {
    keys_[at[PartOf(rows_[e])]++] = uint64_t{rows_[e]} << 32 | e;
  }
  ParallelFor(team, kParts, [&](size_t p, uint32_t) {
    std::sort(keys_.begin() + static_cast<ptrdiff_t>(part_begins_[p]),
              keys_.begin() + static_cast<ptrdiff_t>(part_begins_[p + 1]));
    for (size_t i = part_begins_[p]; i < part_begins_[p + 1]; ++i) {
      order_[i] = static_cast<uint32_t>(keys_[i]);
    }
  });
}

void BatchEntries::ForEachRow(
    ThreadTeam* team,
    absl::FunctionRef<void(uint32_t, absl::Span<const uint32_t>)> work) const {
  ParallelFor(team, kParts, [&](size_t p, uint32_t) {
    for (size_t i = part_begins_[p]; i < part_begins_[p + 1];) {
      const uint32_t row = rows_[order_[i]];
      size_t end = i + 1;
      while (end < part_begins_[p + 1] && rows_[order_[end]] == row) ++end;
      work(row, absl::MakeConstSpan(order_).subspan(i, end - i));
      i = end;
    }
  });
}

}  // namespace adrank
