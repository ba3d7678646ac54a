// What the pipeline does with the answers of budgets and caps.
#include <algorithm>
#include <map>
#include <set>

#include "gtest/gtest.h"
#include "server/ranking_pipeline.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ParseText;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr DecisionId kId = {1750000000000, 1, 42};

// Ads ad0..ad4 of campaigns c0..c4, bids 1000, 1100, ... 1400.
class FakeAdmission : public Admission {
 public:
  explicit FakeAdmission(size_t campaigns) : gates(campaigns) {}

  void Begin(const AdIndex& index, const v1::Context& context,
             AdmissionTerms* terms) override {
    if (!gates.empty()) terms->campaigns = gates;
    for (const std::string& id : capped) {
      terms->capped_ads.push_back(*index.Find(id));
    }
    std::sort(terms->capped_ads.begin(), terms->capped_ads.end());
  }

  void Reserve(const AdIndex& index, const v1::Context& context,
               const DecisionId& id, absl::Span<const AdmissionSlot> slots,
               std::vector<SlotRefusal>* refused) override {
    EXPECT_FALSE(taken) << "Release must come before the next Reserve";
    ++reserves;
    for (uint32_t s = 0; s < slots.size(); ++s) {
      const std::string ad(index.ad_id(slots[s].ad));
      if (refuse_all || refuses.count(ad) != 0) {
        refused->push_back({s, level, reason});
      } else {
        prices[ad] = slots[s].price_micros;
      }
    }
    taken = refused->empty();
  }

  void Release(const DecisionId& id) override {
    EXPECT_TRUE(taken);
    taken = false;
    ++releases;
  }

  std::vector<CampaignGate> gates;
  std::vector<std::string> capped;
  std::set<std::string> refuses;
  bool refuse_all = false;
  v1::Refusal::Level level = v1::Refusal::AD;
  v1::NoAdReason reason = v1::NO_AD_REASON_BUDGET;
  std::map<std::string, int64_t> prices;
  bool taken = false;
  int reserves = 0, releases = 0;
};

class PipelineAdmission : public ::testing::Test {
 protected:
  PipelineAdmission()
      : serving(
            ServingSnapshot::Of(nullptr, AnIndex(ACatalogOf(5, 5, 1000, 100)))),
        clock(absl::FromUnixMillis(1750000000000)),
        pipeline(*RankingPipeline::Create({}, &clock)) {}

  std::vector<std::string> Rank(const std::string& request,
                                std::vector<Admission*> admissions,
                                bool take = true) {
    CallOptions call;
    call.admissions = admissions;
    call.take = take;
    asked = ParseText<v1::RankRequest>(request);
    EXPECT_OK(pipeline->Rank(serving, asked, kId, call, &trace, &outcome));
    std::vector<std::string> ads;
    for (const auto& p : outcome.response.placements()) {
      for (const auto& ad : p.ads()) ads.push_back(ad.ad_id());
    }
    return ads;
  }
  v1::NoAdReason Reason() const {
    return outcome.response.placements(0).no_ad_reason();
  }

  ServingSnapshot serving;
  SimulatedClock clock;
  std::unique_ptr<const RankingPipeline> pipeline;
  v1::RankRequest asked;
  RankTrace trace;
  RankOutcome outcome;
};

constexpr char kTwoSlots[] = "placements { id: 'p' count: 2 }";

TEST_F(PipelineAdmission, WhatIsServedIsTaken) {
  FakeAdmission budgets(5), caps(0);
  EXPECT_THAT(Rank(kTwoSlots, {&budgets, &caps}), ElementsAre("ad4", "ad3"));
  EXPECT_TRUE(budgets.taken);
  EXPECT_TRUE(caps.taken);
  EXPECT_EQ(budgets.prices["ad4"], 1300);
  EXPECT_EQ(budgets.prices["ad3"], 1200);
}

TEST_F(PipelineAdmission, AClosedCampaignIsNoCandidateAndTheDecisionSaysSo) {
  FakeAdmission budgets(5);
  budgets.gates[4].closed = true;
  EXPECT_THAT(Rank(kTwoSlots, {&budgets}), ElementsAre("ad3", "ad2"));
  EXPECT_EQ(outcome.response.counts().filtered(), 1);
  ASSERT_EQ(outcome.decision.terms_size(), 1);
  EXPECT_EQ(outcome.decision.terms(0).campaign_id(), "c4");
  EXPECT_TRUE(outcome.decision.terms(0).closed());
}

TEST_F(PipelineAdmission, WithoutAnyBudgetTheSlotSaysSo) {
  FakeAdmission budgets(5);
  for (CampaignGate& gate : budgets.gates) gate.closed = true;
  EXPECT_THAT(Rank("", {&budgets}), IsEmpty());
  EXPECT_EQ(Reason(), v1::NO_AD_REASON_BUDGET);
  EXPECT_THAT(Rank("candidates { ad_id: 'ad0' }", {&budgets}), IsEmpty());
  EXPECT_EQ(Reason(), v1::NO_AD_REASON_BUDGET);
}

TEST_F(PipelineAdmission, AUserAtEveryCapGetsTheReason) {
  FakeAdmission caps(0);
  caps.capped = {"ad0", "ad1", "ad2", "ad3", "ad4"};
  EXPECT_THAT(Rank("", {&caps}), IsEmpty());
  EXPECT_EQ(Reason(), v1::NO_AD_REASON_FREQUENCY_CAP);
  caps.capped = {"ad4", "ad1"};
  EXPECT_THAT(Rank(kTwoSlots, {&caps}), ElementsAre("ad3", "ad2"));
  EXPECT_THAT(outcome.decision.capped_ad_ids(), ElementsAre("ad1", "ad4"));
}

TEST_F(PipelineAdmission, APacedBidRanksAndPaysByTheMultiplier) {
  FakeAdmission budgets(5);
  budgets.gates[4].multiplier = 0.9f;  // 1400 -> 1259 or 1260
  EXPECT_THAT(Rank("", {&budgets}), ElementsAre("ad3"));
  const v1::RankedAd& ad = outcome.response.placements(0).ads(0);
  EXPECT_LE(ad.price_micros(), 1260);
  EXPECT_GE(ad.price_micros(), 1259);
  EXPECT_EQ(ad.bid_micros(), 1300);
  ASSERT_EQ(outcome.decision.terms_size(), 1);
  EXPECT_EQ(outcome.decision.terms(0).pacing_multiplier(), 0.9f);
}

TEST_F(PipelineAdmission, ARefusedAdMakesRoomForTheNext) {
  FakeAdmission budgets(5), caps(0);
  caps.refuses = {"ad4"};
  EXPECT_THAT(Rank(kTwoSlots, {&budgets, &caps}), ElementsAre("ad3", "ad2"));
  EXPECT_EQ(budgets.reserves, 2);
  EXPECT_EQ(budgets.releases, 1);
  EXPECT_EQ(budgets.prices["ad3"], 1200);  // not pushed by the refused one
  ASSERT_EQ(outcome.decision.refused_size(), 1);
  EXPECT_EQ(outcome.decision.refused(0).ad_id(), "ad4");
}

TEST_F(PipelineAdmission, ARefusedCampaignGoesWithItsOtherAds) {
  v1::Catalog catalog = ACatalogOf(5, 5, 1000, 100);
  v1::Ad* sibling = catalog.add_ads();
  sibling->set_id("ad4b");
  sibling->set_ad_group_id("g4");
  serving = ServingSnapshot::Of(nullptr, AnIndex(catalog));
  FakeAdmission budgets(5);
  budgets.refuses = {"ad4"};
  budgets.level = v1::Refusal::AD;
  const auto ads = Rank("placements { id: 'p' count: 3 }", {&budgets});
  EXPECT_EQ(std::count(ads.begin(), ads.end(), "ad4b"), 1);
  // Both siblings are refused at first sight, so neither shows.
  FakeAdmission strict(5);
  strict.refuses = {"ad4", "ad4b"};
  strict.level = v1::Refusal::CAMPAIGN;
  EXPECT_THAT(Rank(kTwoSlots, {&strict}), ElementsAre("ad3", "ad2"));
  // A sibling that holds a slot stays.
  FakeAdmission one(5);
  one.refuses = {"ad4b"};
  one.level = v1::Refusal::CAMPAIGN;
  EXPECT_THAT(Rank(kTwoSlots, {&one}), ElementsAre("ad4", "ad3"));
}

TEST_F(PipelineAdmission, RefusedWithoutEndIsAnEmptySlotWithItsReason) {
  FakeAdmission caps(0);
  caps.refuse_all = true;
  caps.reason = v1::NO_AD_REASON_FREQUENCY_CAP;
  EXPECT_THAT(Rank(kTwoSlots, {&caps}), IsEmpty());
  EXPECT_EQ(Reason(), v1::NO_AD_REASON_FREQUENCY_CAP);
  EXPECT_FALSE(caps.taken);
}

TEST_F(PipelineAdmission, TestRequestsAndLooksTakeNothing) {
  FakeAdmission budgets(5);
  EXPECT_THAT(Rank("test: true", {&budgets}), ElementsAre("ad4"));
  EXPECT_THAT(Rank("", {&budgets}, /*take=*/false), ElementsAre("ad4"));
  EXPECT_EQ(budgets.reserves, 0);
  budgets.gates[4].closed = true;  // but they see what holds
  EXPECT_THAT(Rank("test: true", {&budgets}), ElementsAre("ad3"));
}

TEST_F(PipelineAdmission, TheDecisionHoldsWhatAReplayNeeds) {
  FakeAdmission budgets(5);
  Rank(
      "request_id: 'r' deadline_ms: 20 max_candidates: 3 "
      "placements { id: 'p' count: 2 reserve_micros: 7 } "
      "blocked_advertiser_ids: 'v1' context { user_id: 'u' }",
      {&budgets});
  const v1::RankRequest& request = outcome.decision.request();
  EXPECT_EQ(request.placements(0).reserve_micros(), 7);
  EXPECT_EQ(request.max_candidates(), 3);
  EXPECT_EQ(request.deadline_ms(), 20);
  EXPECT_THAT(request.blocked_advertiser_ids(), ElementsAre("v1"));
  EXPECT_FALSE(request.has_context());
  EXPECT_EQ(outcome.decision.config_fingerprint(),
            pipeline->config_fingerprint());
}

}  // namespace
}  // namespace adrank
