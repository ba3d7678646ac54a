#include "server/ranking_pipeline.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ABundle;
using ::adrank::testing::ABundleThatOverflows;
using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ParseText;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TickingClock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNoon = absl::FromUnixMillis(1750000000000);
constexpr DecisionId kId = {1750000000000, 1, 42};

struct Server {
  explicit Server(ServingSnapshot snapshot, const std::string& config = "",
                  const Clock* clock = nullptr)
      : serving(std::move(snapshot)) {
    auto created =
        RankingPipeline::Create(ParseText<v1::ServerConfig>(config),
                                clock != nullptr ? clock : &standing);
    EXPECT_OK(created);
    pipeline = *std::move(created);
  }

  absl::Status Rank(const std::string& request, const CallOptions& call = {}) {
    asked = ParseText<v1::RankRequest>(request);
    return pipeline->Rank(serving, asked, kId, call, &trace, &outcome);
  }

  const v1::RankResponse& response() const { return outcome.response; }
  std::vector<std::string> AdsOf(int placement) const {
    std::vector<std::string> ids;
    for (const auto& ad : response().placements(placement).ads()) {
      ids.push_back(ad.ad_id());
    }
    return ids;
  }
  std::vector<int> Degraded() const {
    return {response().degraded().begin(), response().degraded().end()};
  }

  SimulatedClock standing{kNoon};
  ServingSnapshot serving;
  std::unique_ptr<const RankingPipeline> pipeline;
  v1::RankRequest asked;
  RankTrace trace;
  RankOutcome outcome;
};

// Bids 1000, 1100, ... of ad0, ad1, ...; without a model all pctrs are equal,
// so that the highest bid wins.
ServingSnapshot WithoutModel(int ads, int advertisers) {
  return ServingSnapshot::Of(nullptr,
                             AnIndex(ACatalogOf(ads, advertisers, 1000, 100)));
}

ServingSnapshot WithModel(int ads, int advertisers) {
  return ServingSnapshot::Of(ABundle(),
                             AnIndex(ACatalogOf(ads, advertisers, 1000, 100)));
}

TEST(RankingPipeline, RanksByExpectedValueAndPricesByTheNext) {
  Server server(WithModel(10, 10));
  ASSERT_OK(
      server.Rank("placements { id: 'top' count: 3 } context { "
                  "attributes { name: 'city' text: 'Berlin' } }"));
  const auto& ads = server.response().placements(0).ads();
  ASSERT_EQ(ads.size(), 3);
  // Berlin x a has weight 1.5, Berlin x b -1: the even ads win.
  EXPECT_THAT(server.AdsOf(0), ElementsAre("ad8", "ad6", "ad4"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ads[i].position(), i + 1);
    EXPECT_EQ(ads[i].position_in_placement(), i + 1);
    EXPECT_DOUBLE_EQ(ads[i].score(),
                     static_cast<double>(ads[i].bid_micros()) * ads[i].pctr());
    EXPECT_EQ(ads[i].propensity(), 1);
    EXPECT_EQ(ads[i].match_type(), v1::MATCH_TYPE_TARGETING);
    EXPECT_LE(ads[i].score(), ads[0].score());
  }
  EXPECT_EQ(ads[0].price_micros(), ads[1].bid_micros());  // equal pctrs
  EXPECT_EQ(ads[0].landing_url(), "https://example.com/8");
  EXPECT_EQ(ads[0].advertiser_id(), "v8");
  EXPECT_EQ(server.response().model_version(), 3);
  EXPECT_EQ(server.response().catalog_version(), 11);
  EXPECT_EQ(server.response().counts().matched(), 10u);
  EXPECT_EQ(server.response().counts().predicted(), 10u);
  EXPECT_EQ(server.response().counts().above_reserve(), 10u);
  EXPECT_THAT(server.Degraded(), ElementsAre());
}

TEST(RankingPipeline, DecisionHoldsWhatWasAnsweredAndServed) {
  Server server(WithModel(10, 10));
  ASSERT_OK(server.Rank(
      "request_id: 'r1' test: true placements { id: 'top' count: 2 } "
      "placements { id: 'side' } context { user_id: 'u' "
      "attributes { name: 'city' text: 'Rome' } }"));
  const v1::Decision& d = server.outcome.decision;
  EXPECT_EQ(d.decision_id(), "");  // the log's key has it
  EXPECT_EQ(server.response().decision_id(), kId.ToHex());
  EXPECT_EQ(d.request_id(), "r1");
  EXPECT_TRUE(d.test());
  EXPECT_EQ(d.context().time_ms(), absl::ToUnixMillis(kNoon));
  EXPECT_EQ(d.context().user_id(), "u");
  EXPECT_THAT(d.placement_ids(), ElementsAre("top", "side"));
  ASSERT_EQ(d.ads_size(), 3);
  ASSERT_EQ(server.outcome.ads.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    const v1::ServedAd& served = d.ads(i);
    const v1::RankedAd& ranked = i < 2 ? server.response().placements(0).ads(i)
                                       : server.response().placements(1).ads(0);
    EXPECT_EQ(served.position(), static_cast<uint32_t>(i + 1));
    EXPECT_EQ(ranked.position(), served.position());
    EXPECT_EQ(served.placement_index(), i < 2 ? 0u : 1u);
    EXPECT_EQ(served.pctr(), ranked.pctr());
    EXPECT_EQ(served.price_micros(), ranked.price_micros());
    // The snapshot is the ad as served; its features are the fingerprint's.
    EXPECT_EQ(served.ad_hash(), server.outcome.ads[i]->hash);
    v1::AdSnapshot ad;
    ASSERT_TRUE(ad.ParseFromString(server.outcome.ads[i]->bytes));
    EXPECT_EQ(ad.ad_id(), ranked.ad_id());
    RequestFeatures features;
    server.serving.bundle->extractor().Extract(
        d.context(), d.placement_ids(served.placement_index()), {&ad}, {},
        &features);
    EXPECT_EQ(served.feature_fingerprint(),
              FeatureExtractor::Fingerprint(features, 0));
    EXPECT_NE(served.feature_fingerprint(), 0u);
  }
}

TEST(RankingPipeline, DefaultsOfAnEmptyRequest) {
  Server server(WithoutModel(3, 3));
  ASSERT_OK(server.Rank(""));
  ASSERT_EQ(server.response().placements_size(), 1);
  EXPECT_EQ(server.response().placements(0).id(), "default");
  EXPECT_THAT(server.AdsOf(0), ElementsAre("ad2"));
  EXPECT_EQ(server.response().request_id(), kId.ToHex());
  EXPECT_EQ(server.outcome.decision.model_version(), 0);
  EXPECT_EQ(server.outcome.decision.ads(0).feature_fingerprint(), 0u);
  EXPECT_THAT(server.Degraded(), ElementsAre(v1::DEGRADATION_NO_MODEL));
}

TEST(RankingPipeline, SameRequestGivesTheSameBytes) {
  Server a(WithModel(40, 4)), b(WithModel(40, 4));
  const std::string request =
      "request_id: 'r' placements { id: 'p' count: 20 }";
  ASSERT_OK(a.Rank("placements { id: 'q' }"));  // other scratch
  ASSERT_OK(a.Rank(request));
  ASSERT_OK(b.Rank(request));
  EXPECT_EQ(a.response().SerializeAsString(), b.response().SerializeAsString());
  EXPECT_EQ(a.outcome.decision.SerializeAsString(),
            b.outcome.decision.SerializeAsString());
}

TEST(RankingPipeline, CallersCandidatesAreTheOnlyOnes) {
  v1::Catalog catalog = ACatalogOf(5, 5, 1000, 100);
  catalog.mutable_ads(4)->set_status(v1::ENTITY_STATUS_PAUSED);
  // Targeting is not asked of named ads.
  catalog.mutable_ad_groups(1)->add_keywords()->set_text("never");
  Server server(ServingSnapshot::Of(nullptr, AnIndex(catalog)));
  ASSERT_OK(server.Rank(
      "placements { id: 'p' count: 9 } blocked_advertiser_ids: 'v2' "
      "blocked_advertiser_ids: 'vx' "
      "candidates { ad_id: 'ad0' bid_micros: 5000 } candidates { ad_id: 'ad1' }"
      "candidates { ad_id: 'ad2' } candidates { ad_id: 'ad4' }"
      "candidates { ad_id: 'unknown' }"
      "candidates { bid_micros: 1050 ad { ad_id: 'mine' } }"
      "candidates { bid_micros: 9 ad { ad_id: 'b' advertiser_id: 'vx' } }"));
  EXPECT_THAT(server.AdsOf(0), ElementsAre("ad0", "ad1", "mine"));
  const auto& ads = server.response().placements(0).ads();
  EXPECT_EQ(ads[0].bid_micros(), 5000);
  EXPECT_EQ(ads[1].bid_micros(), 1100);
  EXPECT_EQ(ads[2].match_type(), v1::MATCH_TYPE_CALLER);
  EXPECT_EQ(server.response().counts().matched(), 6u);
  EXPECT_EQ(server.response().counts().filtered(), 3u);
  EXPECT_EQ(server.response().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_EXHAUSTED);
  EXPECT_EQ(server.outcome.ads[2]->hash,
            EncodeAd(server.asked.candidates(5).ad()).hash);

  ASSERT_OK(server.Rank("candidates { ad_id: 'unknown' }"));
  EXPECT_EQ(server.response().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_NO_MATCH);
  ASSERT_OK(server.Rank("candidates { ad_id: 'ad4' }"));
  EXPECT_EQ(server.response().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_ALL_FILTERED);
}

TEST(RankingPipeline, TooManyCandidatesKeepTheBestBids) {
  Server server(WithoutModel(20, 20));
  ASSERT_OK(server.Rank("max_candidates: 2 placements { id: 'p' count: 4 }"));
  EXPECT_THAT(server.AdsOf(0), ElementsAre("ad19", "ad18"));
  EXPECT_THAT(server.Degraded(),
              ElementsAre(v1::DEGRADATION_NO_MODEL, v1::DEGRADATION_TRUNCATED));
  ASSERT_OK(
      server.Rank("max_candidates: 1 candidates { ad_id: 'ad3' } "
                  "candidates { ad_id: 'ad7' }"));
  EXPECT_THAT(server.AdsOf(0), ElementsAre("ad7"));
  EXPECT_EQ(server.Degraded().back(), v1::DEGRADATION_TRUNCATED);
}

TEST(RankingPipeline, EveryEmptySlotHasItsReason) {
  const auto reason = [](Server& server, const std::string& request) {
    EXPECT_OK(server.Rank(request));
    return server.response().placements(0).no_ad_reason();
  };
  Server empty(ServingSnapshot::Of(nullptr, AdIndex::Empty()));
  EXPECT_EQ(reason(empty, ""), v1::NO_AD_REASON_EMPTY_CATALOG);
  EXPECT_EQ(empty.outcome.decision.ads_size(), 0);  // logged all the same

  v1::Catalog catalog = ACatalogOf(1, 1, 1000, 100);
  catalog.mutable_ad_groups(0)->add_keywords()->set_text("shoes");
  Server one(ServingSnapshot::Of(nullptr, AnIndex(catalog)));
  EXPECT_EQ(reason(one, ""), v1::NO_AD_REASON_NO_MATCH);
  EXPECT_EQ(
      reason(one, "context { query: 'shoes' } blocked_advertiser_ids: 'v0'"),
      v1::NO_AD_REASON_ALL_FILTERED);
  EXPECT_EQ(reason(one,
                   "context { query: 'shoes' } "
                   "placements { id: 'p' reserve_micros: 1001 }"),
            v1::NO_AD_REASON_BELOW_RESERVE);
  EXPECT_EQ(
      reason(one, "context { query: 'shoes' } placements { id: 'p' count: 2 }"),
      v1::NO_AD_REASON_EXHAUSTED);
  EXPECT_EQ(reason(one, "context { query: 'shoes' }"),
            v1::NO_AD_REASON_UNSPECIFIED);
}

TEST(RankingPipeline, ConfiguredReserveAndAdvertiserLimitHold) {
  Server server(WithoutModel(6, 2),
                "rank { reserve_micros: 1200 max_ads_per_advertiser: 1 }");
  ASSERT_OK(server.Rank("placements { id: 'a' count: 4 reserve_micros: 7 }"));
  EXPECT_THAT(server.AdsOf(0), ElementsAre("ad5", "ad4"));
  EXPECT_EQ(server.response().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_EXHAUSTED);
  EXPECT_EQ(server.response().placements(0).ads(1).price_micros(), 1200);
  EXPECT_EQ(server.response().counts().above_reserve(), 4u);
}

TEST(RankingPipeline, LimitCoversAdvertisersThatTheCatalogueDoesNotKnow) {
  Server server(WithoutModel(1, 1), "rank { max_ads_per_advertiser: 1 }");
  ASSERT_OK(server.Rank(
      "placements { id: 'p' count: 9 }"
      "candidates { bid_micros: 9 ad { ad_id: 'x1' advertiser_id: 'x' } }"
      "candidates { bid_micros: 8 ad { ad_id: 'x2' advertiser_id: 'x' } }"
      "candidates { bid_micros: 7 ad { ad_id: 'y1' advertiser_id: 'y' } }"
      "candidates { bid_micros: 6 ad { ad_id: 'v' advertiser_id: 'v0' } }"
      "candidates { bid_micros: 5 ad_id: 'ad0' }"
      "candidates { bid_micros: 4 ad { ad_id: 'n1' } }"
      "candidates { bid_micros: 3 ad { ad_id: 'n2' } }"));
  EXPECT_THAT(server.AdsOf(0), ElementsAre("x1", "y1", "v", "n1", "n2"));
}

TEST(RankingPipeline, SpentDeadlineAnswersWithWhatIsReady) {
  // Each look at the clock takes 1 ms: start, end of the trigger, then one look
  // before each chunk. 5 ms allow 3 chunks.
  TickingClock clock(kNoon, absl::Milliseconds(1));
  Server server(WithModel(500, 500), "", &clock);
  ASSERT_OK(server.Rank("deadline_ms: 5 placements { id: 'p' count: 3 }"));
  EXPECT_EQ(server.response().counts().predicted(), 3 * Prediction::kChunk);
  EXPECT_THAT(server.Degraded(), ElementsAre(v1::DEGRADATION_DEADLINE));
  // The best bids were predicted first.
  EXPECT_EQ(server.AdsOf(0).size(), 3u);
  EXPECT_EQ(server.response().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_UNSPECIFIED);
  EXPECT_THAT(server.outcome.decision.degraded(),
              ElementsAre(v1::DEGRADATION_DEADLINE));
  EXPECT_EQ(server.response().timings().trigger_us(), 1000u);
  EXPECT_EQ(server.response().timings().predict_us(), 5000u);
  EXPECT_EQ(server.response().timings().rank_us(), 1000u);
  EXPECT_EQ(server.response().timings().total_us(), 7000u);
}

TEST(RankingPipeline, DeadlineBeforeTheFirstChunkLeavesTheSlotsEmpty) {
  TickingClock clock(kNoon, absl::Milliseconds(1));
  Server server(WithModel(500, 500), "", &clock);
  ASSERT_OK(server.Rank("deadline_ms: 1"));
  EXPECT_EQ(server.response().counts().predicted(), 0u);
  EXPECT_EQ(server.response().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_DEADLINE);
  EXPECT_THAT(server.Degraded(), ElementsAre(v1::DEGRADATION_DEADLINE));
}

TEST(RankingPipeline, DeadlineIsTheLeastOfThree) {
  const auto predicted = [](const std::string& config,
                            const std::string& request, absl::Duration call) {
    TickingClock clock(kNoon, absl::Milliseconds(1));
    Server server(WithModel(1000, 10), config, &clock);
    CallOptions options;
    options.deadline = kNoon + call;
    EXPECT_OK(server.Rank(request, options));
    return server.response().counts().predicted() / Prediction::kChunk;
  };
  const absl::Duration kLong = absl::Seconds(9);
  EXPECT_EQ(predicted("limits { deadline_ms: 4 }", "", kLong), 2u);
  EXPECT_EQ(predicted("limits { deadline_ms: 4 }", "deadline_ms: 900", kLong),
            2u);
  EXPECT_EQ(predicted("", "deadline_ms: 6", kLong), 4u);
  EXPECT_EQ(predicted("", "", absl::Milliseconds(3)), 1u);
}

TEST(RankingPipeline, WorkWhoseCallerHasGoneStops) {
  Server server(WithModel(500, 500));
  int asked = 0;
  CallOptions call;
  call.cancelled = [&asked] { return ++asked == 3; };
  EXPECT_THAT(server.Rank("", call),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("gone")));
  EXPECT_EQ(asked, 3);
}

TEST(RankingPipeline, BadRequestIsRefusedByName) {
  Server server(WithModel(5, 5));
  EXPECT_THAT(
      server.Rank("placements { id: '' }"),
      StatusIs(absl::StatusCode::kInvalidArgument, "placements[0].id: empty"));
  v1::RankRequest request;
  auto* a = request.mutable_context()->add_attributes();
  a->set_name("x");
  a->add_number(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(server.pipeline->Rank(server.serving, request, kId, {},
                                    &server.trace, &server.outcome),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "context.attributes[0].number[0]: not finite"));
}

TEST(RankingPipeline, BadConfigIsRefusedByName) {
  const auto create = [](const std::string& config) {
    return RankingPipeline::Create(ParseText<v1::ServerConfig>(config),
                                   Clock::Real())
        .status();
  };
  EXPECT_THAT(create("model { prior_ctr: 1.5 }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "model.prior_ctr: 1.5 not in (0, 1)"));
  EXPECT_THAT(create("model { prior_ctr: nan }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.prior_ctr")));
  EXPECT_THAT(create("rank { reserve_micros: -1 }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rank.reserve_micros: -1 not in")));
}

TEST(RankingPipeline, ScoresThatAreNotFiniteAreFlagged) {
  Server server(ServingSnapshot::Of(ABundleThatOverflows(),
                                    AnIndex(ACatalogOf(4, 4, 1000, 100))),
                "model { prior_ctr: 0.5 }");
  ASSERT_OK(server.Rank(
      "placements { id: 'p' count: 4 } context { attributes { name: 'city' "
      "text: 'Berlin' } }"));
  EXPECT_THAT(server.Degraded(), ElementsAre(v1::DEGRADATION_NON_FINITE_SCORE));
  EXPECT_EQ(server.outcome.non_finite, 2u);
  for (const auto& ad : server.response().placements(0).ads()) {
    EXPECT_TRUE(std::isfinite(ad.score()));
  }
}

TEST(RankingPipeline, PredictAnswersInTheOrderOfTheCandidates) {
  Server server(WithModel(5, 5));
  v1::PredictResponse response;
  uint64_t non_finite = 9;
  const auto request = ParseText<v1::PredictRequest>(
      "context { attributes { name: 'city' text: 'Berlin' } } "
      "candidates { ad_id: 'ad3' } candidates { ad_id: 'ad0' } "
      "candidates { ad { ad_id: 'new' attributes { name: 'category' text: 'a' "
      "} } } candidates { ad_id: 'ad3' }");
  ASSERT_OK(server.pipeline->Predict(server.serving, request, {}, &server.trace,
                                     &response, &non_finite));
  ASSERT_EQ(response.predictions_size(), 4);
  EXPECT_EQ(response.predictions(0).ad_id(), "ad3");
  EXPECT_EQ(response.predictions(2).ad_id(), "new");
  // The same features: the model does not look at the id.
  EXPECT_EQ(response.predictions(1).pctr(), response.predictions(2).pctr());
  EXPECT_EQ(response.predictions(1).feature_fingerprint(),
            response.predictions(2).feature_fingerprint());
  EXPECT_EQ(response.predictions(0).pctr(), response.predictions(3).pctr());
  EXPECT_EQ(response.model_version(), 3);
  EXPECT_EQ(non_finite, 0u);
  EXPECT_EQ(response.degraded_size(), 0);
}

TEST(RankingPipeline, PredictNamesTheUnknownAd) {
  Server server(WithModel(5, 5));
  v1::PredictResponse response;
  uint64_t non_finite;
  EXPECT_THAT(server.pipeline->Predict(
                  server.serving,
                  ParseText<v1::PredictRequest>(
                      "candidates { ad_id: 'ad1' } candidates { ad_id: 'no' }"),
                  {}, &server.trace, &response, &non_finite),
              StatusIs(absl::StatusCode::kNotFound,
                       "candidates[1].ad_id: \"no\" is not in the catalogue"));
}

TEST(RankingPipeline, PredictCutByTheDeadlineGivesThePriorAndTheFlag) {
  TickingClock clock(kNoon, absl::Milliseconds(1));
  Server server(WithModel(500, 5), "limits { deadline_ms: 2 }", &clock);
  v1::PredictRequest request;
  for (int i = 0; i < 200; ++i) {
    request.add_candidates()->set_ad_id(absl::StrCat("ad", i));
  }
  v1::PredictResponse response;
  uint64_t non_finite;
  ASSERT_OK(server.pipeline->Predict(server.serving, request, {}, &server.trace,
                                     &response, &non_finite));
  ASSERT_EQ(response.predictions_size(), 200);
  EXPECT_NE(response.predictions(63).feature_fingerprint(), 0u);
  EXPECT_EQ(response.predictions(64).feature_fingerprint(), 0u);
  EXPECT_EQ(response.predictions(64).pctr(), 0.01f);
  EXPECT_THAT(response.degraded(), ElementsAre(v1::DEGRADATION_DEADLINE));
}

}  // namespace
}  // namespace adrank
