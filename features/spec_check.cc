#include "features/spec_check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "features/text.h"

namespace adrank {
namespace {

using v1::Field;

// Of crosses that name crosses; bounds the recursion.
constexpr size_t kMaxNesting = 64;

absl::Status FieldError(absl::string_view name, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("field \"", name, "\": ", reason));
}

absl::Status CrossError(absl::string_view name, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("cross \"", name, "\": ", reason));
}

bool HasNumberValue(Field::Kind kind) {
  return kind == Field::LOG1P || kind == Field::IDENTITY;
}

bool Suits(Field::Kind kind, SourceKind source) {
  switch (source) {
    case SourceKind::kTime:
      return kind == Field::HOUR || kind == Field::WEEKDAY;
    case SourceKind::kPosition:
      return kind == Field::CATEGORICAL || kind == Field::LOG_SQUARE_BIN ||
             kind == Field::QUANTILE_BIN || HasNumberValue(kind);
    case SourceKind::kContextAttribute:
    case SourceKind::kAdAttribute:
      return kind != Field::HOUR && kind != Field::WEEKDAY;
    default:
      return kind == Field::CATEGORICAL || kind == Field::TOKENS;
  }
}

absl::Status ResolveBins(const Field& f, bool allow_unlearnt_bins,
                         ResolvedField* out) {
  if (out->kind != Field::QUANTILE_BIN) {
    if (f.num_bins() != 0 || f.boundaries_size() > 0) {
      return FieldError(f.name(),
                        absl::StrCat("num_bins and boundaries are for "
                                     "QUANTILE_BIN, its kind is ",
                                     Field::Kind_Name(out->kind)));
    }
    return absl::OkStatus();
  }
  if (f.num_bins() != 0 &&
      (f.num_bins() < 2 || f.num_bins() > static_cast<uint32_t>(kMaxNumBins))) {
    return FieldError(f.name(), absl::StrCat("num_bins ", f.num_bins(),
                                             " not in [2, ", kMaxNumBins, "]"));
  }
  out->num_bins =
      f.num_bins() == 0 ? kDefaultNumBins : static_cast<int>(f.num_bins());
  if (f.boundaries_size() >= kMaxNumBins) {
    return FieldError(f.name(),
                      absl::StrCat(f.boundaries_size(), " boundaries, at most ",
                                   kMaxNumBins - 1));
  }
  for (int i = 0; i < f.boundaries_size(); ++i) {
    const double b = f.boundaries(i);
    if (!std::isfinite(b)) {
      return FieldError(f.name(),
                        absl::StrCat("boundaries[", i, "] is not finite"));
    }
    if (i > 0 && !(f.boundaries(i - 1) < b)) {
      return FieldError(
          f.name(), absl::StrCat("boundaries do not increase: boundaries[", i,
                                 "] = ", b, " after ", f.boundaries(i - 1)));
    }
  }
  if (f.boundaries_size() == 0 && !allow_unlearnt_bins) {
    return FieldError(f.name(), "QUANTILE_BIN without learnt boundaries");
  }
  out->boundaries.assign(f.boundaries().begin(), f.boundaries().end());
  return absl::OkStatus();
}

absl::StatusOr<ResolvedField> ResolveField(const Field& f,
                                           bool allow_unlearnt_bins) {
  ResolvedField out;
  out.name = f.name();
  ASSIGN_OR_RETURN(out.source, ParseSource(f.source(), f.name()));
  out.part = PartOf(out.source.kind);
  if (!Field::Kind_IsValid(f.kind())) {
    return FieldError(f.name(), absl::StrCat("unknown kind ", f.kind()));
  }
  if (!Field::Pooling_IsValid(f.pooling())) {
    return FieldError(f.name(), absl::StrCat("unknown pooling ", f.pooling()));
  }
  if (f.kind() != Field::KIND_UNSPECIFIED) out.kind = f.kind();
  if (f.pooling() != Field::POOLING_UNSPECIFIED) out.pooling = f.pooling();
  if (!Suits(out.kind, out.source.kind)) {
    const std::string source =
        f.source().empty() ? absl::StrCat("context.", f.name()) : f.source();
    return FieldError(f.name(),
                      absl::StrCat("kind ", Field::Kind_Name(out.kind),
                                   " does not suit source \"", source, "\""));
  }
  if (f.max_values() > kMaxMaxValues) {
    return FieldError(f.name(), absl::StrCat("max_values ", f.max_values(),
                                             " not in [1, ", kMaxMaxValues,
                                             "] (0: ", kDefaultMaxValues, ")"));
  }
  out.max_values = f.max_values() == 0 ? kDefaultMaxValues : f.max_values();
  RETURN_IF_ERROR(ResolveBins(f, allow_unlearnt_bins, &out));
  return out;
}

// Replaces crosses by their fields, depth first.
class CrossResolver {
 public:
  CrossResolver(const v1::FeatureSpec& spec,
                const std::vector<ResolvedField>& fields)
      : spec_(spec), fields_(fields) {
    for (int i = 0; i < spec.fields_size(); ++i) {
      field_index_[spec.fields(i).name()] = i;
    }
    for (int i = 0; i < spec.crosses_size(); ++i) {
      cross_index_[spec.crosses(i).name()] = i;
    }
  }

  absl::StatusOr<ResolvedCross> Resolve(const v1::Cross& cross) {
    ResolvedCross out;
    out.name = cross.name();
    chain_.clear();
    expanded_.clear();
    RETURN_IF_ERROR(Expand(cross, &out.fields));
    if (out.fields.size() < 2 || out.fields.size() > 3) {
      return CrossError(
          cross.name(),
          absl::StrCat("is of ", out.fields.size(), " distinct field",
                       out.fields.size() == 1 ? "" : "s",
                       ", must be of 2 or 3"));
    }
    out.part = fields_[out.fields[0]].part;
    for (uint16_t f : out.fields) {
      if (fields_[f].part != out.part) out.part = Part::kCross;
      if (HasNumberValue(fields_[f].kind)) {
        return CrossError(
            cross.name(),
            absl::StrCat("field \"", fields_[f].name, "\" of kind ",
                         Field::Kind_Name(fields_[f].kind),
                         " has a number for a value and cannot be crossed"));
      }
    }
    return out;
  }

 private:
  absl::Status Expand(const v1::Cross& cross, std::vector<uint16_t>* fields) {
    const bool again =
        std::find(chain_.begin(), chain_.end(), cross.name()) != chain_.end();
    chain_.push_back(cross.name());
    if (again) {
      return CrossError(chain_.front(),
                        absl::StrCat("cycle ", absl::StrJoin(chain_, " -> ")));
    }
    if (chain_.size() > kMaxNesting) {
      return CrossError(
          chain_.front(),
          absl::StrCat("crosses of crosses nest deeper than ", kMaxNesting));
    }
    // A cross that was expanded before adds no further field.
    if (expanded_.insert(cross.name()).second) {
      for (const std::string& name : cross.of()) {
        RETURN_IF_ERROR(ExpandName(cross.name(), name, fields));
      }
    }
    chain_.pop_back();
    return absl::OkStatus();
  }

  absl::Status ExpandName(absl::string_view cross, const std::string& name,
                          std::vector<uint16_t>* fields) {
    if (const auto it = field_index_.find(name); it != field_index_.end()) {
      const auto index = static_cast<uint16_t>(it->second);
      if (std::find(fields->begin(), fields->end(), index) == fields->end()) {
        fields->push_back(index);
      }
      return absl::OkStatus();
    }
    const auto it = cross_index_.find(name);
    if (it == cross_index_.end()) {
      return CrossError(cross, absl::StrCat("of unknown field \"", name, "\""));
    }
    return Expand(spec_.crosses(it->second), fields);
  }

  const v1::FeatureSpec& spec_;
  const std::vector<ResolvedField>& fields_;
  absl::flat_hash_map<std::string, int> field_index_;
  absl::flat_hash_map<std::string, int> cross_index_;
  // Names of the crosses being expanded, and of all that were.
  std::vector<std::string> chain_;
  absl::flat_hash_set<std::string> expanded_;
};

absl::Status CheckName(absl::string_view what, int index,
                       const std::string& name,
                       absl::flat_hash_map<std::string, std::string>* owners) {
  const std::string place = absl::StrCat(what, "[", index, "]");
  if (name.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": empty name"));
  }
  if (!IsValidUtf8(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": name is not valid UTF-8"));
  }
  const auto [it, inserted] = owners->emplace(name, place);
  if (!inserted) {
    return absl::InvalidArgumentError(absl::StrCat(
        place, ": name \"", name, "\" is already that of ", it->second));
  }
  return absl::OkStatus();
}

absl::Status CheckNames(const v1::FeatureSpec& spec) {
  const size_t count = static_cast<size_t>(spec.fields_size()) +
                       static_cast<size_t>(spec.crosses_size());
  if (count > std::numeric_limits<uint16_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat(count, " fields and crosses, at most ",
                     std::numeric_limits<uint16_t>::max()));
  }
  absl::flat_hash_map<std::string, std::string> owners;
  for (int i = 0; i < spec.fields_size(); ++i) {
    RETURN_IF_ERROR(CheckName("fields", i, spec.fields(i).name(), &owners));
  }
  for (int i = 0; i < spec.crosses_size(); ++i) {
    RETURN_IF_ERROR(CheckName("crosses", i, spec.crosses(i).name(), &owners));
  }
  return absl::OkStatus();
}

}  // namespace

Part PartOf(SourceKind kind) {
  switch (kind) {
    case SourceKind::kContextAttribute:
    case SourceKind::kUserId:
    case SourceKind::kQuery:
    case SourceKind::kTime:
    case SourceKind::kPlacement:
      return Part::kContext;
    case SourceKind::kPosition:
      return Part::kCross;
    default:
      return Part::kAd;
  }
}

absl::StatusOr<Source> ParseSource(absl::string_view source,
                                   absl::string_view field_name) {
  static constexpr std::pair<absl::string_view, SourceKind> kNamed[] = {
      {"user_id", SourceKind::kUserId},
      {"query", SourceKind::kQuery},
      {"time", SourceKind::kTime},
      {"placement", SourceKind::kPlacement},
      {"position", SourceKind::kPosition},
      {"ad.id", SourceKind::kAdId},
      {"ad.ad_group_id", SourceKind::kAdGroupId},
      {"ad.campaign_id", SourceKind::kCampaignId},
      {"ad.advertiser_id", SourceKind::kAdvertiserId},
  };
  if (source.empty()) {
    return Source{SourceKind::kContextAttribute, std::string(field_name)};
  }
  for (const auto& [name, kind] : kNamed) {
    if (source == name) return Source{kind, ""};
  }
  absl::string_view attribute = source;
  if (absl::ConsumePrefix(&attribute, "context.") && !attribute.empty()) {
    return Source{SourceKind::kContextAttribute, std::string(attribute)};
  }
  if (absl::ConsumePrefix(&attribute, "ad.") && !attribute.empty()) {
    return Source{SourceKind::kAdAttribute, std::string(attribute)};
  }
  return FieldError(
      field_name,
      absl::StrCat("unknown source \"", source,
                   "\": context.<attribute>, user_id, query, time, ad.id, "
                   "ad.ad_group_id, ad.campaign_id, ad.advertiser_id, "
                   "ad.<attribute>, placement or position"));
}

absl::StatusOr<ResolvedSpec> ResolveSpec(const v1::FeatureSpec& spec,
                                         bool allow_unlearnt_bins) {
  RETURN_IF_ERROR(CheckNames(spec));
  ResolvedSpec out;
  for (const Field& field : spec.fields()) {
    ASSIGN_OR_RETURN(ResolvedField resolved,
                     ResolveField(field, allow_unlearnt_bins));
    out.fields.push_back(std::move(resolved));
  }
  CrossResolver resolver(spec, out.fields);
  for (const v1::Cross& cross : spec.crosses()) {
    ASSIGN_OR_RETURN(ResolvedCross resolved, resolver.Resolve(cross));
    out.crosses.push_back(std::move(resolved));
  }
  return out;
}

}  // namespace adrank
