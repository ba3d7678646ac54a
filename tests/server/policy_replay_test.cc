// X1, X3 of whole answers, and what a replay under a policy says of them.
#include "server/policy_replay.h"

#include <cmath>
#include <set>

#include "gtest/gtest.h"
#include "server/ranking_pipeline.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AContents;
using ::adrank::testing::AnIndex;
using ::adrank::testing::LoadBundle;
using ::adrank::testing::ParseText;

// a_bundle.h's model, unsure of its weights.
std::shared_ptr<const ModelBundle> AnUnsureBundle() {
  BundleContents contents = AContents(3);
  contents.variances = {0.1f, 0.3f, 0.2f, 0.5f, 0.4f, 0.1f, 0.6f};
  contents.prior_variance = 0.7f;
  return LoadBundle(contents);
}

constexpr char kRequest[] = R"(
  context { attributes { name: "city" text: "Berlin" } }
  placements { id: "top" count: 2 }
  placements { id: "side" count: 3 })";

const char* const kPolicies[] = {
    "rank { reserve_micros: 900 exploration {"
    " policy: EPSILON_GREEDY epsilon: 0.3 } }",
    "rank { max_ads_per_advertiser: 2 exploration {"
    " policy: THOMPSON epsilon: 0.1 max_explored: 6 } }",
    "rank { exploration { policy: EPSILON_GREEDY epsilon: 0.2"
    " newcomer_boost: 2 newcomer_impressions: 40 } }",
};

class PolicyReplayTest : public ::testing::Test {
 protected:
  PolicyReplayTest()
      : serving(ServingSnapshot::Of(AnUnsureBundle(),
                                    AnIndex(ACatalogOf(12, 5, 1000, 37)))) {
    for (int i = 0; i < 12; ++i) {
      for (int k = 0; k < 7 * i; ++k) counts.Add(absl::StrCat("ad", i));
    }
  }

  // The decision of a request under a config, as the log would give it back.
  v1::Decision Decide(const std::string& config, uint32_t number,
                      const char* request = kRequest) {
    const auto pipeline =
        RankingPipeline::Create(ParseText<v1::ServerConfig>(config), &clock);
    EXPECT_OK(pipeline);
    asked = ParseText<v1::RankRequest>(request);
    const DecisionId id = {1750000000000, 1, number};
    CallOptions call;
    call.impressions = &counts;
    EXPECT_OK((*pipeline)->Rank(serving, asked, id, call, &trace, &outcome));
    v1::Decision decision = outcome.decision;
    decision.set_decision_id(id.ToHex());
    return decision;
  }

  std::unique_ptr<PolicyReplay> AReplay(const std::string& config,
                                        const std::string& change = "") {
    auto replay =
        PolicyReplay::Create(Changed(ParseText<v1::ServerConfig>(config),
                                     ParseText<v1::PolicyChange>(change)),
                             &counts);
    EXPECT_OK(replay);
    return *std::move(replay);
  }

  SimulatedClock clock{absl::FromUnixMillis(1750000000000)};
  ServingSnapshot serving;
  ImpressionCounts counts;
  v1::RankRequest asked;
  RankTrace trace;
  RankOutcome outcome;
};

TEST_F(PolicyReplayTest, X3TheSameDecisionIdGivesTheSameDecision) {
  for (const char* config : kPolicies) {
    std::set<std::string> different;
    for (uint32_t i = 0; i < 100; ++i) {
      const std::string once = Decide(config, i).SerializeAsString();
      EXPECT_EQ(Decide(config, i).SerializeAsString(), once);
      v1::Decision decision;
      decision.ParseFromString(once);
      std::string ads;
      for (const v1::ServedAd& ad : decision.ads()) ads += ad.ad_hash();
      different.insert(ads);
    }
    EXPECT_GT(different.size(), 5u) << config;
  }
}

TEST_F(PolicyReplayTest, A10GreedyAnswersHavePropensityOne) {
  const v1::Decision decision = Decide("", 1);
  EXPECT_EQ(decision.ads_size(), 5);
  for (const v1::ServedAd& ad : decision.ads()) {
    EXPECT_EQ(ad.propensity(), 1);
    EXPECT_FALSE(ad.explored());
  }
}

// The replay recomputes what was logged: nothing but the decision's own ads is
// needed of chance.
TEST_F(PolicyReplayTest, X1UnderItsOwnPolicyADecisionHasItsLoggedPropensities) {
  for (const char* config : kPolicies) {
    const auto replay = AReplay(config);
    int explored = 0;
    for (uint32_t i = 0; i < 300; ++i) {
      const v1::Decision decision = Decide(config, i);
      std::vector<JoinedEvent> clicks;
      for (const v1::ServedAd& ad : decision.ads()) {
        JoinedEvent e;
        e.position = static_cast<uint8_t>(ad.position());
        e.type = v1::EVENT_TYPE_CLICK;
        clicks.push_back(e);
        explored += ad.explored();
      }
      const auto replayed = replay->Replay(serving, decision, clicks);
      ASSERT_OK(replayed);
      ASSERT_EQ(replayed->verdict(), v1::ReplayedDecision::VERDICT_REPLAYED);
      ASSERT_EQ(replayed->slots_size(), 5);
      int served = 0;
      for (const v1::ReplayedSlot& slot : replayed->slots()) {
        if (slot.ad_id().empty()) {
          EXPECT_EQ(slot.target_propensity(), 1);
          EXPECT_EQ(slot.clicks(), 0);
          continue;
        }
        const v1::ServedAd& ad = decision.ads(served++);
        EXPECT_EQ(slot.logged_propensity(), ad.propensity());
        EXPECT_NEAR(slot.target_propensity(), ad.propensity(), 1e-6);
        EXPECT_EQ(slot.clicks(), 1);
        EXPECT_EQ(slot.logged_revenue_micros(), ad.price_micros());
        EXPECT_EQ(slot.target_revenue_micros(), ad.price_micros());
        EXPECT_NEAR(slot.predicted_clicks(), ad.pctr(), 1e-7);
        EXPECT_NEAR(slot.predicted_revenue_micros(),
                    static_cast<double>(ad.pctr()) * ad.price_micros(), 1e-3);
        EXPECT_GT(slot.target_predicted_clicks(), 0);
      }
      EXPECT_EQ(served, decision.ads_size());
    }
    EXPECT_GT(explored, 50) << config;
  }
}

// The mean weight of another policy over the log's answers is 1.
TEST_F(PolicyReplayTest, X1WeightsOfAnotherPolicyHaveMeanOne) {
  const std::string config =
      "rank { exploration { policy: EPSILON_GREEDY epsilon: 0.6 } }";
  for (const char* change :
       {"exploration { policy: GREEDY }", "alpha: 0.3 exploration { }",
        "exploration { policy: THOMPSON }",
        "exploration { newcomer_boost: 2 newcomer_impressions: 40 }"}) {
    const auto replay = AReplay(config, change);
    double sum = 0, squares = 0;
    constexpr int kDecisions = 4000;
    for (uint32_t i = 0; i < kDecisions; ++i) {
      const v1::Decision decision =
          Decide(config, i, "placements { id: 'p' count: 2 }");
      const auto replayed = replay->Replay(serving, decision, {});
      ASSERT_OK(replayed);
      double weight = 1;
      for (const v1::ReplayedSlot& slot : replayed->slots()) {
        weight *= slot.target_propensity() / slot.logged_propensity();
      }
      sum += weight;
      squares += weight * weight;
    }
    const double mean = sum / kDecisions;
    const double error =
        std::sqrt((squares / kDecisions - mean * mean) / kDecisions);
    EXPECT_NEAR(mean, 1, 4.5 * error) << change;
    EXPECT_LT(error, 0.4) << change;
  }
}

TEST_F(PolicyReplayTest, GreedyNeverShowsWhatWasExplored) {
  const char* config = kPolicies[0];
  const auto replay = AReplay(config, "exploration { policy: GREEDY }");
  for (uint32_t i = 0; i < 200; ++i) {
    const v1::Decision decision = Decide(config, i);
    const auto replayed = replay->Replay(serving, decision, {});
    ASSERT_OK(replayed);
    bool same = true;  // so far
    int served = 0;
    for (const v1::ReplayedSlot& slot : replayed->slots()) {
      if (slot.ad_id().empty() || !same) continue;
      same = !decision.ads(served++).explored();
      EXPECT_EQ(slot.target_propensity(), same ? 1 : 0);
    }
  }
}

// A reserve that keeps every ad out: the slot would be empty.
TEST_F(PolicyReplayTest, AReserveMayLeaveSlotsEmpty) {
  const char* config = kPolicies[0];
  const v1::Decision decision = Decide(config, 4);
  const auto replay = AReplay(config, "reserve_micros: 1000000");
  const auto replayed = replay->Replay(serving, decision, {});
  ASSERT_OK(replayed);
  EXPECT_EQ(replayed->slots(0).target_propensity(), 0);
  EXPECT_EQ(replayed->slots(0).target_predicted_clicks(), 0);
  // And the other way round: it had been empty, and would not be.
  const std::string high = "rank { reserve_micros: 1000000 }";
  const v1::Decision empty = Decide(high, 5);
  EXPECT_EQ(empty.ads_size(), 0);
  const auto lower = AReplay(high, "reserve_micros: 1");
  const auto filled = lower->Replay(serving, empty, {});
  ASSERT_OK(filled);
  EXPECT_EQ(filled->slots(0).target_propensity(), 0);
  EXPECT_GT(filled->slots(0).target_predicted_clicks(), 0);
}

TEST_F(PolicyReplayTest, DecisionsThatSayNothingAreLeftOut) {
  const char* config = kPolicies[0];
  const auto replay = AReplay(config);
  const auto verdict = [&](auto change) {
    v1::Decision decision = Decide(config, 7);
    change(&decision);
    const auto replayed = replay->Replay(serving, decision, {});
    EXPECT_OK(replayed);
    return replayed->verdict();
  };
  EXPECT_EQ(verdict([](auto* d) { d->set_test(true); }),
            v1::ReplayedDecision::VERDICT_NOT_COMPARABLE);
  EXPECT_EQ(verdict([](auto* d) { d->add_degraded(v1::DEGRADATION_DEADLINE); }),
            v1::ReplayedDecision::VERDICT_NOT_COMPARABLE);
  EXPECT_EQ(verdict([](auto* d) { d->add_refused(); }),
            v1::ReplayedDecision::VERDICT_NOT_COMPARABLE);
  EXPECT_EQ(verdict([](auto* d) { d->clear_request(); }),
            v1::ReplayedDecision::VERDICT_NO_REQUEST);
  EXPECT_EQ(verdict([](auto* d) { d->mutable_ads(0)->clear_propensity(); }),
            v1::ReplayedDecision::VERDICT_NO_PROPENSITY);
  EXPECT_EQ(verdict([](auto* d) { d->mutable_ads(1)->set_bid_micros(3); }),
            v1::ReplayedDecision::VERDICT_CATALOG_CHANGED);
}

TEST_F(PolicyReplayTest, ChangesOutOfRangeNameTheField) {
  const auto replay = PolicyReplay::Create(
      Changed({}, ParseText<v1::PolicyChange>(
                      "exploration { policy: THOMPSON epsilon: 2 }")),
      nullptr);
  EXPECT_THAT(replay.status().message(),
              ::testing::HasSubstr("rank.exploration.epsilon"));
}

}  // namespace
}  // namespace adrank
