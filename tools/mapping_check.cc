#include "tools/mapping_check.h"

#include <cmath>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

using v1::ColumnMapping;
using v1::ImportMapping;
using v1::TimeFormat;

// proto/common.proto: of an attribute.
constexpr size_t kMaxNameBytes = 128;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

bool IsAttribute(ColumnMapping::Target target) {
  return target == ColumnMapping::CONTEXT || target == ColumnMapping::AD;
}

// A setting that has no effect is a mistake.
absl::Status CheckSettings(const ColumnMapping& c, const std::string& at) {
  if (!IsAttribute(c.to())) {
    if (!c.name().empty()) return Invalid(at, ".name: only CONTEXT and AD");
    if (c.number()) return Invalid(at, ".number: only CONTEXT and AD");
    if (!c.separator().empty()) {
      return Invalid(at, ".separator: only CONTEXT and AD");
    }
  }
  if (c.to() != ColumnMapping::BID && c.to() != ColumnMapping::PRICE &&
      c.scale() != 0) {
    return Invalid(at, ".scale: only BID and PRICE");
  }
  if (!(c.scale() >= 0 && std::isfinite(c.scale()))) {
    return Invalid(at, ".scale: ", c.scale(), " is not a positive number");
  }
  return absl::OkStatus();
}

absl::Status CheckColumns(const ImportMapping& mapping,
                          absl::flat_hash_set<int>* targets) {
  absl::flat_hash_set<std::string> names;
  for (int i = 0; i < mapping.column_size(); ++i) {
    const ColumnMapping& c = mapping.column(i);
    if (c.column().empty()) return Invalid("column[", i, "].column: empty");
    const std::string at = absl::StrCat("column[", i, "] (", c.column(), ")");
    if (c.to() == ColumnMapping::TARGET_UNSPECIFIED) {
      return Invalid(at, ".to: not set");
    }
    RETURN_IF_ERROR(CheckSettings(c, at));
    if (!IsAttribute(c.to())) {
      if (!targets->insert(c.to()).second) {
        return Invalid(at, ".to: a second column is ",
                       ColumnMapping::Target_Name(c.to()));
      }
      continue;
    }
    const std::string& name = c.name().empty() ? c.column() : c.name();
    if (name.size() > kMaxNameBytes) {
      return Invalid(at, ".name: longer than ", kMaxNameBytes, " bytes");
    }
    if (!names.insert(absl::StrCat(c.to(), "/", name)).second) {
      return Invalid(at, ": a second attribute is named \"", name, "\"");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const ImportMapping& mapping, bool has_label) {
  if (has_label == mapping.separate_clicks()) {
    return Invalid("give either a column to LABEL or separate_clicks: true");
  }
  if (!has_label && mapping.positive_labels_size() > 0) {
    return Invalid("positive_labels: there is no column to LABEL");
  }
  if (mapping.separate_clicks() && mapping.id_column().empty()) {
    return Invalid("id_column: required with separate_clicks");
  }
  return absl::OkStatus();
}

absl::Status CheckTime(const TimeFormat& time, bool has_time) {
  const bool by_row = time.unit() == TimeFormat::ROW_NUMBER;
  if (has_time == by_row) {
    return Invalid("give either a column to TIME or time { unit: ROW_NUMBER }");
  }
  if (!by_row && (time.start_ms() != 0 || time.step_ms() != 0)) {
    return Invalid("time.start_ms, step_ms: only with unit ROW_NUMBER");
  }
  if (time.start_ms() < 0) {
    return Invalid("time.start_ms: ", time.start_ms(), " is before 1970");
  }
  const bool pattern = time.unit() == TimeFormat::PATTERN;
  if (pattern && time.pattern().empty()) {
    return Invalid("time.pattern: required");
  }
  if (!pattern && !(time.pattern().empty() && time.other_patterns().empty())) {
    return Invalid("time.pattern, other_patterns: only with unit PATTERN");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckMapping(const ImportMapping& mapping) {
  if (mapping.format() == ImportMapping::FORMAT_UNSPECIFIED) {
    return Invalid("format: not set");
  }
  const bool table = mapping.format() == ImportMapping::CSV ||
                     mapping.format() == ImportMapping::TSV;
  if (!table && (mapping.header() || mapping.columns_size() > 0)) {
    return Invalid("header, columns: only with format CSV and TSV");
  }
  if (!(mapping.max_bad_share() >= 0 && mapping.max_bad_share() <= 1)) {
    return Invalid("max_bad_share: ", mapping.max_bad_share(),
                   " not in [0, 1]");
  }
  absl::flat_hash_set<int> targets;
  RETURN_IF_ERROR(CheckColumns(mapping, &targets));
  RETURN_IF_ERROR(CheckLabels(mapping, targets.contains(ColumnMapping::LABEL)));
  return CheckTime(mapping.time(), targets.contains(ColumnMapping::TIME));
}

}  // namespace adrank
