// A10 and X1 of auctions whose slots are explored.
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "server/rank/auction.h"
#include "server/rank/exploring_slots.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ParseText;

// A random auction; its ads are uncertain.
struct Instance : public ExploredAds {
  std::vector<std::string> ids;
  std::vector<AuctionAd> ads;
  std::vector<float> pctr;
  std::vector<AuctionPlacement> placements;
  AuctionOptions options;

  explicit Instance(Rng* rng) {
    const size_t n = 1 + rng->Below(40);
    for (size_t i = 0; i < n; ++i) ids.push_back(absl::StrCat("ad", i));
    for (size_t i = 0; i < n; ++i) {
      AuctionAd ad;
      ad.ad_id = ids[i];
      ad.advertiser = static_cast<uint32_t>(rng->Below(8));
      // Few distinct numbers, so that ties are common.
      ad.bid_micros = static_cast<int64_t>(1000 * (1 + rng->Below(6)));
      if (rng->Bernoulli(0.1)) ad.bid_type = v1::BID_TYPE_CPM;
      ads.push_back(ad);
      pctr.push_back(static_cast<float>(1 + rng->Below(8)) / 32);
    }
    for (size_t p = 1 + rng->Below(2); p > 0; --p) {
      placements.push_back({static_cast<uint32_t>(1 + rng->Below(4)),
                            static_cast<int64_t>(1000 * rng->Below(3)), pctr});
    }
    options.max_ads_per_advertiser = static_cast<uint32_t>(rng->Below(3));
    options.tie_salt = (*rng)();
    if (rng->Bernoulli(0.3)) options.alpha = 0.5;
  }

  double Deviation(uint32_t, uint32_t ad) override {
    if (ads[ad].bid_type == v1::BID_TYPE_CPM) return 0;
    return ScoreDeviation(options.alpha, pctr[ad], 0.2 * (ad % 5));
  }
  uint32_t Impressions(uint32_t ad) override { return ad * 7; }

  AuctionResult Run(SlotPolicy* policy) {
    Auction auction;
    AuctionResult result;
    options.policy = policy;
    auction.Run(AuctionAds(ads), placements, options, &result);
    return result;
  }
};

ExplorationPolicy APolicy(const std::string& text) {
  auto policy =
      ExplorationPolicy::Create(ParseText<v1::ExplorationConfig>(text));
  EXPECT_OK(policy);
  return *policy;
}

const char* const kPolicies[] = {
    "policy: EPSILON_GREEDY epsilon: 0.4",
    "policy: THOMPSON epsilon: 0.2 max_explored: 7",
    "policy: THOMPSON newcomer_boost: 3 newcomer_impressions: 100",
    "newcomer_boost: 3 newcomer_impressions: 100",
};

TEST(ExploredAuction, A10WithoutExplorationIsGreedyBitForBit) {
  Rng rng(31);
  ExploringSlots slots;
  // Certain scores make THOMPSON's favourite the first; so does a boost that
  // nobody gets any more.
  const ExplorationPolicy greedy = APolicy("");
  for (int trial = 0; trial < 3000; ++trial) {
    Instance in(&rng);
    const AuctionResult want = in.Run(nullptr);
    slots.Begin(&greedy, &in, static_cast<uint64_t>(trial));
    const AuctionResult got = in.Run(&slots);
    ASSERT_EQ(got.slots.size(), want.slots.size()) << trial;
    for (size_t s = 0; s < want.slots.size(); ++s) {
      const AuctionSlot &a = got.slots[s], &b = want.slots[s];
      EXPECT_EQ(a.ad, b.ad);
      EXPECT_EQ(a.price_micros, b.price_micros);
      EXPECT_EQ(a.score, b.score);
      EXPECT_EQ(a.propensity, 1);
      EXPECT_FALSE(a.explored);
    }
    EXPECT_EQ(got.short_reason, want.short_reason);
  }
}

TEST(ExploredAuction, A10PricesAreAtMostTheBidAndAtLeastTheReserve) {
  Rng rng(32);
  ExploringSlots slots;
  int explored = 0;
  for (const char* text : kPolicies) {
    const ExplorationPolicy policy = APolicy(text);
    for (int trial = 0; trial < 2000; ++trial) {
      Instance in(&rng);
      slots.Begin(&policy, &in, static_cast<uint64_t>(trial));
      for (const AuctionSlot& slot : in.Run(&slots).slots) {
        const AuctionAd& ad = in.ads[slot.ad];
        EXPECT_LE(slot.price_micros, ad.bid_micros);
        EXPECT_GE(slot.price_micros, 1);
        if (ad.bid_type != v1::BID_TYPE_CPM) {
          EXPECT_GE(slot.price_micros,
                    in.placements[slot.placement].reserve_micros);
        }
        EXPECT_GT(slot.propensity, 0);
        EXPECT_LE(slot.propensity, 1);
        explored += slot.explored;
      }
    }
  }
  EXPECT_GT(explored, 1000);
}

// The probability of a whole answer is the product of its slots' propensities:
// answers drawn again and again come up as often.
TEST(ExploredAuction, X1AnswersComeUpAsOftenAsTheirPropensitiesSay) {
  Rng rng(33);
  ExploringSlots slots;
  for (const char* text : kPolicies) {
    const ExplorationPolicy policy = APolicy(text);
    for (int trial = 0; trial < 5; ++trial) {
      Instance in(&rng);
      in.placements.resize(1);
      in.placements[0].slots = 2;
      std::map<std::vector<uint32_t>, std::pair<int, double>> seen;
      constexpr int kReplays = 100000;
      for (uint64_t seed = 0; seed < kReplays; ++seed) {
        slots.Begin(&policy, &in, seed);
        std::vector<uint32_t> ads;
        double product = 1;
        for (const AuctionSlot& slot : in.Run(&slots).slots) {
          ads.push_back(slot.ad);
          product *= slot.propensity;
        }
        auto& [count, propensity] = seen[ads];
        ++count;
        if (count > 1) {
          ASSERT_EQ(propensity, product);
        }
        propensity = product;
      }
      double chi = 0, degrees = -1, total = 0;
      for (const auto& [ads, entry] : seen) {
        const double expected = entry.second * kReplays;
        total += entry.second;
        if (expected < 10) continue;
        chi += (entry.first - expected) * (entry.first - expected) / expected;
        degrees += 1;
      }
      EXPECT_NEAR(total, 1, 5e-3) << text;
      if (degrees < 1) continue;
      const double c = 2 / (9 * degrees);  // Wilson and Hilferty 1931
      EXPECT_LT(chi, degrees * std::pow(1 - c + 4.5 * std::sqrt(c), 3)) << text;
    }
  }
}

TEST(ExploredAuction, X3TheSameSeedGivesTheSameAnswer) {
  Rng rng(34);
  ExploringSlots slots;
  for (const char* text : kPolicies) {
    const ExplorationPolicy policy = APolicy(text);
    for (int trial = 0; trial < 500; ++trial) {
      Instance in(&rng);
      slots.Begin(&policy, &in, 5);
      const AuctionResult a = in.Run(&slots);
      slots.Begin(&policy, &in, 5);
      const AuctionResult b = in.Run(&slots);
      ASSERT_EQ(a.slots.size(), b.slots.size());
      for (size_t s = 0; s < a.slots.size(); ++s) {
        EXPECT_EQ(a.slots[s].ad, b.slots[s].ad);
        EXPECT_EQ(a.slots[s].propensity, b.slots[s].propensity);
        EXPECT_EQ(a.slots[s].price_micros, b.slots[s].price_micros);
      }
    }
  }
}

// A slot explores only among what it may show.
TEST(ExploredAuction, A9LimitsHoldWhenExploring) {
  Rng rng(35);
  ExploringSlots slots;
  const ExplorationPolicy policy = APolicy(kPolicies[0]);
  for (int trial = 0; trial < 2000; ++trial) {
    Instance in(&rng);
    in.options.max_ads_per_advertiser = 1;
    slots.Begin(&policy, &in, static_cast<uint64_t>(trial));
    std::set<uint32_t> advertisers;
    for (const AuctionSlot& slot : in.Run(&slots).slots) {
      EXPECT_TRUE(advertisers.insert(in.ads[slot.ad].advertiser).second);
      if (in.ads[slot.ad].bid_type != v1::BID_TYPE_CPM) {
        EXPECT_GE(in.ads[slot.ad].bid_micros,
                  in.placements[slot.placement].reserve_micros);
      }
    }
  }
}

}  // namespace
}  // namespace adrank
