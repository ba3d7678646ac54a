// Hot path: no allocation after warm-up, no locks, no logging.
#include "trainer/batch_entries.h"

#include <algorithm>
#include <utility>

#include "trainer/graph_trainer.h"

namespace adrank {
namespace {

constexpr size_t kChunkExamples = 128;

size_t PartOf(uint32_t row) { return (row * 0x9e3779b1u) >> 26; }

size_t Digit(uint64_t key, int d) { return key >> (32 + 8 * d) & 0xff; }

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
  keys_.resize(size());
  sorted_.resize(size());
  order_.resize(size());
  part_begins_.resize(kParts + 1);
  Deal(team);
  ParallelFor(team, kParts, [&](size_t p, uint32_t) {
    SortPart(part_begins_[p], part_begins_[p + 1]);
  });
}

void BatchEntries::Deal(ThreadTeam* team) {
  const auto begin_of = [&](size_t chunk) { return size() * chunk / kChunks; };
  // Entries of each part in each chunk, then the place of the next of them.
  size_t at[kChunks][kParts] = {};
  ParallelFor(team, kChunks, [&](size_t c, uint32_t) {
    for (size_t e = begin_of(c); e < begin_of(c + 1); ++e) {
      ++at[c][PartOf(rows_[e])];
    }
  });
  size_t place = 0;
  for (size_t p = 0; p < kParts; ++p) {
    part_begins_[p] = place;
    for (auto& chunk : at) place += std::exchange(chunk[p], place);
  }
  part_begins_[kParts] = place;
  ParallelFor(team, kChunks, [&](size_t c, uint32_t) {
    for (size_t e = begin_of(c); e < begin_of(c + 1); ++e) {
      keys_[at[c][PartOf(rows_[e])]++] = uint64_t{rows_[e]} << 32 | e;
    }
  });
}

// By the bytes of the row, the lowest first; stable, so that entries of a row
// stay in order.
void BatchEntries::SortPart(size_t begin, size_t end) {
  uint32_t counts[4][256] = {};
  for (size_t i = begin; i < end; ++i) {
    for (int d = 0; d < 4; ++d) ++counts[d][Digit(keys_[i], d)];
  }
  uint64_t *from = keys_.data(), *to = sorted_.data();
  for (int d = 0; d < 4; ++d) {
    // All the same: nothing to do.
    if (end > begin && counts[d][Digit(from[begin], d)] == end - begin) {
      continue;
    }
    auto place = static_cast<uint32_t>(begin);
    for (uint32_t& count : counts[d]) place += std::exchange(count, place);
    for (size_t i = begin; i < end; ++i) {
      to[counts[d][Digit(from[i], d)]++] = from[i];
    }
    std::swap(from, to);
  }
  for (size_t i = begin; i < end; ++i) {
    order_[i] = static_cast<uint32_t>(from[i]);
  }
}

void BatchEntries::ForEachRow(
    ThreadTeam* team,
    absl::FunctionRef<void(uint32_t, absl::Span<const uint32_t>)> work) const {
  ForEachRow(
      team, [](size_t) {}, work);
}

void BatchEntries::ForEachRow(
    ThreadTeam* team, absl::FunctionRef<void(size_t)> prefetch,
    absl::FunctionRef<void(uint32_t, absl::Span<const uint32_t>)> work) const {
  ParallelFor(team, kParts, [&](size_t p, uint32_t) {
    const size_t limit = part_begins_[p + 1];
    for (size_t i = part_begins_[p]; i < limit;) {
      const uint32_t row = rows_[order_[i]];
      size_t end = i + 1;
      while (end < limit && rows_[order_[end]] == row) ++end;
      for (size_t next = std::max(end, i + kEntriesAhead);
           next < std::min(limit, end + kEntriesAhead); ++next) {
        prefetch(order_[next]);
      }
      work(row, absl::MakeConstSpan(order_).subspan(i, end - i));
      i = end;
    }
  });
}

}  // namespace adrank
