#include "trainer/example_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "model/model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

// The slow twin: what went in.
struct Example {
  std::vector<uint32_t> rows;
  std::vector<float> values;
  std::vector<uint16_t> fields;  // empty: entry j is of field j
  bool label = false;
  float weight = 1;
  uint64_t group = 0;
};

std::vector<Example> SomeExamples(size_t n, bool ragged, bool values,
                                  bool weights, bool groups,
                                  bool fields = false) {
  Rng rng(n);
  std::vector<Example> examples(n);
  for (Example& x : examples) {
    const size_t width = ragged ? rng.Below(9) : 5;
    for (size_t e = 0; e < width; ++e) {
      x.rows.push_back(static_cast<uint32_t>(rng.Below(1000)));
      // The first ones are 1, so that a later value finds entries before it.
      x.values.push_back(values && rng.Bernoulli(0.1)
                             ? static_cast<float>(rng.Normal())
                             : 1.0f);
      // Implied for the first ones, so that a later one finds entries before.
      if (fields) {
        x.fields.push_back(
            static_cast<uint16_t>(rng.Bernoulli(0.01) ? rng.Below(65536) : e));
      }
    }
    x.label = rng.Bernoulli(0.3);
    if (weights && rng.Bernoulli(0.1)) x.weight = 2.5f;
    if (groups && rng.Bernoulli(0.1)) x.group = rng();
  }
  return examples;
}

ExampleBlocks Packed(const std::vector<Example>& examples,
                     const ExampleBlocksOptions& options) {
  ExampleBlocks blocks(options);
  for (const Example& x : examples) {
    EXPECT_OK(
        blocks.Add(x.rows, x.values, x.label, x.weight, x.group, x.fields));
  }
  EXPECT_OK(blocks.Finish());
  return blocks;
}

void ExpectSame(const ExampleBlocks& blocks,
                const std::vector<Example>& examples) {
  size_t next = 0;
  EXPECT_OK(blocks.ForEach([&](const ExampleBlock& b) {
    for (size_t i = 0; i < b.examples(); ++i, ++next) {
      const Example& x = examples[next];
      EXPECT_EQ(b.begin(i + 1) - b.begin(i), x.rows.size());
      for (size_t e = 0; e < x.rows.size(); ++e) {
        EXPECT_EQ(b.rows()[b.begin(i) + e], x.rows[e]);
        EXPECT_LT(x.rows[e], b.row_limit());
        EXPECT_EQ(b.values() ? b.values()[b.begin(i) + e] : 1.0f, x.values[e]);
        const uint16_t field =
            x.fields.empty() ? static_cast<uint16_t>(e) : x.fields[e];
        EXPECT_EQ(b.field(b.begin(i), e), field);
        EXPECT_LT(field, b.field_limit());
      }
      EXPECT_EQ(b.label(i), x.label);
      EXPECT_EQ(b.weight(i), x.weight);
      EXPECT_EQ(b.group(i), x.group);
    }
    return absl::OkStatus();
  }));
  EXPECT_EQ(next, examples.size());
  EXPECT_EQ(blocks.examples(), examples.size());
}

TEST(ExampleBlocks, GiveBackWhatWasAddedInEveryShapeAndPlace) {
  const TempDir dir;
  for (int shape = 0; shape < 32; ++shape) {
    for (const size_t n : {0, 1, 2, 63, 64, 65, 1000}) {
      const auto examples = SomeExamples(n, shape & 1, shape & 2, shape & 4,
                                         shape & 8, shape & 16);
      ExampleBlocksOptions options;
      options.block_bytes = 4096;
      ExpectSame(Packed(examples, options), examples);
      options.max_memory_bytes = 10000;
      options.spill_dir = dir.path();
      const ExampleBlocks spilled = Packed(examples, options);
      ExpectSame(spilled, examples);
      EXPECT_LE(spilled.memory_bytes(), 10000);
      EXPECT_EQ(spilled.spilled_bytes() > 10000, n == 1000);
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));  // it has no name
}

TEST(ExampleBlocks, StoreOnlyWhatDiffersFromTheDefault) {
  ExampleBlocksOptions options;
  const auto plain =
      Packed(SomeExamples(1000, false, false, false, false), options);
  ASSERT_OK_AND_ASSIGN(const auto block, plain.Read(0));
  EXPECT_EQ(block->width(), 5);
  EXPECT_EQ(block->values(), nullptr);
  EXPECT_EQ(block->fields(), nullptr);
  EXPECT_EQ(block->field(5, 3), 3);
  EXPECT_EQ(block->field_limit(), 5);
  EXPECT_EQ(block->weights(), nullptr);
  // header, 5 rows of 4 bytes and a label each, each part padded to 64
  EXPECT_EQ(block->bytes(), 64 + 20032 + 1024);
  const auto full = Packed(SomeExamples(1000, true, true, true, true), options);
  EXPECT_EQ((*full.Read(0))->width(), 0);
  EXPECT_NE((*full.Read(0))->values(), nullptr);
  EXPECT_NE((*full.Read(0))->fields(), nullptr);
  EXPECT_NE((*full.Read(0))->weights(), nullptr);
}

TEST(ExampleBlocks, BlocksAreNearTheSizeAskedFor) {
  ExampleBlocksOptions options;
  options.block_bytes = 1 << 20;
  const auto blocks =
      Packed(SomeExamples(200000, false, false, false, false), options);
  ASSERT_GE(blocks.blocks(), 4);
  for (size_t i = 0; i + 1 < blocks.blocks(); ++i) {
    ASSERT_OK_AND_ASSIGN(const auto block, blocks.Read(i));
    EXPECT_NEAR(block->bytes(), 1 << 20, 1000);
  }
}

TEST(ExampleBlocks, KnowWhetherAnExampleNamesARowTwice) {
  Rng rng(3);
  for (int trial = 0; trial < 300; ++trial) {
    ExampleBlocks blocks;
    bool distinct = true;
    for (int i = 0; i < 3; ++i) {
      std::vector<uint32_t> rows(rng.Below(30));
      for (uint32_t& row : rows) {
        row = static_cast<uint32_t>(rng.Below(1000)) << rng.Below(20);
      }
      distinct &=
          std::set<uint32_t>(rows.begin(), rows.end()).size() == rows.size();
      ASSERT_OK(blocks.Add(rows, {}, false));
    }
    ASSERT_OK(blocks.Finish());
    ASSERT_EQ((*blocks.Read(0))->distinct(), distinct) << trial;
  }
}

TEST(ExampleBlocks, EntriesWithoutARowAreLeftOut) {
  ExampleBlocks blocks;
  ASSERT_OK(blocks.Add({1, kNoRow, 3}, {5, 6, 7}, true));
  ASSERT_OK(blocks.Add({kNoRow}, {}, false));
  ASSERT_OK(blocks.Finish());
  ASSERT_OK_AND_ASSIGN(const auto block, blocks.Read(0));
  EXPECT_EQ(block->entries(), 2);
  EXPECT_EQ(block->rows()[1], 3);
  EXPECT_EQ(block->values()[1], 7);
  EXPECT_EQ(block->row_limit(), 4);
  EXPECT_EQ(blocks.clicks(), 1);
  EXPECT_EQ(blocks.entries(), 2);
}

TEST(ExampleBlocks, FieldsSurviveEntriesThatAreLeftOut) {
  ExampleBlocks blocks;
  ASSERT_OK(blocks.Add({1, 2, 3}, {}, true));
  ASSERT_OK(blocks.Add({1, kNoRow, 3}, {}, true));
  ASSERT_OK(blocks.Add({kNoRow, 2, 3, 4}, {}, true, 1, 0, {7, 8, 8, 9}));
  ASSERT_OK(blocks.Finish());
  ASSERT_OK_AND_ASSIGN(const auto block, blocks.Read(0));
  ASSERT_EQ(block->entries(), 8);
  EXPECT_THAT(std::vector<uint16_t>(block->fields(), block->fields() + 8),
              ::testing::ElementsAre(0, 1, 2, 0, 2, 8, 8, 9));
  EXPECT_EQ(block->field_limit(), 10);
}

TEST(ExampleBlocks, BadExamplesAreRefusedByReason) {
  ExampleBlocks blocks;
  const auto invalid = [](const char* what) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what));
  };
  EXPECT_THAT(blocks.Add({1, 2}, {1}, true), invalid("2 rows but 1 values"));
  EXPECT_THAT(blocks.Add({1, 2}, {}, true, 1, 0, {1}),
              invalid("2 rows but 1 fields"));
  EXPECT_THAT(blocks.Add(std::vector<uint32_t>(65537), {}, true),
              invalid("65537 rows but 0 fields"));
  EXPECT_THAT(blocks.Add({1}, {NAN}, true), invalid("not finite"));
  EXPECT_THAT(blocks.Add({1}, {INFINITY}, true), invalid("not finite"));
  EXPECT_THAT(blocks.Add({1}, {}, true, -1), invalid("weight -1"));
  EXPECT_THAT(blocks.Add({1}, {}, true, NAN), invalid("weight nan"));
  EXPECT_EQ(blocks.examples(), 0);
  ASSERT_OK(blocks.Finish());
  EXPECT_EQ(blocks.blocks(), 0);
  EXPECT_THAT(blocks.Add({1}, {}, true),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("after Finish")));
}

TEST(ExampleBlocks, SpillingIntoAMissingDirectoryIsAnError) {
  ExampleBlocksOptions options;
  options.block_bytes = 1024;
  options.max_memory_bytes = 1;
  options.spill_dir = "/nonexistent/adrank";
  ExampleBlocks blocks(options);
  ASSERT_OK(blocks.Add({1}, {}, true));
  const absl::Status status = blocks.Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr("/nonexistent/adrank")));
}

TEST(ExampleBlock, AnyWrongByteIsFound) {
  const auto blocks =
      Packed(SomeExamples(20, true, true, true, true, true), {});
  ASSERT_OK_AND_ASSIGN(const auto block, blocks.Read(0));
  const std::vector<uint64_t> words(block->words().begin(),
                                    block->words().end());
  ASSERT_OK(ExampleBlock::Parse(words).status());
  for (size_t i = 0; i < words.size() * 8; ++i) {
    std::vector<uint64_t> damaged = words;
    reinterpret_cast<char*>(damaged.data())[i] ^= 4;
    EXPECT_EQ(ExampleBlock::Parse(damaged).status().code(),
              absl::StatusCode::kDataLoss)
        << i;
  }
  for (size_t size = 0; size < words.size(); ++size) {
    EXPECT_EQ(ExampleBlock::Parse({words.begin(), words.begin() + size})
                  .status()
                  .code(),
              absl::StatusCode::kDataLoss);
  }
  std::vector<uint64_t> damaged = words;
  damaged[20] ^= 1;
  EXPECT_THAT(ExampleBlock::Parse(damaged).status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
}

TEST(ExampleBlocks, VisitBlocksInTheOrderGivenAndStopAtAnError) {
  ExampleBlocksOptions options;
  options.block_bytes = 1024;
  const auto blocks =
      Packed(SomeExamples(500, false, false, false, false), options);
  ASSERT_GT(blocks.blocks(), 5);
  std::vector<const ExampleBlock*> visited;
  const absl::Status status =
      blocks.ForEach({4, 0, 2, 1}, [&](const ExampleBlock& block) {
        visited.push_back(&block);
        return visited.size() == 3 ? absl::AbortedError("enough")
                                   : absl::OkStatus();
      });
  EXPECT_EQ(status, absl::AbortedError("enough"));
  EXPECT_THAT(visited, ::testing::ElementsAre(blocks.Read(4)->get(),
                                              blocks.Read(0)->get(),
                                              blocks.Read(2)->get()));
}

TEST(ExampleBlocks, DrainingVisitsAllAndFreesEachBlockAfterItsVisit) {
  const TempDir dir;
  ExampleBlocksOptions options;
  options.block_bytes = 4096;
  options.max_memory_bytes = 10000;
  options.spill_dir = dir.path();
  const auto examples = SomeExamples(1000, true, true, false, false);
  auto blocks = Packed(examples, options);
  ASSERT_GT(blocks.spilled_bytes(), 10000);
  const std::weak_ptr<const ExampleBlock> first = *blocks.Read(0);
  size_t next = 0;
  ASSERT_OK(blocks.Drain([&](const ExampleBlock& b) {
    EXPECT_EQ(first.expired(), next > 0);
    for (size_t i = 0; i < b.examples(); ++i, ++next) {
      EXPECT_EQ(b.label(i), examples[next].label);
      EXPECT_TRUE(std::equal(b.rows() + b.begin(i), b.rows() + b.begin(i + 1),
                             examples[next].rows.begin(),
                             examples[next].rows.end()));
    }
    return absl::OkStatus();
  }));
  EXPECT_EQ(next, examples.size());
  EXPECT_EQ(blocks.examples(), 0);
}

TEST(Permutation, IsAPermutationThatTheSeedDecides) {
  for (const size_t n : {0, 1, 2, 3, 100}) {
    std::vector<uint32_t> p = Permutation(n, 7);
    EXPECT_EQ(p, Permutation(n, 7));
    std::sort(p.begin(), p.end());
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(p[i], i);
  }
  EXPECT_NE(Permutation(100, 7), Permutation(100, 8));
}

}  // namespace
}  // namespace adrank
