#include "trainer/vocabulary_plan.h"

#include <algorithm>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "trainer/labelled_decision.h"

namespace adrank {
namespace {

// An id that may get a row, and where to write the row's number.
struct Admitted {
  uint16_t field;
  uint32_t examples;
  uint64_t id;
  uint32_t* row;
};

}  // namespace

std::vector<uint32_t> MinCounts(const FeatureExtractor& extractor,
                                uint32_t default_min_count) {
  std::vector<uint32_t> counts;
  const auto add = [&](uint32_t own) {
    counts.push_back(own > 0 ? own : default_min_count);
  };
  for (const auto& field : extractor.spec().fields()) add(field.min_count());
  for (const auto& cross : extractor.spec().crosses()) add(cross.min_count());
  return counts;
}

VocabularyPlan::VocabularyPlan(const IdTable& table,
                               absl::Span<const uint32_t> min_counts,
                               bool oov_rows, const Vocabulary* incumbent)
    : row_of_(IdTable::kShards) {
  if (incumbent != nullptr) ids_ = incumbent->Ids();
  absl::flat_hash_map<uint64_t, uint32_t> known;
  known.reserve(ids_.size());
  for (uint32_t row = 0; row < ids_.size(); ++row) known[ids_[row]] = row;
  std::vector<Admitted> admitted;
  for (uint32_t s = 0; s < IdTable::kShards; ++s) {
    const auto& entries = table.shard(s);
    row_of_[s].assign(entries.size(), kNoRow);
    for (size_t i = 0; i < entries.size(); ++i) {
      const IdTable::Entry& entry = entries[i];
      if (auto it = known.find(entry.id); it != known.end()) {
        row_of_[s][i] = it->second;
      } else if (entry.examples >= min_counts[entry.field]) {
        admitted.push_back(
            {entry.field, entry.examples, entry.id, &row_of_[s][i]});
      }
    }
  }
  std::sort(admitted.begin(), admitted.end(),
            [](const Admitted& a, const Admitted& b) {
              return std::tuple(a.field, b.examples, a.id) <
                     std::tuple(b.field, a.examples, b.id);
            });
  for (const Admitted& a : admitted) {
    *a.row = static_cast<uint32_t>(ids_.size());
    ids_.push_back(a.id);
  }
  rows_ = ids_.size();
  if (oov_rows) {
    for (size_t f = 0; f < min_counts.size(); ++f) {
      oov_rows_.push_back(static_cast<uint32_t>(rows_++));
    }
  }
  if (incumbent != nullptr) PlanSources(*incumbent);
}

void VocabularyPlan::PlanSources(const Vocabulary& incumbent) {
  sources_.assign(rows_, kNoRow);
  const size_t old_ids = incumbent.Ids().size();
  for (uint32_t row = 0; row < old_ids; ++row) sources_[row] = row;
  const auto old_oov = incumbent.oov_rows();
  for (size_t f = 0; f < oov_rows_.size() && f < old_oov.size(); ++f) {
    sources_[oov_rows_[f]] = old_oov[f];
  }
}

absl::Status PackExamples(const ExampleBlocks& raw, const IdTable& table,
                          const VocabularyPlan& plan,
                          const PackOptions& options, ExampleBlocks* out) {
  const bool drops = !plan.oov_rows().empty() && options.oov_rate > 0;
  std::vector<uint32_t> rows;
  uint64_t entry = 0;  // over all blocks: what the random drops hash
  RETURN_IF_ERROR(raw.ForEach([&](const ExampleBlock& block) -> absl::Status {
    for (size_t i = 0; i < block.examples(); ++i) {
      const size_t begin = block.begin(i);
      const size_t n = block.begin(i + 1) - begin;
      rows.resize(n);
      for (size_t e = 0; e < n; ++e, ++entry) {
        const uint32_t handle = block.rows()[begin + e];
        rows[e] = plan.RowOf(handle);
        if (drops && rows[e] != kNoRow &&
            ToUnit(MixBits(MixBits(options.seed) + entry)) < options.oov_rate) {
          rows[e] = plan.oov_rows()[table.entry(handle).field];
        }
      }
      const auto values = block.values() == nullptr
                              ? absl::Span<const float>()
                              : absl::MakeConstSpan(block.values() + begin, n);
      const auto fields = block.fields() == nullptr
                              ? absl::Span<const uint16_t>()
                              : absl::MakeConstSpan(block.fields() + begin, n);
      RETURN_IF_ERROR(out->Add(rows, values, block.label(i), block.weight(i),
                               block.group(i), fields));
    }
    return absl::OkStatus();
  }));
  return out->Finish();
}

}  // namespace adrank
