// Rows of frequency caps: their bytes, and what becomes of them on disk.
#include "storage/cap_store.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "storage/cap_row.h"
#include "storage/cap_window.h"
#include "storage/catalog_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

constexpr int64_t kNowMs = 1'800'000'000'000;

CapRecord AReservation(uint64_t key, int64_t ms, uint32_t keep_s = 3600) {
  CapRecord r;
  r.key = key;
  r.ms = ms;
  r.keep_s = keep_s;
  r.sequence = static_cast<uint32_t>(ms * 7);
  r.node = 3;
  r.position = 1;
  return r;
}

CapRecord AnImpressionOf(uint64_t key, int64_t ms, uint32_t keep_s = 3600,
                         uint32_t count = 1) {
  CapRecord r;
  r.key = key;
  r.ms = ms;
  r.keep_s = keep_s;
  r.count = count;
  r.confirmed = true;
  return r;
}

CapRow ARandomRow(Rng* rng) {
  CapRow row;
  const uint64_t entities = rng->Below(6);
  for (uint64_t e = 0; e < entities; ++e) {
    const uint64_t key = (*rng)();
    for (uint64_t n = 1 + rng->Below(9); n > 0; --n) {
      const auto ms = static_cast<int64_t>(rng->Below(uint64_t{1} << 48));
      const auto keep = static_cast<uint32_t>(60 * (1 + rng->Below(3)));
      row.push_back(
          rng->Bernoulli(0.5)
              ? AnImpressionOf(key, ms, keep,
                               static_cast<uint32_t>(1 + rng->Below(300)))
              : AReservation(key, ms, keep));
    }
  }
  std::stable_sort(row.begin(), row.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.key, a.ms) < std::make_pair(b.key, b.ms);
  });
  return row;
}

DecisionId IdOf(const CapRecord& r) { return r.decision(); }

TEST(CapRow, DecodesToWhatWasEncoded) {
  Rng rng(1);
  std::string bytes;
  CapRow decoded;
  for (int i = 0; i < 5000; ++i) {
    const CapRow row = ARandomRow(&rng);
    EncodeCapRow(row, &bytes);
    ASSERT_OK(DecodeCapRow(bytes, &decoded));
    ASSERT_EQ(decoded, row) << "case " << i;
  }
}

TEST(CapRow, TenImpressionsOfTwoEntitiesAreCompact) {
  CapRow row;
  for (const uint64_t key : {1, 2}) {
    for (int i = 0; i < 5; ++i) {
      row.push_back(AnImpressionOf(key, kNowMs + i * 60'000));
    }
  }
  std::string bytes;
  EncodeCapRow(row, &bytes);
  EXPECT_LE(bytes.size(), 90u);
}

TEST(CapRow, NoFlippedBitOrMissingByteGoesUnseen) {
  Rng rng(2);
  CapRow row;
  while (row.size() < 5) row = ARandomRow(&rng);
  std::string bytes;
  EncodeCapRow(row, &bytes);
  CapRow decoded;
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_THAT(DecodeCapRow(damaged, &decoded),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
    EXPECT_TRUE(decoded.empty());
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeCapRow(bytes.substr(0, size), &decoded).ok());
  }
}

TEST(CapRow, KeysOfLevelsDiffer) {
  EXPECT_NE(CapKey(CapLevel::kAd, "x"), CapKey(CapLevel::kAdGroup, "x"));
  EXPECT_NE(CapKey(CapLevel::kAd, "x"), CapKey(CapLevel::kCampaign, "x"));
  // They are on disk: frozen.
  EXPECT_EQ(CapKey(CapLevel::kCampaign, "c1"), Hash64("c1", 3));
}

TEST(CapValidation, CapsOfEveryLevelAreCheckedAndNameTheField) {
  const auto check = [](const v1::FrequencyCap& cap, int caps) {
    v1::CatalogEntity campaign, group, ad;
    campaign.mutable_campaign()->set_id("x");
    campaign.mutable_campaign()->set_advertiser_id("v");
    group.mutable_ad_group()->set_id("x");
    group.mutable_ad_group()->set_campaign_id("c");
    group.mutable_ad_group()->set_bid_micros(1);
    ad.mutable_ad()->set_id("x");
    ad.mutable_ad()->set_ad_group_id("g");
    for (int i = 0; i < caps; ++i) {
      *campaign.mutable_campaign()->add_frequency_caps() = cap;
      *group.mutable_ad_group()->add_frequency_caps() = cap;
      *ad.mutable_ad()->add_frequency_caps() = cap;
    }
    const absl::Status status = ValidateEntity(campaign);
    EXPECT_EQ(ValidateEntity(group).ok(), status.ok());
    EXPECT_EQ(ValidateEntity(ad).ok(), status.ok());
    return status;
  };
  v1::FrequencyCap cap;
  cap.set_impressions(1);
  EXPECT_EQ(CapWindowSeconds(cap), 86400);
  EXPECT_OK(check(cap, 8));
  const auto refused = [](const char* text) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
  };
  EXPECT_THAT(check(cap, 9), refused("frequency_caps has 9"));
  cap.set_unit(v1::FrequencyCap::WEEK);
  cap.set_length(5);
  EXPECT_OK(check(cap, 1));
  cap.set_length(6);
  EXPECT_THAT(check(cap, 1), refused("frequency_caps[0].length 6"));
  cap.set_length(0xffffffffu);
  EXPECT_THAT(check(cap, 1), refused("frequency_caps[0].length"));
  cap.set_length(1);
  cap.set_unit(static_cast<v1::FrequencyCap::Unit>(9));
  EXPECT_THAT(check(cap, 1), refused("frequency_caps[0].unit 9"));
  cap.clear_unit();
  cap.set_impressions(0);
  EXPECT_THAT(check(cap, 1), refused("frequency_caps[0].impressions 0"));
}

class CapStoreTest : public ::testing::Test {
 protected:
  void Open() {
    store_.reset();
    ASSERT_OK_AND_ASSIGN(store_, CapStore::Open(dir_.path(), &clock_));
  }
  CapRow Read(const std::string& user) {
    CapRow row;
    EXPECT_OK(store_->Read(CapUserOf(user), &row));
    return row;
  }
  bool Knows(const DecisionId& id) {
    const auto user = store_->FindUser(id);
    EXPECT_OK(user);
    return user.ok() && user->has_value();
  }

  TempDir dir_;
  SimulatedClock clock_{absl::FromUnixMillis(kNowMs)};
  std::unique_ptr<CapStore> store_;
};

TEST_F(CapStoreTest, RowsAndDecisionsSurviveARestart) {
  Open();
  EXPECT_TRUE(Read("u").empty());
  const CapRow row = {AReservation(5, kNowMs), AReservation(6, kNowMs)};
  const DecisionId id = IdOf(row[0]);
  ASSERT_OK(store_->Write(CapUserOf("u"), row, {&id, 1}, {}));
  ASSERT_OK(store_->Sync());
  Open();
  EXPECT_EQ(Read("u"), row);
  EXPECT_TRUE(Read("v").empty());
  ASSERT_OK_AND_ASSIGN(const auto user, store_->FindUser(id));
  EXPECT_EQ(user, CapUserOf("u"));
  // Confirmed.
  ASSERT_OK(
      store_->Write(CapUserOf("u"), {AnImpressionOf(5, kNowMs)}, {}, {&id, 1}));
  EXPECT_FALSE(Knows(id));
  ASSERT_OK(store_->Write(CapUserOf("u"), {}, {}, {}));
  Open();
  EXPECT_TRUE(Read("u").empty());
}

TEST_F(CapStoreTest, ExpiredRowsAndOldDecisionsGoWithACompaction) {
  Open();
  for (int i = 0; i < 100; ++i) {
    const uint32_t keep_s = i % 2 == 0 ? 3600 : 30 * 86400;
    const CapRow row = {AReservation(1, kNowMs + i, keep_s)};
    const DecisionId id = IdOf(row[0]);
    ASSERT_OK(store_->Write(CapUserOf(absl::StrCat(i)), row, {&id, 1}, {}));
  }
  clock_.Advance(absl::Minutes(59));
  ASSERT_OK(store_->Compact());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Read(absl::StrCat(i)).size(), 1u);
  clock_.Advance(absl::Minutes(2));
  ASSERT_OK(store_->Compact());
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Read(absl::StrCat(i)).size(), i % 2 == 0 ? 0u : 1u) << i;
    EXPECT_TRUE(Knows(IdOf(AReservation(1, kNowMs + i))));
  }
  clock_.Advance(absl::Hours(25));
  ASSERT_OK(store_->Compact());
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Knows(IdOf(AReservation(1, kNowMs + i)))) << i;
  }
  EXPECT_EQ(store_->Stats().users, 50u);
}

TEST_F(CapStoreTest, SecondOpenerIsToldWhoHasIt) {
  Open();
  EXPECT_THAT(CapStore::Open(dir_.path(), &clock_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("frequency caps")));
}

}  // namespace
}  // namespace adrank
