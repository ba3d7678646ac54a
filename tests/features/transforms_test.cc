#include "features/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

using ::testing::ElementsAre;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMax = std::numeric_limits<double>::max();

std::string Format(double v) {
  char buffer[kNumberTextSize];
  return std::string(FormatNumber(v, buffer));
}

TEST(LogSquareBin, Table) {
  struct Row {
    double v;
    int64_t bin;
  };
  for (const Row& row :
       std::vector<Row>{{-kMax, -2147483648},
                        {-2147483649.0, -2147483648},
                        {-7.9, -7},
                        {-1, -1},
                        {-0.5, 0},
                        {-0.0, 0},
                        {0, 0},
                        {0.99, 0},
                        {1, 1},
                        {1.99, 1},
                        {2, 2},
                        {std::nextafter(2.0, 3.0), 3},
                        {2.718, 3},
                        {2.719, 4},  // ln^2 = 1 at e
                        {4.113, 4},
                        {4.114, 5},  // ln^2 = 2 at e^1.4142 = 4.1133
                        {10, 8},     // 5.30
                        {100, 24},   // 21.2
                        {1000, 50},  // 47.7
                        {1e6, 193},  // 190.9
                        {kMax, 503794}}) {
    EXPECT_EQ(LogSquareBin(row.v), row.bin) << row.v;
  }
}

TEST(LogSquareBin, NeverDecreases) {
  Rng rng(1);
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(rng.Normal() * std::exp(rng.Normal() * 5));
  }
  std::sort(values.begin(), values.end());
  for (size_t i = 1; i < values.size(); ++i) {
    ASSERT_LE(LogSquareBin(values[i - 1]), LogSquareBin(values[i]));
  }
}

TEST(QuantileBin, BoundaryBelongsToTheUpperBin) {
  const std::vector<double> boundaries = {-1, 0, 5};
  for (auto [v, bin] : std::map<double, int64_t>{
           {-2, 0}, {-1, 1}, {-0.5, 1}, {0, 2}, {4.9, 2}, {5, 3}, {kMax, 3}}) {
    EXPECT_EQ(QuantileBin(boundaries, v), bin) << v;
  }
  EXPECT_EQ(QuantileBin(boundaries, -0.0), 2);
  EXPECT_EQ(QuantileBin({}, 7), 0);
}

TEST(SignedLog1p, IsOdd) {
  EXPECT_EQ(SignedLog1p(0), 0);
  EXPECT_DOUBLE_EQ(SignedLog1p(std::exp(1.0) - 1), 1);
  EXPECT_EQ(SignedLog1p(-3), -SignedLog1p(3));
}

TEST(LearnBoundaries, TinyAndConstantSamples) {
  EXPECT_THAT(LearnBoundaries({}, 32), ElementsAre(0));
  EXPECT_THAT(LearnBoundaries({NAN, kInf, -kInf}, 32), ElementsAre(0));
  EXPECT_THAT(LearnBoundaries({7}, 2), ElementsAre(7));
  EXPECT_THAT(LearnBoundaries({7, 7, 7, 7}, 32), ElementsAre(7));
  EXPECT_THAT(LearnBoundaries({0.0, -0.0}, 32), ElementsAre(0));
  EXPECT_THAT(LearnBoundaries({2, 1}, 32), ElementsAre(2));
  EXPECT_THAT(LearnBoundaries({3, 1, 2, NAN}, 32), ElementsAre(2, 3));
}

TEST(LearnBoundaries, EqualSharesOfDistinctNumbers) {
  std::vector<double> sample;
  for (int i = 99; i >= 0; --i) sample.push_back(i);
  EXPECT_THAT(LearnBoundaries(sample, 4), ElementsAre(25, 50, 75));
  EXPECT_THAT(LearnBoundaries(sample, 2), ElementsAre(50));
}

TEST(LearnBoundaries, HeavyTieGetsItsOwnBinAndTheRestIsSharedOut) {
  std::vector<double> sample(900, 0.0);
  for (int i = 1; i <= 100; ++i) sample.push_back(i);
  EXPECT_THAT(LearnBoundaries(sample, 5), ElementsAre(1, 26, 51, 76));
}

TEST(LearnBoundaries, FewerDistinctNumbersThanBinsGetABinEach) {
  std::vector<double> sample(1000, 1.0);
  sample.insert(sample.end(), {2, 3, 3, 4});
  EXPECT_THAT(LearnBoundaries(sample, 4), ElementsAre(2, 3, 4));
  EXPECT_THAT(LearnBoundaries(sample, 400), ElementsAre(2, 3, 4));
}

TEST(LearnBoundaries, RandomSamplesWithTies) {
  Rng rng(5);
  for (int round = 0; round < 2000; ++round) {
    const int bins = 2 + static_cast<int>(rng.Below(40));
    const bool ties = rng.Bernoulli(0.5);
    std::vector<double> sample;
    for (uint64_t n = rng.Below(300); n > 0; --n) {
      const double v = rng.Exponential() * 20;
      sample.push_back(ties ? std::floor(v) : v);
    }
    const std::vector<double> b = LearnBoundaries(sample, bins);
    ASSERT_GE(b.size(), 1u);
    ASSERT_LE(b.size(), static_cast<size_t>(bins - 1));
    for (size_t i = 1; i < b.size(); ++i) ASSERT_LT(b[i - 1], b[i]);
    if (sample.size() < 2 || b.size() < 2) continue;
    std::map<int64_t, size_t> counts;
    for (double v : sample) ++counts[QuantileBin(b, v)];
    ASSERT_EQ(counts.size(), b.size() + 1) << "no bin is empty";
    if (ties) continue;
    for (auto [bin, count] : counts) {
      ASSERT_LE(count, sample.size() / static_cast<size_t>(bins) + 1);
    }
  }
}

TEST(FormatNumber, IsFrozen) {
  EXPECT_EQ(Format(3.0), "3");
  EXPECT_EQ(Format(0), "0");
  EXPECT_EQ(Format(-0.0), "0");
  EXPECT_EQ(Format(-12), "-12");
  EXPECT_EQ(Format(100000), "100000");
  EXPECT_EQ(Format(1234567890123456), "1234567890123456");
  EXPECT_EQ(Format(0.1), "0.1");
  EXPECT_EQ(Format(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(Format(1e-6), "0.000001");
  EXPECT_EQ(Format(1e-7), "1e-07");
  EXPECT_EQ(Format(1e20), "100000000000000000000");
  EXPECT_EQ(Format(1e21), "1e+21");
  EXPECT_EQ(Format(-kMax), "-1.7976931348623157e+308");
  EXPECT_EQ(Format(5e-324), "5e-324");
}

TEST(FormatNumber, ReadsBackAsTheSameNumber) {
  Rng rng(6);
  for (int i = 0; i < 100000; ++i) {
    double v;
    const uint64_t bits = rng();
    static_assert(sizeof(bits) == sizeof(v));
    __builtin_memcpy(&v, &bits, sizeof(v));
    if (i % 2 == 0) v = rng.Normal() * std::pow(10, rng.Below(24));
    if (!std::isfinite(v)) continue;
    ASSERT_EQ(std::strtod(Format(v).c_str(), nullptr), v);
    ASSERT_LT(Format(v).size(), static_cast<size_t>(kNumberTextSize));
  }
}

TEST(ParseFinite, OnlyFiniteNumbers) {
  double v = 0;
  EXPECT_TRUE(ParseFinite(" 1e3 ", &v));
  EXPECT_EQ(v, 1000);
  for (const char* bad :
       {"", "x", "1x", "inf", "-inf", "nan", "1e999", "1 2"}) {
    EXPECT_FALSE(ParseFinite(bad, &v)) << bad;
  }
}

}  // namespace
}  // namespace adrank
