#include "trainer/id_filter.h"

#include <cmath>
#include <map>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "trainer/id_table.h"

namespace adrank {
namespace {

// Ids of a stream, Zipf-like: most once, some often.
std::vector<uint64_t> Stream(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint64_t> ids(n);
  for (uint64_t& id : ids) {
    id = MixBits(static_cast<uint64_t>(std::exp2(20 * rng.Uniform()))) | 1;
  }
  return ids;
}

TEST(IdFilter, NeverCountsLessThanTheExactCount) {
  for (const uint64_t bytes : {0, 8, 1000, 100'000, 10'000'000}) {
    IdFilter filter(bytes);
    std::map<uint64_t, uint32_t> exact;
    Rng rng(1);
    for (const uint64_t id : Stream(50'000, 2)) {
      const auto n = static_cast<uint32_t>(rng.Below(3));
      filter.Add(id, n);
      exact[id] += n;
    }
    size_t more = 0;
    for (const auto& [id, count] : exact) {
      const uint32_t want = std::min(count, IdFilter::kMaxCount);
      ASSERT_GE(filter.AtMost(id), want);
      ASSERT_LE(filter.AtMost(id), IdFilter::kMaxCount);
      more += filter.AtMost(id) != want;
    }
    if (bytes == 10'000'000) {
      EXPECT_LT(static_cast<double>(more),
                0.001 * static_cast<double>(exact.size()));
    }
  }
}

TEST(IdFilter, HoldsTheSameForAnyThreads) {
  const std::vector<uint64_t> ids = Stream(100'000, 3);
  IdFilter one(50'000), many(50'000);
  for (const uint64_t id : ids) one.Add(id, 1);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < ids.size(); i += 4) many.Add(ids[i], 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const uint64_t id : ids) ASSERT_EQ(one.AtMost(id), many.AtMost(id));
}

TEST(IdFilter, LetsAsManyRareIdsPassAsItsHeaderSays) {
  constexpr uint64_t kWords = 1 << 16;
  for (const auto [load, share] :
       {std::pair(0.5, 0.005), {1.0, 0.019}, {2.0, 0.07}, {4.0, 0.23}}) {
    IdFilter filter(kWords * 8);
    const auto n = static_cast<uint64_t>(load * kWords);
    for (uint64_t id = 1; id <= n; ++id) filter.Add(id, 1);
    uint64_t pass = 0;
    for (uint64_t id = 1; id <= n; ++id) pass += filter.AtMost(id) > 1;
    const double got = static_cast<double>(pass) / static_cast<double>(n);
    EXPECT_GT(got, 0.8 * share) << load;
    EXPECT_LT(got, 1.2 * share) << load;
  }
}

TEST(IdTable, HoldsOnlyWhatTheFilterAdmitsWithExactCounts) {
  const std::vector<uint64_t> ids = Stream(100'000, 5);
  std::map<uint64_t, uint32_t> exact;
  IdAdmission admission;
  IdFilter filter(400'000);
  for (const uint64_t id : ids) {
    filter.Add(id, 1);
    ++exact[id];
  }
  admission.filter = &filter;
  admission.min_counts = {2};
  IdTable table(&admission);
  {
    IdCache cache(&table);
    for (const uint64_t id : ids) cache.Intern(id, 0, 1);
  }
  size_t often = 0;
  for (const auto& [id, count] : exact) often += count >= 2;
  size_t found = 0;
  for (uint32_t s = 0; s < IdTable::kShards; ++s) {
    for (const IdTable::Entry& entry : table.shard(s)) {
      ASSERT_EQ(entry.examples, exact[entry.id]);
      found += entry.examples >= 2;
    }
  }
  EXPECT_EQ(found, often);
  EXPECT_LT(table.size(), often + exact.size() / 20);
}

TEST(IdTable, AnswersNoRowAndSaysSoWhenItIsFull) {
  IdTable table(nullptr, 1000);
  for (uint64_t id = 1; id <= 10'000; ++id) table.Intern(id, 0, 1);
  EXPECT_TRUE(table.overflowed());
  EXPECT_LE(table.size(), 1000 + IdTable::kShards);
  EXPECT_EQ(table.Intern(20'000, 0, 1), kNoRow);
  EXPECT_NE(table.Intern(1, 0, 1), kNoRow);
  table.AddExamples(kNoRow, 1);
}

}  // namespace
}  // namespace adrank
