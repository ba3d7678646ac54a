#include "server/budget/budget_admission.h"

#include <memory>
#include <string>
#include <vector>

#include "server/trigger/ad_index.h"
#include "tests/testing/memory_ledger_store.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::LedgerDisk;
using ::adrank::testing::MemoryLedgerStore;
using ::testing::IsEmpty;

// Campaign c0 with `daily` micros a day, c1 without a budget; an ad each.
std::shared_ptr<const AdIndex> AnIndex(int64_t daily, int64_t version) {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("v");
  for (const std::string n : {"0", "1"}) {
    v1::Campaign* campaign = catalog.add_campaigns();
    campaign->set_id("c" + n);
    campaign->set_advertiser_id("v");
    if (n == "0") campaign->mutable_budget()->set_daily_micros(daily);
    v1::AdGroup* group = catalog.add_ad_groups();
    group->set_id("g" + n);
    group->set_campaign_id("c" + n);
    group->set_bid_micros(1000);
    v1::Ad* ad = catalog.add_ads();
    ad->set_id("a" + n);
    ad->set_ad_group_id("g" + n);
  }
  auto index = AdIndex::Build(catalog, version);
  EXPECT_OK(index);
  return *index;
}

class BudgetAdmissionTest : public ::testing::Test {
 protected:
  BudgetAdmissionTest() {
    Ledger::Options options;
    options.policy.hard_share = 1;
    auto ledger = Ledger::Open(std::make_unique<MemoryLedgerStore>(&disk_),
                               options, &clock_);
    EXPECT_OK(ledger);
    ledger_ = *std::move(ledger);
    budgets_ = std::make_unique<BudgetAdmission>(ledger_.get());
  }
  AdmissionTerms Begin(const AdIndex& index) {
    AdmissionTerms terms;
    budgets_->Begin(index, v1::Context(), &terms);
    return terms;
  }
  std::vector<SlotRefusal> Reserve(const AdIndex& index, uint32_t decision,
                                   int64_t price) {
    std::vector<AdmissionSlot> slots(2);
    for (uint32_t i = 0; i < 2; ++i) {
      slots[i].ad = i;  // of campaign i
      slots[i].position = i + 1;
      slots[i].price_micros = price;
      slots[i].pctr = 0.5f;
    }
    std::vector<SlotRefusal> refused;
    budgets_->Reserve(index, v1::Context(), Id(decision), slots, &refused);
    return refused;
  }
  DecisionId Id(uint32_t decision) const {
    return {static_cast<uint64_t>(clock_.NowMs()), 1, decision};
  }

  SimulatedClock clock_{absl::FromUnixMillis(1'800'000'000'000)};
  LedgerDisk disk_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<BudgetAdmission> budgets_;
};

TEST_F(BudgetAdmissionTest, RefusesTheCampaignAndTakesNothing) {
  const auto index = AnIndex(1000, 1);
  const AdmissionTerms terms = Begin(*index);
  ASSERT_EQ(terms.campaigns.size(), 2u);
  EXPECT_FALSE(terms.Closed(0));
  EXPECT_THAT(Reserve(*index, 0, 600), IsEmpty());
  const auto refused = Reserve(*index, 1, 600);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].slot, 0u);
  EXPECT_EQ(refused[0].level, v1::Refusal::CAMPAIGN);
  EXPECT_EQ(refused[0].reason, v1::NO_AD_REASON_BUDGET);
  // The other slot of that page holds nothing either.
  const LedgerCampaign* other = ledger_->FindCampaign("c1");
  EXPECT_EQ(static_cast<int64_t>(ledger_->Spend(other).open), 600);
  // A request that has begun sees it close.
  EXPECT_TRUE(terms.Closed(0));
  EXPECT_FALSE(terms.Closed(1));
  budgets_->Release(Id(0));
  EXPECT_FALSE(terms.Closed(0));
  EXPECT_THAT(Reserve(*index, 2, 600), IsEmpty());
}

TEST_F(BudgetAdmissionTest, B6ANewCatalogueOpensAndClosesAtOnce) {
  const auto first = AnIndex(1000, 1);
  const AdmissionTerms old_terms = Begin(*first);
  EXPECT_THAT(Reserve(*first, 0, 1000), IsEmpty());
  EXPECT_TRUE(old_terms.Closed(0));
  const auto second = AnIndex(2000, 2);
  budgets_->Prepare(*second);
  // Requests under way with the catalogue before see it too.
  EXPECT_FALSE(old_terms.Closed(0));
  EXPECT_FALSE(Begin(*second).Closed(0));
  const auto third = AnIndex(500, 3);
  budgets_->Prepare(*third);
  EXPECT_TRUE(old_terms.Closed(0));
  EXPECT_TRUE(Begin(*third).Closed(0));
  // A late look at an old catalogue does not bring back its budget.
  EXPECT_TRUE(Begin(*first).Closed(0));
}

TEST_F(BudgetAdmissionTest, PassesTheMultiplierOn) {
  const auto index = AnIndex(1000, 1);
  const AdmissionTerms terms = Begin(*index);
  EXPECT_EQ(terms.Multiplier(1), 1);
  ledger_->SetPace(ledger_->FindCampaign("c1"), {0.25f, 1});
  EXPECT_EQ(terms.Multiplier(1), 0.25f);
  EXPECT_EQ(terms.Multiplier(0), 1);
  const auto next = AnIndex(1000, 2);
  EXPECT_EQ(Begin(*next).Multiplier(1), 0.25f);
}

}  // namespace
}  // namespace adrank
