// Events of a real log on a disk, the ledger behind it, and crashes between the
// two.
#include "server/budget/event_charging.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/rng.h"
#include "tests/testing/memory_ledger_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::LedgerDisk;
using ::adrank::testing::MemoryLedgerStore;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Code = v1::EventResult;

constexpr int64_t kStartMs = 1'800'000'000'000;

class EventChargingTest : public ::testing::Test {
 protected:
  EventChargingTest() { Start(); }
  void Start() {
    v1::StorageConfig config;
    config.set_data_dir(dir_.path());
    config.set_durability(v1::StorageConfig::ASYNC);
    config.set_group_commit_ms(1);
    auto log = EventLog::Open(config, &clock_);
    ASSERT_OK(log);
    Ledger::Options options;
    auto ledger = Ledger::Open(std::make_unique<MemoryLedgerStore>(&disk_),
                               options, &clock_);
    ASSERT_OK(ledger);
    ledger_ = *std::move(ledger);
    log_ = *std::move(log);
    ledger_->SetLookup([this](const DecisionId& id, uint8_t position) {
      return LookUpSlot(log_.get(), id, position);
    });
    charging_ = std::make_unique<EventCharging>(ledger_.get());
    intake_ = std::make_unique<EventIntake>(
        log_.get(), std::vector<EventSink*>{charging_.get()});
    campaign_ = ledger_->Campaign("c");
    v1::Budget budget;
    budget.set_total_micros(budget_micros_);
    ledger_->SetTerms(campaign_, budget, absl::UTCTimeZone(), 1);
  }
  void Stop() {
    log_.reset();  // may call the sinks until then
    intake_.reset();
    charging_.reset();
    ledger_.reset();
  }
  // What a kill between the log and the ledger leaves.
  uint64_t Crash() {
    Stop();
    Start();
    const auto replayed = ReplayEvents(log_.get(), ledger_.get());
    EXPECT_OK(replayed);
    EXPECT_OK(ledger_->Flush());
    return replayed.ok() ? *replayed : 0;
  }
  // A decision with two ads of the campaign: CPC at 1, CPM at 2.
  DecisionId Serve(int64_t price, bool reserve, bool test = false,
                   v1::MatchType match = v1::MATCH_TYPE_TARGETING) {
    const DecisionId id = {static_cast<uint64_t>(clock_.NowMs()), 1, next_++};
    v1::AdSnapshot ad;
    ad.set_ad_id("a");
    ad.set_campaign_id("c");
    const auto encoded = std::make_shared<const EncodedAd>(EncodeAd(ad));
    v1::Decision decision;
    decision.set_test(test);
    std::vector<LedgerSlot> slots;
    for (uint32_t position = 1; position <= 2; ++position) {
      v1::ServedAd* served = decision.add_ads();
      served->set_ad_hash(encoded->hash);
      served->set_position(position);
      served->set_price_micros(price);
      served->set_pctr(0.1f);
      served->set_match_type(match);
      served->set_bid_type(position == 1 ? v1::BID_TYPE_CPC : v1::BID_TYPE_CPM);
      slots.push_back({campaign_, static_cast<uint8_t>(position),
                       served->bid_type(), price, 0.1f});
    }
    std::vector<uint32_t> refused;
    if (reserve) ledger_->Reserve(id, slots, &refused);
    EXPECT_THAT(refused, IsEmpty());
    EXPECT_TRUE(log_->AppendDecision(id, decision, {encoded, encoded}));
    return id;
  }
  std::vector<Code::Code> Report(const DecisionId& id,
                                 std::vector<uint32_t> positions,
                                 v1::EventType type) {
    std::vector<v1::Event> events;
    for (const uint32_t position : positions) {
      events.emplace_back().set_decision_id(id.ToHex());
      events.back().set_position(position);
      events.back().set_type(type);
    }
    std::vector<Code::Code> codes;
    absl::Notification logged;
    intake_->Append(events, [&](std::vector<v1::EventResult> results) {
      for (const auto& result : results) codes.push_back(result.code());
      logged.Notify();
    });
    logged.WaitForNotification();
    return codes;
  }
  std::vector<Code::Code> Click(const DecisionId& id, uint32_t position = 1) {
    return Report(id, {position}, v1::EVENT_TYPE_CLICK);
  }
  int64_t Spent() {
    EXPECT_OK(ledger_->Flush());
    const auto audit = ledger_->Audit();
    EXPECT_OK(audit);
    EXPECT_THAT(audit->errors, IsEmpty());
    EXPECT_TRUE(audit->spent == ledger_->Spend(campaign_).spent_total);
    return static_cast<int64_t>(audit->spent);
  }
  uint64_t Charges(Charge charge) {
    return ledger_->Stats().charges[static_cast<size_t>(charge)];
  }

  TempDir dir_;
  SimulatedClock clock_{absl::FromUnixMillis(kStartMs)};
  LedgerDisk disk_;
  int64_t budget_micros_ = 1'000'000;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<EventLog> log_;
  std::unique_ptr<EventCharging> charging_;
  std::unique_ptr<EventIntake> intake_;
  LedgerCampaign* campaign_ = nullptr;
  uint32_t next_ = 0;
};

TEST_F(EventChargingTest, ChargesTheFirstBillableReportOnly) {
  const DecisionId id = Serve(100, /*reserve=*/true);
  EXPECT_THAT(Report(id, {1, 2}, v1::EVENT_TYPE_IMPRESSION),
              ElementsAre(Code::CODE_ACCEPTED, Code::CODE_ACCEPTED));
  EXPECT_EQ(Spent(), 100);  // of the CPM ad
  EXPECT_THAT(Report(id, {1, 2, 1}, v1::EVENT_TYPE_CLICK),
              ElementsAre(Code::CODE_ACCEPTED, Code::CODE_ACCEPTED,
                          Code::CODE_DUPLICATE));
  EXPECT_EQ(Spent(), 200);
  EXPECT_THAT(Click(id), ElementsAre(Code::CODE_DUPLICATE));
  EXPECT_EQ(Spent(), 200);
}

TEST_F(EventChargingTest, ChargesFromTheLogWhatHasNoReservation) {
  const DecisionId id = Serve(100, /*reserve=*/false);
  Report(id, {1, 2}, v1::EVENT_TYPE_IMPRESSION);
  Click(id);
  Click(id, 2);
  EXPECT_EQ(Spent(), 200);
}

TEST_F(EventChargingTest, ChargesNeitherTestsNorTheCallersOwnAds) {
  Click(Serve(100, /*reserve=*/false, /*test=*/true));
  Click(Serve(100, /*reserve=*/false, false, v1::MATCH_TYPE_CALLER));
  EXPECT_EQ(Spent(), 0);
  EXPECT_EQ(Charges(Charge::kNotCharged), 2u);
}

TEST_F(EventChargingTest, AnEventWithoutItsDecisionIsNotCharged) {
  const DecisionId id = {kStartMs, 1, 77};
  EXPECT_THAT(Click(id), ElementsAre(Code::CODE_UNKNOWN_DECISION));
  // A position that the decision does not have.
  EXPECT_THAT(Click(Serve(100, false), 9), ElementsAre(Code::CODE_ACCEPTED));
  EXPECT_EQ(Spent(), 0);
  EXPECT_EQ(Charges(Charge::kUnknownDecision), 2u);
}

TEST_F(EventChargingTest, B2AKillBetweenLogAndLedgerLosesAndDoublesNothing) {
  EXPECT_OK(ledger_->Flush());
  const DecisionId written = Serve(100, true), reserved = Serve(10, true);
  Click(written);
  EXPECT_EQ(Spent(), 100);
  // The log has these, the ledger does not.
  const DecisionId lost = Serve(1, true);
  Click(reserved);
  Click(lost);
  EXPECT_EQ(Crash(), 3u);  // the clock stood still: all are looked at
  EXPECT_EQ(Spent(), 111);
  Crash();
  Crash();
  EXPECT_EQ(Spent(), 111);
  EXPECT_THAT(Click(lost), ElementsAre(Code::CODE_DUPLICATE));
  EXPECT_EQ(Spent(), 111);
}

TEST_F(EventChargingTest, ANewLedgerDoesNotChargeThePast) {
  Click(Serve(100, false));
  ledger_->Flush().IgnoreError();
  Stop();
  disk_ = LedgerDisk();
  clock_.Advance(absl::Hours(1));
  Start();
  EXPECT_THAT(ReplayEvents(log_.get(), ledger_.get()), testing::IsOk());
  EXPECT_EQ(Spent(), 0);
}

// Random lives, each ended by a kill, against the sum of what was clicked.
TEST_F(EventChargingTest, B2ChargesWhatTheLogHoldsAfterManyKills) {
  Rng rng(20260312);
  int64_t clicked = 0;
  std::vector<std::pair<DecisionId, int64_t>> open;
  for (int life = 0; life < 12; ++life) {
    for (uint64_t i = rng.Below(30); i > 0; --i) {
      const auto price = static_cast<int64_t>(1 + rng.Below(1000));
      open.emplace_back(Serve(price, rng.Bernoulli(0.8)), price);
      if (rng.Bernoulli(0.6)) {
        const size_t which = rng.Below(open.size());
        Click(open[which].first);
        clicked += open[which].second;
        open.erase(open.begin() + static_cast<int64_t>(which));
      }
      clock_.Advance(absl::Seconds(static_cast<int64_t>(rng.Below(400))));
      if (rng.Bernoulli(0.2)) {
        ASSERT_OK(ledger_->RunOnce());
      }
    }
    Crash();
    ASSERT_EQ(Spent(), clicked) << "life " << life;
  }
  EXPECT_GT(clicked, 10'000);
}

TEST_F(EventChargingTest, ASlotIsLookedUpInTheLog) {
  const DecisionId id = Serve(100, false, /*test=*/true);
  ASSERT_OK(log_->Flush());
  ASSERT_OK_AND_ASSIGN(const LoggedSlot slot, LookUpSlot(log_.get(), id, 2));
  EXPECT_EQ(slot.campaign_id, "c");
  EXPECT_EQ(slot.bid_type, v1::BID_TYPE_CPM);
  EXPECT_EQ(slot.price_micros, 100);
  EXPECT_TRUE(slot.test);
  EXPECT_FALSE(slot.named_by_caller);
  EXPECT_THAT(LookUpSlot(log_.get(), id, 3),
              StatusIs(absl::StatusCode::kNotFound, _));
}

}  // namespace
}  // namespace adrank
