#include "trainer/vocabulary_plan.h"

#include <map>
#include <set>
#include <thread>

#include "base/rng.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(IdTable, CountsExactlyThroughTheCachesOfManyThreads) {
  IdTable table;
  constexpr int kThreads = 4, kPerThread = 40000;
  const auto id_of = [](uint64_t i) { return MixBits(i % 3001) | 1; };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      IdCache cache(&table);
      Rng rng(static_cast<uint64_t>(t));
      for (int i = 0; i < kPerThread; ++i) {
        cache.Intern(id_of(rng.Below(1 << 20)), 3, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::map<uint64_t, uint32_t> want;
  for (int t = 0; t < kThreads; ++t) {
    Rng rng(static_cast<uint64_t>(t));
    for (int i = 0; i < kPerThread; ++i) ++want[id_of(rng.Below(1 << 20))];
  }
  size_t ids = 0;
  for (uint32_t s = 0; s < IdTable::kShards; ++s) {
    for (const IdTable::Entry& entry : table.shard(s)) {
      ++ids;
      EXPECT_EQ(entry.examples, want[entry.id]);
      EXPECT_EQ(entry.field, 3);
    }
  }
  EXPECT_EQ(ids, want.size());
  EXPECT_EQ(table.size(), want.size());
  EXPECT_FALSE(table.overflowed());
}

TEST(VocabularyPlan, RowsFollowFieldCountAndIdNotTheOrderOfArrival) {
  IdTable table;
  const uint32_t c = table.Intern(30, 1, 9);
  const uint32_t rare = table.Intern(40, 0, 1);
  const uint32_t b = table.Intern(20, 0, 5);
  const uint32_t a = table.Intern(10, 0, 5);
  const uint32_t top = table.Intern(99, 0, 7);
  const VocabularyPlan plan(table, {2, 2}, false, nullptr);
  EXPECT_THAT(plan.ids(), ElementsAre(99, 10, 20, 30));
  EXPECT_THAT(plan.oov_rows(), IsEmpty());
  EXPECT_EQ(plan.rows(), 4u);
  EXPECT_EQ(plan.RowOf(top), 0u);
  EXPECT_EQ(plan.RowOf(a), 1u);
  EXPECT_EQ(plan.RowOf(b), 2u);
  EXPECT_EQ(plan.RowOf(c), 3u);
  EXPECT_EQ(plan.RowOf(rare), kNoRow);
}

TEST(VocabularyPlan, EachFieldHasItsOwnMinCount) {
  IdTable table;
  table.Intern(10, 0, 3);
  table.Intern(20, 1, 3);
  EXPECT_THAT(VocabularyPlan(table, {4, 3}, false, nullptr).ids(),
              ElementsAre(20));
}

TEST(VocabularyPlan, AWarmStartKeepsTheOldRowsAndAppendsTheNew) {
  const std::string bytes = Vocabulary::Serialize({70, 10}, {2, 3});
  ASSERT_OK_AND_ASSIGN(const Vocabulary old, Vocabulary::Parse(bytes));
  IdTable table;
  const uint32_t known = table.Intern(10, 0, 1);  // below min_count: stays
  const uint32_t fresh = table.Intern(5, 1, 9);
  const VocabularyPlan plan(table, {2, 2}, true, &old);
  EXPECT_THAT(plan.ids(), ElementsAre(70, 10, 5));
  EXPECT_THAT(plan.oov_rows(), ElementsAre(3, 4));
  EXPECT_EQ(plan.RowOf(known), 1u);
  EXPECT_EQ(plan.RowOf(fresh), 2u);
  // The out-of-vocabulary rows moved behind the new id.
  EXPECT_THAT(plan.sources(), ElementsAre(0, 1, kNoRow, 2, 3));
}

// Examples of two ids of field 0 (one of them rare) and one of field 1.
struct Packed {
  std::vector<std::vector<uint32_t>> rows;
  uint64_t drops = 0;
};
Packed PackThousands(double oov_rate, bool oov_rows, uint64_t seed) {
  IdTable table;
  const uint32_t common = table.Intern(10, 0, 9000);
  const uint32_t rare = table.Intern(11, 0, 1);
  const uint32_t other = table.Intern(20, 1, 9000);
  ExampleBlocks raw, out;
  for (int i = 0; i < 9000; ++i) {
    EXPECT_OK(raw.Add({common, rare, other}, {}, i % 2 == 0));
  }
  EXPECT_OK(raw.Finish());
  const VocabularyPlan plan(table, {2, 2}, oov_rows, nullptr);
  EXPECT_OK(PackExamples(raw, table, plan, {oov_rate, seed}, &out));
  Packed packed;
  EXPECT_OK(out.ForEach([&](const ExampleBlock& block) {
    for (size_t i = 0; i < block.examples(); ++i) {
      packed.rows.emplace_back(block.rows() + block.begin(i),
                               block.rows() + block.begin(i + 1));
      EXPECT_EQ(block.label(i), (packed.rows.size() - 1) % 2 == 0);
      for (uint32_t row : packed.rows.back()) packed.drops += row >= 2;
    }
    return absl::OkStatus();
  }));
  return packed;
}

TEST(PackExamples, RareIdsAreLeftOutAndNeverTrainTheOovRow) {
  const Packed packed = PackThousands(0, true, 1);
  ASSERT_EQ(packed.rows.size(), 9000u);
  for (const auto& rows : packed.rows) ASSERT_THAT(rows, ElementsAre(0, 1));
}

TEST(PackExamples, KnownIdsAreDroppedToTheRowOfTheirFieldAtTheRate) {
  const Packed packed = PackThousands(0.1, true, 1);
  // 18000 draws of 0.1: 1800 +- 4 standard deviations.
  EXPECT_NEAR(static_cast<double>(packed.drops), 1800, 162);
  for (const auto& rows : packed.rows) {
    ASSERT_EQ(rows.size(), 2u);
    ASSERT_TRUE(rows[0] == 0 || rows[0] == 2);
    ASSERT_TRUE(rows[1] == 1 || rows[1] == 3);
  }
  EXPECT_EQ(PackThousands(0.1, true, 1).rows, packed.rows);
  EXPECT_NE(PackThousands(0.1, true, 2).rows, packed.rows);
}

TEST(PackExamples, EntriesKeepTheirFieldsWhateverIsLeftOut) {
  IdTable table;
  const uint32_t first = table.Intern(10, 0, 9);
  const uint32_t rare = table.Intern(20, 1, 1);
  const uint32_t last = table.Intern(30, 2, 9);
  ExampleBlocks raw, out;
  ASSERT_OK(raw.Add({first, rare, last}, {}, true));  // implied
  ASSERT_OK(raw.Add({last, last, first}, {}, true, 1, 0, {2, 2, 0}));
  ASSERT_OK(raw.Finish());
  const VocabularyPlan plan(table, {2, 2, 2}, false, nullptr);
  ASSERT_OK(PackExamples(raw, table, plan, {}, &out));
  ASSERT_OK_AND_ASSIGN(const auto block, out.Read(0));
  ASSERT_EQ(block->entries(), 5);
  EXPECT_THAT(std::vector<uint16_t>(block->fields(), block->fields() + 5),
              ElementsAre(0, 2, 2, 2, 0));
}

TEST(PackExamples, WithoutOovRowsNothingIsDropped) {
  EXPECT_EQ(PackThousands(0.1, false, 1).drops, 0u);
}

}  // namespace
}  // namespace adrank
