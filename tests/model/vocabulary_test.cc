#include "model/vocabulary.h"

#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/rng.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::vector<uint64_t> RandomIds(Rng* rng, size_t n) {
  std::set<uint64_t> seen = {0};
  std::vector<uint64_t> ids;
  while (ids.size() < n) {
    // A quarter small numbers: ids need not be hashes to be found.
    const uint64_t id = rng->Bernoulli(0.25) ? 1 + rng->Below(4 * n) : (*rng)();
    if (seen.insert(id).second) ids.push_back(id);
  }
  return ids;
}

// The oracle: a map.
struct NaiveVocabulary {
  NaiveVocabulary(const std::vector<uint64_t>& ids,
                  const std::vector<uint32_t>& oov)
      : oov_rows(oov) {
    for (uint64_t id : ids) {
      const auto row = static_cast<uint32_t>(rows.size());
      rows[id] = row;
    }
  }
  uint32_t Row(uint16_t field, uint64_t id) const {
    if (rows.count(id) > 0) return rows.at(id);
    return field < oov_rows.size() ? oov_rows[field] : kNoRow;
  }
  std::map<uint64_t, uint32_t> rows;
  std::vector<uint32_t> oov_rows;
};

FeatureBatch RandomBatch(Rng* rng, const std::vector<uint64_t>& ids,
                         size_t entries) {
  FeatureBatch batch;
  for (size_t e = 0; e < entries; ++e) {
    const uint64_t id = !ids.empty() && rng->Bernoulli(0.7)
                            ? ids[rng->Below(ids.size())]
                            : (*rng)();
    batch.Add(static_cast<uint16_t>(rng->Below(6)), id, 1);
  }
  batch.EndRow();
  return batch;
}

TEST(Vocabulary, AgreesWithAMap) {
  Rng rng(1);
  for (size_t n :
       {0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33, 63, 64, 65, 1000, 20000}) {
    const std::vector<uint64_t> ids = RandomIds(&rng, n);
    const auto first = static_cast<uint32_t>(n);
    const std::vector<uint32_t> oov = {first, kNoRow, first + 1, first};
    const std::string bytes = Vocabulary::Serialize(ids, oov);
    ASSERT_OK_AND_ASSIGN(const Vocabulary vocabulary, Vocabulary::Parse(bytes));
    EXPECT_EQ(vocabulary.ids(), n);
    EXPECT_EQ(vocabulary.rows(), n + 2);
    EXPECT_EQ(vocabulary.Ids(), ids);
    EXPECT_THAT(vocabulary.oov_rows(),
                ElementsAre(first, kNoRow, first + 1, first));
    const NaiveVocabulary naive(ids, oov);
    for (uint64_t id : ids) EXPECT_EQ(vocabulary.Row(1, id), naive.Row(1, id));
    for (uint64_t id : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, rng(), rng()}) {
      for (uint16_t field : {0, 1, 2, 3, 4, 65535}) {
        EXPECT_EQ(vocabulary.Row(field, id), naive.Row(field, id));
      }
    }
    RequestFeatures features;
    features.context = RandomBatch(&rng, ids, n % 40);
    features.ads = RandomBatch(&rng, ids, n + 1);
    features.crosses = RandomBatch(&rng, ids, 64);
    RequestRows rows;
    rows.ads.assign(100000, 7);  // stale content of an earlier request
    vocabulary.Lookup(features, &rows);
    const auto expect = [&](const FeatureBatch& batch,
                            const std::vector<uint32_t>& found) {
      ASSERT_EQ(found.size(), batch.ids.size());
      for (size_t e = 0; e < found.size(); ++e) {
        EXPECT_EQ(found[e], naive.Row(batch.fields[e], batch.ids[e]));
      }
    };
    expect(features.context, rows.context);
    expect(features.ads, rows.ads);
    expect(features.crosses, rows.crosses);
  }
}

TEST(Vocabulary, WithoutOovRowsUnknownIdsHaveNoRow) {
  const std::string bytes = Vocabulary::Serialize({5, 6}, {});
  ASSERT_OK_AND_ASSIGN(const Vocabulary vocabulary, Vocabulary::Parse(bytes));
  EXPECT_EQ(vocabulary.rows(), 2u);
  EXPECT_EQ(vocabulary.Row(0, 5), 0u);
  EXPECT_EQ(vocabulary.Row(0, 7), kNoRow);
}

// All keys share the last bucket: every id overflows past it.
TEST(Vocabulary, IdsThatOverflowTheLastBucketAreFound) {
  // The multiplier's inverse modulo 2^64, by Newton's iteration.
  uint64_t inverse = 1;
  for (int i = 0; i < 6; ++i) inverse *= 2 - 0x9e3779b97f4a7c15ull * inverse;
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 50; ++i) ids.push_back((~uint64_t{0} - i) * inverse);
  const std::string bytes = Vocabulary::Serialize(ids, {});
  ASSERT_OK_AND_ASSIGN(const Vocabulary vocabulary, Vocabulary::Parse(bytes));
  for (uint32_t i = 0; i < 50; ++i) EXPECT_EQ(vocabulary.Row(0, ids[i]), i);
  EXPECT_EQ(vocabulary.Row(0, (~uint64_t{0} - 50) * inverse), kNoRow);
}

// How it was made: printed by this test when the format was decided. A change
// here makes every bundle in the world unreadable: raise the format instead.
TEST(Vocabulary, BytesAreFrozen) {
  Rng rng(2);
  std::vector<uint64_t> ids(1000);
  for (uint64_t& id : ids) id = rng();
  const std::string bytes = Vocabulary::Serialize(ids, {1000, kNoRow});
  EXPECT_EQ(bytes.size(), 26760u);
  EXPECT_EQ(Hash64(bytes), 9489068983369868788u);
}

TEST(Vocabulary, CheckNamesWhatIsWrong) {
  EXPECT_OK(Vocabulary::Check({}, {}));
  EXPECT_OK(Vocabulary::Check({4, 5}, {kNoRow, 2, 3, 2}));
  EXPECT_THAT(Vocabulary::Check({4, 5, 4}, {}),
              StatusIs(kInvalid, "id 4 twice"));
  EXPECT_THAT(Vocabulary::Check({4, 0}, {}),
              StatusIs(kInvalid, HasSubstr("id 0")));
  EXPECT_THAT(
      Vocabulary::Check({4, 5}, {2, 1}),
      StatusIs(kInvalid, "out-of-vocabulary row 1 of field 1 not in [2, 4)"));
  EXPECT_THAT(Vocabulary::Check({4, 5}, {4, 2}),
              StatusIs(kInvalid, HasSubstr("row 4 of field 0")));
}

std::string Small() { return Vocabulary::Serialize({11, 22, 33}, {3, 4}); }

TEST(Vocabulary, EveryTruncationIsRefused) {
  const std::string bytes = Small();
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_THAT(Vocabulary::Parse(absl::string_view(bytes).substr(0, n)),
                StatusIs(kInvalid, HasSubstr("bytes")));
  }
  EXPECT_THAT(Vocabulary::Parse(bytes + "x"),
              StatusIs(kInvalid, HasSubstr("fit")));
}

TEST(Vocabulary, MisalignedBytesAreRefused) {
  const std::string shifted = absl::StrCat("x", Small());
  EXPECT_THAT(Vocabulary::Parse(absl::string_view(shifted).substr(1)),
              StatusIs(kInvalid, HasSubstr("aligned")));
}

TEST(Vocabulary, HeaderErrorsSayWhy) {
  std::string bytes = Small();
  bytes[0] = 'X';
  EXPECT_THAT(Vocabulary::Parse(bytes),
              StatusIs(kInvalid, HasSubstr("XDRKVOC1")));
  bytes = Small();
  std::swap(bytes[8], bytes[11]);
  EXPECT_THAT(Vocabulary::Parse(bytes),
              StatusIs(kInvalid, HasSubstr("byte order")));
  bytes = Small();
  bytes[12] = 2;
  EXPECT_THAT(Vocabulary::Parse(bytes),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("format version 2")));
  bytes = Small();
  bytes[63] = 1;
  EXPECT_THAT(Vocabulary::Parse(bytes), StatusIs(kInvalid, HasSubstr("not 0")));
}

TEST(Vocabulary, CountsThatOverflowAreRefused) {
  Rng rng(3);
  for (int field = 0; field < 4; ++field) {
    for (int shift = 0; shift < 64; ++shift) {
      std::string bytes = Small();
      uint64_t count;
      std::memcpy(&count, bytes.data() + 16 + 8 * field, 8);
      count += uint64_t{1} << shift;
      std::memcpy(bytes.data() + 16 + 8 * field, &count, 8);
      EXPECT_FALSE(Vocabulary::Parse(bytes).ok());
    }
  }
}

// Whatever Parse accepts must answer lookups inside its bytes (the sanitizer
// presets check "inside") and agree with its own list of ids.
void ExpectHarmless(const std::string& bytes) {
  const absl::StatusOr<Vocabulary> vocabulary = Vocabulary::Parse(bytes);
  if (!vocabulary.ok()) return;
  const std::vector<uint64_t> ids = vocabulary->Ids();
  ASSERT_EQ(ids.size(), vocabulary->ids());
  for (uint32_t row = 0; row < ids.size(); ++row) {
    EXPECT_EQ(vocabulary->Row(0, ids[row]), row);
  }
  for (uint64_t id : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{77}}) {
    const uint32_t row = vocabulary->Row(1, id);
    EXPECT_TRUE(row == kNoRow || row < vocabulary->rows());
  }
}

TEST(Vocabulary, EveryFlippedBitIsRefusedOrHarmless) {
  const std::string good = Vocabulary::Serialize({11, 22, 33, 44, 55}, {5});
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = good;
      bytes[at] ^= static_cast<char>(1 << bit);
      ExpectHarmless(bytes);
    }
  }
}

TEST(Vocabulary, RandomMutationsAreRefusedOrHarmless) {
  Rng rng(4);
  for (int round = 0; round < 20000; ++round) {
    const size_t n = rng.Below(40);
    std::string bytes =
        Vocabulary::Serialize(RandomIds(&rng, n), {static_cast<uint32_t>(n)});
    for (uint64_t m = 1 + rng.Below(4); m > 0; --m) {
      const size_t slot = 64 + 16 * rng.Below((bytes.size() - 68) / 16);
      const size_t other = 64 + 16 * rng.Below((bytes.size() - 68) / 16);
      switch (rng.Below(5)) {
        case 0:
          bytes[rng.Below(bytes.size())] = static_cast<char>(rng());
          break;
        case 1:  // move an id
          std::swap_ranges(&bytes[slot], &bytes[slot] + 16, &bytes[other]);
          break;
        case 2:  // double an id
          std::memmove(&bytes[slot], &bytes[other], 16);
          break;
        case 3:
          std::memset(&bytes[slot], 0, 16);
          break;
        default:
          if (rng.Bernoulli(0.2)) bytes.resize(64 + rng.Below(bytes.size()));
          if (bytes.size() < 84) bytes.resize(84);
      }
    }
    ExpectHarmless(bytes);
  }
}

TEST(Vocabulary, RandomBytesBehindAValidHeaderAreRefusedOrHarmless) {
  Rng rng(5);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = Vocabulary::Serialize(RandomIds(&rng, 6), {6});
    for (size_t i = 64; i < bytes.size(); ++i) {
      bytes[i] = static_cast<char>(rng());
    }
    EXPECT_FALSE(Vocabulary::Parse(bytes).ok());
  }
}

// One mistake each, everything else consistent.
TEST(Vocabulary, EachInconsistencyIsNamed) {
  const std::string good = Small();
  std::vector<size_t> full;
  for (size_t at = 64; at + 16 <= good.size(); at += 16) {
    if (good.compare(at, 8, std::string(8, '\0')) != 0) full.push_back(at);
  }
  ASSERT_EQ(full.size(), 3u);
  const auto with = [&](auto change) {
    std::string bytes = good;
    change(&bytes);
    return Vocabulary::Parse(bytes);
  };
  EXPECT_THAT(with([&](std::string* b) { (*b)[full[0] + 8] = 3; }),
              StatusIs(kInvalid, HasSubstr("row out of range")));
  EXPECT_THAT(
      with([&](std::string* b) { (*b)[full[0] + 8] = (*b)[full[1] + 8]; }),
      StatusIs(kInvalid, HasSubstr("row used twice")));
  EXPECT_THAT(with([&](std::string* b) { (*b)[full[0] + 12] = 1; }),
              StatusIs(kInvalid, HasSubstr("reserved")));
  EXPECT_THAT(with([&](std::string* b) { b->replace(full[1], 16, 16, '\0'); }),
              StatusIs(kInvalid, HasSubstr("2 ids where the header says 3")));
  EXPECT_THAT(
      with([&](std::string* b) { b->replace(full[1], 8, *b, full[0], 8); }),
      StatusIs(kInvalid, HasSubstr("keys out of order")));
  const size_t nonzero_row = good[full[0] + 8] != 0 ? full[0] : full[1];
  EXPECT_THAT(
      with([&](std::string* b) { b->replace(nonzero_row, 8, 8, '\0'); }),
      StatusIs(kInvalid, HasSubstr("a row without an id")));
  EXPECT_THAT(with([&](std::string* b) {
                const size_t last = good.size() - 8 - 16;
                b->replace(last, 16, good, full[2], 16);
                b->replace(full[2], 16, 16, '\0');
              }),
              StatusIs(kInvalid, HasSubstr("the id cannot be found")));
}

}  // namespace
}  // namespace adrank
