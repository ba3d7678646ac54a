// The properties of visits and ads in the simulated market, as indices: strings
// appear only in the records.
#ifndef ADRANK_TOOLS_MARKET_FIELDS_H_
#define ADRANK_TOOLS_MARKET_FIELDS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/market_config.pb.h"
#include "tools/market_config.h"

namespace adrank {

// Single-valued fields of a visit; extra fields follow.
enum ContextField : uint32_t {
  kUserField,
  kAgeField,
  kGenderField,
  kCountryField,
  kDeviceField,
  kOsField,
  kPageField,
  kPlacementField,
  kDepthField,
  kHourField,
  kExtraContextField,
};
// Fields of an ad; extra fields follow.
enum AdField : uint32_t {
  kAdIdField,
  kCampaignField,
  kAdvertiserField,
  kCategoryField,
  kFormatField,
  kBrandField,
  kExtraAdField,
};
inline constexpr uint32_t kMaxContextFields =
    kExtraContextField + kMaxExtraFields;
inline constexpr uint32_t kMaxAdFields = kExtraAdField + kMaxExtraFields;
inline constexpr uint32_t kMaxInterests = 4;
inline constexpr uint32_t kMaxWords = 4;

struct MarketField {
  // Attribute name; for user, placement, hour and the ids: what it stands for.
  std::string name;
  // [cardinality] texts; empty where the text is made from the index (users) or
  // the value is a number (depth, hour).
  std::vector<std::string> values;
  uint32_t cardinality = 0;
  // Standard deviation of the field's main effects before the whole is scaled.
  double weight = 0;
  // Exponent of the Zipf law of its values.
  double zipf = 0;
};

// What the market knows of fields; immutable.
struct MarketFields {
  std::vector<MarketField> context;  // by ContextField
  MarketField interests;             // mean over the user's
  MarketField words;                 // sum over the query's
  std::vector<MarketField> ad;       // by AdField
};

// REQUIRES: `config` is resolved.
MarketFields MakeMarketFields(const v1::MarketConfig& config);

// One view of one page by one user: everything that is known before an ad is
// looked at.
struct Visit {
  int64_t time_ms = 0;
  int32_t day = 0;  // since the market's first
  std::array<uint32_t, kMaxContextFields> values = {};
  uint32_t num_interests = 0;
  std::array<uint32_t, kMaxInterests> interests = {};
  uint32_t num_words = 0;  // 0: a page without a query
  std::array<uint32_t, kMaxWords> words = {};

  absl::Span<const uint32_t> interest_span() const {
    return {interests.data(), num_interests};
  }
  absl::Span<const uint32_t> word_span() const {
    return {words.data(), num_words};
  }
};

// Lower-case, pronounceable, distinct for i < 300000.
std::string MarketWord(uint32_t i);

}  // namespace adrank

#endif  // ADRANK_TOOLS_MARKET_FIELDS_H_
