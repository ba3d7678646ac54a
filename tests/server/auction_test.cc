// The auction's promises, named as in the field's list of invariants (A1..A9),
// on random instances against a brute-force oracle.
#include "server/rank/auction.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

struct Ad {
  std::string id;
  uint32_t advertiser;
  int64_t bid;
};

struct Slots {
  uint32_t count;
  int64_t reserve;
  size_t pctr_set;
};

struct Instance {
  std::vector<Ad> ads;
  std::vector<Slots> placements;
  std::vector<std::vector<float>> pctr;  // [sets][ads]
  AuctionOptions options;
};

AuctionResult Sell(const Instance& in, Auction* auction) {
  std::vector<AuctionAd> ads;
  for (const Ad& ad : in.ads) {
    AuctionAd& out = ads.emplace_back();
    out.ad_id = ad.id;
    out.advertiser = ad.advertiser;
    out.bid_micros = ad.bid;
  }
  std::vector<AuctionPlacement> placements;
  for (const Slots& s : in.placements) {
    placements.push_back({s.count, s.reserve, in.pctr[s.pctr_set]});
  }
  AuctionResult result;
  auction->Run(AuctionAds(ads), placements, in.options, &result);
  return result;
}

AuctionResult Sell(const Instance& in) {
  Auction auction;
  return Sell(in, &auction);
}

// ---- the oracle: a transcription of the header, slow and plain ----

// Exact for the oracle's instances: pctr is k / 1024 and bids are small, so
// that bid x k is a whole number.
int64_t Units(float pctr) { return std::lround(pctr * 1024); }

bool Before(const Instance& in, size_t set, size_t a, size_t b) {
  const auto key = [&](size_t i) {
    const int64_t q = Units(in.pctr[set][i]);
    return std::make_tuple(-in.ads[i].bid * q, -q,
                           ~Hash64(in.ads[i].id, in.options.tie_salt),
                           in.ads[i].id);
  };
  return key(a) < key(b);
}

AuctionResult Oracle(const Instance& in) {
  AuctionResult result;
  std::set<size_t> used;
  std::map<uint32_t, uint32_t> shown;
  const uint32_t limit = in.options.max_ads_per_advertiser;
  for (size_t p = 0; p < in.placements.size(); ++p) {
    const Slots& placement = in.placements[p];
    const int64_t reserve = std::max<int64_t>(1, placement.reserve);
    const auto& pctr = in.pctr[placement.pctr_set];
    result.short_reason.push_back(v1::NO_AD_REASON_UNSPECIFIED);
    for (uint32_t s = 0; s < placement.count; ++s) {
      std::vector<size_t> available;
      bool below = false;
      for (size_t i = 0; i < in.ads.size(); ++i) {
        const uint32_t v = in.ads[i].advertiser;
        const bool limited =
            limit != 0 && v != AuctionAd::kNoAdvertiser && shown[v] >= limit;
        if (used.count(i) || limited) continue;
        below |= in.ads[i].bid < reserve;
        if (in.ads[i].bid >= reserve) available.push_back(i);
      }
      if (available.empty()) {
        result.short_reason[p] =
            below ? v1::NO_AD_REASON_BELOW_RESERVE : v1::NO_AD_REASON_EXHAUSTED;
        break;
      }
      std::sort(available.begin(), available.end(), [&](size_t a, size_t b) {
        return Before(in, placement.pctr_set, a, b);
      });
      const size_t i = available[0];
      AuctionSlot slot;
      slot.ad = static_cast<uint32_t>(i);
      slot.placement = static_cast<uint32_t>(p);
      slot.position_in_placement = s + 1;
      slot.price_micros = reserve;
      for (size_t r = 1; r < available.size(); ++r) {
        const size_t j = available[r];
        const uint32_t v = in.ads[i].advertiser;
        if (v != AuctionAd::kNoAdvertiser && in.ads[j].advertiser == v) {
          continue;
        }
        const int64_t own = Units(pctr[i]);
        if (own == 0) break;
        const int64_t score = in.ads[j].bid * Units(pctr[j]);
        const int64_t price = (score + own - 1) / own;
        if (price > reserve) {
          slot.price_micros = price;
          slot.price_setter = PriceSetter::kNextScore;
          slot.next_ad = static_cast<uint32_t>(j);
        }
        break;
      }
      result.slots.push_back(slot);
      used.insert(i);
      ++shown[in.ads[i].advertiser];
    }
  }
  return result;
}

// Small numbers, so that ties of every kind occur.
Instance RandomInstance(Rng* rng) {
  Instance in;
  const size_t n = rng->Below(25);
  const uint64_t max_bid = rng->Bernoulli(0.5) ? 6 : 1000000;
  const uint64_t max_pctr = rng->Bernoulli(0.5) ? 4 : 1024;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t advertiser = rng->Bernoulli(0.1)
                                    ? AuctionAd::kNoAdvertiser
                                    : static_cast<uint32_t>(rng->Below(6));
    in.ads.push_back({absl::StrCat("ad", i), advertiser,
                      1 + static_cast<int64_t>(rng->Below(max_bid))});
  }
  for (int set = 0; set < 2; ++set) {
    std::vector<float>& pctr = in.pctr.emplace_back();
    for (size_t i = 0; i < n; ++i) {
      pctr.push_back(static_cast<float>(rng->Below(max_pctr + 1)) / 1024);
    }
  }
  for (uint64_t p = 1 + rng->Below(3); p > 0; --p) {
    in.placements.push_back({static_cast<uint32_t>(1 + rng->Below(5)),
                             static_cast<int64_t>(rng->Below(max_bid)),
                             rng->Below(2)});
  }
  in.options.max_ads_per_advertiser = static_cast<uint32_t>(rng->Below(4));
  in.options.tie_salt = (*rng)();
  return in;
}

// One placement order for all: one pctr array and one reserve.
Instance UniformInstance(Rng* rng) {
  Instance in = RandomInstance(rng);
  for (Slots& s : in.placements) {
    s.pctr_set = 0;
    s.reserve = in.placements[0].reserve;
  }
  return in;
}

std::string Print(const Instance& in) {
  std::string text = absl::StrCat("limit ", in.options.max_ads_per_advertiser);
  for (const Slots& s : in.placements) {
    absl::StrAppend(&text, "\nplacement ", s.count, " slots, reserve ",
                    s.reserve, ", pctrs ", s.pctr_set);
  }
  for (size_t i = 0; i < in.ads.size(); ++i) {
    absl::StrAppend(&text, "\n", in.ads[i].id, " of ", in.ads[i].advertiser,
                    " bid ", in.ads[i].bid, " pctr*1024 ", Units(in.pctr[0][i]),
                    " ", Units(in.pctr[1][i]));
  }
  return text;
}

void ExpectSame(const AuctionResult& a, const AuctionResult& b) {
  ASSERT_EQ(a.slots.size(), b.slots.size());
  for (size_t s = 0; s < a.slots.size(); ++s) {
    const AuctionSlot &x = a.slots[s], &y = b.slots[s];
    ASSERT_EQ(x.ad, y.ad) << "slot " << s;
    ASSERT_EQ(x.placement, y.placement) << "slot " << s;
    ASSERT_EQ(x.position_in_placement, y.position_in_placement);
    ASSERT_EQ(x.price_micros, y.price_micros) << "slot " << s;
    ASSERT_EQ(x.price_setter, y.price_setter) << "slot " << s;
    if (x.price_setter == PriceSetter::kNextScore) {
      ASSERT_EQ(x.next_ad, y.next_ad) << "slot " << s;
    }
  }
  ASSERT_EQ(a.short_reason, b.short_reason);
}

// Runs `check` on random instances; a failure prints seed, round and instance.
template <typename Make, typename Check>
void ForRandom(uint64_t seed, int rounds, Make make, Check check) {
  Rng rng(seed);
  for (int round = 0; round < rounds; ++round) {
    const Instance in = make(&rng);
    check(in, &rng);
    if (::testing::Test::HasFailure()) {
      FAIL() << "seed " << seed << " round " << round << "\n" << Print(in);
    }
  }
}

std::optional<AuctionSlot> SlotOf(const AuctionResult& result, uint32_t ad) {
  for (const AuctionSlot& s : result.slots) {
    if (s.ad == ad) return s;
  }
  return std::nullopt;
}

// Place in the page: 0 is the first; one past the last when not shown.
size_t PlaceOf(const AuctionResult& result, uint32_t ad) {
  size_t s = 0;
  while (s < result.slots.size() && result.slots[s].ad != ad) ++s;
  return s;
}

TEST(Auction, EqualsTheOracle) {
  Auction auction;  // one object: nothing of a request leaks into the next
  ForRandom(1, 20000, RandomInstance, [&](const Instance& in, Rng*) {
    ExpectSame(Sell(in, &auction), Oracle(in));
  });
}

TEST(Auction, A1PriceLiesBetweenReserveAndBid) {
  const auto extreme = [](Rng* rng) {
    Instance in = RandomInstance(rng);
    for (Ad& ad : in.ads) {
      ad.bid = 1 + static_cast<int64_t>((*rng)() >> (2 + rng->Below(62)));
    }
    for (float& q : in.pctr[0]) {
      q = rng->Bernoulli(0.1) ? 0.0f
                              : std::ldexp(static_cast<float>(rng->Uniform()),
                                           -static_cast<int>(rng->Below(150)));
    }
    in.pctr[1] = in.pctr[0];
    for (Slots& s : in.placements) {
      s.reserve = static_cast<int64_t>((*rng)() >> (2 + rng->Below(62)));
    }
    return in;
  };
  ForRandom(2, 20000, extreme, [](const Instance& in, Rng*) {
    for (const AuctionSlot& s : Sell(in).slots) {
      EXPECT_GE(s.price_micros, in.placements[s.placement].reserve);
      EXPECT_GE(s.price_micros, 1);
      EXPECT_LE(s.price_micros, in.ads[s.ad].bid);
      EXPECT_TRUE(std::isfinite(s.score));
      EXPECT_GE(s.score, 0);
    }
  });
}

TEST(Auction, A1NoOverflowAtTheLargestBids) {
  Instance in;
  in.ads = {{"a", 0, kMaxBidMicros}, {"b", 1, kMaxBidMicros}, {"c", 2, 1}};
  in.pctr = {{1.0f, std::nextafter(1.0f, 0.0f), 1e-45f}};
  in.placements = {{3, kMaxBidMicros - 1, 0}};
  AuctionResult result = Sell(in);
  ASSERT_EQ(result.slots.size(), 2u);
  EXPECT_EQ(result.slots[0].ad, 0u);
  EXPECT_EQ(result.slots[0].price_micros, kMaxBidMicros - 1);
  EXPECT_EQ(result.short_reason[0], v1::NO_AD_REASON_BELOW_RESERVE);

  in.placements = {{3, 0, 0}};
  result = Sell(in);
  ASSERT_EQ(result.slots.size(), 3u);
  // 2^62 (1 - 2^-24) exactly.
  EXPECT_EQ(result.slots[0].price_micros, kMaxBidMicros - (int64_t{1} << 38));
  EXPECT_EQ(result.slots[1].price_micros, 1);
  EXPECT_EQ(result.slots[2].price_micros, 1);
}

TEST(Auction, A1ScoresThatTieAsDoublesAreStillOrderedExactly) {
  Instance in;
  // As doubles both bids are 2^60: only exact arithmetic tells them apart.
  const int64_t bid = int64_t{1} << 60;
  in.ads = {{"a", 0, bid}, {"b", 1, bid + 1}};
  in.pctr = {{0.5f, 0.5f}};
  in.placements = {{1, 0, 0}};
  const AuctionResult result = Sell(in);
  EXPECT_EQ(result.slots[0].ad, 1u);
  EXPECT_EQ(result.slots[0].price_micros, bid);
}

TEST(Auction, A2HigherBidNeverLosesASlotNorLowersThePrice) {
  ForRandom(3, 20000, UniformInstance, [](const Instance& in, Rng* rng) {
    if (in.ads.empty()) return;
    const auto ad = static_cast<uint32_t>(rng->Below(in.ads.size()));
    const AuctionResult before = Sell(in);
    Instance raised = in;
    raised.ads[ad].bid +=
        1 + static_cast<int64_t>(rng->Below(2 * in.ads[ad].bid));
    const AuctionResult after = Sell(raised);
    const auto old_slot = SlotOf(before, ad), new_slot = SlotOf(after, ad);
    if (!old_slot.has_value()) return;
    ASSERT_TRUE(new_slot.has_value());
    EXPECT_LE(PlaceOf(after, ad), PlaceOf(before, ad));
    EXPECT_GE(new_slot->price_micros, old_slot->price_micros);
  });
}

TEST(Auction, A2HigherBidNeverLosesASlotUnderAnyPlacements) {
  ForRandom(4, 20000, RandomInstance, [](const Instance& in, Rng* rng) {
    if (in.ads.empty()) return;
    const auto ad = static_cast<uint32_t>(rng->Below(in.ads.size()));
    Instance raised = in;
    raised.ads[ad].bid +=
        1 + static_cast<int64_t>(rng->Below(2 * in.ads[ad].bid));
    const AuctionResult before = Sell(in), after = Sell(raised);
    const auto old_slot = SlotOf(before, ad), new_slot = SlotOf(after, ad);
    if (!old_slot.has_value()) return;
    ASSERT_TRUE(new_slot.has_value());
    EXPECT_LE(PlaceOf(after, ad), PlaceOf(before, ad));
    // In the same slot the price is the others' doing.
    if (PlaceOf(after, ad) == PlaceOf(before, ad) &&
        new_slot->placement == old_slot->placement) {
      EXPECT_EQ(new_slot->price_micros, old_slot->price_micros);
    }
  });
}

TEST(Auction, A3PriceIsTheLeastThatKeepsThePlace) {
  ForRandom(5, 20000, RandomInstance, [](const Instance& in, Rng*) {
    for (const AuctionSlot& s : Sell(in).slots) {
      const auto& pctr = in.pctr[in.placements[s.placement].pctr_set];
      if (s.price_setter == PriceSetter::kReserve) {
        EXPECT_EQ(s.price_micros,
                  std::max<int64_t>(1, in.placements[s.placement].reserve));
        continue;
      }
      const int64_t own = Units(pctr[s.ad]);
      const int64_t next = in.ads[s.next_ad].bid * Units(pctr[s.next_ad]);
      EXPECT_GE(s.price_micros * own, next);
      EXPECT_LT((s.price_micros - 1) * own, next);
    }
  });
}

TEST(Auction, A4PermutingTheCandidatesChangesNothing) {
  ForRandom(6, 10000, RandomInstance, [](const Instance& in, Rng* rng) {
    std::vector<uint32_t> order(in.ads.size());
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[rng->Below(i)]);
    }
    Instance shuffled = in;
    for (size_t i = 0; i < order.size(); ++i) {
      shuffled.ads[i] = in.ads[order[i]];
      for (int set = 0; set < 2; ++set) {
        shuffled.pctr[set][i] = in.pctr[set][order[i]];
      }
    }
    AuctionResult result = Sell(shuffled);
    for (AuctionSlot& s : result.slots) {
      s.ad = order[s.ad];
      if (s.price_setter == PriceSetter::kNextScore) {
        s.next_ad = order[s.next_ad];
      }
    }
    ExpectSame(result, Sell(in));
  });
}

TEST(Auction, A4TiesAreBrokenAnewForEachRequest) {
  Instance in;
  for (uint32_t i = 0; i < 8; ++i) {
    in.ads.push_back({absl::StrCat("ad", i), i, 100});
  }
  in.pctr = {std::vector<float>(8, 0.125f)};
  in.placements = {{1, 0, 0}};
  std::set<uint32_t> winners;
  for (uint64_t salt = 0; salt < 200; ++salt) {
    in.options.tie_salt = Hash64(absl::StrCat("request", salt));
    winners.insert(Sell(in).slots[0].ad);
  }
  EXPECT_EQ(winners.size(), 8u);
}

TEST(Auction, A5ScalingBidsAndReservesScalesPrices) {
  ForRandom(7, 10000, RandomInstance, [](const Instance& in, Rng* rng) {
    const auto c = static_cast<int64_t>(1 + rng->Below(1000));
    Instance scaled = in;
    for (Ad& ad : scaled.ads) ad.bid *= c;
    // The least reserve is 1 micro: scale that too.
    for (Slots& s : scaled.placements) {
      s.reserve = std::max<int64_t>(1, s.reserve) * c;
    }
    const AuctionResult before = Sell(in), after = Sell(scaled);
    ASSERT_EQ(before.slots.size(), after.slots.size());
    for (size_t s = 0; s < before.slots.size(); ++s) {
      ASSERT_EQ(before.slots[s].ad, after.slots[s].ad);
      // Rounding up to whole micros is worth less than one micro, times c.
      EXPECT_LE(after.slots[s].price_micros, before.slots[s].price_micros * c);
      EXPECT_GT(after.slots[s].price_micros,
                (before.slots[s].price_micros - 1) * c);
    }
  });
}

TEST(Auction, A5ScalingAllPctrsChangesNothing) {
  ForRandom(8, 10000, RandomInstance, [](const Instance& in, Rng* rng) {
    Instance scaled = in;
    // A power of two is exact.
    const float c = std::ldexp(1.0f, -static_cast<int>(rng->Below(60)));
    for (auto& pctr : scaled.pctr) {
      for (float& q : pctr) q *= c;
    }
    ExpectSame(Sell(scaled), Sell(in));
  });
}

TEST(Auction, A6LoserBelowAllReservesChangesNothing) {
  ForRandom(9, 10000, RandomInstance, [](const Instance& in, Rng* rng) {
    int64_t lowest = in.placements[0].reserve;
    for (const Slots& s : in.placements) lowest = std::min(lowest, s.reserve);
    if (lowest < 2) return;
    Instance more = in;
    more.ads.push_back({"new", static_cast<uint32_t>(rng->Below(6)),
                        1 + static_cast<int64_t>(rng->Below(lowest - 1))});
    for (auto& pctr : more.pctr) pctr.push_back(1.0f);
    const AuctionResult before = Sell(in), after = Sell(more);
    ASSERT_EQ(before.slots.size(), after.slots.size());
    for (size_t s = 0; s < before.slots.size(); ++s) {
      EXPECT_EQ(before.slots[s].ad, after.slots[s].ad);
      EXPECT_EQ(before.slots[s].price_micros, after.slots[s].price_micros);
    }
    EXPECT_EQ(before.above_reserve, after.above_reserve);
  });
}

TEST(Auction, A6NewRivalNeverLowersAnothersPrice) {
  ForRandom(10, 20000, UniformInstance, [](const Instance& in, Rng* rng) {
    Instance more = in;
    const bool limited = in.options.max_ads_per_advertiser != 0;
    // With a limit an ad may take its sibling's place, and the sibling's score
    // no longer sets prices; hence an advertiser of its own.
    more.ads.push_back({"new",
                        limited ? 99 : static_cast<uint32_t>(rng->Below(6)),
                        1 + static_cast<int64_t>(rng->Below(1000000))});
    for (auto& pctr : more.pctr) {
      pctr.push_back(static_cast<float>(rng->Below(1025)) / 1024);
    }
    const AuctionResult before = Sell(in), after = Sell(more);
    for (const AuctionSlot& s : after.slots) {
      if (s.ad + 1 == more.ads.size()) continue;
      const auto old_slot = SlotOf(before, s.ad);
      ASSERT_TRUE(old_slot.has_value());
      const bool sibling =
          !limited && more.ads[s.ad].advertiser == more.ads.back().advertiser;
      if (sibling) continue;
      EXPECT_GE(s.price_micros, old_slot->price_micros);
    }
  });
}

TEST(Auction, A9LimitHoldsAndSiblingsNeverSetThePrice) {
  ForRandom(11, 20000, RandomInstance, [](const Instance& in, Rng*) {
    std::map<uint32_t, uint32_t> shown;
    std::set<uint32_t> ads;
    for (const AuctionSlot& s : Sell(in).slots) {
      EXPECT_TRUE(ads.insert(s.ad).second) << "shown twice";
      const uint32_t v = in.ads[s.ad].advertiser;
      if (v == AuctionAd::kNoAdvertiser) continue;
      ++shown[v];
      if (in.options.max_ads_per_advertiser != 0) {
        EXPECT_LE(shown[v], in.options.max_ads_per_advertiser);
      }
      if (s.price_setter == PriceSetter::kNextScore) {
        EXPECT_NE(in.ads[s.next_ad].advertiser, v);
      }
    }
  });
}

TEST(Auction, A9AdvertiserWithTheBestAdsPaysTheRivalsPrice) {
  Instance in;
  in.ads = {{"x1", 0, 1000}, {"x2", 0, 900}, {"y", 1, 500}, {"z", 2, 400}};
  in.pctr = {{0.5f, 0.5f, 0.5f, 0.5f}};
  in.placements = {{2, 100, 0}};
  in.options.max_ads_per_advertiser = 1;
  const AuctionResult result = Sell(in);
  ASSERT_EQ(result.slots.size(), 2u);
  EXPECT_EQ(result.slots[0].ad, 0u);
  EXPECT_EQ(result.slots[0].price_micros, 500);  // y, not its sibling x2
  EXPECT_EQ(result.slots[1].ad, 2u);
  EXPECT_EQ(result.slots[1].price_micros, 400);  // z: x2 cannot be shown
}

TEST(Auction, ReasonTellsWhyASlotIsEmpty) {
  Instance in;
  in.ads = {{"a", 0, 1000}, {"b", 0, 100}};
  in.pctr = {{0.5f, 0.5f}};
  in.placements = {{2, 500, 0}};
  EXPECT_EQ(Sell(in).short_reason[0], v1::NO_AD_REASON_BELOW_RESERVE);
  EXPECT_EQ(Sell(in).above_reserve, 1u);
  in.options.max_ads_per_advertiser = 1;
  EXPECT_EQ(Sell(in).short_reason[0], v1::NO_AD_REASON_EXHAUSTED);
  in.placements = {{1, 500, 0}};
  EXPECT_EQ(Sell(in).short_reason[0], v1::NO_AD_REASON_UNSPECIFIED);
}

TEST(Auction, ManyCandidatesEqualTheOracle) {
  const auto large = [](Rng* rng) {
    Instance in;
    for (int i = 0; i < 1000; ++i) {
      in.ads.push_back({absl::StrCat("ad", i),
                        static_cast<uint32_t>(rng->Below(20)),
                        1 + static_cast<int64_t>(rng->Below(1000000))});
    }
    for (int set = 0; set < 2; ++set) {
      std::vector<float>& pctr = in.pctr.emplace_back();
      for (int i = 0; i < 1000; ++i) {
        pctr.push_back(static_cast<float>(rng->Below(100)) / 1024);
      }
    }
    in.placements = {{8, 1000, 0}, {8, 500, 0}, {16, 0, 1}};
    in.options.max_ads_per_advertiser = static_cast<uint32_t>(rng->Below(4));
    return in;
  };
  ForRandom(12, 20, large,
            [](const Instance& in, Rng*) { ExpectSame(Sell(in), Oracle(in)); });
}

}  // namespace
}  // namespace adrank
