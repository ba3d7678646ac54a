// What one entity must be by itself; see catalog_store.h.
#include <cmath>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "google/protobuf/stubs/common.h"
#include "storage/cap_window.h"
#include "storage/catalog_store.h"

namespace adrank {
namespace {

constexpr size_t kMaxIdBytes = 128;
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxTextBytes = 4096;
constexpr size_t kMaxKeywordBytes = 80;
constexpr int kMaxKeywordWords = 10;
constexpr int kMaxNodes = 256;
constexpr int kMaxDepth = 32;
// VectorIndex::kMaxDims.
constexpr int kMaxEmbedding = 2048;
constexpr size_t kMaxEntityBytes = 1 << 20;
constexpr double kMaxRadiusKm = 20038;
// The auction compares bid x pctr exactly up to here.
constexpr int64_t kMaxBidMicros = int64_t{1} << 62;

absl::Status Bad(absl::string_view field, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", reason));
}

bool IsUtf8(absl::string_view text) {
  return google::protobuf::internal::IsStructurallyValidUTF8(
      text.data(), static_cast<int>(text.size()));
}

// For messages, which are UTF-8 themselves.
std::string Quoted(absl::string_view text) {
  text = text.substr(0, 200);
  return absl::StrCat(
      "\"",
      IsUtf8(text) ? absl::Utf8SafeCHexEscape(text) : absl::CHexEscape(text),
      "\"");
}

absl::Status CheckText(absl::string_view field, const std::string& text,
                       size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Bad(field, absl::StrCat("has ", text.size(), " bytes; at most ",
                                   max_bytes, " are allowed"));
  }
  if (!IsUtf8(text)) {
    return Bad(field, absl::StrCat(Quoted(text), " is not valid UTF-8"));
  }
  return absl::OkStatus();
}

absl::Status CheckId(absl::string_view field, const std::string& id) {
  if (id.empty()) return Bad(field, "is empty");
  return CheckText(field, id, kMaxIdBytes);
}

absl::Status CheckNotNegative(absl::string_view field, int64_t value) {
  if (value >= 0) return absl::OkStatus();
  return Bad(field, absl::StrCat(value, " must be >= 0"));
}

absl::Status CheckStatus(v1::EntityStatus status) {
  if (v1::EntityStatus_IsValid(status)) return absl::OkStatus();
  return Bad("status",
             absl::StrCat(static_cast<int>(status), " is not a known status"));
}

// ---- targeting ----

absl::Status CheckInSet(const v1::TargetingExpression::InSet& set) {
  RETURN_IF_ERROR(CheckId("in_set.attribute", set.attribute()));
  if (set.values().empty()) {
    return Bad(
        "in_set.values",
        absl::StrCat("of attribute ", Quoted(set.attribute()), " is empty"));
  }
  for (const std::string& value : set.values()) {
    RETURN_IF_ERROR(CheckText("in_set.values", value, kMaxTextBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckRange(const v1::TargetingExpression::Range& range) {
  RETURN_IF_ERROR(CheckId("range.attribute", range.attribute()));
  const std::string name =
      absl::StrCat("of attribute ", Quoted(range.attribute()), " ");
  if (!range.has_min() && !range.has_max()) {
    return Bad("range", name + "has neither min nor max");
  }
  if (!std::isfinite(range.min()) || !std::isfinite(range.max())) {
    return Bad("range", name + "has a bound that is not finite");
  }
  if (range.has_min() && range.has_max() && range.min() > range.max()) {
    return Bad("range", absl::StrCat(name, "has min ", range.min(), " > max ",
                                     range.max()));
  }
  return absl::OkStatus();
}

absl::Status CheckPrefix(const v1::TargetingExpression::Prefix& prefix) {
  RETURN_IF_ERROR(CheckId("prefix.attribute", prefix.attribute()));
  const std::string name =
      absl::StrCat("of attribute ", Quoted(prefix.attribute()), " ");
  if (prefix.prefixes().empty()) {
    return Bad("prefix.prefixes", name + "is empty");
  }
  for (const std::string& text : prefix.prefixes()) {
    if (text.empty()) return Bad("prefix.prefixes", name + "has an empty one");
    RETURN_IF_ERROR(CheckText("prefix.prefixes", text, kMaxTextBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckIn(absl::string_view field, double value, double min,
                     double max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return Bad(field, absl::StrCat(value, " is not in [", min, ", ", max, "]"));
}

absl::Status CheckGeoRadius(const v1::TargetingExpression::GeoRadius& geo) {
  RETURN_IF_ERROR(CheckText("geo_radius.latitude_attribute",
                            geo.latitude_attribute(), kMaxIdBytes));
  RETURN_IF_ERROR(CheckText("geo_radius.longitude_attribute",
                            geo.longitude_attribute(), kMaxIdBytes));
  RETURN_IF_ERROR(CheckIn("geo_radius.latitude", geo.latitude(), -90, 90));
  RETURN_IF_ERROR(CheckIn("geo_radius.longitude", geo.longitude(), -180, 180));
  // Half way around the Earth is all of it. Written so that NaN is refused.
  if (!(geo.radius_km() > 0 && geo.radius_km() <= kMaxRadiusKm)) {
    return Bad(
        "geo_radius.radius_km",
        absl::StrCat(geo.radius_km(), " is not in (0, ", kMaxRadiusKm, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckTimeWindow(
    const v1::TargetingExpression::TimeWindow& window) {
  for (const uint32_t day : window.days()) {
    RETURN_IF_ERROR(CheckIn("time_window.days", day, 1, 7));
  }
  RETURN_IF_ERROR(
      CheckIn("time_window.from_minute", window.from_minute(), 0, 1439));
  RETURN_IF_ERROR(
      CheckIn("time_window.to_minute", window.to_minute(), 0, 1440));
  absl::TimeZone zone;
  if (!window.time_zone().empty() &&
      !absl::LoadTimeZone(window.time_zone(), &zone)) {
    return Bad("time_window.time_zone",
               absl::StrCat(Quoted(window.time_zone()), " is not known"));
  }
  return absl::OkStatus();
}

absl::Status CheckExpression(const v1::TargetingExpression& expression,
                             int depth, int* nodes) {
  if (depth > kMaxDepth) {
    return Bad("expression", absl::StrCat("is deeper than ", kMaxDepth));
  }
  if (++*nodes > kMaxNodes) {
    return Bad("expression",
               absl::StrCat("has more than ", kMaxNodes, " nodes"));
  }
  const v1::TargetingExpression::List* list = nullptr;
  absl::string_view name;
  switch (expression.node_case()) {
    case v1::TargetingExpression::kAllOf:
      list = &expression.all_of();
      name = "all_of";
      break;
    case v1::TargetingExpression::kAnyOf:
      list = &expression.any_of();
      name = "any_of";
      break;
    case v1::TargetingExpression::kNoneOf:
      list = &expression.none_of();
      name = "none_of";
      break;
    case v1::TargetingExpression::kInSet:
      return CheckInSet(expression.in_set());
    case v1::TargetingExpression::kRange:
      return CheckRange(expression.range());
    case v1::TargetingExpression::kPrefix:
      return CheckPrefix(expression.prefix());
    case v1::TargetingExpression::kGeoRadius:
      return CheckGeoRadius(expression.geo_radius());
    case v1::TargetingExpression::kTimeWindow:
      return CheckTimeWindow(expression.time_window());
    case v1::TargetingExpression::NODE_NOT_SET:
      return Bad("expression", "has a node without a condition");
  }
  if (list->expressions().empty()) return Bad(name, "has no expressions");
  for (const v1::TargetingExpression& child : list->expressions()) {
    RETURN_IF_ERROR(CheckExpression(child, depth + 1, nodes));
  }
  return absl::OkStatus();
}

absl::Status CheckTargeting(const v1::TargetingExpression& expression) {
  int nodes = 0;
  return Annotate(CheckExpression(expression, 1, &nodes), "targeting");
}

// ---- keywords and attributes ----

absl::Status CheckKeywordText(absl::string_view field,
                              const std::string& text) {
  const std::string name = absl::StrCat(field, " ", Quoted(text));
  RETURN_IF_ERROR(CheckText(field, text, kMaxKeywordBytes));
  int words = 0;
  for (absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty())) {
    words += !word.empty();
  }
  if (words == 0) return Bad(name, "has no words");
  if (words > kMaxKeywordWords) {
    return Bad(name, absl::StrCat("has ", words, " words; at most ",
                                  kMaxKeywordWords, " are allowed"));
  }
  return absl::OkStatus();
}

v1::MatchType Effective(const v1::Keyword& keyword) {
  return keyword.match_type() == v1::MATCH_TYPE_UNSPECIFIED
             ? v1::MATCH_TYPE_BROAD
             : keyword.match_type();
}

absl::Status CheckKeyword(const v1::Keyword& keyword) {
  RETURN_IF_ERROR(CheckKeywordText("keywords.text", keyword.text()));
  const std::string name = absl::StrCat("keyword ", Quoted(keyword.text()));
  const v1::MatchType type = Effective(keyword);
  if (type != v1::MATCH_TYPE_EXACT && type != v1::MATCH_TYPE_PHRASE &&
      type != v1::MATCH_TYPE_BROAD) {
    return Bad(name, absl::StrCat("match_type ", static_cast<int>(type),
                                  " is not EXACT, PHRASE or BROAD"));
  }
  if (keyword.bid_micros() < 0) {
    return Bad(name, absl::StrCat("bid_micros ", keyword.bid_micros(),
                                  " must be >= 0"));
  }
  if (keyword.bid_micros() > kMaxBidMicros) {
    return Bad(name, absl::StrCat("bid_micros ", keyword.bid_micros(),
                                  " must be <= ", kMaxBidMicros));
  }
  if (keyword.negative() && keyword.bid_micros() != 0) {
    return Bad(name, "is negative and cannot have bid_micros");
  }
  return absl::OkStatus();
}

absl::Status CheckAttribute(const v1::Attribute& attribute) {
  RETURN_IF_ERROR(CheckId("attributes.name", attribute.name()));
  const std::string name = absl::StrCat("attribute ", Quoted(attribute.name()));
  for (const std::string& text : attribute.text()) {
    RETURN_IF_ERROR(CheckText(name, text, kMaxTextBytes));
  }
  for (const double number : attribute.number()) {
    if (!std::isfinite(number)) {
      return Bad(name, "has a number that is not finite");
    }
  }
  return absl::OkStatus();
}

// ---- frequency caps ----

absl::Status CheckCaps(
    const google::protobuf::RepeatedPtrField<v1::FrequencyCap>& caps) {
  if (caps.size() > kMaxCaps) {
    return Bad("frequency_caps", absl::StrCat("has ", caps.size(), "; at most ",
                                              kMaxCaps, " are allowed"));
  }
  for (int i = 0; i < caps.size(); ++i) {
    const v1::FrequencyCap& cap = caps[i];
    const std::string name = absl::StrCat("frequency_caps[", i, "].");
    if (cap.impressions() == 0) {
      return Bad(name + "impressions", "0 must be >= 1");
    }
    const int64_t seconds = CapWindowSeconds(cap);
    if (seconds == 0) {
      return Bad(name + "unit", absl::StrCat(static_cast<int>(cap.unit()),
                                             " is not a known unit"));
    }
    if (seconds > kMaxCapWindowSeconds) {
      return Bad(name + "length",
                 absl::StrCat(cap.length(), " makes a window of ", seconds,
                              " seconds; at most 5 weeks (",
                              kMaxCapWindowSeconds, ") are allowed"));
    }
  }
  return absl::OkStatus();
}

// ---- what the auction reads ----

absl::Status CheckReserve(int64_t reserve_micros) {
  if (reserve_micros >= 0 && reserve_micros <= kMaxBidMicros) {
    return absl::OkStatus();
  }
  return Bad("reserve_micros", absl::StrCat(reserve_micros, " is not in [0, ",
                                            kMaxBidMicros, "]"));
}

// What the group's bids pay for. A CPM bid below 1000 is not a micro an
// impression.
absl::Status CheckSale(const v1::AdGroup& e) {
  constexpr int64_t kLeastCpm = 1000;
  if (!v1::BidType_IsValid(e.bid_type())) {
    return Bad("bid_type", absl::StrCat(static_cast<int>(e.bid_type()),
                                        " is not a known type"));
  }
  const double rate = e.conversion_rate();
  if (e.bid_type() == v1::BID_TYPE_CPA) {
    if (!(rate > 0 && rate <= 1)) {
      return Bad("conversion_rate",
                 absl::StrCat(rate, " is not in (0, 1], as CPA needs"));
    }
  } else if (rate != 0) {
    return Bad("conversion_rate",
               absl::StrCat(rate, " is set, but bid_type is not CPA"));
  }
  if (e.bid_type() != v1::BID_TYPE_CPM) return absl::OkStatus();
  if (e.bid_micros() < kLeastCpm) {
    return Bad(
        "bid_micros",
        absl::StrCat(e.bid_micros(), " must be >= ", kLeastCpm, " with CPM"));
  }
  for (const v1::Keyword& keyword : e.keywords()) {
    if (keyword.bid_micros() == 0 || keyword.bid_micros() >= kLeastCpm) {
      continue;
    }
    return Bad(absl::StrCat("keyword ", Quoted(keyword.text())),
               absl::StrCat("bid_micros ", keyword.bid_micros(),
                            " must be >= ", kLeastCpm, " with CPM"));
  }
  return absl::OkStatus();
}

absl::Status CheckTags(
    absl::string_view field,
    const google::protobuf::RepeatedPtrField<std::string>& tags) {
  constexpr int kMaxTags = 64;
  if (tags.size() > kMaxTags) {
    return Bad(field, absl::StrCat("has ", tags.size(), " values; at most ",
                                   kMaxTags, " are allowed"));
  }
  absl::flat_hash_set<absl::string_view> seen;
  for (const std::string& tag : tags) {
    RETURN_IF_ERROR(CheckId(field, tag));
    if (!seen.insert(tag).second) {
      return Bad(field, absl::StrCat("has ", Quoted(tag), " twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAuctionFields(const v1::Ad& e) {
  // Scores are computed with it as a float.
  const bool positive = static_cast<float>(e.quality()) > 0;
  if (e.quality() != 0 && !(positive && e.quality() <= 100)) {
    return Bad("quality", absl::StrCat(e.quality(), " is not in (0, 100]"));
  }
  RETURN_IF_ERROR(CheckTags("exclusion_labels", e.exclusion_labels()));
  return CheckTags("categories", e.categories());
}

// ---- entities ----

absl::Status Check(const v1::Advertiser& e) {
  RETURN_IF_ERROR(CheckId("id", e.id()));
  RETURN_IF_ERROR(CheckText("name", e.name(), kMaxNameBytes));
  RETURN_IF_ERROR(CheckReserve(e.reserve_micros()));
  return CheckStatus(e.status());
}

absl::Status CheckSchedule(const v1::Campaign& e) {
  RETURN_IF_ERROR(CheckNotNegative("start_time_ms", e.start_time_ms()));
  RETURN_IF_ERROR(CheckNotNegative("end_time_ms", e.end_time_ms()));
  if (e.end_time_ms() != 0 && e.start_time_ms() >= e.end_time_ms()) {
    return Bad("start_time_ms",
               absl::StrCat(e.start_time_ms(), " must be < end_time_ms ",
                            e.end_time_ms()));
  }
  absl::TimeZone zone;
  if (!e.time_zone().empty() && !absl::LoadTimeZone(e.time_zone(), &zone)) {
    return Bad("time_zone",
               absl::StrCat(Quoted(e.time_zone()), " is not known"));
  }
  return absl::OkStatus();
}

absl::Status Check(const v1::Campaign& e) {
  RETURN_IF_ERROR(CheckId("id", e.id()));
  RETURN_IF_ERROR(CheckId("advertiser_id", e.advertiser_id()));
  RETURN_IF_ERROR(CheckText("name", e.name(), kMaxNameBytes));
  RETURN_IF_ERROR(CheckStatus(e.status()));
  RETURN_IF_ERROR(CheckCaps(e.frequency_caps()));
  RETURN_IF_ERROR(
      CheckNotNegative("budget.daily_micros", e.budget().daily_micros()));
  RETURN_IF_ERROR(
      CheckNotNegative("budget.total_micros", e.budget().total_micros()));
  if (!v1::Budget::Delivery_IsValid(e.budget().delivery())) {
    return Bad("budget.delivery",
               absl::StrCat(static_cast<int>(e.budget().delivery()),
                            " is not a known delivery"));
  }
  RETURN_IF_ERROR(CheckSchedule(e));
  if (e.has_targeting()) RETURN_IF_ERROR(CheckTargeting(e.targeting()));
  absl::flat_hash_set<absl::string_view> seen;
  for (const std::string& text : e.negative_keywords()) {
    RETURN_IF_ERROR(CheckKeywordText("negative_keywords", text));
    if (!seen.insert(text).second) {
      return Bad("negative_keywords",
                 absl::StrCat("has ", Quoted(text), " twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status Check(const v1::AdGroup& e) {
  RETURN_IF_ERROR(CheckId("id", e.id()));
  RETURN_IF_ERROR(CheckId("campaign_id", e.campaign_id()));
  RETURN_IF_ERROR(CheckText("name", e.name(), kMaxNameBytes));
  RETURN_IF_ERROR(CheckStatus(e.status()));
  RETURN_IF_ERROR(CheckCaps(e.frequency_caps()));
  if (e.bid_micros() <= 0) {
    return Bad("bid_micros", absl::StrCat(e.bid_micros(), " must be > 0"));
  }
  if (e.bid_micros() > kMaxBidMicros) {
    return Bad("bid_micros",
               absl::StrCat(e.bid_micros(), " must be <= ", kMaxBidMicros));
  }
  RETURN_IF_ERROR(CheckSale(e));
  if (e.has_targeting()) RETURN_IF_ERROR(CheckTargeting(e.targeting()));
  absl::flat_hash_set<std::pair<absl::string_view, int>> seen;
  for (const v1::Keyword& keyword : e.keywords()) {
    RETURN_IF_ERROR(CheckKeyword(keyword));
    const int kind = Effective(keyword) * 2 + keyword.negative();
    if (!seen.insert({keyword.text(), kind}).second) {
      return Bad(
          "keywords",
          absl::StrCat("has ", Quoted(keyword.text()), " with match_type ",
                       v1::MatchType_Name(Effective(keyword)), " twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckEmbedding(const v1::Ad& e) {
  if (e.embedding_size() > kMaxEmbedding) {
    return Bad("embedding",
               absl::StrCat("has ", e.embedding_size(), " components; at most ",
                            kMaxEmbedding, " are allowed"));
  }
  bool zero = true;
  for (const float x : e.embedding()) {
    if (!std::isfinite(x)) {
      return Bad("embedding", "has a component that is not finite");
    }
    zero = zero && x == 0;
  }
  if (e.embedding().empty() || !zero) return absl::OkStatus();
  return Bad("embedding", "is 0 in all components");
}

absl::Status Check(const v1::Ad& e) {
  RETURN_IF_ERROR(CheckId("id", e.id()));
  RETURN_IF_ERROR(CheckId("ad_group_id", e.ad_group_id()));
  RETURN_IF_ERROR(CheckText("name", e.name(), kMaxNameBytes));
  RETURN_IF_ERROR(CheckStatus(e.status()));
  RETURN_IF_ERROR(CheckCaps(e.frequency_caps()));
  RETURN_IF_ERROR(CheckText("landing_url", e.landing_url(), kMaxTextBytes));
  RETURN_IF_ERROR(CheckAuctionFields(e));
  absl::flat_hash_set<absl::string_view> seen;
  for (const v1::Attribute& attribute : e.attributes()) {
    RETURN_IF_ERROR(CheckAttribute(attribute));
    if (!seen.insert(attribute.name()).second) {
      return Bad("attributes",
                 absl::StrCat("has ", Quoted(attribute.name()), " twice"));
    }
  }
  return CheckEmbedding(e);
}

template <typename Entity>
absl::Status CheckNamed(absl::string_view noun, const Entity& e) {
  absl::Status status = Check(e);
  if (status.ok() && e.ByteSizeLong() > kMaxEntityBytes) {
    status = absl::InvalidArgumentError(
        absl::StrCat("has ", e.ByteSizeLong(), " bytes; at most ",
                     kMaxEntityBytes, " are allowed"));
  }
  return Annotate(status, absl::StrCat(noun, " ", Quoted(e.id())));
}

}  // namespace

absl::Status ValidateEntity(const v1::CatalogEntity& entity) {
  switch (entity.entity_case()) {
    case v1::CatalogEntity::kAdvertiser:
      return CheckNamed("advertiser", entity.advertiser());
    case v1::CatalogEntity::kCampaign:
      return CheckNamed("campaign", entity.campaign());
    case v1::CatalogEntity::kAdGroup:
      return CheckNamed("ad_group", entity.ad_group());
    case v1::CatalogEntity::kAd:
      return CheckNamed("ad", entity.ad());
    case v1::CatalogEntity::ENTITY_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the entity is empty");
}

}  // namespace adrank
