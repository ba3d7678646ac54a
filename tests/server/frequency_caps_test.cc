// What single cases of frequency caps do; frequency_caps_property_test.cc has
// the invariants.
#include "server/caps/frequency_caps.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/ranking_pipeline.h"
#include "server/rpc/cap_rpc.h"
#include "tests/server/caps_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AddCap;
using ::adrank::testing::ANestedCatalog;
using ::adrank::testing::AnImpressionEvent;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ParseText;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kNoon = absl::FromUnixMillis(1'800'000'000'000);

// A store in memory that fails when told to.
class FakeCapStore : public CapStore {
 public:
  absl::Status Read(const CapUser& user, CapRow* row) override {
    ++reads;
    row->clear();
    if (!read_status.ok()) return read_status;
    *row = rows[{user.high, user.low}];
    return absl::OkStatus();
  }
  absl::Status Write(const CapUser& user, const CapRow& row,
                     absl::Span<const DecisionId> added,
                     absl::Span<const DecisionId> removed) override {
    ++writes;
    if (!write_status.ok()) return write_status;
    rows[{user.high, user.low}] = row;
    for (const DecisionId& id : removed) users.erase(id);
    for (const DecisionId& id : added) users[id] = user;
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<CapUser>> FindUser(
      const DecisionId& id) override {
    const auto it = users.find(id);
    if (it == users.end()) return std::nullopt;
    return it->second;
  }
  bool Writable() const override { return writable; }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::Status Compact() override { return absl::OkStatus(); }
  CapStoreStats Stats() override { return {}; }

  std::map<std::pair<uint64_t, uint64_t>, CapRow> rows;
  std::map<DecisionId, CapUser> users;
  absl::Status read_status, write_status;
  bool writable = true;
  int reads = 0, writes = 0;
};

class FrequencyCapsTest : public ::testing::Test {
 protected:
  void Start(const std::string& config = "") {
    index_ = AnIndex(catalog_);
    caps_ = std::make_unique<FrequencyCaps>(ParseText<v1::CapConfig>(config),
                                            &store_, &clock_);
  }
  static v1::Context ContextOf(const std::string& user) {
    v1::Context context;
    context.set_user_id(user);
    return context;
  }
  // Of those ads, in their slots; which slots were refused.
  std::vector<SlotRefusal> Reserve(const std::vector<uint32_t>& ads,
                                   const std::string& user = "u") {
    std::vector<AdmissionSlot> slots;
    for (const uint32_t ad : ads) {
      AdmissionSlot slot;
      slot.ad = ad;
      slot.position = static_cast<uint32_t>(slots.size()) + 1;
      slots.push_back(slot);
    }
    std::vector<SlotRefusal> refused;
    id_ = ids_.Next();
    caps_->Reserve(*index_, ContextOf(user), id_, slots, &refused);
    return refused;
  }
  bool Served(uint32_t ad, const std::string& user = "u") {
    return Reserve({ad}, user).empty();
  }
  bool Capped(uint32_t ad, const std::string& user = "u") {
    AdmissionTerms terms;
    caps_->Begin(*index_, ContextOf(user), &terms);
    return terms.Capped(ad, index_->ad(ad).group, index_->ad(ad).campaign);
  }
  void Report(uint32_t position = 1) {
    caps_->Confirm(AnImpressionEvent(id_, position));
  }
  google::protobuf::RepeatedPtrField<v1::FrequencyCap>* CampaignCaps() {
    return catalog_.mutable_campaigns(0)->mutable_frequency_caps();
  }

  v1::Catalog catalog_ = ANestedCatalog();
  SimulatedClock clock_{kNoon};
  DecisionIdGenerator ids_{&clock_, 1, 1};
  FakeCapStore store_;
  std::shared_ptr<const AdIndex> index_;
  std::unique_ptr<FrequencyCaps> caps_;
  DecisionId id_;  // of the last Reserve
};

TEST_F(FrequencyCapsTest, TwoSlotsOfACampaignTakeTwoOfItsImpressions) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::DAY);
  Start();
  const std::vector<SlotRefusal> refused = Reserve({0, 3, 6, 5});
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].slot, 3u);
  EXPECT_EQ(refused[0].level, v1::Refusal::CAMPAIGN);
  // Nothing was taken.
  EXPECT_FALSE(Capped(0));
  EXPECT_THAT(Reserve({0, 3, 6}), IsEmpty());
  EXPECT_TRUE(Capped(0));
  EXPECT_TRUE(Capped(5));
  EXPECT_FALSE(Capped(6));
  EXPECT_FALSE(Capped(0, "another"));
}

TEST_F(FrequencyCapsTest, WindowIsHalfOpen) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::MINUTE);
  Start();
  ASSERT_TRUE(Served(0));
  Report();
  clock_.Advance(absl::Milliseconds(59'999));
  EXPECT_TRUE(Capped(0));
  EXPECT_FALSE(Served(0));
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(Capped(0));
  EXPECT_TRUE(Served(0));
}

TEST_F(FrequencyCapsTest, C2UnconfirmedReservationComesBack) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::DAY);
  Start("reservation_seconds: 60");
  ASSERT_TRUE(Served(0));
  const DecisionId first = id_;
  clock_.Advance(absl::Milliseconds(59'999));
  EXPECT_FALSE(Served(0));
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(Capped(0));
  EXPECT_TRUE(Served(0));
  Report();
  // The first was seen after all: it counts as well, as long as its day lasts.
  clock_.Advance(absl::Hours(23));
  caps_->Confirm(AnImpressionEvent(first, 1));
  ASSERT_OK_AND_ASSIGN(const CapRow row, caps_->Lookup("u"));
  EXPECT_EQ(row.size(), 2u);
  EXPECT_EQ(caps_->Stats().confirmed, 2u);
}

TEST_F(FrequencyCapsTest, C2ConfirmedOneStaysForItsWindow) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::DAY);
  Start("reservation_seconds: 60");
  ASSERT_TRUE(Served(0));
  Report();
  Report();  // again
  EXPECT_EQ(caps_->Stats().confirmed, 1u);
  clock_.Advance(absl::Hours(24) - absl::Milliseconds(1));
  EXPECT_FALSE(Served(0));
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(Served(0));
}

TEST_F(FrequencyCapsTest, C2ReportAfterTheLateTimeIsForgotten) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::WEEK);
  Start("reservation_seconds: 60");
  ASSERT_TRUE(Served(0));
  clock_.Advance(absl::Hours(24) + absl::Minutes(1));
  Report();
  EXPECT_EQ(caps_->Stats().confirmed, 0u);
  EXPECT_FALSE(Capped(0));
}

TEST_F(FrequencyCapsTest, C3UnknownUserIsAllowedByDefault) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::DAY);
  Start();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Served(0, ""));
  EXPECT_FALSE(Capped(0, ""));
  EXPECT_EQ(store_.writes, 0);
}

TEST_F(FrequencyCapsTest, C3UnknownUserGetsNothingCappedUnderDeny) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::DAY);
  AddCap(catalog_.mutable_ads(7)->mutable_frequency_caps(), 5,
         v1::FrequencyCap::DAY);
  Start("unknown_user: DENY");
  EXPECT_FALSE(Served(0, ""));
  EXPECT_TRUE(Capped(0, ""));
  const uint32_t own = *index_->Find("a07");
  for (uint32_t ad = 0; ad < index_->size(); ++ad) {
    EXPECT_EQ(Capped(ad, ""), index_->ad(ad).campaign == 0 || ad == own);
  }
  EXPECT_TRUE(Served(0, "known"));
  EXPECT_EQ(store_.writes, 1);
}

TEST_F(FrequencyCapsTest, ReleaseGivesBackAllOfADecision) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::DAY);
  Start();
  ASSERT_THAT(Reserve({0, 1}), IsEmpty());
  EXPECT_TRUE(Capped(0));
  caps_->Release(id_);
  EXPECT_FALSE(Capped(0));
  Report();  // of what was given back
  EXPECT_FALSE(Capped(0));
  EXPECT_TRUE(store_.users.empty());
  caps_->Release(id_);  // nothing left of it
  EXPECT_EQ(caps_->Stats().released, 1u);
}

TEST_F(FrequencyCapsTest, CatalogueWithoutCapsCostsNothing) {
  Start();
  EXPECT_TRUE(Served(0));
  EXPECT_FALSE(Capped(0));
  EXPECT_EQ(store_.reads + store_.writes, 0);
}

TEST_F(FrequencyCapsTest, UserIsReadFromTheStoreOnce) {
  AddCap(CampaignCaps(), 9, v1::FrequencyCap::DAY);
  Start();
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(Capped(0));
    EXPECT_TRUE(Served(0));
    Report();
  }
  EXPECT_EQ(store_.reads, 1);
}

TEST_F(FrequencyCapsTest, CapOfAChangedCatalogueCountsWhatIsKept) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::DAY);
  Start();
  ASSERT_TRUE(Served(0));
  ASSERT_TRUE(Served(1));
  EXPECT_TRUE(Capped(0));
  CampaignCaps()->Mutable(0)->set_impressions(3);
  // Numbers of a new catalogue are others; ids stay.
  catalog_.mutable_campaigns()->SwapElements(0, 1);
  index_ = AnIndex(catalog_);
  EXPECT_TRUE(Served(0));
  EXPECT_TRUE(Capped(0));
  EXPECT_FALSE(Served(0));
}

TEST_F(FrequencyCapsTest, DamagedRowDeniesWhatIsCappedUntilItIsForgotten) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::DAY);
  Start();
  store_.read_status = absl::DataLossError("damaged");
  EXPECT_TRUE(Capped(0));
  EXPECT_FALSE(Capped(6));
  EXPECT_FALSE(Served(0));
  EXPECT_TRUE(Served(6));
  EXPECT_EQ(caps_->Stats().rows_damaged, 1u);
  EXPECT_THAT(caps_->Lookup("u"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
  ASSERT_OK(caps_->Forget("u"));
  EXPECT_TRUE(Served(0));
}

TEST_F(FrequencyCapsTest, FailingDiskRefusesWhatIsCappedAndComesBack) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::DAY);
  Start();
  store_.write_status = absl::UnavailableError("disk");
  const std::vector<SlotRefusal> refused = Reserve({0, 6});
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].slot, 0u);
  store_.writable = false;
  EXPECT_TRUE(Capped(0));
  EXPECT_FALSE(Capped(6));
  store_.writable = true;
  store_.write_status = absl::OkStatus();
  EXPECT_FALSE(Capped(0));
  EXPECT_THAT(Reserve({0, 1}), IsEmpty());
  EXPECT_EQ(caps_->Stats().store_failures, 1u);
  store_.read_status = absl::UnavailableError("disk");
  EXPECT_TRUE(Capped(0, "v"));
  store_.read_status = absl::OkStatus();
  EXPECT_FALSE(Capped(0, "v"));
}

TEST_F(FrequencyCapsTest, UserWithTooManyRecordsGetsNothingMoreCapped) {
  AddCap(CampaignCaps(), 1'000'000, v1::FrequencyCap::DAY);
  Start();
  for (size_t i = 0; i < FrequencyCaps::kMaxRecords; ++i) {
    ASSERT_TRUE(Served(0)) << i;
  }
  EXPECT_FALSE(Served(0));
  EXPECT_TRUE(Served(6));
  EXPECT_EQ(caps_->Stats().rows_full, 1u);
  // Reservations that ran out make room after the late time, others later.
  clock_.Advance(absl::Hours(24));
  EXPECT_FALSE(Served(0));
  clock_.Advance(absl::Hours(1));
  EXPECT_TRUE(Served(0));
}

TEST_F(FrequencyCapsTest, ForgottenUserIsAsNeverSeen) {
  AddCap(CampaignCaps(), 1, v1::FrequencyCap::DAY);
  Start();
  ASSERT_TRUE(Served(0));
  ASSERT_OK(caps_->Forget("u"));
  EXPECT_TRUE(store_.users.empty());
  EXPECT_FALSE(Capped(0));
  Report();
  EXPECT_TRUE(Served(0));
}

TEST_F(FrequencyCapsTest, WhyCappedNamesTheCap) {
  AddCap(CampaignCaps(), 5, v1::FrequencyCap::WEEK);
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::HOUR);
  Start();
  EXPECT_EQ(caps_->WhyCapped(*index_, "u", 0), std::nullopt);
  ASSERT_THAT(Reserve({0, 1}), IsEmpty());
  const std::optional<CapVerdict> why = caps_->WhyCapped(*index_, "u", 2);
  ASSERT_TRUE(why.has_value());
  EXPECT_EQ(why->level, CapLevel::kCampaign);
  EXPECT_EQ(why->cap.impressions, 2u);
  EXPECT_EQ(why->cap.window_ms, 3600 * 1000);
  EXPECT_EQ(why->counted, 2u);
}

TEST_F(FrequencyCapsTest, ConfigIsCheckedAndNamesTheField) {
  EXPECT_OK(FrequencyCaps::ValidateConfig({}));
  EXPECT_THAT(FrequencyCaps::ValidateConfig(
                  ParseText<v1::CapConfig>("reservation_seconds: 604801")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("caps.reservation_seconds")));
}

TEST_F(FrequencyCapsTest, DescriptionSaysWhenThereIsRoomAgain) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::HOUR);
  AddCap(catalog_.mutable_ads(0)->mutable_frequency_caps(), 9,
         v1::FrequencyCap::DAY);
  Start("reservation_seconds: 600");
  ASSERT_TRUE(Served(0));
  Report();
  clock_.Advance(absl::Minutes(5));
  ASSERT_TRUE(Served(1));
  ASSERT_OK_AND_ASSIGN(const CapRow row, caps_->Lookup("u"));
  const v1::UserCaps user = DescribeCaps(*index_, row, caps_->Now());
  ASSERT_EQ(user.entities_size(), 2);
  const v1::EntityCaps& campaign = user.entities(0);
  EXPECT_EQ(campaign.type(), v1::ENTITY_TYPE_CAMPAIGN);
  EXPECT_EQ(campaign.id(), "c0");
  EXPECT_EQ(campaign.impressions(), 1u);
  EXPECT_EQ(campaign.reserved(), 1u);
  ASSERT_EQ(campaign.caps_size(), 1);
  EXPECT_EQ(campaign.caps(0).counted(), 2u);
  // The reservation runs out before the impression leaves the window.
  EXPECT_EQ(campaign.caps(0).free_ms(),
            absl::ToUnixMillis(kNoon + absl::Minutes(15)));
  EXPECT_EQ(user.entities(1).id(), "a00");
  EXPECT_EQ(user.entities(1).caps(0).free_ms(), 0);
}

// ---- through the pipeline ----

TEST_F(FrequencyCapsTest, PageShowsACampaignAsOftenAsItsCapAllows) {
  AddCap(CampaignCaps(), 2, v1::FrequencyCap::DAY);
  // Better bids than the other campaign's.
  for (int g : {0, 1}) catalog_.mutable_ad_groups(g)->set_bid_micros(9'000'000);
  Start();
  ASSERT_OK_AND_ASSIGN(const auto pipeline,
                       RankingPipeline::Create({}, &clock_));
  const ServingSnapshot serving = ServingSnapshot::Of(nullptr, index_);
  RankTrace trace;
  RankOutcome outcome;
  CallOptions call;
  Admission* const admissions[] = {caps_.get()};
  call.admissions = admissions;
  const auto rank = [&](const std::string& more) {
    const auto request = ParseText<v1::RankRequest>(absl::StrCat(
        "context { user_id: 'u' } placements { id: 'p' count: 5 } ", more));
    EXPECT_OK(
        pipeline->Rank(serving, request, ids_.Next(), call, &trace, &outcome));
    std::vector<std::string> campaigns;
    for (const auto& ad : outcome.response.placements(0).ads()) {
      campaigns.push_back(ad.campaign_id());
    }
    return campaigns;
  };
  // Test requests take nothing.
  rank("test: true");
  EXPECT_FALSE(Capped(0));
  EXPECT_THAT(rank(""), ElementsAre("c0", "c0", "c1", "c1", "c1"));
  EXPECT_THAT(rank(""), ElementsAre("c1", "c1", "c1", "c1", "c1"));
  EXPECT_THAT(outcome.decision.capped_campaign_ids(), ElementsAre("c0"));
  EXPECT_THAT(rank("candidates { ad_id: 'a00' }"), IsEmpty());
  EXPECT_EQ(outcome.response.placements(0).no_ad_reason(),
            v1::NO_AD_REASON_FREQUENCY_CAP);
}

}  // namespace
}  // namespace adrank
