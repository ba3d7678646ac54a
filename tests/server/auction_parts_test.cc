// What the auction is made of: exact products, powers, bids of events, options.
#include <cmath>
#include <limits>

#include "base/rng.h"
#include "base/textproto.h"
#include "gtest/gtest.h"
#include "server/rank/auction_ads.h"
#include "server/rank/exact_product.h"
#include "server/rank/score_kernels.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;
using Exact = __float128;

// Up to 60 significant bits, so that a product has 113, what Exact holds.
int64_t RandomBid(Rng* rng) {
  const uint64_t bits = (*rng)() >> (4 + rng->Below(60));
  const int64_t bid = static_cast<int64_t>(bits) << rng->Below(3);
  return std::max<int64_t>(1, bid);
}

double RandomWeight(Rng* rng) {
  if (rng->Bernoulli(0.05)) return 0;
  return std::ldexp(
      1 + rng->Uniform(),
      6 - static_cast<int>(rng->Below(rng->Bernoulli(0.5) ? 8 : 400)));
}

TEST(ExactProduct, ComparesAsWideArithmeticDoes) {
  Rng rng(301);
  for (int round = 0; round < 300000; ++round) {
    int64_t a = RandomBid(&rng), b = RandomBid(&rng);
    double x = RandomWeight(&rng), y = RandomWeight(&rng);
    if (rng.Bernoulli(0.3)) {  // near or at a tie
      b = a << 1 >> rng.Below(2);
      if (b > kMaxBidMicros) b = a;
      y = x * static_cast<double>(a) / static_cast<double>(b);
    }
    const Exact p = Exact(a) * Exact(x), q = Exact(b) * Exact(y);
    ASSERT_EQ(CompareProducts(a, x, b, y), (p > q) - (p < q))
        << "seed 301 round " << round << ": " << a << " * " << x << ", " << b
        << " * " << y;
  }
}

TEST(ExactProduct, LeastBidIsTheLeast) {
  Rng rng(302);
  for (int round = 0; round < 300000; ++round) {
    const int64_t bid = RandomBid(&rng);
    const double weight = RandomWeight(&rng), own = RandomWeight(&rng);
    const int64_t least = LeastBidFor(bid, weight, own);
    ASSERT_GE(least, 0);
    if (least > kMaxBidMicros) {
      ASSERT_LT(CompareProducts(kMaxBidMicros, own, bid, weight), 0);
      continue;
    }
    ASSERT_GE(CompareProducts(least, own, bid, weight), 0)
        << bid << " " << weight << " " << own;
    if (least > 0) {
      ASSERT_LT(CompareProducts(least - 1, own, bid, weight), 0)
          << bid << " " << weight << " " << own;
    }
  }
  EXPECT_EQ(LeastBidFor(5, 0.0, 0.5), 0);
  EXPECT_EQ(LeastBidFor(5, 0.5, 0.0), kMaxBidMicros + 1);
  EXPECT_EQ(LeastBidFor(kMaxBidMicros, 1.0, 1.0), kMaxBidMicros);
  EXPECT_EQ(LeastBidFor(1, 1e-150, 1.0), 1);
}

TEST(Power, IsCloseToTheWideOne) {
  Rng rng(303);
  for (const double power : {0.0, 0.25, 0.5, 0.9, 1.0, 1.5, 2.0, -1.0, -0.5}) {
    for (int round = 0; round < 20000; ++round) {
      const auto x = static_cast<double>(std::ldexp(
          static_cast<float>(1 + rng.Uniform()) / 2,
          -static_cast<int>(rng.Below(rng.Bernoulli(0.5) ? 5 : 149))));
      const long double expected = powl(x, power);
      ASSERT_NEAR(Power(x, power) / static_cast<double>(expected), 1, 0x1p-45)
          << x << "^" << power;
    }
  }
  EXPECT_EQ(Power(0, 0.5), 0);
  EXPECT_EQ(Power(0, 0), 1);
  EXPECT_EQ(Power(0.3, 0), 1);
  EXPECT_EQ(Power(1, 1.7), 1);
  EXPECT_NEAR(Power(std::numeric_limits<float>::denorm_min(), 2), 0x1p-298,
              0x1p-340);
}

TEST(Power, IsMonotone) {
  for (const double power : {0.01, 0.5, 1.3}) {
    float x = 1e-4f;
    for (int step = 0; step < 100000; ++step) {
      const float next = std::nextafter(x, 1.0f);
      ASSERT_LT(Power(x, power), Power(next, power)) << x;
      x = next;
    }
  }
}

// The loops that are compiled for several instruction sets against one element
// at a time.
TEST(ScoreKernels, EqualThePlainFormulas) {
  Rng rng(304);
  for (const size_t n : {0, 1, 3, 7, 8, 9, 63, 64, 65, 200, 1000}) {
    std::vector<int64_t> bid(n);
    std::vector<float> pctr(n), quality(n), impression(n);
    for (size_t i = 0; i < n; ++i) {
      bid[i] = RandomBid(&rng);
      pctr[i] = rng.Bernoulli(0.1) ? 0 : static_cast<float>(rng.Uniform());
      quality[i] = static_cast<float>(0.1 + rng.Uniform());
      impression[i] = rng.Bernoulli(0.2) ? 1 : 0;
    }
    for (const double alpha : {1.0, 0.0, 0.5}) {
      const double scale = alpha == 1 ? 1 : 0.3;
      std::vector<double> weight(n), score(n), plain(n);
      Weights(pctr.data(), quality.data(), impression.data(), alpha, scale, n,
              weight.data());
      const int64_t reserve = 1000;
      Scores(bid.data(), weight.data(), reserve, n, score.data());
      PlainScores(bid.data(), pctr.data(), reserve, n, plain.data());
      for (size_t i = 0; i < n; ++i) {
        const auto q = static_cast<double>(pctr[i]);
        const double click = alpha == 1 ? q : Power(q, alpha) * scale;
        const double expected = (impression[i] != 0 ? 1.0 : click) *
                                static_cast<double>(quality[i]);
        ASSERT_EQ(weight[i], expected) << i << " of " << n;
        const auto b = static_cast<double>(bid[i]);
        ASSERT_EQ(score[i], bid[i] < reserve ? -1 : b * expected);
        ASSERT_EQ(plain[i], bid[i] < reserve ? -1 : b * q);
      }
      std::vector<uint8_t> reached(n, 0);
      MarkReached(score.data(), n, reached.data());
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(reached[i], score[i] >= 0);
      for (const size_t lanes : {size_t{1}, size_t{8}, size_t{64}, n}) {
        if (lanes > n || lanes == 0) continue;
        std::vector<double> maximum(lanes), by_hand(lanes, -2);
        LaneMaxima(score.data(), n, lanes, maximum.data());
        for (size_t i = 0; i < n; ++i) {
          by_hand[i % lanes] = std::max(by_hand[i % lanes], score[i]);
        }
        ASSERT_EQ(maximum, by_hand);
      }
    }
  }
}

TEST(EventBid, OfEachBidType) {
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPC, 1234567, 0, 1), 1234567);
  EXPECT_EQ(EventBid(v1::BID_TYPE_UNSPECIFIED, 7, 0, 1), 7);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPM, 1234567, 0, 1), 1234);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPM, 999, 0, 1), 1);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPA, 1000000, 0.0625, 1), 62500);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPA, 10, 1e-9, 1), 1);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPC, 0, 0, 1), 0);
}

TEST(EventBid, PacingRoundsDownAndOneIsNoOperation) {
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPC, 1001, 0, 0.5f), 500);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPC, 1, 0, 0.01f), 1);
  EXPECT_EQ(EventBid(v1::BID_TYPE_CPM, 100000, 0, 0.25f), 25);
  for (const int64_t bid :
       {int64_t{1}, (int64_t{1} << 53) + 1, kMaxBidMicros - 1, kMaxBidMicros}) {
    EXPECT_EQ(EventBid(v1::BID_TYPE_CPC, bid, 0, 1), bid);
    const int64_t paced = EventBid(v1::BID_TYPE_CPC, bid, 0, 0.999f);
    EXPECT_GE(paced, 1);
    EXPECT_LE(paced, bid);
  }
}

absl::StatusOr<AuctionOptions> OptionsOf(const std::string& text) {
  v1::RankConfig config;
  EXPECT_OK(ParseTextProto(text, "test", &config));
  return AuctionOptions::Create(config);
}

TEST(AuctionOptions, DefaultsAndValues) {
  const auto standard = OptionsOf("");
  ASSERT_OK(standard);
  EXPECT_EQ(standard->pricing, v1::RankConfig::GSP);
  EXPECT_EQ(standard->reserve_kind, v1::RankConfig::PER_CLICK);
  EXPECT_EQ(standard->alpha, 1);
  EXPECT_EQ(standard->mean_pctr, 0.01);
  EXPECT_EQ(standard->position_effects, nullptr);
  const auto set = OptionsOf(
      "alpha: 0 pricing: VCG reserve_kind: QUALITY_WEIGHTED mean_pctr: 0.03 "
      "position_effects: 1 position_effects: 0.5 max_ads_per_advertiser: 2");
  ASSERT_OK(set);
  EXPECT_EQ(set->alpha, 0);
  EXPECT_EQ(set->pricing, v1::RankConfig::VCG);
  EXPECT_EQ(set->max_ads_per_advertiser, 2u);
  EXPECT_EQ(*set->position_effects,
            (std::vector<uint64_t>{kFullEffect, kFullEffect / 2}));
}

TEST(AuctionOptions, ErrorsNameTheFieldAndTheValue) {
  const auto error = [](const std::string& text) {
    return std::string(OptionsOf(text).status().message());
  };
  EXPECT_EQ(error("alpha: -0.5"), "rank.alpha: -0.5 not in [0, 2]");
  EXPECT_EQ(error("alpha: 2.5"), "rank.alpha: 2.5 not in [0, 2]");
  EXPECT_EQ(error("alpha: nan"), "rank.alpha: nan not in [0, 2]");
  EXPECT_EQ(error("mean_pctr: 1"), "rank.mean_pctr: 1 not in [1e-06, 1)");
  EXPECT_EQ(error("mean_pctr: -1"), "rank.mean_pctr: -1 not in [1e-06, 1)");
  EXPECT_EQ(error("position_effects: 1 position_effects: 0"),
            "rank.position_effects[1]: 0 not in (0, 1]");
  EXPECT_EQ(error("position_effects: 0.5 position_effects: 0.6"),
            "rank.position_effects[1]: 0.6 exceeds the one before, 0.5");
  EXPECT_EQ(error("pricing: 9"), "rank.pricing: 9 not in the known ones");
}

}  // namespace
}  // namespace adrank
