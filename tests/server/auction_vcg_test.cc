// A7: VCG prices are truthful, and never above GSP's at the same bids.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "tests/server/auction_oracle.h"

namespace adrank {
namespace {

using ::adrank::testing::AuctionInstance;
using ::adrank::testing::InstanceKind;
using ::adrank::testing::OracleAd;
using ::adrank::testing::Print;
using ::adrank::testing::RandomAuction;
using ::adrank::testing::Sell;

uint64_t EffectOf(const AuctionInstance& in, uint32_t position) {
  const auto& given = in.options.position_effects;
  uint64_t effect = kFullEffect;
  for (uint32_t k = 0; k < position; ++k) {
    if (given != nullptr && k < given->size()) {
      effect = (*given)[k];
    } else if (k > 0) {
      effect = std::max<uint64_t>(1, effect / 10 * 7);
    }
  }
  return effect;
}

// What an ad whose billable event is worth `value` gains, in micros a look at
// the page; 0 when it is not shown.
double Gain(const AuctionInstance& in, uint32_t ad, int64_t value) {
  for (const AuctionSlot& s : Sell(in).slots) {
    if (s.ad != ad) continue;
    const double events = in.ads[ad].cpm ? 1.0 : in.pctr[0][ad];
    return std::ldexp(
               static_cast<double>(EffectOf(in, s.position_in_placement)),
               -60) *
           events * static_cast<double>(value - s.price_micros);
  }
  return 0;
}

// One placement, one ad an advertiser, VCG.
AuctionInstance Truthful(Rng* rng) {
  InstanceKind kind;
  kind.one_ad_advertiser = true;
  kind.max_ads = 5;
  AuctionInstance in = RandomAuction(kind, rng);
  in.placements.resize(1);
  in.placements[0].pctr_set = 0;
  in.options.pricing = v1::RankConfig::VCG;
  return in;
}

TEST(AuctionVcg, A7NoBidGainsMoreThanTheValue) {
  Rng rng(201);
  int shown = 0;
  for (int round = 0; round < 3000; ++round) {
    AuctionInstance in = Truthful(&rng);
    // One micro, the rounding, is a small part of the bids then.
    for (OracleAd& ad : in.ads) {
      ad.bid *= 1000;
      ad.reserve *= 1000;
    }
    in.placements[0].reserve *= 1000;
    if (in.ads.empty()) continue;
    const auto ad = static_cast<uint32_t>(rng.Below(in.ads.size()));
    const int64_t value = in.ads[ad].bid;
    const double truthful = Gain(in, ad, value);
    shown += truthful > 0;
    const double events = in.ads[ad].cpm ? 1.0 : in.pctr[0][ad];
    for (int step = 0; step <= 60; ++step) {
      AuctionInstance lie = in;
      lie.ads[ad].bid = value * step / 20 + static_cast<int64_t>(rng.Below(3));
      // A price rounded up costs at most one micro an event.
      EXPECT_LE(Gain(lie, ad, value), truthful + events * 1.0001)
          << "seed 201 round " << round << " ad " << ad << " bids "
          << lie.ads[ad].bid << "\n"
          << Print(in);
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(shown, 500);
}

// The payment by its definition (Myerson 1981): the integral over the own bid
// of bid d(position effect), with the slots found by holding the auction for
// every bid.
TEST(AuctionVcg, A7PriceIsTheIntegralOverTheOwnBids) {
  Rng rng(202);
  for (int round = 0; round < 2000; ++round) {
    AuctionInstance in = Truthful(&rng);
    for (OracleAd& ad : in.ads) ad.bid = 1 + ad.bid % 200;
    in.placements[0].reserve %= 100;
    const AuctionResult sold = Sell(in);
    for (const AuctionSlot& s : sold.slots) {
      double paid = 0, effect = 0;
      AuctionInstance other = in;
      for (int64_t bid = 1; bid <= s.bid_micros; ++bid) {
        other.ads[s.ad].bid = bid;
        double now = 0;
        for (const AuctionSlot& t : Sell(other).slots) {
          if (t.ad == s.ad) {
            now = std::ldexp(
                static_cast<double>(EffectOf(in, t.position_in_placement)),
                -60);
          }
        }
        ASSERT_GE(now, effect) << "not monotone\n" << Print(in);
        paid += static_cast<double>(bid) * (now - effect);
        effect = now;
      }
      // A bid that ties and loses the tie is one micro short; rounding up.
      EXPECT_NEAR(static_cast<double>(s.price_micros), paid / effect, 1.001)
          << "seed 202 round " << round << " ad " << s.ad << "\n"
          << Print(in);
    }
    if (HasFailure()) return;
  }
}

// Without labels and limits: what the others lose by the ad's presence.
TEST(AuctionVcg, A7PriceIsTheExternality) {
  Rng rng(203);
  for (int round = 0; round < 5000; ++round) {
    AuctionInstance in = Truthful(&rng);
    for (OracleAd& ad : in.ads) {
      ad.labels.clear();
      ad.reserve = 0;
      ad.bid = ad.bid * 1000 + 1;
    }
    in.placements[0].reserve = 0;
    const testing::AuctionOracle oracle(in);
    const auto welfare = [&](const AuctionInstance& world, uint32_t but) {
      testing::Exact sum = 0;
      for (const AuctionSlot& s : Sell(world).slots) {
        if (s.ad == but) continue;
        sum += oracle.Score(s.ad, 0) * EffectOf(in, s.position_in_placement);
      }
      return sum;
    };
    for (const AuctionSlot& s : Sell(in).slots) {
      const testing::Exact weight = oracle.Weight(s.ad, 0);
      if (weight == 0) continue;
      AuctionInstance without = in;
      without.ads[s.ad].bid = 0;
      const testing::Exact loss = welfare(without, s.ad) - welfare(in, s.ad);
      const testing::Exact price =
          loss / EffectOf(in, s.position_in_placement) / weight;
      // Thresholds are rounded up, and so is their mean.
      EXPECT_NEAR(static_cast<double>(s.price_micros - price), 1, 1.001)
          << "seed 203 round " << round << " ad " << s.ad << "\n"
          << Print(in);
    }
    if (HasFailure()) return;
  }
}

TEST(AuctionVcg, A7NeverAboveGspAndEqualForTheLastSlot) {
  Rng rng(204);
  for (int round = 0; round < 20000; ++round) {
    AuctionInstance in = RandomAuction({}, &rng);
    in.options.pricing = v1::RankConfig::VCG;
    const AuctionResult vcg = Sell(in);
    in.options.pricing = v1::RankConfig::GSP;
    const AuctionResult gsp = Sell(in);
    ASSERT_EQ(vcg.slots.size(), gsp.slots.size());
    for (size_t s = 0; s < vcg.slots.size(); ++s) {
      const AuctionSlot &x = vcg.slots[s], &y = gsp.slots[s];
      ASSERT_EQ(x.ad, y.ad);
      ASSERT_LE(x.price_micros, y.price_micros) << round << "\n" << Print(in);
      ASSERT_GE(x.price_micros, x.reserve_micros) << round << "\n" << Print(in);
      if (x.position_in_placement == in.placements[x.placement].count) {
        ASSERT_EQ(x.price_micros, y.price_micros) << round << "\n" << Print(in);
      }
    }
  }
}

// Three ads, two slots, effects 1 and 1/2; Varian's example.
TEST(AuctionVcg, PricesByHand) {
  AuctionInstance in;
  in.ads.resize(3);
  for (uint32_t i = 0; i < 3; ++i) {
    in.ads[i].id = absl::StrCat("ad", i);
    in.ads[i].advertiser = i;
    in.ads[i].bid = 1000 - 200 * i;
  }
  in.pctr = {{0.5f, 0.5f, 0.5f}};
  in.placements = {{2, 0, 0}};
  in.options.pricing = v1::RankConfig::VCG;
  in.options.position_effects = std::make_shared<const std::vector<uint64_t>>(
      std::vector<uint64_t>{kFullEffect, kFullEffect / 2});
  const AuctionResult sold = Sell(in);
  ASSERT_EQ(sold.slots.size(), 2u);
  // (1 - 1/2) 800 + 1/2 600; then 600.
  EXPECT_EQ(sold.slots[0].price_micros, 700);
  EXPECT_EQ(sold.slots[0].price_setter, PriceSetter::kDisplaced);
  EXPECT_EQ(sold.slots[0].next_ad, 1u);
  EXPECT_EQ(sold.slots[1].price_micros, 600);
}

}  // namespace
}  // namespace adrank
