// The auction's invariants A1 to A10 with every bid type, quality, exponent,
// reserve, label and pricing, against the oracle of auction_oracle.h.
// auction_test.cc has those of ads sold by the click alone.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "gtest/gtest.h"
#include "tests/server/auction_oracle.h"

namespace adrank {
namespace {

using ::adrank::testing::AuctionInstance;
using ::adrank::testing::AuctionOracle;
using ::adrank::testing::InstanceKind;
using ::adrank::testing::OracleAd;
using ::adrank::testing::OracleSlots;
using ::adrank::testing::Print;
using ::adrank::testing::RandomAuction;
using ::adrank::testing::Sell;

void ExpectSame(const AuctionResult& a, const AuctionResult& b) {
  ASSERT_EQ(a.slots.size(), b.slots.size());
  for (size_t s = 0; s < a.slots.size(); ++s) {
    const AuctionSlot &x = a.slots[s], &y = b.slots[s];
    ASSERT_EQ(x.ad, y.ad) << "slot " << s;
    ASSERT_EQ(x.placement, y.placement) << "slot " << s;
    ASSERT_EQ(x.position_in_placement, y.position_in_placement);
    ASSERT_EQ(x.bid_micros, y.bid_micros) << "slot " << s;
    ASSERT_EQ(x.reserve_micros, y.reserve_micros) << "slot " << s;
    ASSERT_EQ(x.price_micros, y.price_micros) << "slot " << s;
    ASSERT_EQ(x.price_setter, y.price_setter) << "slot " << s;
    ASSERT_EQ(x.explored, y.explored) << "slot " << s;
    ASSERT_EQ(x.propensity, y.propensity) << "slot " << s;
    ASSERT_NEAR(x.score, y.score, 1e-12 * y.score) << "slot " << s;
    if (x.price_setter == PriceSetter::kNextScore ||
        x.price_setter == PriceSetter::kDisplaced) {
      ASSERT_EQ(x.next_ad, y.next_ad) << "slot " << s;
    }
  }
  ASSERT_EQ(a.short_reason, b.short_reason);
  ASSERT_EQ(a.above_reserve, b.above_reserve);
}

// An instance that fails, made smaller by leaving out ads while it still does.
template <typename Fails>
AuctionInstance Shrink(AuctionInstance in, Fails fails) {
  for (size_t i = in.ads.size(); i-- > 0;) {
    AuctionInstance less = in;
    less.ads.erase(less.ads.begin() + static_cast<ptrdiff_t>(i));
    for (auto& pctr : less.pctr) {
      pctr.erase(pctr.begin() + static_cast<ptrdiff_t>(i));
    }
    if (fails(less)) in = less;
  }
  return in;
}

bool SameAsOracle(const AuctionInstance& in) {
  const AuctionResult a = Sell(in), b = AuctionOracle(in).Run();
  if (a.slots.size() != b.slots.size()) return false;
  for (size_t s = 0; s < a.slots.size(); ++s) {
    if (a.slots[s].ad != b.slots[s].ad ||
        a.slots[s].price_micros != b.slots[s].price_micros) {
      return false;
    }
  }
  return true;
}

// Runs `check` on random instances; a failure prints seed, round and instance.
template <typename Check>
void ForRandom(uint64_t seed, int rounds, const InstanceKind& kind,
               Check check) {
  Rng rng(seed);
  for (int round = 0; round < rounds; ++round) {
    const AuctionInstance in = RandomAuction(kind, &rng);
    check(in, &rng);
    if (::testing::Test::HasFailure()) {
      FAIL() << "seed " << seed << " round " << round << "\n" << Print(in);
    }
  }
}

const AuctionSlot* SlotOf(const AuctionResult& result, uint32_t ad) {
  for (const AuctionSlot& s : result.slots) {
    if (s.ad == ad) return &s;
  }
  return nullptr;
}

size_t PlaceOf(const AuctionResult& result, uint32_t ad) {
  size_t s = 0;
  while (s < result.slots.size() && result.slots[s].ad != ad) ++s;
  return s;
}

AuctionInstance WithPricing(AuctionInstance in,
                            v1::RankConfig::Pricing pricing) {
  in.options.pricing = pricing;
  return in;
}

TEST(AuctionProperty, EqualsTheOracle) {
  Auction auction;  // one object: nothing of a request leaks into the next
  ForRandom(101, 30000, {}, [&](const AuctionInstance& in, Rng*) {
    ExpectSame(Sell(in, &auction), AuctionOracle(in).Run());
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << "smaller:\n"
                    << Print(Shrink(in, [](const AuctionInstance& less) {
                         return !SameAsOracle(less);
                       }));
    }
  });
}

TEST(AuctionProperty, EqualsTheOracleWhenAPolicyChooses) {
  Auction auction;
  InstanceKind kind;
  kind.policy = true;
  ForRandom(102, 20000, kind, [&](const AuctionInstance& in, Rng*) {
    ExpectSame(Sell(in, &auction), AuctionOracle(in).Run());
  });
}

TEST(AuctionProperty, EqualsTheOracleWithManyAdsAndFewLabels) {
  InstanceKind kind;
  kind.max_ads = 600;
  ForRandom(103, 60, kind, [](const AuctionInstance& in, Rng*) {
    ExpectSame(Sell(in), AuctionOracle(in).Run());
  });
}

// Every instance of up to three ads on a grid that has ties, zeros, labels,
// siblings, both kinds of sale and all pricings.
TEST(AuctionProperty, EqualsTheOracleOnEverySmallInstance) {
  constexpr float kPctrs[] = {0, 0.5f, 1};
  constexpr v1::RankConfig::Pricing kPricings[] = {
      v1::RankConfig::GSP, v1::RankConfig::VCG, v1::RankConfig::FIRST_PRICE};
  constexpr int kKinds = 18;  // bid 1..3, pctr, with or without the label
  Auction auction;
  const auto set = [&](int kind, size_t i, AuctionInstance* in) {
    in->ads[i].bid = 1 + kind % 3;
    in->pctr[0][i] = kPctrs[kind / 3 % 3];
    in->ads[i].labels.clear();
    if (kind >= 9) in->ads[i].labels = {7};
  };
  for (size_t n = 0; n <= 3; ++n) {
    AuctionInstance in;
    in.ads.resize(n);
    in.pctr = {std::vector<float>(n)};
    for (size_t i = 0; i < n; ++i) in.ads[i].id = absl::StrCat("ad", i);
    const int kinds = static_cast<int>(std::lround(std::pow(kKinds, n)));
    for (int world = 0; world < 96; ++world) {
      in.options.pricing = kPricings[world % 3];
      in.placements = {
          {static_cast<uint32_t>(1 + world / 3 % 2), 2 * (world / 6 % 2), 0}};
      in.options.alpha = world / 12 % 2 == 0 ? 1 : 0.5;
      in.options.max_ads_per_advertiser = 1;
      for (size_t i = 0; i < n; ++i) {
        in.ads[i].advertiser =
            static_cast<uint32_t>(world / 24 % 2 == 0 ? i : i / 2);
        in.ads[i].cpm = world / 48 == 1 && i == 0;
      }
      for (int code = 0; code < kinds; ++code) {
        for (size_t i = 0, rest = code; i < n; ++i, rest /= kKinds) {
          set(static_cast<int>(rest % kKinds), i, &in);
        }
        ExpectSame(Sell(in, &auction), AuctionOracle(in).Run());
        if (::testing::Test::HasFailure()) FAIL() << Print(in);
      }
    }
  }
}

// Bids to 2^62, pctrs to the least denormal, qualities over 8 decades.
AuctionInstance Extreme(Rng* rng) {
  AuctionInstance in = RandomAuction({}, rng);
  for (OracleAd& ad : in.ads) {
    ad.bid = static_cast<int64_t>((*rng)() >> (2 + rng->Below(62)));
    ad.bid = std::max<int64_t>(1, ad.bid);
    if (rng->Bernoulli(0.1)) ad.bid = kMaxBidMicros;
    ad.quality = rng->Bernoulli(0.2)
                     ? 100.0f
                     : std::ldexp(1.0f, 6 - static_cast<int>(rng->Below(30)));
    if (ad.reserve > 0) {
      ad.reserve = static_cast<int64_t>((*rng)() >> (2 + rng->Below(62)));
    }
  }
  for (auto& pctr : in.pctr) {
    for (float& q : pctr) {
      q = rng->Bernoulli(0.1) ? 0.0f
          : rng->Bernoulli(0.1)
              ? 1.0f
              : std::ldexp(static_cast<float>(rng->Uniform()),
                           -static_cast<int>(rng->Below(150)));
    }
  }
  for (OracleSlots& s : in.placements) {
    s.reserve = static_cast<int64_t>((*rng)() >> (2 + rng->Below(62)));
  }
  return in;
}

TEST(AuctionProperty, A1PriceLiesBetweenReserveAndBid) {
  Rng rng(104);
  for (int round = 0; round < 20000; ++round) {
    const AuctionInstance in = Extreme(&rng);
    for (const AuctionSlot& s : Sell(in).slots) {
      ASSERT_GE(s.reserve_micros, 1) << "round " << round << Print(in);
      ASSERT_GE(s.price_micros, s.reserve_micros) << round << Print(in);
      ASSERT_LE(s.price_micros, s.bid_micros) << round << Print(in);
      ASSERT_EQ(s.bid_micros, in.ads[s.ad].bid);
      ASSERT_TRUE(std::isfinite(s.score) && s.score >= 0);
    }
  }
}

TEST(AuctionProperty, A2HigherBidNeverLosesASlotNorLowersThePrice) {
  InstanceKind kind;
  kind.one_order = true;
  ForRandom(105, 30000, kind, [](const AuctionInstance& in, Rng* rng) {
    if (in.ads.empty()) return;
    const auto ad = static_cast<uint32_t>(rng->Below(in.ads.size()));
    AuctionInstance raised = in;
    raised.ads[ad].bid +=
        1 + static_cast<int64_t>(rng->Below(2 * in.ads[ad].bid + 1));
    const AuctionResult before = Sell(in), after = Sell(raised);
    const AuctionSlot *x = SlotOf(before, ad), *y = SlotOf(after, ad);
    if (x == nullptr) return;
    ASSERT_NE(y, nullptr);
    EXPECT_LE(PlaceOf(after, ad), PlaceOf(before, ad));
    // VCG is another test's.
    if (in.options.pricing != v1::RankConfig::VCG) {
      EXPECT_GE(y->price_micros, x->price_micros);
    }
  });
}

// Of VCG in one placement and without siblings: its position effects begin anew
// in each placement, and an ad that passes its sibling has other rivals.
TEST(AuctionProperty, A2HigherBidNeverLowersTheVcgPrice) {
  InstanceKind kind;
  kind.one_ad_advertiser = true;
  ForRandom(119, 30000, kind, [](const AuctionInstance& in, Rng* rng) {
    if (in.ads.empty()) return;
    const auto ad = static_cast<uint32_t>(rng->Below(in.ads.size()));
    AuctionInstance raised = WithPricing(in, v1::RankConfig::VCG);
    raised.placements.resize(1);
    const AuctionResult before = Sell(raised);
    raised.ads[ad].bid +=
        1 + static_cast<int64_t>(rng->Below(2 * in.ads[ad].bid + 1));
    const AuctionResult after = Sell(raised);
    const AuctionSlot *x = SlotOf(before, ad), *y = SlotOf(after, ad);
    if (x == nullptr) return;
    ASSERT_NE(y, nullptr);
    EXPECT_GE(y->price_micros, x->price_micros);
  });
}

TEST(AuctionProperty, A2PriceOfASlotDoesNotDependOnItsWinnersBid) {
  ForRandom(106, 30000, {}, [](const AuctionInstance& in, Rng* rng) {
    if (in.ads.empty()) return;
    if (in.options.pricing == v1::RankConfig::FIRST_PRICE) return;
    const auto ad = static_cast<uint32_t>(rng->Below(in.ads.size()));
    AuctionInstance raised = in;
    raised.ads[ad].bid +=
        1 + static_cast<int64_t>(rng->Below(2 * in.ads[ad].bid + 1));
    const AuctionResult before = Sell(in), after = Sell(raised);
    const AuctionSlot *x = SlotOf(before, ad), *y = SlotOf(after, ad);
    if (x == nullptr) return;
    ASSERT_NE(y, nullptr);
    EXPECT_LE(PlaceOf(after, ad), PlaceOf(before, ad));
    if (PlaceOf(after, ad) == PlaceOf(before, ad) &&
        x->placement == y->placement) {
      EXPECT_EQ(y->price_micros, x->price_micros);
    }
  });
}

TEST(AuctionProperty, A3PriceIsTheLeastThatKeepsThePlace) {
  ForRandom(107, 30000, {}, [](const AuctionInstance& in, Rng*) {
    const AuctionInstance gsp = WithPricing(in, v1::RankConfig::GSP);
    const AuctionOracle oracle(gsp);
    for (const AuctionSlot& s : Sell(gsp).slots) {
      if (s.price_setter == PriceSetter::kReserve) {
        EXPECT_EQ(s.price_micros, s.reserve_micros);
        continue;
      }
      const testing::Exact own = oracle.Weight(s.ad, s.placement);
      const testing::Exact next = oracle.Score(s.next_ad, s.placement);
      EXPECT_TRUE(s.price_micros * own >= next);
      EXPECT_TRUE((s.price_micros - 1) * own < next);
    }
  });
}

// The same by trying bids: one less than the price, and the place is lost.
TEST(AuctionProperty, A3BiddingBelowThePriceLosesThePlace) {
  InstanceKind kind;
  kind.one_ad_advertiser = true;
  ForRandom(108, 5000, kind, [](const AuctionInstance& in, Rng*) {
    const AuctionInstance gsp = WithPricing(in, v1::RankConfig::GSP);
    const AuctionResult sold = Sell(gsp);
    const auto place = [](const AuctionSlot& s) {
      return std::make_pair(s.placement, s.position_in_placement);
    };
    for (const AuctionSlot& slot : sold.slots) {
      AuctionInstance lower = gsp;
      lower.ads[slot.ad].bid = slot.price_micros - 1;
      const AuctionResult below = Sell(lower);
      const AuctionSlot* lost = SlotOf(below, slot.ad);
      if (lost != nullptr) EXPECT_GT(place(*lost), place(slot));
      if (slot.price_micros + 1 > slot.bid_micros) continue;
      lower.ads[slot.ad].bid = slot.price_micros + 1;
      const AuctionResult above = Sell(lower);
      ASSERT_NE(SlotOf(above, slot.ad), nullptr);
      EXPECT_EQ(place(*SlotOf(above, slot.ad)), place(slot));
    }
  });
}

TEST(AuctionProperty, A4PermutingTheCandidatesChangesNothing) {
  ForRandom(109, 10000, {}, [](const AuctionInstance& in, Rng* rng) {
    std::vector<uint32_t> order(in.ads.size());
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[rng->Below(i)]);
    }
    AuctionInstance shuffled = in;
    for (size_t i = 0; i < order.size(); ++i) {
      shuffled.ads[i] = in.ads[order[i]];
      for (int set = 0; set < 2; ++set) {
        shuffled.pctr[set][i] = in.pctr[set][order[i]];
      }
    }
    AuctionResult result = Sell(shuffled);
    for (AuctionSlot& s : result.slots) {
      s.ad = order[s.ad];
      if (s.next_score > 0) s.next_ad = order[s.next_ad];
    }
    ExpectSame(result, Sell(in));
  });
}

TEST(AuctionProperty, A5ScalingBidsAndReservesScalesPrices) {
  ForRandom(110, 10000, {}, [](const AuctionInstance& in, Rng* rng) {
    const auto c = static_cast<int64_t>(1 + rng->Below(1000));
    AuctionInstance scaled = in;
    const bool weighted =
        in.options.reserve_kind == v1::RankConfig::QUALITY_WEIGHTED;
    for (OracleAd& ad : scaled.ads) {
      ad.bid *= c;
      ad.reserve *= c;
    }
    for (OracleSlots& s : scaled.placements) {
      // The least reserve per click is 1 micro: scale that too.
      s.reserve = (weighted ? s.reserve : std::max<int64_t>(1, s.reserve)) * c;
    }
    const AuctionResult before = Sell(in), after = Sell(scaled);
    ASSERT_EQ(before.slots.size(), after.slots.size());
    // Each rounding up to whole micros is worth less than one, times c; VCG
    // rounds a second time.
    const int64_t slack = in.options.pricing == v1::RankConfig::VCG ? 2 : 1;
    for (size_t s = 0; s < before.slots.size(); ++s) {
      ASSERT_EQ(before.slots[s].ad, after.slots[s].ad);
      const int64_t x = before.slots[s].price_micros;
      EXPECT_LE(after.slots[s].price_micros, x * c);
      EXPECT_GT(after.slots[s].price_micros, (x - slack) * c);
    }
  });
}

TEST(AuctionProperty, A5ScalingAllQualitiesChangesNothing) {
  ForRandom(111, 10000, {}, [](const AuctionInstance& in, Rng* rng) {
    if (in.options.reserve_kind == v1::RankConfig::QUALITY_WEIGHTED) return;
    AuctionInstance scaled = in;
    // A power of two is exact.
    const float c = std::ldexp(1.0f, -static_cast<int>(rng->Below(60)));
    for (OracleAd& ad : scaled.ads) ad.quality *= c;
    const AuctionResult a = Sell(scaled), b = Sell(in);
    ASSERT_EQ(a.slots.size(), b.slots.size());
    for (size_t s = 0; s < a.slots.size(); ++s) {
      EXPECT_EQ(a.slots[s].ad, b.slots[s].ad);
      EXPECT_EQ(a.slots[s].price_micros, b.slots[s].price_micros);
    }
  });
}

TEST(AuctionProperty, A6LoserBelowItsReserveChangesNothing) {
  ForRandom(112, 10000, {}, [](const AuctionInstance& in, Rng* rng) {
    AuctionInstance more = in;
    OracleAd& loser = more.ads.emplace_back();
    loser.id = "new";
    loser.advertiser = static_cast<uint32_t>(rng->Below(6));
    loser.reserve = 2 + static_cast<int64_t>(rng->Below(1000000));
    loser.bid = 1 + static_cast<int64_t>(rng->Below(loser.reserve - 1));
    loser.labels = {rng->Below(5)};
    for (auto& pctr : more.pctr) pctr.push_back(1.0f);
    if (in.options.reserve_kind != v1::RankConfig::PER_CLICK) return;
    const AuctionResult before = Sell(in), after = Sell(more);
    ASSERT_EQ(before.slots.size(), after.slots.size());
    for (size_t s = 0; s < before.slots.size(); ++s) {
      EXPECT_EQ(before.slots[s].ad, after.slots[s].ad);
      EXPECT_EQ(before.slots[s].price_micros, after.slots[s].price_micros);
    }
    EXPECT_EQ(before.above_reserve, after.above_reserve);
  });
}

// A rival without labels, of an advertiser of its own: with them it may keep a
// third ad out, whose score then sets no price.
TEST(AuctionProperty, A6NewRivalNeverLowersAnothersPrice) {
  InstanceKind kind;
  kind.one_order = true;
  ForRandom(113, 20000, kind, [](const AuctionInstance& in, Rng* rng) {
    AuctionInstance more = WithPricing(in, v1::RankConfig::GSP);
    OracleAd& rival = more.ads.emplace_back();
    rival.id = "new";
    rival.advertiser = 99;
    rival.bid = 1 + static_cast<int64_t>(rng->Below(1000000));
    rival.cpm = rng->Bernoulli(0.2);
    for (auto& pctr : more.pctr) {
      pctr.push_back(static_cast<float>(rng->Below(1025)) / 1024);
    }
    const AuctionResult before = Sell(WithPricing(in, v1::RankConfig::GSP));
    for (const AuctionSlot& s : Sell(more).slots) {
      if (s.ad + 1 == more.ads.size()) continue;
      const AuctionSlot* old = SlotOf(before, s.ad);
      ASSERT_NE(old, nullptr);
      EXPECT_GE(s.price_micros, old->price_micros);
    }
  });
}

TEST(AuctionProperty, A8FirstPriceIsTheBid) {
  ForRandom(114, 5000, {}, [](const AuctionInstance& in, Rng*) {
    const AuctionResult sold =
        Sell(WithPricing(in, v1::RankConfig::FIRST_PRICE));
    for (const AuctionSlot& s : sold.slots) {
      EXPECT_EQ(s.price_micros, in.ads[s.ad].bid);
      EXPECT_EQ(s.price_setter, PriceSetter::kOwnBid);
    }
  });
}

TEST(AuctionProperty, A9LimitsAndLabelsHoldAndSiblingsNeverSetThePrice) {
  for (const bool policy : {false, true}) {
    InstanceKind kind;
    kind.policy = policy;
    ForRandom(115, 20000, kind, [](const AuctionInstance& in, Rng*) {
      std::map<uint32_t, uint32_t> shown;
      std::set<uint32_t> ads;
      std::set<uint64_t> labels;
      for (const AuctionSlot& s : Sell(in).slots) {
        const OracleAd& ad = in.ads[s.ad];
        EXPECT_TRUE(ads.insert(s.ad).second) << "shown twice";
        for (const uint64_t label : ad.labels) {
          EXPECT_TRUE(labels.insert(label).second) << "label " << label;
        }
        if (ad.advertiser == AuctionAd::kNoAdvertiser) continue;
        ++shown[ad.advertiser];
        if (in.options.max_ads_per_advertiser != 0) {
          EXPECT_LE(shown[ad.advertiser], in.options.max_ads_per_advertiser);
        }
        if (s.price_setter == PriceSetter::kNextScore ||
            s.price_setter == PriceSetter::kDisplaced) {
          EXPECT_NE(in.ads[s.next_ad].advertiser, ad.advertiser);
        }
      }
    });
  }
}

// Without its siblings an ad pays the same: they are no rivals of its own.
TEST(AuctionProperty, A9PriceIgnoresTheOwnSiblings) {
  InstanceKind kind;
  kind.labels = false;
  ForRandom(116, 10000, kind, [](const AuctionInstance& in, Rng*) {
    const AuctionResult sold = Sell(in);
    if (sold.slots.empty() || in.placements[0].count != 1) return;
    const AuctionSlot& slot = sold.slots[0];
    const uint32_t v = in.ads[slot.ad].advertiser;
    if (slot.placement != 0 || v == AuctionAd::kNoAdvertiser) return;
    AuctionInstance alone = in;
    for (size_t i = 0; i < in.ads.size(); ++i) {
      if (i != slot.ad && in.ads[i].advertiser == v) alone.ads[i].bid = 0;
    }
    const AuctionResult without = Sell(alone);
    EXPECT_EQ(without.slots[0].ad, slot.ad);
    EXPECT_EQ(without.slots[0].price_micros, slot.price_micros);
  });
}

TEST(AuctionProperty, A10PolicyThatTakesTheFirstIsTheGreedyAuction) {
  ForRandom(117, 10000, {}, [](const AuctionInstance& in, Rng*) {
    AuctionInstance first = in;
    first.choices.assign(1, 0);
    AuctionResult a = Sell(first);
    for (AuctionSlot& s : a.slots) {
      EXPECT_EQ(s.propensity, 0.25f);
      s.propensity = 1;
    }
    ExpectSame(a, Sell(in));
  });
}

TEST(AuctionProperty, A10ExploredAdPaysWithinItsBidAndNotForThoseItJumped) {
  InstanceKind kind;
  kind.policy = true;
  ForRandom(118, 20000, kind, [](const AuctionInstance& in, Rng*) {
    for (const AuctionSlot& s : Sell(in).slots) {
      EXPECT_GE(s.price_micros, s.reserve_micros);
      EXPECT_LE(s.price_micros, s.bid_micros);
      if (s.next_score > 0) EXPECT_LE(s.next_score, s.score * (1 + 1e-12));
    }
  });
}

}  // namespace
}  // namespace adrank
