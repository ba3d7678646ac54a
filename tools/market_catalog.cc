#include "tools/market_catalog.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace adrank {
namespace {

constexpr const char* kTimeZones[] = {"UTC", "Europe/Berlin",
                                      "America/New_York", "Asia/Tokyo"};
constexpr int64_t kBidStepMicros = 10000;

bool Contains(absl::Span<const uint32_t> words, uint32_t word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool Matches(const MarketKeyword& keyword, absl::Span<const uint32_t> query) {
  const absl::Span<const uint32_t> words = keyword.phrase.span();
  switch (keyword.type) {
    case v1::MATCH_TYPE_EXACT:
      return query == words;
    case v1::MATCH_TYPE_PHRASE:
      return std::search(query.begin(), query.end(), words.begin(),
                         words.end()) != query.end();
    default:
      return std::all_of(words.begin(), words.end(),
                         [query](uint32_t w) { return Contains(query, w); });
  }
}

bool HasKeyword(const std::vector<MarketKeyword>& keywords,
                const MarketKeyword& keyword) {
  return std::any_of(keywords.begin(), keywords.end(),
                     [&](const MarketKeyword& k) {
                       return k.type == keyword.type &&
                              k.phrase.span() == keyword.phrase.span();
                     });
}

int64_t RandomBid(double mean_micros, Rng* rng) {
  const double bid = mean_micros * std::exp(0.4 * rng->Normal());
  return std::max<int64_t>(1, std::llround(bid / kBidStepMicros)) *
         kBidStepMicros;
}

MarketPhrase RandomPhrase(const AliasTable& words, Rng* rng) {
  MarketPhrase phrase;
  const double u = rng->Uniform();
  const uint32_t n = u < 0.45 ? 1 : u < 0.85 ? 2 : 3;
  while (phrase.num_words < n) {
    const uint32_t word = words.Draw(rng);
    if (!Contains(phrase.span(), word)) {
      phrase.words[phrase.num_words++] = word;
    }
  }
  return phrase;
}

}  // namespace

MarketCatalog::MarketCatalog(const v1::MarketConfig& config,
                             const MarketFields* fields)
    : config_(config), fields_(*fields) {
  first_day_ms_ = FirstDayMs(config).value();
  Rng rng(MixBits(config.seed() ^ 0x6361746c6f67ull));
  MakePhrases(&rng);
  MakeCampaigns(&rng);
  MakeAdGroups(&rng);
  MakeAds(&rng);
  MakePostings();
}

void MarketCatalog::MakePhrases(Rng* rng) {
  const AliasTable words =
      AliasTable::Zipf(fields_.words.cardinality, fields_.words.zipf);
  phrases_.resize(std::max<uint32_t>(64, fields_.words.cardinality));
  for (MarketPhrase& phrase : phrases_) phrase = RandomPhrase(words, rng);
}

void MarketCatalog::MakeCampaigns(Rng* rng) {
  const MarketField& category = fields_.ad[kCategoryField];
  const AliasTable categories =
      AliasTable::Zipf(category.cardinality, category.zipf);
  campaigns_.resize(config_.advertisers() * config_.campaigns_per_advertiser());
  for (uint32_t i = 0; i < campaigns_.size(); ++i) {
    MarketCampaign& c = campaigns_[i];
    c.advertiser = i / config_.campaigns_per_advertiser();
    c.category = categories.Draw(rng);
    if (rng->Bernoulli(0.3)) {
      c.countries = static_cast<uint32_t>(rng->Below(1 << 20)) | 1u;
    }
    if (rng->Bernoulli(0.1)) c.begin_day = 1 + rng->Below(10);
    if (rng->Bernoulli(0.1)) c.end_day = 12 + rng->Below(40);
    c.daily_budget_micros = RandomBid(500e6, rng);
    c.time_zone = static_cast<uint32_t>(rng->Below(4));
    if (rng->Bernoulli(0.2)) {
      c.negative_words.push_back(
          static_cast<uint32_t>(rng->Below(fields_.words.cardinality)));
    }
  }
}

MarketKeyword MarketCatalog::RandomKeyword(const AliasTable& phrases,
                                           Rng* rng) const {
  static constexpr v1::MatchType kTypes[] = {
      v1::MATCH_TYPE_EXACT, v1::MATCH_TYPE_PHRASE, v1::MATCH_TYPE_BROAD};
  MarketKeyword keyword;
  keyword.phrase = phrases_[phrases.Draw(rng)];
  keyword.type = kTypes[rng->Below(3)];
  return keyword;
}

void MarketCatalog::MakeAdGroups(Rng* rng) {
  const AliasTable phrases =
      AliasTable::Zipf(static_cast<uint32_t>(phrases_.size()), 0.7);
  ad_groups_.resize(campaigns_.size() * config_.ad_groups_per_campaign());
  for (uint32_t i = 0; i < ad_groups_.size(); ++i) {
    MarketAdGroup& g = ad_groups_[i];
    g.campaign = i / config_.ad_groups_per_campaign();
    g.bid_micros = RandomBid(500000, rng);
    g.first_ad = i * config_.ads_per_ad_group();
    if (rng->Bernoulli(0.2)) g.devices = 7 & ~(1u << rng->Below(3));
    // A small market must not leave pages without any ad.
    if (i % 8 == 0 || rng->Bernoulli(0.1)) continue;
    const uint64_t keywords = 3 + rng->Below(6);
    for (uint64_t k = 0; k < keywords; ++k) {
      MarketKeyword keyword = RandomKeyword(phrases, rng);
      if (rng->Bernoulli(0.2)) {
        keyword.bid_micros = RandomBid(static_cast<double>(g.bid_micros), rng);
      }
      // A group may have a text once a match type.
      if (!HasKeyword(g.keywords, keyword)) g.keywords.push_back(keyword);
    }
    if (rng->Bernoulli(0.2)) {
      const MarketKeyword negative = RandomKeyword(phrases, rng);
      if (!HasKeyword(g.keywords, negative)) g.negatives.push_back(negative);
    }
  }
}

void MarketCatalog::MakeAds(Rng* rng) {
  std::vector<AliasTable> laws;
  for (const MarketField& f : fields_.ad) {
    laws.push_back(AliasTable::Zipf(f.cardinality, f.zipf));
  }
  ads_.resize(ad_groups_.size() * config_.ads_per_ad_group());
  for (uint32_t i = 0; i < ads_.size(); ++i) {
    MarketAd& ad = ads_[i];
    ad.ad_group = i / config_.ads_per_ad_group();
    const uint32_t c = ad_groups_[ad.ad_group].campaign;
    for (size_t f = kCategoryField; f < laws.size(); ++f) {
      ad.values[f] = laws[f].Draw(rng);
    }
    ad.values[kAdIdField] = i;
    ad.values[kCampaignField] = c;
    ad.values[kAdvertiserField] = campaigns_[c].advertiser;
    ad.values[kBrandField] =
        2 * campaigns_[c].advertiser + static_cast<uint32_t>(rng->Below(2));
    if (!rng->Bernoulli(0.2))
      ad.values[kCategoryField] = campaigns_[c].category;
    const double u = rng->Uniform();
    const int32_t day = 1 + static_cast<int32_t>(rng->Below(30));
    if (u < config_.new_ad_share()) ad.appear_day = day;
  }
  // Something must be there from the first day on, on every page.
  ads_[0].appear_day = 0;
  MarketCampaign& first = campaigns_[0];
  first.countries = ~0u;
  first.begin_day = 0;
  first.end_day = 1 << 30;
  first.negative_words.clear();
  ad_groups_[0].devices = ~0u;
}

void MarketCatalog::MakePostings() {
  postings_.resize(fields_.words.cardinality);
  for (uint32_t g = 0; g < ad_groups_.size(); ++g) {
    const std::vector<MarketKeyword>& keywords = ad_groups_[g].keywords;
    if (keywords.empty()) without_keywords_.push_back(g);
    for (size_t k = 0; k < keywords.size(); ++k) {
      // Words are numbered by falling popularity.
      const absl::Span<const uint32_t> words = keywords[k].phrase.span();
      const uint32_t rarest = *std::max_element(words.begin(), words.end());
      postings_[rarest].push_back({g, static_cast<int32_t>(k)});
    }
  }
}

bool MarketCatalog::Allowed(const Visit& visit,
                            const MarketAdGroup& group) const {
  const MarketCampaign& c = campaigns_[group.campaign];
  if (visit.day < c.begin_day || visit.day >= c.end_day) return false;
  if ((c.countries >> visit.values[kCountryField] & 1) == 0) return false;
  if ((group.devices >> visit.values[kDeviceField] & 1) == 0) return false;
  for (uint32_t word : c.negative_words) {
    if (Contains(visit.word_span(), word)) return false;
  }
  for (const MarketKeyword& negative : group.negatives) {
    if (Matches(negative, visit.word_span())) return false;
  }
  return true;
}

void MarketCatalog::AddAds(const Visit& visit, uint32_t ad_group,
                           int32_t keyword, std::vector<Eligible>* out) const {
  const MarketAdGroup& g = ad_groups_[ad_group];
  Eligible e;
  e.bid_micros = g.bid_micros;
  e.keyword = keyword;
  if (keyword >= 0) {
    const MarketKeyword& k = g.keywords[keyword];
    e.type = k.type;
    if (k.bid_micros > 0) e.bid_micros = k.bid_micros;
  }
  for (uint32_t i = 0; i < config_.ads_per_ad_group(); ++i) {
    e.ad = g.first_ad + i;
    if (ads_[e.ad].appear_day <= visit.day) out->push_back(e);
  }
}

void MarketCatalog::FindEligible(const Visit& visit, EligibleScratch* scratch,
                                 std::vector<Eligible>* out) const {
  out->clear();
  EligibleScratch& s = *scratch;
  if (s.epoch_of_group.size() != ad_groups_.size() || ++s.epoch == 0) {
    s.epoch_of_group.assign(ad_groups_.size(), 0);
    s.keyword_of_group.assign(ad_groups_.size(), -1);
    s.epoch = 1;
  }
  s.matched = without_keywords_;
  for (uint32_t g : without_keywords_) s.keyword_of_group[g] = -1;
  for (uint32_t word : visit.word_span()) {
    for (const Posting& p : postings_[word]) {
      const std::vector<MarketKeyword>& keywords =
          ad_groups_[p.ad_group].keywords;
      if (!Matches(keywords[p.keyword], visit.word_span())) continue;
      int32_t& best = s.keyword_of_group[p.ad_group];
      if (s.epoch_of_group[p.ad_group] != s.epoch) {
        s.epoch_of_group[p.ad_group] = s.epoch;
        s.matched.push_back(p.ad_group);
        best = p.keyword;
      } else if (std::make_pair(keywords[p.keyword].type, p.keyword) <
                 std::make_pair(keywords[best].type, best)) {
        best = p.keyword;  // MatchType numbers EXACT < PHRASE < BROAD
      }
    }
  }
  for (uint32_t g : s.matched) {
    if (Allowed(visit, ad_groups_[g])) {
      AddAds(visit, g, s.keyword_of_group[g], out);
    }
  }
}

std::string MarketCatalog::KeywordText(const MarketKeyword& keyword) const {
  return absl::StrJoin(keyword.phrase.span(), " ",
                       [this](std::string* out, uint32_t w) {
                         out->append(fields_.words.values[w]);
                       });
}

std::string MarketCatalog::AdGroupId(uint32_t ad_group) const {
  return absl::StrCat("grp", ad_group);
}

v1::Campaign MarketCatalog::CampaignMessage(uint32_t campaign) const {
  const MarketCampaign& c = campaigns_[campaign];
  v1::Campaign m;
  m.set_id(fields_.ad[kCampaignField].values[campaign]);
  m.set_advertiser_id(fields_.ad[kAdvertiserField].values[c.advertiser]);
  m.set_name(absl::StrCat(fields_.ad[kCategoryField].values[c.category], " ",
                          campaign));
  m.mutable_budget()->set_daily_micros(c.daily_budget_micros);
  if (c.begin_day > 0) {
    m.set_start_time_ms(first_day_ms_ + c.begin_day * kDayMs);
  }
  if (c.end_day < 1 << 30) {
    m.set_end_time_ms(first_day_ms_ + c.end_day * kDayMs);
  }
  m.set_time_zone(kTimeZones[c.time_zone]);
  if (c.countries != ~0u) {
    const MarketField& country = fields_.context[kCountryField];
    v1::TargetingExpression::InSet* set =
        m.mutable_targeting()->mutable_in_set();
    set->set_attribute(country.name);
    for (uint32_t i = 0; i < country.cardinality; ++i) {
      if (c.countries >> i & 1) set->add_values(country.values[i]);
    }
  }
  for (uint32_t w : c.negative_words) {
    m.add_negative_keywords(fields_.words.values[w]);
  }
  return m;
}

v1::AdGroup MarketCatalog::AdGroupMessage(uint32_t ad_group) const {
  const MarketAdGroup& g = ad_groups_[ad_group];
  v1::AdGroup m;
  m.set_id(AdGroupId(ad_group));
  m.set_campaign_id(fields_.ad[kCampaignField].values[g.campaign]);
  m.set_bid_micros(g.bid_micros);
  if (g.devices != ~0u) {
    const MarketField& device = fields_.context[kDeviceField];
    v1::TargetingExpression::InSet* excluded = m.mutable_targeting()
                                                   ->mutable_none_of()
                                                   ->add_expressions()
                                                   ->mutable_in_set();
    excluded->set_attribute(device.name);
    for (uint32_t i = 0; i < device.cardinality; ++i) {
      if ((g.devices >> i & 1) == 0) excluded->add_values(device.values[i]);
    }
  }
  const auto add = [&](const MarketKeyword& k, bool negative) {
    v1::Keyword* keyword = m.add_keywords();
    keyword->set_text(KeywordText(k));
    keyword->set_match_type(k.type);
    keyword->set_negative(negative);
    keyword->set_bid_micros(k.bid_micros);
  };
  for (const MarketKeyword& k : g.keywords) add(k, false);
  for (const MarketKeyword& k : g.negatives) add(k, true);
  return m;
}

void MarketCatalog::AddAttributes(
    uint32_t ad,
    google::protobuf::RepeatedPtrField<v1::Attribute>* attributes) const {
  for (size_t f = kCategoryField; f < fields_.ad.size(); ++f) {
    v1::Attribute* attribute = attributes->Add();
    attribute->set_name(fields_.ad[f].name);
    attribute->add_text(fields_.ad[f].values[ads_[ad].values[f]]);
  }
}

v1::Ad MarketCatalog::AdMessage(uint32_t ad) const {
  v1::Ad m;
  m.set_id(fields_.ad[kAdIdField].values[ad]);
  m.set_ad_group_id(AdGroupId(ads_[ad].ad_group));
  m.set_landing_url(absl::StrCat(
      "https://www.example.com/",
      fields_.ad[kAdvertiserField].values[ads_[ad].values[kAdvertiserField]],
      "/", m.id()));
  AddAttributes(ad, m.mutable_attributes());
  return m;
}

v1::AdSnapshot MarketCatalog::Snapshot(uint32_t ad) const {
  const MarketAd& a = ads_[ad];
  v1::AdSnapshot s;
  s.set_ad_id(fields_.ad[kAdIdField].values[ad]);
  s.set_ad_group_id(AdGroupId(a.ad_group));
  s.set_campaign_id(
      fields_.ad[kCampaignField].values[a.values[kCampaignField]]);
  s.set_advertiser_id(
      fields_.ad[kAdvertiserField].values[a.values[kAdvertiserField]]);
  AddAttributes(ad, s.mutable_attributes());
  return s;
}

std::vector<v1::CatalogOperation> MarketCatalog::Operations(int32_t day) const {
  std::vector<v1::CatalogOperation> ops;
  const auto add = [&ops]() { return ops.emplace_back().mutable_upsert(); };
  if (day == 0) {
    for (uint32_t i = 0; i < config_.advertisers(); ++i) {
      v1::Advertiser* a = add()->mutable_advertiser();
      a->set_id(fields_.ad[kAdvertiserField].values[i]);
      a->set_name(absl::StrCat("Advertiser ", i));
    }
    for (uint32_t i = 0; i < campaigns_.size(); ++i) {
      *add()->mutable_campaign() = CampaignMessage(i);
    }
    for (uint32_t i = 0; i < ad_groups_.size(); ++i) {
      *add()->mutable_ad_group() = AdGroupMessage(i);
    }
  }
  for (uint32_t i = 0; i < ads_.size(); ++i) {
    if (ads_[i].appear_day == day) *add()->mutable_ad() = AdMessage(i);
  }
  return ops;
}

}  // namespace adrank
