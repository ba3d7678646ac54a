#include "server/explain.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ABundle;
using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnEmbeddingContents;
using ::adrank::testing::AnIndex;
using ::adrank::testing::LoadBundle;
using ::adrank::testing::ParseText;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TickingClock;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const absl::Time kNoon = absl::FromUnixMillis(1750000000000);

absl::StatusOr<v1::ExplainResponse> Ask(const ServingSnapshot& serving,
                                        const std::string& config,
                                        const std::string& request,
                                        const Clock* clock = nullptr) {
  const SimulatedClock standing(kNoon);
  const auto pipeline =
      RankingPipeline::Create(ParseText<v1::ServerConfig>(config),
                              clock != nullptr ? clock : &standing);
  EXPECT_OK(pipeline);
  RankTrace trace;
  v1::ExplainResponse response;
  const absl::Status status = ExplainRanking(
      **pipeline, serving, ParseText<v1::ExplainRequest>(request), {1, 2, 3},
      {}, {}, &trace, &response);
  if (!status.ok()) return status;
  return response;
}

std::string OutcomeOf(const absl::StatusOr<v1::ExplainResponse>& response,
                      const std::string& ad_id) {
  EXPECT_OK(response);
  for (const auto& ad : response->ads()) {
    if (ad.ad_id() == ad_id) return ad.outcome();
  }
  return "absent";
}

// Bids 1000, 1100, ...; equal pctrs of 1 %.
ServingSnapshot Plain(int ads, int advertisers) {
  return ServingSnapshot::Of(nullptr,
                             AnIndex(ACatalogOf(ads, advertisers, 1000, 100)));
}

TEST(Explain, ServedAdsComeFirstWithTheirPrices) {
  const auto response =
      Ask(Plain(3, 3), "rank { reserve_micros: 1050 }",
          "request { placements { id: 'p' count: 2 } } ad_ids: 'ad2' "
          "ad_ids: 'ad0'");
  ASSERT_OK(response);
  ASSERT_EQ(response->ads_size(), 3);  // ad2 is explained once
  EXPECT_EQ(response->ads(0).ad_id(), "ad2");
  EXPECT_TRUE(response->ads(0).served());
  EXPECT_EQ(response->ads(0).outcome(),
            "served at position 1 (1 of placement \"p\")");
  EXPECT_EQ(response->ads(0).price_micros(), 1100);
  EXPECT_THAT(response->ads(0).price_reason(),
              StartsWith("next score of ad \"ad1\": 11 / pctr 0.01"));
  EXPECT_THAT(response->ads(0).price_reason(),
              HasSubstr("bid 1200, spared 100"));
  EXPECT_EQ(response->ads(1).price_reason(), "reserve 1050");
  EXPECT_FALSE(response->ads(2).served());
  EXPECT_EQ(response->ads(2).outcome(),
            "below reserve: bid 1000 < 1050; a slot needed bid 1100");
  EXPECT_EQ(response->response().placements(0).ads_size(), 2);
}

// With 1200 the scores would be equal, and the tie is ad2's.
TEST(Explain, OutrankedAdLearnsTheBidItNeeded) {
  const auto response = Ask(Plain(3, 3), "", "request { } ad_ids: 'ad0'");
  EXPECT_THAT(OutcomeOf(response, "ad0"),
              StartsWith("outranked: score 10 < 12 of ad \"ad2\", the last of "
                         "placement \"default\"; needed bid 1201, had 1000"));
  EXPECT_EQ(response->ads(0).price_micros(), 1100);
}

TEST(Explain, EveryOtherOutcomeNamesItsReason) {
  EXPECT_EQ(OutcomeOf(Ask(Plain(3, 1), "rank { max_ads_per_advertiser: 1 }",
                          "request { placements { id: 'p' count: 2 } } "
                          "ad_ids: 'ad0'"),
                      "ad0"),
            "advertiser limit: 1 ad of advertiser \"v0\" shown already: "
            "\"ad2\"");
  EXPECT_EQ(OutcomeOf(Ask(Plain(3, 3), "", "request { } ad_ids: 'no'"), "no"),
            "ad \"no\" is not in the catalogue");
  EXPECT_EQ(OutcomeOf(Ask(Plain(3, 3), "",
                          "request { blocked_advertiser_ids: 'v1' } "
                          "ad_ids: 'ad1'"),
                      "ad1"),
            "advertiser \"v1\" is blocked by the request");
  EXPECT_EQ(OutcomeOf(Ask(Plain(3, 3), "",
                          "request { max_candidates: 2 } ad_ids: 'ad0'"),
                      "ad0"),
            "not predicted: 2 candidates worth more (at least 1100 micros a "
            "click) fill the limit of candidates; its place is 3 of 3; to be "
            "one, needed "
            "bid 1100, had 1000");
  const std::string named =
      "request { candidates { ad_id: 'ad0' } candidates { ad_id: 'gone' } "
      "blocked_advertiser_ids: 'w' "
      "candidates { bid_micros: 1 ad { ad_id: 'x' advertiser_id: 'w' } } } "
      "ad_ids: 'ad1' ad_ids: 'x' ad_ids: 'gone'";
  const auto response = Ask(Plain(3, 3), "", named);
  EXPECT_EQ(OutcomeOf(response, "ad1"), "not among the request's candidates");
  EXPECT_EQ(OutcomeOf(response, "x"),
            "advertiser \"w\" is blocked by the request");
  EXPECT_EQ(OutcomeOf(response, "gone"), "ad \"gone\" is not in the catalogue");
  const TickingClock clock(kNoon, absl::Milliseconds(1));
  EXPECT_EQ(OutcomeOf(Ask(Plain(100, 100), "limits { deadline_ms: 3 }",
                          "request { } ad_ids: 'ad0'", &clock),
                      "ad0"),
            "not predicted: the deadline came after 64 of 100 candidates");
}

TEST(Explain, UnmatchedAdNamesThePredicate) {
  v1::Catalog catalog = ACatalogOf(2, 2, 1000, 100);
  auto* in_set =
      catalog.mutable_ad_groups(0)->mutable_targeting()->mutable_in_set();
  in_set->set_attribute("country");
  in_set->add_values("DE");
  EXPECT_EQ(OutcomeOf(Ask(ServingSnapshot::Of(nullptr, AnIndex(catalog)), "",
                          "request { } ad_ids: 'ad0'"),
                      "ad0"),
            "not matched: targeting in_set(country) of ad_group \"g0\"");
}

TEST(Explain, ContributionsAddUpToTheLogit) {
  const auto serving =
      ServingSnapshot::Of(ABundle(), AnIndex(ACatalogOf(4, 4, 1000, 100)));
  const auto response =
      Ask(serving, "",
          "request { context { attributes { name: 'city' text: 'Berlin' } } "
          "placements { id: 'p' count: 2 } } ad_ids: 'ad1'");
  ASSERT_OK(response);
  ASSERT_EQ(response->ads_size(), 3);
  for (const auto& ad : response->ads()) {
    ASSERT_EQ(ad.contributions_size(), 3) << ad.ad_id();
    double sum = ad.base_logit();
    EXPECT_EQ(ad.method(), "exact");
    EXPECT_NEAR(ad.completeness_gap(), 0, 1e-6);
    for (int i = 0; i < 3; ++i) {
      sum += ad.contributions(i).contribution();
      if (i > 0) {
        EXPECT_LE(std::abs(ad.contributions(i).contribution()),
                  std::abs(ad.contributions(i - 1).contribution()));
      }
    }
    EXPECT_NEAR(sum, ad.logit(), 1e-5);
  }
  // Berlin x a weighs 1.5 and is the largest.
  EXPECT_EQ(response->ads(0).contributions(0).feature(),
            "city x category=Berlin x a");
  EXPECT_EQ(response->ads(0).contributions(0).weight(), 1.5f);
}

TEST(Explain, BundlesOfTheEmbeddingFamilyRankAndExplain) {
  struct Case {
    const char* graph;
    const char* method;
  };
  for (const Case& c :
       {Case{"dim: 4 linear: true pairwise: FM", "exact"},
        Case{"dim: 4 linear: true pairwise: FM streams { layers { units: 9 } "
             "layers { units: 5 } }",
             "integrated gradients"}}) {
    const auto bundle = LoadBundle(AnEmbeddingContents(c.graph));
    ASSERT_NE(bundle, nullptr);
    ASSERT_EQ(bundle->logistic(), nullptr);
    const auto response = Ask(
        ServingSnapshot::Of(bundle, AnIndex(ACatalogOf(4, 4, 1000, 100))), "",
        "request { context { attributes { name: 'city' text: 'Berlin' } } "
        "placements { id: 'p' count: 2 } } ad_ids: 'ad0' ad_ids: 'ad1'");
    ASSERT_OK(response);
    EXPECT_EQ(response->response().placements(0).ads_size(), 2);
    ASSERT_GE(response->ads_size(), 2);
    for (const auto& ad : response->ads()) {
      ASSERT_EQ(ad.contributions_size(), 3) << ad.ad_id();
      EXPECT_EQ(ad.method(), c.method);
      double sum = double{ad.base_logit()} + double{ad.completeness_gap()};
      double size = 0;
      for (int i = 0; i < 3; ++i) {
        const double part = double{ad.contributions(i).contribution()};
        sum += part;
        size += std::abs(part);
        if (i > 0) {
          EXPECT_LE(std::abs(part),
                    std::abs(ad.contributions(i - 1).contribution()));
        }
      }
      EXPECT_NEAR(sum, ad.logit(), 1e-5);
      EXPECT_LE(std::abs(ad.completeness_gap()), 0.01 * size + 1e-6);
      EXPECT_NE(size, 0);
    }
  }
}

TEST(Explain, BadRequestIsNamed) {
  EXPECT_THAT(Ask(Plain(1, 1), "", "request { placements { } }").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "request.placements[0].id: empty"));
}

}  // namespace
}  // namespace adrank
