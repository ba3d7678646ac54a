#include "tools/market.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/textproto.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

// Two thousand users and 240 ads; the rest by default.
v1::MarketConfig SmallConfig() {
  v1::MarketConfig config;
  config.set_seed(7);
  config.set_advertisers(10);
  config.set_users(2000);
  return config;
}

const Market& SmallMarket() {
  static const Market* market = Market::Create(SmallConfig())->release();
  return *market;
}

// What the logging policy serves on a day.
struct Served {
  Visit visit;
  std::vector<ChosenAd> ads;
};
std::vector<Served> ServeDay(const Market& market, int32_t day,
                             uint64_t count) {
  std::vector<Served> served(count);
  EligibleScratch scratch;
  std::vector<Eligible> eligible;
  for (uint64_t i = 0; i < count; ++i) {
    served[i].visit = market.visits().OfDay(day, i, count);
    market.catalog().FindEligible(served[i].visit, &scratch, &eligible);
    Rng rng = market.visits().AfterVisit(day, i);
    market.policy().Choose(&eligible, &rng, &served[i].ads);
  }
  return served;
}

struct Moments {
  double n = 0, sum = 0, squares = 0;
  void Add(double x) {
    ++n;
    sum += x;
    squares += x * x;
  }
  double mean() const { return sum / n; }
  double sd() const { return std::sqrt(squares / n - mean() * mean()); }
};

TEST(MarketConfig, DefaultsAreThoseOfItsCommentsAndResolvingIsIdempotent) {
  ASSERT_OK_AND_ASSIGN(const v1::MarketConfig config,
                       ResolveMarketConfig(v1::MarketConfig()));
  EXPECT_EQ(config.advertisers(), 50);
  EXPECT_EQ(config.decisions_per_day(), 20000);
  EXPECT_EQ(config.base_ctr(), 0.05);
  EXPECT_EQ(config.position_effect(), -0.35);
  EXPECT_EQ(config.first_day(), "2026-01-05");
  ASSERT_OK_AND_ASSIGN(const v1::MarketConfig again,
                       ResolveMarketConfig(config));
  EXPECT_OK(CheckSameMarket(config, again));
}

TEST(MarketConfig, OutOfRangeValuesNameTheField) {
  const std::pair<const char*, const char*> kBad[] = {
      {"position_effect: 0.1", "position_effect: 0.1 not in [-5, 0]"},
      {"base_ctr: 0.9", "base_ctr: 0.9"},
      {"base_ctr: nan", "base_ctr: nan"},
      {"base_ctr: -0.1", "base_ctr: -0.1"},
      {"drift_per_day: 2", "drift_per_day: 2"},
      {"main_effect_std: inf", "main_effect_std: inf"},
      {"new_ad_share: 1.5", "new_ad_share: 1.5"},
      {"slots: 65", "slots: 65"},
      {"words: 3", "words: 3"},
      {"extra_ad_fields: 17", "extra_ad_fields: 17"},
      {"users: 2000001", "users: 2000001"},
      {"advertisers: 100000 ads_per_ad_group: 1000", "ads over all"},
      {"click_delay_s: -1", "click_delay_s: -1"},
      {"view_rate: 1.1", "view_rate: 1.1"},
      {"first_day: '05.01.2026'", "first_day: \"05.01.2026\""},
      {"first_day: '1969-01-01'", "before 1970"},
  };
  for (const auto& [text, message] : kBad) {
    v1::MarketConfig config;
    ASSERT_OK(ParseTextProto(text, "c", &config));
    EXPECT_THAT(
        Market::Create(config),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }
}

TEST(MarketConfig, AnotherMarketIsRefusedWithTheFieldThatDiffers) {
  v1::MarketConfig a = ResolveMarketConfig(SmallConfig()).value(), b = a;
  b.set_base_ctr(0.1);
  EXPECT_THAT(CheckSameMarket(a, b),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("base_ctr: 0.05 -> 0.1")));
}

TEST(MarketFields, WordsAreDistinctTokens) {
  std::set<std::string> words;
  for (uint32_t i = 0; i < 100000; ++i) words.insert(MarketWord(i));
  EXPECT_EQ(words.size(), 100000);
  for (const std::string& word : words) {
    ASSERT_TRUE(std::all_of(word.begin(), word.end(), absl::ascii_islower));
  }
}

TEST(AliasTable, DrawsByWeight) {
  const AliasTable table({1, 0, 2, 5, 0.5});
  Rng rng(3);
  std::vector<double> counts(5);
  for (int i = 0; i < 85000; ++i) ++counts[table.Draw(&rng)];
  EXPECT_EQ(counts[1], 0);
  double chi2 = 0;  // 3 degrees of freedom: 16.3 is the 99.9 % point
  for (int i : {0, 2, 3, 4}) {
    const double expected = 85000 *
                            (i == 0   ? 1
                             : i == 2 ? 2
                             : i == 3 ? 5
                                      : 0.5) /
                            8.5;
    chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi2, 16.3);
  Rng one(1);
  EXPECT_EQ(AliasTable({3.0}).Draw(&one), 0);
}

TEST(VisitSource, TimesDoNotFallAndFollowTheDailyCurve) {
  const Market& market = SmallMarket();
  std::vector<int> by_hour(24);
  int64_t last = market.first_day_ms() + 3 * kDayMs;
  for (uint64_t i = 0; i < 5000; ++i) {
    const Visit visit = market.visits().OfDay(3, i, 5000);
    ASSERT_GE(visit.time_ms, last);
    last = visit.time_ms;
    ASSERT_EQ(visit.day, 3);
    ++by_hour[visit.values[kHourField]];
  }
  EXPECT_LT(last, market.first_day_ms() + 4 * kDayMs);
  EXPECT_GT(by_hour[19], 3 * by_hour[7]);
  EXPECT_GT(by_hour[7], 0);
}

TEST(Market, SameSeedIsTheSameMarketAndAnotherSeedIsNot) {
  ASSERT_OK_AND_ASSIGN(const auto again, Market::Create(SmallConfig()));
  v1::MarketConfig other_config = SmallConfig();
  other_config.set_seed(8);
  ASSERT_OK_AND_ASSIGN(const auto other, Market::Create(other_config));
  const Market& market = SmallMarket();
  EXPECT_EQ(market.click_model().bias(), again->click_model().bias());
  v1::Context a, b;
  const Visit visit = market.visits().OfDay(2, 5, 100);
  market.ToContext(visit, &a);
  again->ToContext(again->visits().OfDay(2, 5, 100), &b);
  EXPECT_EQ(a.SerializeAsString(), b.SerializeAsString());
  other->ToContext(other->visits().OfDay(2, 5, 100), &b);
  EXPECT_NE(a.SerializeAsString(), b.SerializeAsString());
}

TEST(Market, ContextRoundTripsAndTheTruthWithIt) {
  const Market& market = SmallMarket();
  const DayEffects effects = market.click_model().EffectsOfDay(4);
  int queries = 0;
  for (const Served& served : ServeDay(market, 4, 300)) {
    v1::Context context;
    market.ToContext(served.visit, &context);
    queries += !context.query().empty();
    ASSERT_OK_AND_ASSIGN(
        const Visit visit,
        market.ParseVisit(context, market.PlacementId(served.visit)));
    EXPECT_EQ(visit.values, served.visit.values);
    for (uint32_t i = 0; i < served.ads.size(); ++i) {
      const uint32_t ad = served.ads[i].ad.ad;
      const v1::AdSnapshot snapshot = market.catalog().Snapshot(ad);
      ASSERT_OK_AND_ASSIGN(const uint32_t found,
                           market.FindAd(snapshot.ad_id()));
      EXPECT_EQ(market.click_model().Ctr(effects, visit, found, i + 1),
                market.click_model().Ctr(effects, served.visit, ad, i + 1));
    }
  }
  EXPECT_GT(queries, 150);
  EXPECT_LT(queries, 260);
}

TEST(Market, ForeignContextsAndAdsAreNamed) {
  const Market& market = SmallMarket();
  v1::Context good;
  const Visit visit = market.visits().OfDay(0, 0, 10);
  market.ToContext(visit, &good);
  const auto parse = [&](const v1::Context& c) {
    return market.ParseVisit(c, "search").status();
  };
  EXPECT_OK(parse(good));
  v1::Context bad = good;
  bad.set_user_id("u2000");
  EXPECT_THAT(parse(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("user_id: \"u2000\"")));
  bad = good;
  bad.set_query("xyzzy");
  EXPECT_THAT(parse(bad),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("query")));
  bad = good;
  bad.set_time_ms(1);
  EXPECT_THAT(parse(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("time_ms 1 is before")));
  for (int i = 0; i < good.attributes_size() - 1; ++i) {
    bad = good;
    bad.mutable_attributes()->DeleteSubrange(i, 1);
    EXPECT_THAT(parse(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr(good.attributes(i).name())));
  }
  EXPECT_THAT(market.ParseVisit(good, "sidebar"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("placement: \"sidebar\"")));
  for (const char* id : {"ad240", "ad", "ad01", "ad-1", "x1", "", "ad 1"}) {
    EXPECT_THAT(market.FindAd(id),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr(id)));
  }
}

// The catalogue's rules read from its messages, as slowly as can be.
bool EligibleByMessages(const v1::Context& context, const v1::Campaign& c,
                        const v1::AdGroup& g) {
  const std::vector<std::string> query =
      absl::StrSplit(context.query(), ' ', absl::SkipEmpty());
  const std::string padded = " " + absl::StrJoin(query, " ") + " ";
  const auto matches = [&](const std::string& text, v1::MatchType type) {
    if (type == v1::MATCH_TYPE_EXACT) return " " + text + " " == padded;
    if (type == v1::MATCH_TYPE_PHRASE) {
      return padded.find(" " + text + " ") != std::string::npos;
    }
    for (const std::string& word :
         std::vector<std::string>(absl::StrSplit(text, ' '))) {
      if (padded.find(" " + word + " ") == std::string::npos) return false;
    }
    return true;
  };
  const auto text = [&](const std::string& name) {
    for (const v1::Attribute& a : context.attributes()) {
      if (a.name() == name) return a.text(0);
    }
    return std::string();
  };
  const auto in = [&](const v1::TargetingExpression::InSet& set) {
    const std::string value = text(set.attribute());
    return std::count(set.values().begin(), set.values().end(), value) > 0;
  };
  if (context.time_ms() < c.start_time_ms()) return false;
  if (c.end_time_ms() > 0 && context.time_ms() >= c.end_time_ms()) return false;
  if (c.targeting().has_in_set() && !in(c.targeting().in_set())) return false;
  if (g.targeting().has_none_of() &&
      in(g.targeting().none_of().expressions(0).in_set())) {
    return false;
  }
  for (const std::string& negative : c.negative_keywords()) {
    if (matches(negative, v1::MATCH_TYPE_BROAD)) return false;
  }
  bool positive = false, any = false;
  for (const v1::Keyword& k : g.keywords()) {
    const bool match = matches(k.text(), k.match_type());
    if (k.negative() && match) return false;
    if (k.negative()) continue;
    any = true;
    positive |= match;
  }
  return positive || !any;
}

TEST(MarketCatalog, EligibleAdsAreThoseOfTheMessagesRules) {
  const Market& market = SmallMarket();
  std::map<std::string, v1::Campaign> campaigns;
  std::map<std::string, v1::AdGroup> groups;
  std::map<std::string, std::pair<v1::Ad, int>> ads;  // with day
  for (int day = 0; day <= 30; ++day) {
    for (const auto& op : market.catalog().Operations(day)) {
      const v1::CatalogEntity& e = op.upsert();
      if (e.has_campaign()) campaigns[e.campaign().id()] = e.campaign();
      if (e.has_ad_group()) groups[e.ad_group().id()] = e.ad_group();
      if (e.has_ad()) ads[e.ad().id()] = {e.ad(), day};
    }
  }
  ASSERT_EQ(ads.size(), market.catalog().ads().size());
  EligibleScratch scratch;
  std::vector<Eligible> eligible;
  for (int day : {0, 5, 20, 40}) {
    for (uint64_t i = 0; i < 100; ++i) {
      const Visit visit = market.visits().OfDay(day, i, 100);
      v1::Context context;
      market.ToContext(visit, &context);
      market.catalog().FindEligible(visit, &scratch, &eligible);
      std::set<std::string> found, expected;
      for (const Eligible& e : eligible) {
        found.insert(market.catalog().Snapshot(e.ad).ad_id());
      }
      for (const auto& [id, ad] : ads) {
        const v1::AdGroup& g = groups[ad.first.ad_group_id()];
        if (ad.second <= day &&
            EligibleByMessages(context, campaigns[g.campaign_id()], g)) {
          expected.insert(id);
        }
      }
      ASSERT_EQ(found, expected) << context.DebugString();
      ASSERT_FALSE(found.empty());
    }
  }
}

TEST(MarketCatalog, NewAdsAreServedFromTheirDayOnAndNeverBefore) {
  const Market& market = SmallMarket();
  const std::vector<MarketAd>& ads = market.catalog().ads();
  const double share =
      static_cast<double>(
          std::count_if(ads.begin(), ads.end(),
                        [](const MarketAd& a) { return a.appear_day > 0; })) /
      static_cast<double>(ads.size());
  EXPECT_NEAR(share, 0.2, 0.08);
  std::set<uint32_t> new_ads_served;
  for (int32_t day : {0, 1, 2, 10, 29, 30, 31}) {
    for (const Served& served : ServeDay(market, day, 500)) {
      for (const ChosenAd& ad : served.ads) {
        const int32_t appears = ads[ad.ad.ad].appear_day;
        ASSERT_LE(appears, day);
        if (appears > 0) new_ads_served.insert(ad.ad.ad);
      }
    }
  }
  EXPECT_GT(new_ads_served.size(), 10);
}

TEST(LoggingPolicy, PropensitiesAreFrequenciesAndPricesBelowBids) {
  v1::MarketConfig config;
  config.set_base_ctr(0.05);
  config.set_slots(2);
  const LoggingPolicy policy(config, {0, 1, -1, 0.5});
  std::map<uint32_t, double> first, propensity;
  constexpr int kDraws = 40000;
  Rng rng(5);
  for (int i = 0; i < kDraws; ++i) {
    std::vector<Eligible> eligible(4);
    for (uint32_t a = 0; a < 4; ++a) {
      eligible[a].ad = a;
      eligible[a].bid_micros = 100000 * (1 + a);
    }
    std::vector<ChosenAd> chosen;
    policy.Choose(&eligible, &rng, &chosen);
    ASSERT_EQ(chosen.size(), 2);
    EXPECT_NE(chosen[0].ad.ad, chosen[1].ad.ad);
    ++first[chosen[0].ad.ad];
    propensity[chosen[0].ad.ad] = chosen[0].propensity;
    for (const ChosenAd& c : chosen) {
      ASSERT_GT(c.price_micros, 0);
      ASSERT_LE(c.price_micros, c.ad.bid_micros);
      ASSERT_GT(c.propensity, 0);
      ASSERT_LE(c.propensity, 1);
    }
  }
  double sum = 0;
  for (const auto& [ad, p] : propensity) {
    EXPECT_NEAR(first[ad] / kDraws, p, 5 * std::sqrt(p * (1 - p) / kDraws));
    sum += p;
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(ClickModel, PartsHaveTheConfiguredSpreadAndPositionOneTheBaseRate) {
  for (uint64_t seed : {7, 21}) {
    v1::MarketConfig config = SmallConfig();
    config.set_seed(seed);
    config.set_base_ctr(0.03);
    config.set_main_effect_std(0.9);
    config.set_pair_effect_std(0.4);
    ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
    Moments main, pair, first, both;
    for (int32_t day : {0, 9, 25}) {
      const DayEffects effects = market->click_model().EffectsOfDay(day);
      for (const Served& served : ServeDay(*market, day, 8000)) {
        for (uint32_t i = 0; i < served.ads.size(); ++i) {
          const LogitParts parts = market->click_model().Parts(
              effects, served.visit, served.ads[i].ad.ad, i + 1);
          main.Add(parts.main);
          pair.Add(parts.pair);
          both.Add(parts.main * parts.pair);
          EXPECT_EQ(parts.position, -0.35 * i);
          if (i == 0) {
            first.Add(Sigmoid(market->click_model().Logit(parts)));
          }
        }
      }
    }
    EXPECT_NEAR(main.sd(), 0.9, 0.09);
    EXPECT_NEAR(pair.sd(), 0.4, 0.04);
    EXPECT_NEAR(main.mean(), 0, 0.1);
    EXPECT_NEAR(pair.mean(), 0, 0.05);
    EXPECT_NEAR(both.mean(), 0, 0.05);
    EXPECT_NEAR(first.mean(), 0.03, 0.0015);
  }
}

TEST(ClickModel, NegativeStandardDeviationsMeanNoEffects) {
  v1::MarketConfig config = SmallConfig();
  config.set_main_effect_std(-1);
  config.set_pair_effect_std(-1);
  config.set_drift_per_day(-1);
  ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
  const DayEffects effects = market->click_model().EffectsOfDay(0);
  for (const Served& served : ServeDay(*market, 0, 50)) {
    EXPECT_NEAR(market->click_model().Ctr(effects, served.visit,
                                          served.ads[0].ad.ad, 1),
                0.05, 1e-9);
  }
}

TEST(ClickModel, MainEffectsDriftAsConfiguredAndPairEffectsStay) {
  const Market& market = SmallMarket();
  const ClickModel& model = market.click_model();
  const DayEffects first = model.EffectsOfDay(0);
  const DayEffects next = model.EffectsOfDay(1);
  const DayEffects later = model.EffectsOfDay(20);
  Moments one_day, twenty_days, spread;
  for (Served& served : ServeDay(market, 0, 4000)) {
    const uint32_t ad = served.ads[0].ad.ad;
    const LogitParts a = model.Parts(first, served.visit, ad, 1);
    const LogitParts b = model.Parts(next, served.visit, ad, 1);
    const LogitParts c = model.Parts(later, served.visit, ad, 1);
    EXPECT_EQ(a.pair, b.pair);
    spread.Add(a.main);
    one_day.Add(b.main - a.main);
    twenty_days.Add(c.main - a.main);
  }
  EXPECT_NEAR(one_day.sd() / spread.sd(), 0.02, 0.004);
  // |e^(0.4 i) - 1| = 2 sin 0.2
  EXPECT_NEAR(twenty_days.sd() / spread.sd(), 0.397, 0.08);
  // The mean click rate does not move with them.
  EXPECT_NEAR(twenty_days.mean(), 0, 0.05);
}

}  // namespace
}  // namespace adrank
