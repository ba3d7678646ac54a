// Pacing through the pipeline: what it counts, what it sets, what it remembers.
#include "server/budget/pacing_loop.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/rng.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/budget/budget_admission.h"
#include "server/budget/campaign_traffic.h"
#include "server/ranking_pipeline.h"
#include "tests/server/serving_testing.h"
#include "tests/testing/memory_ledger_store.h"

namespace adrank {
namespace {

using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnIndex;
using ::adrank::testing::LedgerDisk;
using ::adrank::testing::MemoryLedgerStore;
using ::adrank::testing::ParseText;
using ::adrank::testing::TempDir;

constexpr int64_t kMidnight = 20'600 * int64_t{86'400'000};
constexpr double kCtr = 0.1;

// Campaigns c0, c1, ... of one ad each that match every request and bid 1000,
// 1100, ... micros a click; a click comes of each tenth ad, at once.
class PacingLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Ledger::Options options;
    options.policy.reservation_ms = 600'000;
    auto ledger = Ledger::Open(std::make_unique<MemoryLedgerStore>(&disk_),
                               options, &clock_);
    ASSERT_OK(ledger);
    ledger_ = *std::move(ledger);
    budgets_ = std::make_unique<BudgetAdmission>(ledger_.get());
    auto pipeline =
        RankingPipeline::Create(ParseText<v1::ServerConfig>(absl::StrCat(
                                    "model { prior_ctr: ", kCtr, " }")),
                                &clock_);
    ASSERT_OK(pipeline);
    pipeline_ = *std::move(pipeline);
    MakeLoop();
  }

  void MakeLoop() {
    loop_ = std::make_unique<PacingLoop>(ledger_.get(), &traffic_, &clock_,
                                         dir_ / "pacing");
  }

  void Serve(const v1::Catalog& catalog) {
    serving_ = ServingSnapshot::Of(nullptr, AnIndex(catalog));
    traffic_.Prepare(*serving_.index);
    budgets_->Prepare(*serving_.index);
    loop_->Prepare(*serving_.index);
  }

  void Rank(const std::string& request) {
    Admission* const admissions[] = {budgets_.get()};
    CallOptions call;
    call.admissions = admissions;
    const DecisionId id{static_cast<uint64_t>(clock_.NowMs()), 1, next_++};
    ASSERT_OK(pipeline_->Rank(serving_, ParseText<v1::RankRequest>(request), id,
                              call, &trace_, &outcome_));
    traffic_.Count(*serving_.index, trace_);
    for (const v1::ServedAd& ad : outcome_.decision.ads()) {
      if (!rng_.Bernoulli(kCtr)) continue;
      const int64_t begun = ledger_->BeginEvents();
      ledger_->OnEvent(id, static_cast<uint8_t>(ad.position()),
                       v1::EVENT_TYPE_CLICK, begun);
      ledger_->EndEvents(begun);
    }
  }

  void Minutes(int n, int requests) {
    for (int m = 0; m < n; ++m) {
      for (int i = 0; i < requests; ++i) {
        clock_.Advance(absl::Seconds(60) / requests);
        Rank("");
      }
      ASSERT_OK(ledger_->RunOnce());
      ASSERT_OK(loop_->RunOnce());
    }
  }

  CampaignSpend Spend(const std::string& id) {
    return ledger_->Spend(ledger_->Campaign(id));
  }

  TempDir dir_;
  SimulatedClock clock_{absl::FromUnixMillis(kMidnight)};
  Rng rng_{11};
  LedgerDisk disk_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<BudgetAdmission> budgets_;
  std::unique_ptr<const RankingPipeline> pipeline_;
  CampaignTraffic traffic_;
  std::unique_ptr<PacingLoop> loop_;
  ServingSnapshot serving_;
  RankTrace trace_;
  RankOutcome outcome_;
  uint32_t next_ = 0;
};

TEST_F(PacingLoopTest, CountsWhatBecameOfEachCampaign) {
  v1::Catalog catalog = ACatalogOf(4, 4, 1000, 100);
  // c3 bids most; at 90 % of its bid it stands behind c2.
  for (int i : {1, 3}) {
    catalog.mutable_campaigns(i)->mutable_budget()->set_daily_micros(1'000'000);
  }
  Serve(catalog);
  ledger_->SetPace(ledger_->Campaign("c3"), {0.9f, 1});
  ledger_->SetPace(ledger_->Campaign("c1"), {1, 1});
  Rank("");  // c2 wins, and c3 would have
  ledger_->SetPace(ledger_->Campaign("c3"), {1, 1e-9f});
  Rank("");  // c3 is left out
  ledger_->SetPace(ledger_->Campaign("c3"), {1, 1});
  Rank("placements { id: 'p' count: 2 }");  // c3 and c2
  Rank("placements { id: 'p' reserve_micros: 1250 }");

  const auto counts = [&](const char* id) {
    const TrafficCounts c = traffic_.Read(id);
    return std::vector<uint64_t>{c.eligible, c.served, c.budget_lost};
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(counts("c0"), ElementsAre(4, 0, 0));
  EXPECT_THAT(counts("c1"), ElementsAre(4, 0, 0));
  EXPECT_THAT(counts("c2"), ElementsAre(4, 3, 0));
  EXPECT_THAT(counts("c3"), ElementsAre(4, 2, 2));
  EXPECT_EQ(traffic_.Read("c2").served_ads, 3u);
  EXPECT_EQ(traffic_.Total().eligible, 16u);
  // The reserve was the whole bid once.
  EXPECT_EQ(traffic_.Read("c0").reserve_shares, 4u);
  EXPECT_NEAR(static_cast<double>(traffic_.Read("c0").reserve_share_ppm), 1e6,
              1e4);
  const auto report = loop_->Report("c3");
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->eligible, 4u);
  EXPECT_EQ(report->served, 2u);
  EXPECT_EQ(report->budget_lost, 2u);
  EXPECT_EQ(report->rank_lost, 0u);
  EXPECT_FALSE(loop_->Report("unheard of").has_value());
}

// 1,440 minutes of 20 requests. At its whole bid c1 would pay 1000 for each of
// 2,880 clicks.
TEST_F(PacingLoopTest, B4_ABudgetLastsTheDayThroughThePipeline) {
  v1::Catalog catalog = ACatalogOf(2, 2, 1000, 1000);
  catalog.mutable_campaigns(1)->mutable_budget()->set_daily_micros(1'000'000);
  Serve(catalog);
  EXPECT_LT(Spend("c1").pace.multiplier, 0.5);  // until more is known
  Minutes(720, 20);
  EXPECT_NEAR(static_cast<double>(Spend("c1").spent_today), 500'000, 60'000);
  EXPECT_NEAR(static_cast<double>(loop_->Report("c1")->target_micros), 500'000,
              10'000);
  Minutes(715, 20);
  const CampaignSpend spend = Spend("c1");
  EXPECT_LE(static_cast<int64_t>(spend.spent_today), 1'000'000);
  EXPECT_GT(static_cast<double>(spend.spent_today), 960'000);
  // Without a budget nothing is paced; B5.
  EXPECT_EQ(Spend("c0").pace.multiplier, 1);
  EXPECT_EQ(Spend("c0").pace.participation, 1);
  const auto report = loop_->Report("c1");
  EXPECT_EQ(report->eligible, 1435u * 20);
  EXPECT_GT(report->budget_lost, report->eligible / 2);
  EXPECT_EQ(report->rank_lost, 0u);
  Minutes(10, 20);
  EXPECT_LT(loop_->Report("c1")->eligible, 200u);  // a new day
}

TEST_F(PacingLoopTest, ARestartForgetsNothingAndABrokenFileIsNoObstacle) {
  v1::Catalog catalog = ACatalogOf(2, 2, 1000, 1000);
  catalog.mutable_campaigns(1)->mutable_budget()->set_daily_micros(1'000'000);
  Serve(catalog);
  Minutes(120, 20);
  const CampaignPace before = Spend("c1").pace;
  ASSERT_OK(loop_->Save());
  MakeLoop();
  loop_->Prepare(*serving_.index);
  EXPECT_EQ(Spend("c1").pace.multiplier, before.multiplier);
  EXPECT_EQ(Spend("c1").pace.participation, before.participation);

  auto content = files::Read(dir_ / "pacing");
  ASSERT_OK(content);
  content->back() ^= 1;
  ASSERT_OK(files::Write(dir_ / "pacing", *content));
  MakeLoop();
  loop_->Prepare(*serving_.index);
  EXPECT_NEAR(Spend("c1").pace.multiplier, 0.3, 1e-6);
}

// The shares of a day began anew with every restart.
TEST_F(PacingLoopTest, ImpressionSharesOfTheDaySurviveARestart) {
  v1::Catalog catalog = ACatalogOf(2, 2, 1000, 1000);
  catalog.mutable_campaigns(1)->mutable_budget()->set_daily_micros(1'000'000);
  Serve(catalog);
  Minutes(60, 20);
  const PacingReport before = *loop_->Report("c1");
  EXPECT_EQ(before.eligible, 1200u);
  EXPECT_GT(before.served, 0u);
  ASSERT_OK(loop_->Save());

  // A new process counts from 0.
  const CampaignTraffic fresh;
  PacingLoop again(ledger_.get(), &fresh, &clock_, dir_ / "pacing");
  again.Prepare(*serving_.index);
  const auto same = [&](const PacingReport& report) {
    return report.eligible == before.eligible &&
           report.served == before.served &&
           report.budget_lost == before.budget_lost &&
           report.rank_lost == before.rank_lost;
  };
  EXPECT_TRUE(same(*again.Report("c1")));
  ASSERT_OK(again.Save());  // before it was stepped
  ASSERT_OK(again.RunOnce());
  EXPECT_TRUE(same(*again.Report("c1")));
  ASSERT_OK(again.Save());
  PacingLoop third(ledger_.get(), &fresh, &clock_, dir_ / "pacing");
  third.Prepare(*serving_.index);
  EXPECT_TRUE(same(*third.Report("c1")));

  // Another day's are not this day's, stepped or not.
  clock_.Advance(absl::Hours(24));
  EXPECT_EQ(third.Report("c1")->eligible, 0u);
  ASSERT_OK(third.RunOnce());
  EXPECT_EQ(third.Report("c1")->eligible, 0u);
}

TEST(CampaignGate, ParticipationIsAShareOfRequests) {
  std::vector<CampaignGate> gates(2);
  gates[1].participation = 0.25;
  AdmissionTerms terms;
  terms.campaigns = gates;
  int open = 0;
  for (uint64_t i = 0; i < 40'000; ++i) {
    // As decisions of one node come: in the same millisecond, counted on.
    terms.draw = uint64_t{1'800'000'000'000} << 16 ^ i << 32;
    EXPECT_FALSE(terms.Closed(0));
    const bool closed = terms.Closed(1);
    EXPECT_EQ(terms.Closed(1), closed);  // one answer a request
    open += !closed;
  }
  EXPECT_NEAR(open, 10'000, 350);
}

}  // namespace
}  // namespace adrank
