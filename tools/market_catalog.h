// The simulated advertisers: the catalogue as messages, and the same as indices
// with the eligibility rules of the product (keywords, targeting, schedules).
#ifndef ADRANK_TOOLS_MARKET_CATALOG_H_
#define ADRANK_TOOLS_MARKET_CATALOG_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/rng.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "proto/market_config.pb.h"
#include "tools/alias_table.h"
#include "tools/market_fields.h"

namespace adrank {

// Up to three words; also a query before words are added to it.
struct MarketPhrase {
  uint32_t num_words = 0;
  std::array<uint32_t, 3> words = {};
  absl::Span<const uint32_t> span() const { return {words.data(), num_words}; }
};

struct MarketKeyword {
  MarketPhrase phrase;
  v1::MatchType type = v1::MATCH_TYPE_BROAD;
  int64_t bid_micros = 0;  // 0: the ad group's
};

struct MarketCampaign {
  uint32_t advertiser = 0;
  uint32_t category = 0;
  // Bit i: value i of the country field is targeted.
  uint32_t countries = ~0u;
  // Serves on days [begin_day, end_day) of the market.
  int32_t begin_day = 0;
  int32_t end_day = 1 << 30;
  int64_t daily_budget_micros = 0;
  uint32_t time_zone = 0;
  std::vector<uint32_t> negative_words;
};

struct MarketAdGroup {
  uint32_t campaign = 0;
  int64_t bid_micros = 0;
  uint32_t devices = ~0u;  // bit mask of targeted devices
  std::vector<MarketKeyword> keywords;
  std::vector<MarketKeyword> negatives;
  uint32_t first_ad = 0;  // ads [first_ad, first_ad + ads_per_ad_group)
};

struct MarketAd {
  std::array<uint32_t, kMaxAdFields> values = {};  // by AdField
  uint32_t ad_group = 0;
  int32_t appear_day = 0;  // in the catalogue from this day on
};

// An ad that may answer a visit.
struct Eligible {
  uint32_t ad = 0;
  int64_t bid_micros = 0;
  v1::MatchType type = v1::MATCH_TYPE_TARGETING;
  // Index into the ad group's keywords; -1 without.
  int32_t keyword = -1;
};

// Memory of one thread for FindEligible.
struct EligibleScratch {
  std::vector<uint32_t> epoch_of_group;
  std::vector<int32_t> keyword_of_group;
  std::vector<uint32_t> matched;
  uint32_t epoch = 0;
};

// Immutable and thread-safe. REQUIRES everywhere: indices are in range.
class MarketCatalog {
 public:
  // REQUIRES: `config` is resolved; `fields` are its own and outlive this.
  MarketCatalog(const v1::MarketConfig& config, const MarketFields* fields);

  const std::vector<MarketCampaign>& campaigns() const { return campaigns_; }
  const std::vector<MarketAdGroup>& ad_groups() const { return ad_groups_; }
  const std::vector<MarketAd>& ads() const { return ads_; }
  // What people search for, most popular first; keywords come from the same.
  const std::vector<MarketPhrase>& phrases() const { return phrases_; }

  // All ads that the catalogue's own rules allow on this visit, in an order
  // that the visit determines: some positive keyword matches (EXACT before
  // PHRASE before BROAD, then the first), or the group has none; no negative
  // matches; targeting, schedule and day of appearance allow it. Clears *out.
  void FindEligible(const Visit& visit, EligibleScratch* scratch,
                    std::vector<Eligible>* out) const;

  // The catalogue's changes of `day`, parents first: everything known at once
  // on day 0, then the ads that appear on that day.
  std::vector<v1::CatalogOperation> Operations(int32_t day) const;

  v1::AdSnapshot Snapshot(uint32_t ad) const;
  std::string KeywordText(const MarketKeyword& keyword) const;
  std::string AdGroupId(uint32_t ad_group) const;

 private:
  struct Posting {
    uint32_t ad_group;
    int32_t keyword;
  };
  void MakePhrases(Rng* rng);
  void MakeCampaigns(Rng* rng);
  void MakeAdGroups(Rng* rng);
  void MakeAds(Rng* rng);
  void MakePostings();
  MarketKeyword RandomKeyword(const AliasTable& phrases, Rng* rng) const;
  bool Allowed(const Visit& visit, const MarketAdGroup& group) const;
  void AddAds(const Visit& visit, uint32_t ad_group, int32_t keyword,
              std::vector<Eligible>* out) const;
  v1::Campaign CampaignMessage(uint32_t campaign) const;
  v1::AdGroup AdGroupMessage(uint32_t ad_group) const;
  v1::Ad AdMessage(uint32_t ad) const;
  void AddAttributes(
      uint32_t ad,
      google::protobuf::RepeatedPtrField<v1::Attribute>* attributes) const;

  // Constant after construction.
  const v1::MarketConfig config_;
  const MarketFields& fields_;
  int64_t first_day_ms_ = 0;
  std::vector<MarketPhrase> phrases_;
  std::vector<MarketCampaign> campaigns_;
  std::vector<MarketAdGroup> ad_groups_;
  std::vector<MarketAd> ads_;
  // By the keyword's rarest word.
  std::vector<std::vector<Posting>> postings_;  // [words]
  std::vector<uint32_t> without_keywords_;      // ad groups
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_MARKET_CATALOG_H_
