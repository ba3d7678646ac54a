// What the catalogue, the request and the configuration say to the auction.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/explain.h"
#include "server/ranking_pipeline.h"
#include "server/server.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ParseText;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNoon = absl::FromUnixMillis(1750000000000);

// Without a model all pctrs are 0.01.
struct Market {
  explicit Market(int ads) : catalog(ACatalogOf(ads, ads, 100000, 10000)) {}

  void Rank(const std::string& request, const std::string& rank = "") {
    serving = ServingSnapshot::Of(nullptr, AnIndex(catalog));
    auto created = RankingPipeline::Create(
        ParseText<v1::ServerConfig>("rank { " + rank + " }"), &clock);
    ASSERT_OK(created);
    pipeline = *std::move(created);
    asked = ParseText<v1::RankRequest>(request);
    ASSERT_OK(pipeline->Rank(serving, asked, {1, 2, 3}, {}, &trace, &outcome));
  }

  std::vector<std::string> Ads() const {
    std::vector<std::string> ids;
    for (const auto& placement : outcome.response.placements()) {
      for (const auto& ad : placement.ads()) ids.push_back(ad.ad_id());
    }
    return ids;
  }
  const v1::RankedAd& First() const {
    return outcome.response.placements(0).ads(0);
  }

  v1::AdExplanation Explained(const std::string& ad_id) {
    v1::ExplainRequest request;
    *request.mutable_request() = asked;
    request.add_ad_ids(ad_id);
    v1::ExplainResponse response;
    EXPECT_OK(ExplainRanking(*pipeline, serving, request, {1, 2, 3}, {}, {},
                             &trace, &response));
    for (const auto& ad : response.ads()) {
      if (ad.ad_id() == ad_id) return ad;
    }
    return {};
  }

  v1::AdGroup* group(int i) { return catalog.mutable_ad_groups(i); }
  v1::Ad* ad(int i) { return catalog.mutable_ads(i); }

  v1::Catalog catalog;
  SimulatedClock clock{kNoon};
  ServingSnapshot serving;
  std::unique_ptr<const RankingPipeline> pipeline;
  v1::RankRequest asked;
  RankTrace trace;
  RankOutcome outcome;
};

TEST(AuctionPipeline, CpcCpmAndCpaAreOnOneScale) {
  Market market(3);
  // A click is worth 120000 at 1 %: 1200 an impression.
  market.group(2)->set_bid_micros(120000);
  market.group(1)->set_bid_type(v1::BID_TYPE_CPM);
  market.group(1)->set_bid_micros(1300000);  // 1300 an impression
  market.group(0)->set_bid_type(v1::BID_TYPE_CPA);
  market.group(0)->set_bid_micros(2000000);  // 100000 a click: 1000
  market.group(0)->set_conversion_rate(0.05);
  market.Rank("placements { id: 'p' count: 3 }");
  EXPECT_THAT(market.Ads(), ElementsAre("ad1", "ad2", "ad0"));
  const auto& ads = market.outcome.response.placements(0).ads();
  EXPECT_EQ(ads[0].bid_type(), v1::BID_TYPE_CPM);
  EXPECT_EQ(ads[0].bid_micros(), 1300000);
  EXPECT_EQ(ads[0].price_micros(), 1200);  // of an impression
  EXPECT_NEAR(ads[0].score(), 1300, 1e-3);
  EXPECT_EQ(ads[1].price_micros(), 100000);  // of a click
  EXPECT_EQ(ads[2].bid_type(), v1::BID_TYPE_CPA);
  EXPECT_EQ(ads[2].price_micros(), 1);
  const auto& served = market.outcome.decision.ads(0);
  EXPECT_EQ(served.bid_type(), v1::BID_TYPE_CPM);
  EXPECT_EQ(served.price_micros(), 1200);
}

TEST(AuctionPipeline, QualityMovesAnAdUpAndLowersItsPrice) {
  Market market(2);
  market.ad(0)->set_quality(2);
  market.Rank("");
  EXPECT_THAT(market.Ads(), ElementsAre("ad0"));
  EXPECT_EQ(market.First().quality(), 2);
  EXPECT_EQ(market.First().price_micros(), 55000);  // 110000 / 2
  const v1::AdExplanation why = market.Explained("ad0");
  EXPECT_EQ(why.quality(), 2);
  EXPECT_THAT(why.price_reason(), HasSubstr("next score of ad \"ad1\""));
  EXPECT_THAT(why.price_reason(), HasSubstr("/ weight 0.02"));
}

TEST(AuctionPipeline, PricingAndExponentComeFromTheConfiguration) {
  Market market(3);
  market.Rank("placements { id: 'p' count: 2 }", "pricing: FIRST_PRICE");
  EXPECT_EQ(market.First().price_micros(), 120000);
  EXPECT_EQ(market.Explained("ad2").price_reason(), "own bid 120000");
  market.Rank("placements { id: 'p' count: 2 }",
              "pricing: VCG position_effects: 1 position_effects: 0.5");
  EXPECT_EQ(market.First().price_micros(), 105000);
  EXPECT_THAT(market.Explained("ad2").price_reason(), HasSubstr("by VCG"));
  market.Rank("", "alpha: 0.5");
  EXPECT_EQ(market.First().price_micros(), 110000);
  EXPECT_NEAR(market.First().score(), 1200, 1e-3);  // pctr is mean_pctr
}

TEST(AuctionPipeline, TheLargestReserveHolds) {
  Market market(2);
  market.catalog.mutable_advertisers(1)->set_reserve_micros(105000);
  market.Rank("", "reserve_micros: 101000");
  EXPECT_EQ(market.First().price_micros(), 105000);  // the advertiser's
  EXPECT_EQ(market.Explained("ad1").price_reason(), "reserve 105000");
  market.Rank("placements { id: 'p' reserve_micros: 107000 }",
              "reserve_micros: 101000");
  EXPECT_EQ(market.First().price_micros(), 107000);  // the placement's
  market.catalog.mutable_advertisers(1)->set_reserve_micros(111000);
  market.Rank("placements { id: 'p' count: 2 }", "reserve_micros: 100500");
  EXPECT_THAT(market.Ads(), ElementsAre());
  EXPECT_EQ(market.outcome.response.placements(0).no_ad_reason(),
            v1::NO_AD_REASON_BELOW_RESERVE);
  const v1::AdExplanation why = market.Explained("ad1");
  EXPECT_EQ(why.stage(), v1::RANKING_STAGE_RESERVE);
  EXPECT_EQ(why.needed(), 111000);
  EXPECT_EQ(why.had(), 110000);
}

TEST(AuctionPipeline, QualityWeightedReserveAsksMoreOfWorseAds) {
  Market market(2);
  market.ad(1)->set_quality(0.5);
  market.Rank("placements { id: 'p' count: 2 }",
              "reserve_kind: QUALITY_WEIGHTED reserve_micros: 60000");
  // ad1 would need 120000.
  EXPECT_THAT(market.Ads(), ElementsAre("ad0"));
  // 0.01 as a float is a little less than mean_pctr: rounded up.
  EXPECT_EQ(market.First().price_micros(), 60001);
  EXPECT_EQ(market.Explained("ad1").needed(), 120001);
}

TEST(AuctionPipeline, A9LabelsHoldOverAllPlacements) {
  Market market(4);
  for (const int i : {3, 1}) market.ad(i)->add_exclusion_labels("cars");
  market.Rank("placements { id: 'p' } placements { id: 'q' count: 2 }");
  EXPECT_THAT(market.Ads(), ElementsAre("ad3", "ad2", "ad0"));
  const v1::AdExplanation why = market.Explained("ad1");
  EXPECT_EQ(why.stage(), v1::RANKING_STAGE_LIMIT);
  EXPECT_EQ(why.outcome(), "shares an exclusion label with ad \"ad3\"");
}

TEST(AuctionPipeline, BlockedAdsAndCategoriesDoNotShow) {
  Market market(4);
  market.ad(3)->add_categories("gambling");
  market.ad(2)->add_categories("cars");
  const std::string blocked =
      "blocked_ad_ids: 'ad2' blocked_ad_ids: 'other' "
      "blocked_categories: 'gambling' placements { id: 'p' count: 4 }";
  market.Rank(blocked);
  EXPECT_THAT(market.Ads(), ElementsAre("ad1", "ad0"));
  EXPECT_EQ(market.trace.retrieval.filtered, 2u);
  EXPECT_EQ(
      market.trace.retrieval.filtered_by[static_cast<size_t>(Veto::kBlocked)],
      2u);
  for (const std::string ad : {"ad2", "ad3"}) {
    const v1::AdExplanation why = market.Explained(ad);
    EXPECT_EQ(why.stage(), v1::RANKING_STAGE_BLOCKED);
    EXPECT_EQ(why.outcome(),
              "ad \"" + ad +
                  "\" or one of its categories is blocked by the "
                  "request");
  }
  // Named by the caller, of the catalogue or not.
  market.Rank(blocked +
              "candidates { ad_id: 'ad3' } candidates { ad_id: 'ad0' } "
              "candidates { bid_micros: 5 ad { ad_id: 'other' } }");
  EXPECT_THAT(market.Ads(), ElementsAre("ad0"));
  EXPECT_EQ(market.trace.retrieval.filtered, 2u);
}

// By keyword, with a negative keyword on the same group: one count an ad.
TEST(AuctionPipeline, BlockedIsCountedBeforeTheNegativeKeyword) {
  Market market(2);
  for (const int i : {0, 1}) market.group(i)->add_keywords()->set_text("shoes");
  v1::Keyword* negative = market.group(1)->add_keywords();
  negative->set_text("free");
  negative->set_negative(true);
  market.Rank("context { query: 'free shoes' } blocked_ad_ids: 'ad1'");
  EXPECT_THAT(market.Ads(), ElementsAre("ad0"));
  const auto& by = market.trace.retrieval.filtered_by;
  EXPECT_EQ(by[static_cast<size_t>(Veto::kBlocked)], 1u);
  EXPECT_EQ(by[static_cast<size_t>(Veto::kNegativeKeyword)], 0u);
}

TEST(AuctionPipeline, ConfigurationErrorsNameFieldAndValue) {
  const auto error = [](const std::string& rank) {
    return std::string(
        ValidateConfig(ParseText<v1::ServerConfig>(
                           "storage { data_dir: 'd' } model { model_dir: 'm' } "
                           "rank { " +
                           rank + " }"))
            .message());
  };
  EXPECT_EQ(error(""), "");
  EXPECT_EQ(error("alpha: 3"), "rank.alpha: 3 not in [0, 2]");
  EXPECT_EQ(error("mean_pctr: 2"), "rank.mean_pctr: 2 not in [1e-06, 1)");
  EXPECT_EQ(error("position_effects: 1.5"),
            "rank.position_effects[0]: 1.5 not in (0, 1]");
}

}  // namespace
}  // namespace adrank
