// VectorIndex against scans in double and in float.
#include "server/trigger/vector_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "server/trigger/vector_kernel.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using Vectors = std::vector<std::vector<float>>;

std::vector<float> RandomVector(Rng* rng, size_t dims) {
  std::vector<float> v(dims);
  const double length = std::exp(rng->Normal() * 3);
  for (float& x : v) x = static_cast<float>(rng->Normal() * length);
  // Some have all their weight on one component.
  if (rng->Bernoulli(0.1)) v[rng->Below(dims)] *= 1000;
  return v;
}

// Around `centres` directions, as catalogues are.
Vectors Clustered(Rng* rng, size_t n, size_t dims, size_t centres) {
  Vectors middle(centres), all(n);
  for (auto& m : middle) {
    for (size_t c = 0; c < dims; ++c) {
      m.push_back(static_cast<float>(rng->Normal()));
    }
  }
  for (auto& v : all) {
    v = middle[rng->Below(centres)];
    for (float& x : v) x += static_cast<float>(0.5 * rng->Normal());
  }
  return all;
}

VectorIndex Build(const Vectors& vectors, size_t approximate_from = 0) {
  VectorIndex::Builder builder;
  for (size_t i = 0; i < vectors.size(); ++i) {
    EXPECT_OK(builder.Add(static_cast<uint32_t>(i), vectors[i]));
  }
  return std::move(builder).Build(approximate_from);
}

VectorIndex BuildForProducts(const Vectors& vectors,
                             size_t approximate_from = 0, uint32_t first = 0) {
  VectorIndex::Builder builder(0, VectorIndex::Metric::kProduct);
  for (size_t i = 0; i < vectors.size(); ++i) {
    EXPECT_OK(builder.Add(first + static_cast<uint32_t>(i), vectors[i]));
  }
  return std::move(builder).Build(approximate_from);
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

enum class How { kAll, kAmong, kApproximately };

std::vector<VectorIndex::Hit> Find(const VectorIndex& index,
                                   const std::vector<float>& vector, size_t k,
                                   float least, How how,
                                   VectorIndex::Filter filter) {
  VectorIndex::Query query;
  VectorIndex::Top top;
  index.Prepare(vector, &query);
  top.Start(k, least);
  if (how == How::kAll) index.Search(filter, &query, &top);
  if (how == How::kApproximately) {
    index.SearchApproximately(filter, &query, &top);
  }
  if (how == How::kAmong) {
    std::vector<uint32_t> among;
    for (uint32_t i = 0; i < index.size(); ++i) {
      if (filter(i)) among.push_back(i);
    }
    index.SearchAmong(
        among, [](uint32_t) { return true; }, &query, &top);
  }
  return top.Finish();
}

// The plain scan: every cosine, all sorted.
std::vector<VectorIndex::Hit> Scan(const VectorIndex& index,
                                   const std::vector<float>& vector, size_t k,
                                   float least, VectorIndex::Filter filter) {
  VectorIndex::Query query;
  index.Prepare(vector, &query);
  std::vector<VectorIndex::Hit> all;
  for (uint32_t i = 0; i < index.size(); ++i) {
    const float similarity = index.Similarity(i, query);
    if (similarity >= least && filter(i)) {
      all.push_back({similarity, index.ad(i), index.ad(i)});
    }
  }
  std::sort(all.begin(), all.end(), VectorIndex::Better);
  if (all.size() > k) all.resize(k);
  return all;
}

void ExpectSame(const std::vector<VectorIndex::Hit>& a,
                const std::vector<VectorIndex::Hit>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].ad, b[i].ad) << i;
    EXPECT_EQ(a[i].similarity, b[i].similarity) << i;
  }
}

double RecallOf(const std::vector<VectorIndex::Hit>& found,
                const std::vector<VectorIndex::Hit>& truth) {
  std::set<uint32_t> ads;
  for (const auto& hit : found) ads.insert(hit.ad);
  size_t both = 0;
  for (const auto& hit : truth) both += ads.count(hit.ad);
  return truth.empty()
             ? 1
             : static_cast<double>(both) / static_cast<double>(truth.size());
}

TEST(VectorIndex, SimilarityIsTheCosineForDimensions1To257) {
  Rng rng(1);
  for (size_t dims = 1; dims <= 257; ++dims) {
    Vectors vectors;
    for (int i = 0; i < 20; ++i) vectors.push_back(RandomVector(&rng, dims));
    const VectorIndex index = Build(vectors);
    const std::vector<float> q = RandomVector(&rng, dims);
    VectorIndex::Query query;
    index.Prepare(q, &query);
    for (size_t i = 0; i < index.size(); ++i) {
      EXPECT_NEAR(index.Similarity(i, query), Cosine(q, vectors[i]), 1e-6);
    }
  }
}

TEST(VectorIndex, T8ExactSearchIsTheScanWhateverTheFilterThousandsOfCases) {
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const size_t dims = 1 + rng.Below(seed % 10 == 0 ? 257 : 24);
    const size_t n = rng.Below(seed % 7 == 0 ? 3000 : 200);
    Vectors vectors;
    for (size_t i = 0; i < n; ++i) {
      // Some again: their similarities tie.
      vectors.push_back(i > 0 && rng.Bernoulli(0.2) ? vectors[rng.Below(i)]
                                                    : RandomVector(&rng, dims));
    }
    const VectorIndex index = Build(vectors, rng.Bernoulli(0.5) ? 1 : 0);
    const double share = rng.Uniform();
    std::vector<uint8_t> pass(n);
    for (auto& p : pass) p = rng.Bernoulli(share);
    const auto filter = [&](uint32_t i) { return pass[index.ad(i)] != 0; };
    const size_t k = rng.Below(40);
    const auto least = static_cast<float>(rng.Uniform() * 2 - 1);
    if (n == 0) continue;
    const auto q = RandomVector(&rng, dims);
    const auto truth = Scan(index, q, k, least, filter);
    ExpectSame(Find(index, q, k, least, How::kAll, filter), truth);
    ExpectSame(Find(index, q, k, least, How::kAmong, filter), truth);
    if (HasFailure()) return;
  }
}

TEST(VectorIndex, KernelsOfAllInstructionSetsPassTheSameVectors) {
  Rng rng(5);
  for (int round = 0; round < 300; ++round) {
    const size_t count = 1 + rng.Below(9), groups = 1 + rng.Below(70);
    std::vector<uint8_t> memory(count * groups * 64 + 64);
    auto* blocks =
        memory.data() + 64 - reinterpret_cast<uintptr_t>(memory.data()) % 64;
    for (size_t i = 0; i < count * groups * 64; ++i) {
      blocks[i] = static_cast<uint8_t>(1 + rng.Below(255));
    }
    std::vector<int8_t> query(groups * 4);
    int32_t bias = 0;
    for (auto& q : query) {
      q = static_cast<int8_t>(static_cast<int>(rng.Below(255)) - 127);
      bias += 128 * q;
    }
    std::vector<float> scales(count * 16, 1.0f), residuals(count * 16, 0.0f);
    // Sums are whole numbers: nothing rounds at this threshold.
    const VectorScan scan = {blocks,
                             scales.data(),
                             residuals.data(),
                             count,
                             groups,
                             query.data(),
                             bias,
                             1.0f,
                             1.0f,
                             static_cast<float>(rng.Normal() * 20000)};
    std::vector<uint32_t> expected(count * 16), found(count * 16);
    expected.resize(VectorScanFor(Isa::kPortable)(scan, expected.data()));
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
      const VectorScanFn fn = VectorScanFor(isa);
      if (fn == nullptr) continue;
      found.resize(count * 16);
      found.resize(fn(scan, found.data()));
      EXPECT_EQ(found, expected) << static_cast<int>(isa);
    }
    size_t slow = 0;  // the definition
    for (size_t v = 0; v < count * 16; ++v) {
      int64_t dot = 0;
      for (size_t c = 0; c < groups * 4; ++c) {
        const size_t at = v / 16 * groups * 64 + c / 4 * 64 + v % 16 * 4;
        dot += (int64_t{blocks[at + c % 4]} - 128) * query[c];
      }
      slow += static_cast<float>(dot) >= scan.threshold;
    }
    EXPECT_EQ(expected.size(), slow);
  }
}

TEST(VectorIndex, WhatIsNotAVectorIsRefusedAndSaysWhy) {
  VectorIndex::Builder builder;
  const auto message = [&](std::vector<float> v) {
    return std::string(builder.Add(0, v).message());
  };
  EXPECT_EQ(message({}), "embedding has 0 components, not 1 to 2048");
  EXPECT_EQ(message(std::vector<float>(2049, 1)),
            "embedding has 2049 components, not 1 to 2048");
  EXPECT_EQ(message({1, std::numeric_limits<float>::quiet_NaN()}),
            "embedding has a component that is not finite");
  EXPECT_EQ(message({1, std::numeric_limits<float>::infinity()}),
            "embedding has a component that is not finite");
  EXPECT_EQ(message({0, -0.0f}), "embedding is 0 in all components");
  ASSERT_OK(builder.Add(3, std::vector<float>{1, 2}));
  EXPECT_EQ(message({1, 2, 3}), "embedding has 3 components, others have 2");
  EXPECT_EQ(builder.size(), 1u);
}

TEST(VectorIndex, LargestAndLeastNumbersAreStillDirections) {
  const float big = std::numeric_limits<float>::max();
  const float tiny = std::numeric_limits<float>::denorm_min();
  const VectorIndex index = Build({{big, big}, {tiny, tiny}, {big, -big}});
  const auto yes = [](uint32_t) { return true; };
  for (const float q : {big, tiny, 1.0f}) {
    const auto hits = Find(index, {q, q}, 3, -1, How::kAll, yes);
    ASSERT_EQ(hits.size(), 3u);
    EXPECT_NEAR(hits[0].similarity, 1, 1e-6);
    EXPECT_NEAR(hits[1].similarity, 1, 1e-6);
    EXPECT_NEAR(hits[2].similarity, 0, 1e-6);
  }
}

TEST(VectorIndex, NoAdAndOneAd) {
  const VectorIndex none = Build({});
  EXPECT_EQ(none.size(), 0u);
  EXPECT_EQ(none.dims(), 0u);
  const VectorIndex one = Build({{3, 4}}, 1);
  const auto yes = [](uint32_t) { return true; };
  for (const How how : {How::kAll, How::kAmong, How::kApproximately}) {
    const auto hits = Find(one, {3, 4}, 10, 0, how, yes);
    ASSERT_EQ(hits.size(), 1u);
    EXPECT_NEAR(hits[0].similarity, 1, 1e-6);
    EXPECT_TRUE(Find(one, {-3, -4}, 10, 0, how, yes).empty());
    EXPECT_TRUE(Find(one, {3, 4}, 0, -1, how, yes).empty());
  }
}

// Selectivity 100 to 0.1 %; the filter independent of the vectors, or refusing
// those that are nearest to the query.
TEST(VectorIndex, T8ApproximateRecallIsAtLeast95PercentUnderEveryFilter) {
  constexpr size_t kN = 60000, kDims = 32, kBest = 100;
  Rng rng(11);
  const Vectors vectors = Clustered(&rng, kN, kDims, 300);
  const VectorIndex index = Build(vectors, 1);
  ASSERT_TRUE(index.approximate());
  for (const double share : {1.0, 0.5, 0.1, 0.01, 0.001}) {
    for (const bool against : {false, true}) {
      double recall = 0;
      constexpr int kQueries = 20;
      for (int round = 0; round < kQueries; ++round) {
        auto q = vectors[rng.Below(kN)];
        for (float& x : q) x += static_cast<float>(0.3 * rng.Normal());
        VectorIndex::Query query;
        index.Prepare(q, &query);
        std::vector<std::pair<double, uint32_t>> order(kN);
        for (uint32_t i = 0; i < kN; ++i) {
          order[i] = {against ? index.Similarity(i, query) : rng.Uniform(), i};
        }
        std::sort(order.begin(), order.end());
        std::vector<uint8_t> pass(kN);
        for (size_t r = 0; r < share * kN; ++r) pass[order[r].second] = 1;
        const auto filter = [&](uint32_t i) { return pass[i] != 0; };
        const auto found =
            Find(index, q, kBest, -1, How::kApproximately, filter);
        EXPECT_EQ(found.size(),
                  std::min<size_t>(kBest, static_cast<size_t>(share * kN)));
        std::set<uint32_t> allowed;
        for (uint32_t i = 0; i < kN; ++i) {
          if (pass[i]) allowed.insert(index.ad(i));
        }
        for (const auto& hit : found) EXPECT_TRUE(allowed.count(hit.ad));
        recall += RecallOf(found, Scan(index, q, kBest, -1, filter)) / kQueries;
      }
      RecordProperty("recall", std::to_string(recall));
      EXPECT_GE(recall, 0.95) << share << (against ? " against" : "");
      std::printf("share %g %s: recall %.4f\n", share,
                  against ? "against" : "independent", recall);
    }
  }
}

TEST(VectorIndex, IsTheSameWheneverItIsBuilt) {
  Rng rng(2);
  const Vectors vectors = Clustered(&rng, 3000, 17, 20);
  const VectorIndex a = Build(vectors, 1), b = Build(vectors, 1);
  const auto yes = [](uint32_t) { return true; };
  ExpectSame(Find(a, vectors[5], 50, -1, How::kApproximately, yes),
             Find(b, vectors[5], 50, -1, How::kApproximately, yes));
}

constexpr float kAnyProduct = -1e29f;

// Lengths over many orders of magnitude, and none at all.
Vectors OfManyLengths(Rng* rng, size_t n, size_t dims) {
  Vectors vectors;
  for (size_t i = 0; i < n; ++i) {
    vectors.push_back(i > 0 && rng->Bernoulli(0.2) ? vectors[rng->Below(i)]
                                                   : RandomVector(rng, dims));
    if (rng->Bernoulli(0.05)) vectors[i].assign(dims, 0.0f);
  }
  return vectors;
}

// Products know no bound: one of more than 2 was kept where none was asked for.
TEST(VectorIndex, TheBestNoneOfLargeProductsAreNone) {
  VectorIndex::Top top;
  top.Start(0, kAnyProduct);
  EXPECT_FALSE(top.Wants({3, 0, 0}));
  EXPECT_FALSE(top.Wants({1e30f, 0, 0}));
  EXPECT_THAT(top.Finish(), ::testing::IsEmpty());
}

TEST(VectorIndex, T8ByProductExactSearchIsTheScanThousandsOfCases) {
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const size_t dims = 1 + rng.Below(seed % 10 == 0 ? 257 : 24);
    const size_t n = 1 + rng.Below(seed % 7 == 0 ? 3000 : 200);
    const Vectors vectors = OfManyLengths(&rng, n, dims);
    const VectorIndex index =
        BuildForProducts(vectors, rng.Bernoulli(0.5) ? 1 : 0);
    const double share = rng.Uniform();
    std::vector<uint8_t> pass(n);
    for (auto& p : pass) p = rng.Bernoulli(share);
    const auto filter = [&](uint32_t i) { return pass[index.ad(i)] != 0; };
    const size_t k = rng.Below(40);
    const auto q = RandomVector(&rng, dims);
    const auto truth = Scan(index, q, k, kAnyProduct, filter);
    ExpectSame(Find(index, q, k, kAnyProduct, How::kAll, filter), truth);
    ExpectSame(Find(index, q, k, kAnyProduct, How::kAmong, filter), truth);
    VectorIndex::Query query;
    index.Prepare(q, &query);
    for (uint32_t i = 0; i < n; ++i) {
      double product = 0, lengths = 0;
      const auto& v = vectors[index.ad(i)];
      for (size_t c = 0; c < dims; ++c) {
        product += double{q[c]} * v[c];
        lengths += std::abs(double{q[c]} * v[c]);
      }
      ASSERT_NEAR(double{index.Similarity(i, query)} * query.length, product,
                  3e-6 * lengths);
    }
    if (HasFailure()) return;
  }
}

// Each is scaled by a power of 2 of its own.
TEST(VectorIndex, TwoIndicesByProductAreSearchedAsOne) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const size_t dims = 1 + rng.Below(20), n = 1 + rng.Below(200);
    const Vectors all = OfManyLengths(&rng, n, dims);
    const size_t first = rng.Below(n);
    const VectorIndex whole = BuildForProducts(all);
    const VectorIndex a = BuildForProducts({all.begin(), all.begin() + first}),
                      b = BuildForProducts({all.begin() + first, all.end()}, 0,
                                           static_cast<uint32_t>(first));
    const auto yes = [](uint32_t) { return true; };
    const auto q = RandomVector(&rng, dims);
    VectorIndex::Query query;
    VectorIndex::Top top;
    top.Start(10, kAnyProduct);
    for (const VectorIndex* part : {&a, &b}) {
      if (part->size() == 0) continue;
      part->Prepare(q, &query);
      part->Search(yes, &query, &top);
    }
    ExpectSame(top.Finish(), Find(whole, q, 10, kAnyProduct, How::kAll, yes));
    if (HasFailure()) return;
  }
}

TEST(VectorIndex, ByProductZerosAreVectorsAndTheLargestAreRefused) {
  VectorIndex::Builder builder(0, VectorIndex::Metric::kProduct);
  ASSERT_OK(builder.Add(0, std::vector<float>{0, 0}));
  EXPECT_EQ(builder.Add(1, std::vector<float>{0, 2e30f}).message(),
            "embedding has a component beyond 1e+30");
  ASSERT_OK(builder.Add(2, std::vector<float>{1e30f, -1e30f}));
  ASSERT_OK(builder.Add(3, std::vector<float>{-1e-30f, 0}));
  const VectorIndex index = std::move(builder).Build(1);
  const auto yes = [](uint32_t) { return true; };
  for (const How how : {How::kAll, How::kAmong, How::kApproximately}) {
    const auto hits = Find(index, {2, 0}, 3, kAnyProduct, how, yes);
    ASSERT_EQ(hits.size(), 3u);
    EXPECT_EQ(hits[0].ad, 2u);
    EXPECT_FLOAT_EQ(hits[0].similarity, 1e30f);
    EXPECT_EQ(hits[1].ad, 0u);
    EXPECT_EQ(hits[2].ad, 3u);
  }
}

TEST(VectorIndex, T8ApproximateRecallByProductIsAtLeast95Percent) {
  constexpr size_t kN = 60000, kDims = 24, kBest = 100;
  Rng rng(13);
  // One component is common to all requests, as a model's own part is.
  Vectors vectors = Clustered(&rng, kN, kDims, 300);
  for (auto& v : vectors) {
    const auto length = static_cast<float>(std::exp(0.5 * rng.Normal()));
    for (float& x : v) x *= length;
    v.push_back(static_cast<float>(2 * rng.Normal()));
  }
  const VectorIndex index = BuildForProducts(vectors, 1);
  for (const double share : {1.0, 0.1, 0.01}) {
    double recall = 0;
    constexpr int kQueries = 20;
    for (int round = 0; round < kQueries; ++round) {
      auto q = vectors[rng.Below(kN)];
      for (float& x : q) x = 0.3f * (x + static_cast<float>(rng.Normal()));
      q.back() = 1;
      std::vector<uint8_t> pass(kN);
      for (auto& p : pass) p = rng.Bernoulli(share);
      const auto filter = [&](uint32_t i) { return pass[i] != 0; };
      recall += RecallOf(Find(index, q, kBest, kAnyProduct, How::kApproximately,
                              filter),
                         Scan(index, q, kBest, kAnyProduct, filter)) /
                kQueries;
    }
    std::printf("by product, share %g: recall %.4f\n", share, recall);
    EXPECT_GE(recall, 0.95) << share;
  }
}

}  // namespace
}  // namespace adrank
