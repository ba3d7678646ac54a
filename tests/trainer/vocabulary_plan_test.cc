#include "trainer/vocabulary_plan.h"

#include <algorithm>
#include <map>
#include <optional>
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
  EXPECT_OK(PackExamples(std::move(raw), table, plan, {oov_rate, seed}, &out));
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

// What the plan should keep, with maps instead of rows.
struct Nights {
  struct Id {
    uint16_t field, day;
  };
  std::map<uint64_t, Id> known;

  // Ids of `counts` by field, falling count and id.
  struct Seen {
    uint16_t field, day;
    uint32_t examples;
  };
  void Night(const std::map<uint64_t, Seen>& counts, uint32_t min_count,
             uint32_t after_days, int last_day) {
    for (const auto& [id, seen] : counts) {
      if (known.count(id) > 0) {
        known[id].day = std::max(known[id].day, seen.day);
      } else if (seen.examples >= min_count) {
        known[id] = {seen.field, seen.day};
      }
    }
    if (after_days == 0) return;
    for (auto it = known.begin(); it != known.end();) {
      const bool old =
          it->second.day <= last_day - static_cast<int>(after_days);
      it = old ? known.erase(it) : std::next(it);
    }
  }
};

TEST(VocabularyPlan, NightsOfChurnKeepWhatABruteForceMemoryKeeps) {
  for (const uint32_t after_days : {0, 1, 3}) {
    Rng rng(after_days);
    Nights want;
    std::string bytes;
    std::vector<uint16_t> days;
    std::vector<uint64_t> old_ids;
    size_t most = 0;
    for (int night = 0; night < 30; ++night) {
      // Two days a night of a stream whose ids drift; some return for ever.
      const int last_day = 100 + 2 * night;
      std::map<uint64_t, Nights::Seen> counts;
      IdTable table;
      for (int i = 0; i < 300; ++i) {
        const uint64_t k =
            rng.Bernoulli(0.2)
                ? rng.Below(50)
                : static_cast<uint64_t>(night) * 60 + rng.Below(150);
        const auto field = static_cast<uint16_t>(k % 3);
        const auto day = static_cast<uint16_t>(last_day - rng.Below(2));
        Nights::Seen& seen = counts[MixBits(k)];
        seen = {field, std::max(seen.day, day), seen.examples + 1};
        table.Intern(MixBits(k), field, 1, day);
      }
      want.Night(counts, 2, after_days, last_day);

      std::optional<Vocabulary> old;
      if (night > 0) old = *Vocabulary::Parse(bytes);
      Expiry expiry;
      expiry.after_days = after_days;
      expiry.last_day = static_cast<uint16_t>(last_day);
      expiry.seen = days;
      const VocabularyPlan plan(table, {2, 2, 2}, true, old ? &*old : nullptr,
                                expiry);
      ASSERT_EQ(plan.ids().size(), want.known.size()) << night;
      ASSERT_EQ(plan.seen().size(), plan.ids().size());
      ASSERT_EQ(plan.rows(), plan.ids().size() + 3);
      uint32_t last_source = 0;
      for (size_t row = 0; row < plan.ids().size(); ++row) {
        const auto it = want.known.find(plan.ids()[row]);
        ASSERT_NE(it, want.known.end()) << night;
        ASSERT_EQ(plan.seen()[row], it->second.day);
        if (night == 0) continue;
        const uint32_t source = plan.sources()[row];
        // The old rows are in front, in their order.
        if (source == kNoRow) {
          last_source = kNoRow;
          ASSERT_EQ(std::count(old_ids.begin(), old_ids.end(), plan.ids()[row]),
                    0);
        } else {
          ASSERT_TRUE(row == 0 || source > last_source);
          ASSERT_EQ(old_ids[source], plan.ids()[row]);
          last_source = source;
        }
      }
      if (night > 0) {
        ASSERT_EQ(old_ids.size() - plan.forgotten() + plan.added(),
                  plan.ids().size());
        for (uint32_t f = 0; f < 3; ++f) {  // OOV rows go on, too
          ASSERT_EQ(plan.sources()[plan.oov_rows()[f]], old->oov_rows()[f]);
        }
      }
      // Handles lead to the id's row or to none.
      for (uint32_t s = 0; s < IdTable::kShards; ++s) {
        for (uint32_t i = 0; i < table.shard(s).size(); ++i) {
          const uint32_t row = plan.RowOf((i << IdTable::kShardBits) | s);
          const uint64_t id = table.shard(s)[i].id;
          ASSERT_EQ(row != kNoRow, want.known.count(id) > 0);
          if (row != kNoRow) {
            ASSERT_EQ(plan.ids()[row], id);
          }
        }
      }
      most = std::max(most, plan.ids().size());
      old_ids = plan.ids();
      ASSERT_OK_AND_ASSIGN(
          days, ParseSeen(SerializeSeen(plan.seen()), old_ids.size()));
      bytes = Vocabulary::Serialize(plan.ids(), plan.oov_rows());
    }
    if (after_days == 0) {
      EXPECT_GT(most, 1000);
    } else {
      EXPECT_LT(most, 500);  // bounded, however many nights
    }
  }
}

TEST(SeenDays, AnyWrongByteIsFound) {
  const std::string bytes = SerializeSeen({1, 500, 65535});
  EXPECT_THAT(*ParseSeen(bytes, 3), ElementsAre(1, 500, 65535));
  EXPECT_FALSE(ParseSeen(bytes, 2).ok());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_FALSE(ParseSeen(damaged, 3).ok()) << i;
    EXPECT_FALSE(ParseSeen(bytes.substr(0, i), 3).ok()) << i;
  }
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
  ASSERT_OK(PackExamples(std::move(raw), table, plan, {}, &out));
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
