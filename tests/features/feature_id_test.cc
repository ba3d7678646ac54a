#include "features/feature_id.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

uint64_t Cross(uint64_t salt, std::initializer_list<uint64_t> ids) {
  uint64_t state = CrossStart(salt);
  for (uint64_t id : ids) state = CrossNext(state, id);
  return CrossEnd(state);
}

// Salt and text are XXH3-64 of libxxhash 0.8.1, the rest was computed by
// an independent transcription. They may never change: every vocabulary holds
// such ids.
TEST(FeatureId, IsFrozen) {
  const uint64_t salt = FieldSalt("city");
  EXPECT_EQ(salt, 0x1d72c38f06f46834ull);
  EXPECT_EQ(TextId(salt, "Berlin"), 0x6c62c561ef63de0bull);
  EXPECT_EQ(BinId(salt, 7), 0xf592e52381ca13fbull);
  EXPECT_EQ(BinId(salt, -7), 0x78fa5fa2cf64b2a2ull);
  EXPECT_EQ(NumberId(salt), 0xbedf3a0f5b141c3bull);
  EXPECT_EQ(Cross(salt, {1, 2}), 0x5f8000699a040130ull);
  EXPECT_EQ(Cross(salt, {1, 2, 3}), 0xca0ce6c4aa8276faull);
}

TEST(FeatureId, IsNeverZero) {
  EXPECT_EQ(NonZeroId(0), 1u);
  EXPECT_EQ(NonZeroId(7), 7u);
  EXPECT_NE(CrossEnd(0), 0u);
}

TEST(FeatureId, FieldsKindsAndOrdersDiffer) {
  std::set<uint64_t> ids;
  size_t count = 0;
  for (const char* field : {"a", "b", "ab", ""}) {
    const uint64_t salt = FieldSalt(field);
    ids.insert(NumberId(salt));
    ++count;
    for (int i = -200; i < 200; ++i, count += 2) {
      ids.insert(TextId(salt, absl::StrCat(i)));
      ids.insert(BinId(salt, i));
    }
    for (uint64_t x = 1; x < 30; ++x) {
      for (uint64_t y = 1; y < 30; ++y, count += 2) {
        ids.insert(Cross(salt, {x, y}));
        ids.insert(Cross(salt, {x, y, x}));
      }
    }
  }
  EXPECT_EQ(ids.size(), count);
}

}  // namespace
}  // namespace adrank
