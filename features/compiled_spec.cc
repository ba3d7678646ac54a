#include "features/compiled_spec.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

absl::StatusOr<absl::TimeZone> FindTimeZone(const std::string& name) {
  absl::TimeZone zone = absl::UTCTimeZone();
  if (name.empty()) return zone;
  // Names of files and "whatever this machine has" are no zones: a spec means
  // the same everywhere.
  if (name == "localtime" || absl::StartsWith(name, "/") ||
      absl::StrContains(name, ":") || absl::StrContains(name, "..") ||
      !absl::LoadTimeZone(name, &zone)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "time_zone \"", name, "\" is no IANA time zone of this machine"));
  }
  return zone;
}

void AddFieldPlan(const ResolvedField& field, size_t index, CompiledSpec* out) {
  // Not learnt yet: absent.
  if (field.kind == v1::Field::QUANTILE_BIN && field.boundaries.empty()) return;
  FieldPlan plan;
  plan.salt = FieldSalt(field.name);
  plan.index = static_cast<uint16_t>(index);
  plan.kind = field.kind;
  plan.source = field.source.kind;
  plan.mean = field.pooling == v1::Field::MEAN;
  plan.max_values = field.max_values;
  plan.boundaries = field.boundaries;
  if (plan.source == SourceKind::kContextAttribute) {
    plan.slot = static_cast<size_t>(
        out->context_attributes.Add(field.source.attribute));
  } else if (plan.source == SourceKind::kAdAttribute) {
    plan.slot =
        static_cast<size_t>(out->ad_attributes.Add(field.source.attribute));
  }
  auto& plans = field.part == Part::kContext ? out->context_fields
                : field.part == Part::kAd    ? out->ad_fields
                                             : out->position_fields;
  plans.push_back(std::move(plan));
}

void AddCrossPlan(const ResolvedCross& cross, size_t index, CompiledSpec* out) {
  CrossPlan plan;
  plan.start = CrossStart(FieldSalt(cross.name));
  plan.index = static_cast<uint16_t>(index);
  plan.size = static_cast<int>(cross.fields.size());
  for (size_t i = 0; i < 3; ++i) {
    // The third of two is never read, but names a batch that exists.
    const uint16_t field = cross.fields[i < cross.fields.size() ? i : 0];
    plan.fields[i] = field;
    plan.parts[i] = out->resolved.fields[field].part;
  }
  auto& plans = cross.part == Part::kContext ? out->context_crosses
                : cross.part == Part::kAd    ? out->ad_crosses
                                             : out->mixed_crosses;
  plans.push_back(plan);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const CompiledSpec>> CompiledSpec::Compile(
    const v1::FeatureSpec& spec, bool allow_unlearnt_bins) {
  auto out = std::make_unique<CompiledSpec>();
  ASSIGN_OR_RETURN(out->resolved, ResolveSpec(spec, allow_unlearnt_bins));
  ASSIGN_OR_RETURN(out->zone, FindTimeZone(spec.time_zone()));
  out->spec = spec;
  for (const ResolvedField& field : out->resolved.fields) {
    AddFieldPlan(field, out->names.size(), out.get());
    out->names.push_back(field.name);
  }
  for (const ResolvedCross& cross : out->resolved.crosses) {
    AddCrossPlan(cross, out->names.size(), out.get());
    out->names.push_back(cross.name);
  }
  return out;
}

}  // namespace adrank
