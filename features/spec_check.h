// What a FeatureSpec says once its defaults, sources and crosses are resolved,
// or what is wrong with it.
#ifndef ADRANK_FEATURES_SPEC_CHECK_H_
#define ADRANK_FEATURES_SPEC_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/feature_spec.pb.h"

namespace adrank {

enum class SourceKind : uint8_t {
  kContextAttribute,
  kUserId,
  kQuery,
  kTime,
  kPlacement,
  kAdAttribute,
  kAdId,
  kAdGroupId,
  kCampaignId,
  kAdvertiserId,
  kPosition,
};

// The part of the row to which a field or a cross belongs.
enum class Part : uint8_t { kContext, kAd, kCross };

struct Source {
  SourceKind kind = SourceKind::kContextAttribute;
  // Of kContextAttribute and kAdAttribute.
  std::string attribute;
};

Part PartOf(SourceKind kind);

struct ResolvedField {
  std::string name;
  Source source;
  // Never *_UNSPECIFIED.
  v1::Field::Kind kind = v1::Field::CATEGORICAL;
  v1::Field::Pooling pooling = v1::Field::SUM;
  int num_bins = 0;
  std::vector<double> boundaries;
  uint32_t max_values = 0;
  Part part = Part::kContext;
};

struct ResolvedCross {
  std::string name;
  // Two or three distinct indices into ResolvedSpec::fields, in the order in
  // which the cross (and the crosses it names) first names them.
  std::vector<uint16_t> fields;
  Part part = Part::kContext;
};

struct ResolvedSpec {
  std::vector<ResolvedField> fields;
  std::vector<ResolvedCross> crosses;
};

inline constexpr uint32_t kDefaultMaxValues = 64;
// Distinct values are found by a scan, so that this bounds the cost of a row.
inline constexpr uint32_t kMaxMaxValues = 1024;
inline constexpr int kDefaultNumBins = 32;
inline constexpr int kMaxNumBins = 65536;

// "context.device", "ad.id", "position"...; empty is context.<name>.
// InvalidArgument for anything else.
absl::StatusOr<Source> ParseSource(absl::string_view source,
                                   absl::string_view field_name);

// InvalidArgument naming the field or cross; the cases are those of
// FeatureExtractor::Create. The time zone's name is not checked here.
absl::StatusOr<ResolvedSpec> ResolveSpec(const v1::FeatureSpec& spec,
                                         bool allow_unlearnt_bins);

}  // namespace adrank

#endif  // ADRANK_FEATURES_SPEC_CHECK_H_
