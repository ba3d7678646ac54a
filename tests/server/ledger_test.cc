// One ledger, step by step. Over random sequences: ledger_property_test.cc.
#include "server/budget/ledger.h"

#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "tests/server/ledger_testing.h"
#include "tests/testing/memory_ledger_store.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ABudget;
using ::adrank::testing::APolicy;
using ::adrank::testing::LedgerDisk;
using ::adrank::testing::MemoryLedgerStore;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kStartMs = 1'800'000'000'000;  // 2027-01-15 08:00 UTC

class LedgerTest : public ::testing::Test {
 protected:
  void Open(const BudgetPolicy& policy, size_t max_backlog = 1 << 20) {
    Ledger::Options options;
    options.policy = policy;
    options.max_backlog = max_backlog;
    ASSERT_OK_AND_ASSIGN(
        ledger_, Ledger::Open(std::make_unique<MemoryLedgerStore>(&disk_),
                              options, &clock_));
    ledger_->SetLookup([this](const DecisionId&, uint8_t) { return logged_; });
    campaign_ = ledger_->Campaign("c");
  }
  void SetBudget(int64_t daily, int64_t total = 0) {
    ledger_->SetTerms(campaign_, ABudget(daily, total), absl::UTCTimeZone(),
                      ++version_);
  }
  // True: served.
  bool Serve(int64_t price, float p = 1) {
    std::vector<uint32_t> refused;
    id_ = {static_cast<uint64_t>(clock_.NowMs()), 1, next_++};
    ledger_->Reserve(id_, {{campaign_, 1, v1::BID_TYPE_CPC, price, p}},
                     &refused);
    return refused.empty();
  }
  void Click(const DecisionId& id) {
    const int64_t begun = ledger_->BeginEvents();
    ledger_->OnEvent(id, 1, v1::EVENT_TYPE_CLICK, begun);
    ledger_->EndEvents(begun);
  }
  CampaignSpend Spend() const { return ledger_->Spend(campaign_); }
  void After(absl::Duration d) {
    clock_.Advance(d);
    ASSERT_OK(ledger_->RunOnce());
  }

  SimulatedClock clock_{absl::FromUnixMillis(kStartMs)};
  LedgerDisk disk_;
  absl::StatusOr<LoggedSlot> logged_ = absl::NotFoundError("");
  std::unique_ptr<Ledger> ledger_;
  LedgerCampaign* campaign_ = nullptr;
  DecisionId id_;
  uint32_t next_ = 0;
  int64_t version_ = 0;
};

TEST_F(LedgerTest, B6ABudgetLoweredBelowWhatIsSpentClosesAtOnce) {
  Open(APolicy(1));
  SetBudget(1000);
  ASSERT_TRUE(Serve(600));
  Click(id_);
  EXPECT_FALSE(Spend().closed);
  SetBudget(500);
  EXPECT_TRUE(Spend().closed);
  EXPECT_FALSE(Serve(1));
  SetBudget(700);
  EXPECT_FALSE(Spend().closed);
  EXPECT_TRUE(Serve(100));
  EXPECT_FALSE(Serve(1));
  SetBudget(0);
  EXPECT_TRUE(Serve(1'000'000));
}

TEST_F(LedgerTest, B6AnOlderCatalogueDoesNotBringBackItsBudget) {
  Open(APolicy(1));
  SetBudget(1000);
  ledger_->SetTerms(campaign_, ABudget(5), absl::UTCTimeZone(), version_ - 1);
  EXPECT_TRUE(Serve(600));
}

TEST_F(LedgerTest, B3ALateClickIsBilledWhileTheBudgetHasRoom) {
  Open(APolicy(1));
  SetBudget(1000);
  ASSERT_TRUE(Serve(600));
  const DecisionId first = id_;
  ASSERT_TRUE(Serve(400));
  const DecisionId second = id_;
  After(absl::Hours(2));
  EXPECT_EQ(static_cast<int64_t>(Spend().open), 0);
  ASSERT_TRUE(Serve(700));
  logged_ = LoggedSlot{"c", v1::BID_TYPE_CPC, 600, 0.1f};
  Click(first);
  logged_->price_micros = 600;
  After(absl::Seconds(1));
  // 300 are free beside what the third holds.
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 0);
  EXPECT_EQ(Spend().unbilled_events, 1u);
  logged_->price_micros = 300;
  Click(second);
  After(absl::Seconds(1));
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 300);
  EXPECT_EQ(static_cast<int64_t>(Spend().free), 0);
}

TEST_F(LedgerTest, B3AClickAfterADayIsNotBilled) {
  Open(APolicy(1));
  SetBudget(1000);
  ASSERT_TRUE(Serve(600));
  After(absl::Hours(25));
  logged_ = LoggedSlot{"c", v1::BID_TYPE_CPC, 600, 0.1f};
  Click(id_);
  After(absl::Seconds(1));
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 0);
  EXPECT_EQ(ledger_->Stats().charges[static_cast<size_t>(Charge::kTooLate)],
            1u);
}

TEST_F(LedgerTest, WhatIsOnlyTheCallersOrATestIsNotCharged) {
  Open(APolicy(1));
  SetBudget(1000);
  for (const bool test : {false, true}) {
    logged_ = LoggedSlot{"c", v1::BID_TYPE_CPC, 600, 0.1f, test, !test};
    Click({static_cast<uint64_t>(clock_.NowMs()), 1, next_++});
  }
  logged_ = LoggedSlot{"unheard of", v1::BID_TYPE_CPC, 600, 0.1f};
  Click({static_cast<uint64_t>(clock_.NowMs()), 1, next_++});
  After(absl::Seconds(1));
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 0);
  EXPECT_EQ(ledger_->Stats().charges[static_cast<size_t>(Charge::kNotCharged)],
            3u);
}

TEST_F(LedgerTest, ADayThatBeginsOpensWhatWasClosed) {
  Open(APolicy(1));
  SetBudget(100);
  ASSERT_TRUE(Serve(100));
  Click(id_);
  EXPECT_TRUE(Spend().closed);
  After(absl::Hours(15));
  EXPECT_TRUE(Spend().closed);
  // A click of yesterday's decision is yesterday's spend.
  After(absl::Hours(2));
  EXPECT_FALSE(Spend().closed);
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_today), 0);
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 100);
  EXPECT_TRUE(Serve(100));
}

// Nothing that was reserved behind it came back before that year.
TEST_F(LedgerTest, AClockThatWasAYearAheadForAMomentHoldsNoBudgetForAYear) {
  Open(APolicy(1));
  SetBudget(0, 1000);
  ASSERT_TRUE(Serve(300));
  After(absl::Hours(24 * 365));
  ASSERT_TRUE(Serve(400));
  const DecisionId ahead = id_;
  EXPECT_EQ(static_cast<int64_t>(Spend().reserved_total), 400);
  After(-absl::Hours(24 * 365));
  ASSERT_TRUE(Serve(100));
  EXPECT_EQ(static_cast<int64_t>(Spend().reserved_total), 100);
  // Its click is a late one: charged from the log, once.
  logged_ = LoggedSlot{"c", v1::BID_TYPE_CPC, 400, 0.5f};
  Click(ahead);
  After(absl::Seconds(1));
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 400);
  EXPECT_EQ(disk_.synced, disk_.batch);
  After(absl::Hours(2));
  EXPECT_EQ(static_cast<int64_t>(Spend().reserved_total), 0);
  EXPECT_TRUE(Serve(600));
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, ledger_->Audit());
  EXPECT_THAT(audit.errors, IsEmpty());
}

TEST_F(LedgerTest, TheGateIsToldWhenACampaignClosesAndOpens) {
  Open(APolicy(1));
  std::vector<std::string> told;
  ledger_->SetGateListener([&](LedgerCampaign*, bool closed,
                               CampaignPace pace) {
    told.push_back(absl::StrCat(closed ? "closed " : "open ", pace.multiplier));
  });
  SetBudget(100);
  ledger_->SetPace(campaign_, {0.5f, 1});
  ASSERT_TRUE(Serve(100));
  ledger_->Release(id_);
  EXPECT_THAT(told, ElementsAre("open 0.5", "closed 0.5", "open 0.5"));
}

// The disk is full: serving goes on, clicks are charged, and what fits in
// memory is written when the disk works again.
TEST_F(LedgerTest, AFailingDiskStopsNeitherServingNorCharging) {
  Open(APolicy(0.01), /*max_backlog=*/10);
  SetBudget(1'000'000);
  disk_.fails = true;
  std::vector<DecisionId> ids;
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(Serve(100, 0.5f));
    ids.push_back(id_);
    EXPECT_FALSE(ledger_->RunOnce().ok());
  }
  for (int i = 0; i < 20; ++i) Click(ids[i]);
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 2000);
  const LedgerStats stats = ledger_->Stats();
  EXPECT_EQ(stats.unwritten_slots, 20u);
  EXPECT_GT(stats.write_failures, 0u);
  // A new process does not know what this one could not write.
  disk_.fails = false;
  clock_.Advance(absl::Seconds(1));
  ASSERT_OK(ledger_->RunOnce());
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, ledger_->Audit());
  EXPECT_THAT(audit.errors, IsEmpty());
  EXPECT_EQ(static_cast<int64_t>(audit.spent), 2000);
  EXPECT_EQ(ledger_->Stats().backlog, 0u);
  After(absl::Hours(2));
  EXPECT_EQ(static_cast<int64_t>(Spend().open), 0);
  ASSERT_OK_AND_ASSIGN(const LedgerAudit end, ledger_->Audit());
  EXPECT_THAT(end.errors, IsEmpty());
}

// The mark from which a restart replays never passes an event that is not
// written.
TEST_F(LedgerTest, B2AnEventUnderWayHoldsBackWhatIsCovered) {
  Open(APolicy(1));
  SetBudget(1000);
  const int64_t begun = ledger_->BeginEvents();
  After(absl::Seconds(30));
  EXPECT_EQ(disk_.covered_ms, begun);
  logged_ = absl::UnavailableError("the log fails");
  ledger_->OnEvent({static_cast<uint64_t>(begun), 1, 77}, 1,
                   v1::EVENT_TYPE_CLICK, begun);
  ledger_->EndEvents(begun);
  After(absl::Seconds(30));
  EXPECT_EQ(disk_.covered_ms, begun);
  logged_ = LoggedSlot{"c", v1::BID_TYPE_CPC, 60, 0.1f};
  After(absl::Seconds(30));
  EXPECT_EQ(disk_.covered_ms, clock_.NowMs());
  EXPECT_EQ(static_cast<int64_t>(Spend().spent_total), 60);
}

TEST_F(LedgerTest, B1ParallelReservationsNeverExceedTheBudget) {
  Open(APolicy(1));
  constexpr int kThreads = 8;
  LedgerCampaign* other = ledger_->Campaign("d");
  SetBudget(10'000);
  ledger_->SetTerms(other, ABudget(0, 7'000), absl::UTCTimeZone(), 1);
  std::atomic<int64_t> billed{0};
  std::atomic<bool> stop{false};
  std::thread background([&] {
    while (!stop) EXPECT_OK(ledger_->RunOnce());
  });
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Rng rng(t);
      std::vector<uint32_t> refused;
      for (uint32_t i = 0; i < 4000; ++i) {
        const DecisionId id = {static_cast<uint64_t>(clock_.NowMs()),
                               static_cast<uint16_t>(t), i};
        const auto price = static_cast<int64_t>(1 + rng.Below(20));
        refused.clear();
        ledger_->Reserve(id,
                         {{campaign_, 1, v1::BID_TYPE_CPC, price, 0.5f},
                          {other, 2, v1::BID_TYPE_CPC, price, 0.5f}},
                         &refused);
        if (!refused.empty()) continue;
        const double what = rng.Uniform();
        if (what < 0.3) {
          ledger_->Release(id);
        } else if (what < 0.9) {
          Click(id);  // of position 1
          billed += price;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop = true;
  background.join();
  const CampaignSpend c = Spend(), d = ledger_->Spend(other);
  EXPECT_EQ(c.unbilled_events, 0u);
  EXPECT_EQ(static_cast<int64_t>(c.spent_total), billed.load());
  EXPECT_LE(static_cast<int64_t>(c.spent_total + c.open), 10'000);
  EXPECT_LE(static_cast<int64_t>(d.spent_total + d.open), 7'000);
  EXPECT_LT(static_cast<int64_t>(d.free), 20);
  ASSERT_OK(ledger_->Flush());
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, ledger_->Audit());
  EXPECT_THAT(audit.errors, IsEmpty());
}

}  // namespace
}  // namespace adrank
