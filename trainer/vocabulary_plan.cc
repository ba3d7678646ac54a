#include "trainer/vocabulary_plan.h"

#include <algorithm>
#include <tuple>

#include "base/rng.h"
#include "base/status_macros.h"
#include "trainer/labelled_decision.h"

namespace adrank {
namespace {

// An id that gets a row, and where to write the row's number.
struct Admitted {
  const IdTable::Entry* entry;
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
                               bool oov_rows, const Vocabulary* incumbent,
                               Expiry expiry)
    : row_of_(IdTable::kShards) {
  for (uint32_t s = 0; s < IdTable::kShards; ++s) {
    row_of_[s].assign(table.shard(s).size(), kNoRow);
  }
  if (incumbent != nullptr) KeepKnown(table, *incumbent, &expiry);
  Admit(table, min_counts, expiry);
  rows_ = ids_.size();
  if (oov_rows) {
    for (size_t f = 0; f < min_counts.size(); ++f) {
      oov_rows_.push_back(static_cast<uint32_t>(rows_++));
    }
  }
  if (incumbent == nullptr) return;
  sources_.resize(rows_, kNoRow);
  const auto old_oov = incumbent->oov_rows();
  for (size_t f = 0; f < oov_rows_.size() && f < old_oov.size(); ++f) {
    sources_[oov_rows_[f]] = old_oov[f];
  }
}

void VocabularyPlan::KeepKnown(const IdTable& table,
                               const Vocabulary& incumbent, Expiry* expiry) {
  // No field has this number, hence no out-of-vocabulary row answers.
  constexpr uint16_t kNoField = 0xffff;
  const std::vector<uint64_t> old = incumbent.Ids();
  std::vector<uint16_t>& seen = expiry->seen;
  if (seen.empty()) seen.assign(old.size(), expiry->last_day);
  for (uint32_t s = 0; s < IdTable::kShards; ++s) {
    for (size_t i = 0; i < row_of_[s].size(); ++i) {
      const IdTable::Entry& entry = table.shard(s)[i];
      const uint32_t row = incumbent.Row(kNoField, entry.id);
      if (row != kNoRow) seen[row] = std::max(seen[row], entry.day);
      row_of_[s][i] = row;
    }
  }
  std::vector<uint32_t> moved(old.size(), kNoRow);
  for (uint32_t row = 0; row < old.size(); ++row) {
    if (expiry->Forgets(seen[row])) continue;
    moved[row] = static_cast<uint32_t>(ids_.size());
    ids_.push_back(old[row]);
    seen_.push_back(seen[row]);
    sources_.push_back(row);
  }
  forgotten_ = old.size() - ids_.size();
  for (std::vector<uint32_t>& rows : row_of_) {
    for (uint32_t& row : rows) row = row == kNoRow ? kNoRow : moved[row];
  }
}

void VocabularyPlan::Admit(const IdTable& table,
                           absl::Span<const uint32_t> min_counts,
                           const Expiry& expiry) {
  std::vector<Admitted> admitted;
  for (uint32_t s = 0; s < IdTable::kShards; ++s) {
    for (size_t i = 0; i < row_of_[s].size(); ++i) {
      const IdTable::Entry& entry = table.shard(s)[i];
      if (row_of_[s][i] == kNoRow &&
          entry.examples >= min_counts[entry.field] &&
          !expiry.Forgets(entry.day)) {
        admitted.push_back({&entry, &row_of_[s][i]});
      }
    }
  }
  std::sort(admitted.begin(), admitted.end(),
            [](const Admitted& x, const Admitted& y) {
              const IdTable::Entry &a = *x.entry, &b = *y.entry;
              return std::tuple(a.field, b.examples, a.id) <
                     std::tuple(b.field, a.examples, b.id);
            });
  for (const Admitted& a : admitted) {
    *a.row = static_cast<uint32_t>(ids_.size());
    ids_.push_back(a.entry->id);
    seen_.push_back(a.entry->day);
  }
  added_ = admitted.size();
}

absl::Status PackExamples(ExampleBlocks raw, const IdTable& table,
                          const VocabularyPlan& plan,
                          const PackOptions& options, ExampleBlocks* out) {
  const bool drops = !plan.oov_rows().empty() && options.oov_rate > 0;
  std::vector<uint32_t> rows;
  uint64_t known = 0;  // entries with a row so far: what random drops hash
  RETURN_IF_ERROR(raw.Drain([&](const ExampleBlock& block) -> absl::Status {
    for (size_t i = 0; i < block.examples(); ++i) {
      const size_t begin = block.begin(i);
      const size_t n = block.begin(i + 1) - begin;
      rows.resize(n);
      for (size_t e = 0; e < n; ++e) {
        const uint32_t handle = block.rows()[begin + e];
        rows[e] = plan.RowOf(handle);
        if (rows[e] == kNoRow) {
          if (options.unknown_to_oov && !plan.oov_rows().empty()) {
            rows[e] = plan.oov_rows()[table.entry(handle).field];
          }
          continue;
        }
        const uint64_t draw = MixBits(MixBits(options.seed) + known++);
        if (drops && ToUnit(draw) < options.oov_rate) {
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
