#include "trainer/slices.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "trainer/labelled_decision.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

using RowsOfValue = std::vector<uint32_t>;

absl::Status Wrong(absl::string_view slice, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("evaluation.slices: \"", slice, "\" ", reason));
}

bool IsSource(absl::string_view name) {
  return name == "user_id" || name == "query" || name == "placement" ||
         name == "position" || absl::StartsWith(name, "context.") ||
         absl::StartsWith(name, "ad.");
}

const v1::Field* FindField(const v1::FeatureSpec& spec,
                           const std::string& name) {
  for (const v1::Field& field : spec.fields()) {
    if (field.name() == name) return &field;
  }
  return nullptr;
}

absl::StatusOr<v1::Field> SliceField(const std::string& name,
                                     const v1::FeatureSpec& spec) {
  if (const v1::Field* field = FindField(spec, name)) {
    if (field->kind() == v1::Field::LOG1P ||
        field->kind() == v1::Field::IDENTITY) {
      return Wrong(name,
                   "is a number without bins; slice by a field with bins");
    }
    return *field;
  }
  if (!IsSource(name)) {
    return Wrong(name,
                 "is neither a field nor context.<attribute>, ad.<attribute>, "
                 "user_id, query, placement or position");
  }
  v1::Field field;
  field.set_name(name);
  field.set_source(name);
  field.set_kind(v1::Field::CATEGORICAL);
  return field;
}

// What row `r` says in slice `s` for `id`: read back from the log.
absl::StatusOr<std::string> ValueText(const FeatureExtractor& extractor,
                                      const EvaluationRows& rows, uint32_t r,
                                      const SliceValue& value,
                                      EventLogReader* reader) {
  ASSIGN_OR_RETURN(const v1::Decision decision,
                   reader->GetDecision(rows.decisions[rows.decision[r]]));
  const v1::ServedAd& served = decision.ads(rows.ads[r]);
  ASSIGN_OR_RETURN(const v1::AdSnapshot ad,
                   reader->GetSnapshot(served.ad_hash()));
  const auto placements = static_cast<uint32_t>(decision.placement_ids_size());
  const std::string placement =
      served.placement_index() < placements
          ? decision.placement_ids(static_cast<int>(served.placement_index()))
          : "";
  const uint32_t position = LoggedPosition(served);
  const v1::AdSnapshot* const ads[] = {&ad};
  RequestFeatures features;
  extractor.Extract(decision.context(), placement, ads, {position}, &features);
  const auto texts =
      extractor.Describe(decision.context(), placement, ad, position);
  size_t entry = 0;
  for (const FeatureBatch* row :
       {&features.context, &features.ads, &features.crosses}) {
    for (size_t e = 0; e < row->ids.size(); ++e, ++entry) {
      if (row->fields[e] != value.slice || row->ids[e] != value.id) continue;
      absl::string_view text = texts[entry];
      absl::ConsumePrefix(&text, extractor.field_names()[value.slice]);
      if (!absl::ConsumePrefix(&text, "=")) absl::ConsumePrefix(&text, ":");
      return std::string(text);
    }
  }
  return absl::InternalError("a slice's value is gone when read again");
}

v1::Metrics MetricsOf(const RowsOfValue& subset, const EvaluationRows& rows,
                      absl::Span<const float> pctr) {
  std::vector<float> p;
  std::vector<uint8_t> labels;
  std::vector<uint64_t> groups;
  for (uint32_t r : subset) {
    p.push_back(pctr[r]);
    labels.push_back(rows.labels[r]);
    groups.push_back(rows.groups[r]);
  }
  return ComputeMetrics({p, labels, {}, groups});
}

// The rows of every value of one slice.
struct Grouped {
  absl::flat_hash_map<uint64_t, RowsOfValue> by_value;
  RowsOfValue absent;
};

Grouped GroupRows(const EvaluationRows& rows, uint16_t slice) {
  Grouped grouped;
  size_t v = 0;
  for (uint32_t r = 0; r < rows.size(); ++r) {
    bool present = false;
    for (; v < rows.slice_ends[r]; ++v) {
      if (rows.slice_values[v].slice != slice) continue;
      grouped.by_value[rows.slice_values[v].id].push_back(r);
      present = true;
    }
    if (!present) grouped.absent.push_back(r);
  }
  return grouped;
}

struct Named {
  uint64_t id = 0;  // 0: not a value of its own
  std::string text;
  RowsOfValue rows;
};

// Values in the order of the report.
std::vector<Named> OrderedValues(Grouped grouped, uint32_t min_examples) {
  std::vector<Named> values;
  for (auto& [id, subset] : grouped.by_value) {
    values.push_back({id, "", std::move(subset)});
  }
  std::sort(values.begin(), values.end(), [](const Named& a, const Named& b) {
    return a.rows.size() != b.rows.size() ? a.rows.size() > b.rows.size()
                                          : a.id < b.id;
  });
  size_t kept = 0;
  while (kept < values.size() && kept < kMaxSliceValues &&
         values[kept].rows.size() >= min_examples) {
    ++kept;
  }
  RowsOfValue other;
  for (size_t i = kept; i < values.size(); ++i) {
    other.insert(other.end(), values[i].rows.begin(), values[i].rows.end());
  }
  std::sort(other.begin(), other.end());
  values.resize(kept);
  if (!other.empty()) values.push_back({0, "other", std::move(other)});
  if (!grouped.absent.empty()) {
    values.push_back({0, "(absent)", std::move(grouped.absent)});
  }
  return values;
}

}  // namespace

absl::StatusOr<absl::TimeZone> SpecTimeZone(const v1::FeatureSpec& spec) {
  absl::TimeZone zone = absl::UTCTimeZone();
  if (!spec.time_zone().empty() &&
      !absl::LoadTimeZone(spec.time_zone(), &zone)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "feature_spec.time_zone: unknown \"", spec.time_zone(), "\""));
  }
  return zone;
}

absl::StatusOr<v1::FeatureSpec> ResolveSlices(
    const v1::EvaluationConfig& config, const v1::FeatureSpec& spec) {
  v1::FeatureSpec slices;
  slices.set_time_zone(spec.time_zone());
  for (const std::string& name : config.slices()) {
    if (FindField(slices, name) != nullptr) return Wrong(name, "occurs twice");
    ASSIGN_OR_RETURN(*slices.add_fields(), SliceField(name, spec));
  }
  return slices;
}

absl::StatusOr<std::vector<v1::Slice>> ComputeSlices(
    const v1::EvaluationConfig& config, const FeatureExtractor& extractor,
    const EvaluationRows& rows, absl::Span<const float> candidate_pctr,
    EventLogReader* reader) {
  std::vector<v1::Slice> slices;
  const auto fields = static_cast<uint16_t>(extractor.field_names().size());
  for (uint16_t s = 0; s < fields; ++s) {
    for (Named& value :
         OrderedValues(GroupRows(rows, s), config.min_slice_examples())) {
      if (value.id != 0) {
        ASSIGN_OR_RETURN(value.text, ValueText(extractor, rows, value.rows[0],
                                               {s, value.id}, reader));
      }
      v1::Slice& slice = slices.emplace_back();
      slice.set_name(extractor.field_names()[s]);
      slice.set_value(value.text);
      *slice.mutable_candidate() = MetricsOf(value.rows, rows, candidate_pctr);
      if (!rows.incumbent_pctr.empty()) {
        *slice.mutable_incumbent() =
            MetricsOf(value.rows, rows, rows.incumbent_pctr);
      }
    }
  }
  return slices;
}

}  // namespace adrank
