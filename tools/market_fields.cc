#include "tools/market_fields.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

// Cardinalities of extra fields, in turn: from a flag to a long list.
constexpr uint32_t kExtraContextSizes[] = {6, 20, 60, 200};
constexpr uint32_t kExtraAdSizes[] = {5, 15, 50};

MarketField Named(std::string name, std::vector<std::string> values,
                  double weight, double zipf) {
  const uint32_t n = static_cast<uint32_t>(values.size());
  return {std::move(name), std::move(values), n, weight, zipf};
}

MarketField Numbered(std::string name, const char* prefix, uint32_t n,
                     double weight, double zipf) {
  std::vector<std::string> values;
  values.reserve(n);
  for (uint32_t i = 0; i < n; ++i) values.push_back(absl::StrCat(prefix, i));
  return Named(std::move(name), std::move(values), weight, zipf);
}

std::vector<MarketField> ContextFields(const v1::MarketConfig& config) {
  std::vector<MarketField> f(kExtraContextField);
  f[kUserField] = {"user", {}, config.users(), 0.15, 0.7};
  f[kAgeField] =
      Named("age_group",
            {"25-34", "35-44", "18-24", "45-54", "55-64", "65+", "unknown"},
            0.3, 0.4);
  f[kGenderField] = Named("gender", {"female", "male", "unknown"}, 0.2, 0.5);
  f[kCountryField] = Named(
      "country", {"US", "DE", "GB", "FR", "IN", "BR", "JP", "ES", "IT", "CA",
                  "MX", "AU", "NL", "PL", "SE", "TR", "KR", "ID", "ZA", "AR"},
      0.3, 0.8);
  f[kDeviceField] = Named("device", {"phone", "desktop", "tablet"}, 0.4, 1);
  f[kOsField] =
      Named("os", {"android", "ios", "windows", "macos", "linux"}, 0.2, 0);
  f[kPageField] = Numbered("page", "page", 40, 0.35, 0.8);
  f[kPlacementField] =
      Named("placement", {"search", "home", "article"}, 0.3, 0);
  f[kDepthField] = {"session_depth", {}, 16, 0.2, 0};
  f[kHourField] = {"hour", {}, 24, 0.25, 0};
  for (uint32_t i = 0; i < config.extra_context_fields(); ++i) {
    f.push_back(Numbered(absl::StrCat("ctx_", i + 1), "v",
                         kExtraContextSizes[i % 4], 0.2, 0.8));
  }
  return f;
}

std::vector<MarketField> AdFields(const v1::MarketConfig& config) {
  const uint32_t campaigns =
      config.advertisers() * config.campaigns_per_advertiser();
  const uint32_t ads =
      campaigns * config.ad_groups_per_campaign() * config.ads_per_ad_group();
  std::vector<MarketField> f(kExtraAdField);
  f[kAdIdField] = Numbered("ad", "ad", ads, 0.35, 0);
  f[kCampaignField] = Numbered("campaign", "cmp", campaigns, 0.2, 0);
  f[kAdvertiserField] =
      Numbered("advertiser", "adv", config.advertisers(), 0.3, 0);
  f[kCategoryField] = Named(
      "category", {"shoes",     "travel",  "games",     "insurance", "phones",
                   "groceries", "fashion", "cars",      "finance",   "books",
                   "music",     "fitness", "beauty",    "furniture", "garden",
                   "pets",      "toys",    "jobs",      "software",  "dating",
                   "tickets",   "energy",  "education", "health"},
      0.35, 0.4);
  f[kFormatField] =
      Named("format", {"text", "image", "carousel", "video"}, 0.35, 0.6);
  f[kBrandField] = Numbered("brand", "brand", 2 * config.advertisers(), 0.2, 0);
  for (uint32_t i = 0; i < config.extra_ad_fields(); ++i) {
    f.push_back(Numbered(absl::StrCat("ad_", i + 1), "v", kExtraAdSizes[i % 3],
                         0.2, 0.6));
  }
  return f;
}

}  // namespace

MarketFields MakeMarketFields(const v1::MarketConfig& config) {
  MarketFields fields;
  fields.context = ContextFields(config);
  fields.interests =
      Named("interests",
            {"sport",       "cooking", "gaming",    "finance",    "travel",
             "music",       "film",    "fashion",   "diy",        "cars",
             "science",     "news",    "parenting", "pets",       "gardening",
             "photography", "health",  "art",       "technology", "history",
             "property",    "career",  "food",      "outdoors"},
            0.4, 0.5);
  fields.words = {"query", {}, config.words(), 0.25, 0.9};
  for (uint32_t i = 0; i < config.words(); ++i) {
    fields.words.values.push_back(MarketWord(i));
  }
  fields.ad = AdFields(config);
  return fields;
}

std::string MarketWord(uint32_t i) {
  static constexpr char kConsonants[] = "bdfgklmnprstvz";  // 14
  static constexpr char kVowels[] = "aeiou";               // 5
  constexpr uint32_t kSyllables = 70;
  std::string word;
  const auto add = [&word](uint32_t syllable) {
    word += kConsonants[syllable % 14];
    word += kVowels[syllable / 14];
  };
  add(i % kSyllables);
  add(i / kSyllables % kSyllables);
  if (i >= kSyllables * kSyllables) {
    add((i / (kSyllables * kSyllables) - 1) % kSyllables);
  }
  return word;
}

}  // namespace adrank
