// X2: an ad that is missing is told the first stage that stopped it, and the
// gap that is stated is the gap: with it the ad passes, with one micro less it
// does not.
#include "server/why_not.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/rng.h"
#include "gtest/gtest.h"
#include "server/explain.h"
#include "tests/server/random_catalog.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ABundle;
using ::adrank::testing::AddText;
using ::adrank::testing::AnIndex;
using ::adrank::testing::MixBidTypes;
using ::adrank::testing::ParseText;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomWords;

constexpr DecisionId kId = {1750000000000, 1, 42};

// One question about one catalogue, which may be changed and asked again.
struct Case {
  v1::Catalog catalog;
  v1::RankRequest request;
  uint32_t max_ads_per_advertiser = 0;

  v1::AdExplanation Ask(const std::string& ad_id) const {
    const SimulatedClock clock(absl::FromUnixMillis(1750000000000));
    v1::ServerConfig config;
    config.mutable_rank()->set_reserve_micros(5);
    config.mutable_rank()->set_max_ads_per_advertiser(max_ads_per_advertiser);
    const auto pipeline = *RankingPipeline::Create(config, &clock);
    static const auto* const bundle =
        new std::shared_ptr<const ModelBundle>(ABundle());
    const ServingSnapshot serving =
        ServingSnapshot::Of(*bundle, AnIndex(catalog));
    v1::ExplainRequest ask;
    *ask.mutable_request() = request;
    ask.add_ad_ids(ad_id);
    RankTrace trace;
    v1::ExplainResponse response;
    EXPECT_OK(ExplainRanking(*pipeline, serving, ask, kId, {}, {}, &trace,
                             &response));
    for (const v1::AdExplanation& ad : response.ads()) {
      if (ad.ad_id() == ad_id) return ad;
    }
    return {};
  }

  v1::Ad* ad(const std::string& id) {
    for (v1::Ad& x : *catalog.mutable_ads()) {
      if (x.id() == id) return &x;
    }
    return nullptr;
  }
  v1::AdGroup* group_of(const std::string& ad_id) {
    for (v1::AdGroup& g : *catalog.mutable_ad_groups()) {
      if (g.id() == ad(ad_id)->ad_group_id()) return &g;
    }
    return nullptr;
  }
  v1::Campaign* campaign_of(const std::string& ad_id) {
    for (v1::Campaign& c : *catalog.mutable_campaigns()) {
      if (c.id() == group_of(ad_id)->campaign_id()) return &c;
    }
    return nullptr;
  }
  v1::Advertiser* advertiser_of(const std::string& ad_id) {
    for (v1::Advertiser& v : *catalog.mutable_advertisers()) {
      if (v.id() == campaign_of(ad_id)->advertiser_id()) return &v;
    }
    return nullptr;
  }

  // Where the ad's bid is written: a keyword with its own, or the ad group.
  void SetBid(const std::string& ad_id, const std::string& keyword,
              int64_t bid) {
    v1::AdGroup* group = group_of(ad_id);
    bool own = false;
    for (v1::Keyword& k : *group->mutable_keywords()) {
      if (k.negative() || k.text() != keyword || k.bid_micros() == 0) continue;
      k.set_bid_micros(bid);
      own = true;
    }
    if (!own) group->set_bid_micros(bid);
  }
};

Case RandomCase(Rng* rng) {
  Case c;
  c.catalog = RandomCatalog(rng, 60);
  if (rng->Bernoulli(0.5)) MixBidTypes(rng, &c.catalog);
  for (v1::Ad& ad : *c.catalog.mutable_ads()) {
    AddText(ad.mutable_attributes(), "category",
            rng->Bernoulli(0.5) ? "a" : "b");
  }
  // Of a keyword written twice only the better bid counts; each once here, so
  // that a bid is written in one place.
  for (v1::AdGroup& g : *c.catalog.mutable_ad_groups()) {
    std::set<std::string> seen;
    v1::AdGroup once = g;
    once.clear_keywords();
    for (const v1::Keyword& k : g.keywords()) {
      if (seen.insert(k.text()).second) *once.add_keywords() = k;
    }
    g = once;
  }
  *c.request.mutable_context() = RandomContext(rng);
  if (rng->Bernoulli(0.8)) {
    c.request.mutable_context()->set_query(RandomWords(rng, 5));
  }
  AddText(c.request.mutable_context()->mutable_attributes(), "city",
          rng->Bernoulli(0.5) ? "Berlin" : "Rome");
  for (uint64_t p = 1 + rng->Below(2); p > 0; --p) {
    v1::Placement* placement = c.request.add_placements();
    placement->set_id(absl::StrCat("p", p));
    placement->set_count(1 + static_cast<uint32_t>(rng->Below(2)));
    if (rng->Bernoulli(0.5)) {
      placement->set_reserve_micros(static_cast<int64_t>(rng->Below(30)));
    }
  }
  if (rng->Bernoulli(0.3)) {
    c.request.set_max_candidates(1 + static_cast<uint32_t>(rng->Below(8)));
  }
  if (rng->Bernoulli(0.2)) c.request.add_blocked_advertiser_ids("v0");
  if (rng->Bernoulli(0.5)) c.max_ads_per_advertiser = 1;
  // More advertisers, or limits hide everything.
  for (int v = 1; v < 5; ++v) {
    c.catalog.add_advertisers()->set_id(absl::StrCat("w", v));
  }
  for (v1::Campaign& campaign : *c.catalog.mutable_campaigns()) {
    if (rng->Bernoulli(0.7)) {
      campaign.set_advertiser_id(absl::StrCat("w", 1 + rng->Below(4)));
    }
  }
  // Splits the campaigns, for the same reason.
  for (int k = 0; k < 8; ++k) {
    v1::Campaign* copy = c.catalog.add_campaigns();
    *copy = c.catalog.campaigns(0);
    copy->set_id(absl::StrCat("k", k));
    copy->set_advertiser_id(absl::StrCat("w", 1 + k % 4));
    copy->clear_status();
    copy->clear_targeting();
  }
  for (v1::AdGroup& g : *c.catalog.mutable_ad_groups()) {
    if (rng->Bernoulli(0.7))
      g.set_campaign_id(absl::StrCat("k", rng->Below(8)));
  }
  return c;
}

// Removes what the stage says is in the way; false: it takes more than that.
bool Mend(const v1::AdExplanation& why, Case* c) {
  const std::string& id = why.ad_id();
  switch (why.stage()) {
    case v1::RANKING_STAGE_CATALOG:
      c->ad(id)->clear_status();
      c->group_of(id)->clear_status();
      c->campaign_of(id)->clear_status();
      c->advertiser_of(id)->clear_status();
      return true;
    case v1::RANKING_STAGE_SCHEDULE:
      c->campaign_of(id)->clear_start_time_ms();
      c->campaign_of(id)->clear_end_time_ms();
      return true;
    case v1::RANKING_STAGE_BLOCKED:
      c->request.clear_blocked_advertiser_ids();
      return true;
    case v1::RANKING_STAGE_TARGETING:
      c->campaign_of(id)->clear_targeting();
      c->group_of(id)->clear_targeting();
      return true;
    case v1::RANKING_STAGE_KEYWORD:
      c->group_of(id)->clear_keywords();
      c->campaign_of(id)->clear_negative_keywords();
      return true;
    case v1::RANKING_STAGE_LIMIT:
      c->max_ads_per_advertiser = 0;
      return true;
    default:
      return false;
  }
}

// Follows one ad from stage to stage until it is served.
void Follow(Case c, const std::string& id, std::map<int, int>* seen) {
  int last = 0;
  for (int step = 0; step < 12; ++step) {
    const v1::AdExplanation why = c.Ask(id);
    SCOPED_TRACE(absl::StrCat(id, ": ", why.outcome()));
    if (why.served()) {
      EXPECT_EQ(why.stage(), v1::RANKING_STAGE_UNSPECIFIED);
      return;
    }
    ASSERT_NE(why.stage(), v1::RANKING_STAGE_UNSPECIFIED);
    if (why.stage() > v1::RANKING_STAGE_RETRIEVAL &&
        c.request.max_candidates() != 0) {
      // Siblings that the limit cut off would rise with the bid.
      c.request.clear_max_candidates();
      continue;
    }
    ++(*seen)[why.stage()];
    const v1::RankingStage stage = why.stage();
    // What was mended stays mended.
    ASSERT_GT(stage, last);
    last = stage;
    if (Mend(why, &c)) continue;
    // The gap is that among the candidates there were: a bid that rises takes
    // its siblings along, and under a limit they may become candidates too.
    if (stage > v1::RANKING_STAGE_RETRIEVAL &&
        c.request.max_candidates() != 0) {
      c.request.clear_max_candidates();
      last = v1::RANKING_STAGE_RETRIEVAL;
      continue;
    }
    if (why.needed() == 0) {
      EXPECT_NE(why.outcome().find("no bid"), std::string::npos);
      return;
    }
    const auto needed = static_cast<int64_t>(why.needed());
    ASSERT_GT(needed, static_cast<int64_t>(why.had()));
    std::string keyword = why.keyword();
    if (stage == v1::RANKING_STAGE_RETRIEVAL) {
      Case unlimited = c;
      unlimited.request.clear_max_candidates();
      keyword = unlimited.Ask(id).keyword();
    }
    if (needed - 1 > static_cast<int64_t>(why.had())) {
      c.SetBid(id, keyword, needed - 1);
      const v1::AdExplanation less = c.Ask(id);
      // A sibling whose bid rises too may make the limit what stops it.
      ASSERT_FALSE(less.served());
      ASSERT_LE(less.stage(), stage) << less.outcome();
    }
    c.SetBid(id, keyword, needed);
    const v1::AdExplanation enough = c.Ask(id);
    ASSERT_TRUE(enough.served() || enough.stage() > stage) << enough.outcome();
    if (stage == v1::RANKING_STAGE_RANK) {
      ASSERT_TRUE(enough.served()) << enough.outcome();
    }
  }
  FAIL() << id << " never ended";
}

TEST(WhyNot, X2StatedGapsAreExactAndEachStageOnceMendedIsPassed) {
  std::map<int, int> seen;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    const Case c = RandomCase(&rng);
    for (int i = 0; i < 8; ++i) {
      Follow(c, absl::StrCat("ad", rng.Below(60)), &seen);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  for (const v1::RankingStage stage :
       {v1::RANKING_STAGE_CATALOG, v1::RANKING_STAGE_SCHEDULE,
        v1::RANKING_STAGE_BLOCKED, v1::RANKING_STAGE_TARGETING,
        v1::RANKING_STAGE_KEYWORD, v1::RANKING_STAGE_RETRIEVAL,
        v1::RANKING_STAGE_RESERVE, v1::RANKING_STAGE_LIMIT,
        v1::RANKING_STAGE_RANK}) {
    EXPECT_GE(seen[stage], 10) << v1::RankingStage_Name(stage);
  }
}

TEST(WhyNot, X2AskingChangesNothing) {
  Rng rng(7);
  const Case c = RandomCase(&rng);
  const SimulatedClock clock(absl::FromUnixMillis(1750000000000));
  const auto pipeline = *RankingPipeline::Create({}, &clock);
  const ServingSnapshot serving =
      ServingSnapshot::Of(ABundle(), AnIndex(c.catalog));
  RankTrace trace;
  RankOutcome outcome;
  ASSERT_OK(pipeline->Rank(serving, c.request, kId, {}, &trace, &outcome));
  const auto picture = [&trace] {
    std::vector<std::string> parts;
    for (const RankCandidate& x : trace.candidates) {
      parts.push_back(absl::StrCat(x.bid_micros));
    }
    for (size_t i = 0; i < trace.auction_ads.size(); ++i) {
      const AuctionAd& x = trace.auction_ads[i];
      parts.push_back(absl::StrCat(x.bid_micros, " ", x.advertiser));
    }
    for (const AuctionSlot& s : trace.auction.slots) {
      parts.push_back(absl::StrCat(s.ad, ":", s.price_micros));
    }
    return absl::StrJoin(parts, ",");
  };
  const std::string before = picture();
  const ExplainSources sources;
  WhyNot why(*pipeline, serving, c.request, "r", sources, &trace);
  for (int i = 0; i < 60; ++i) {
    v1::AdExplanation out;
    why.Explain(absl::StrCat("ad", i), &out);
  }
  EXPECT_EQ(picture(), before);
}

TEST(WhyNot, TargetingNamesWhatWasAskedAndWhatTheRequestHad) {
  v1::CatalogEntity group = ParseText<v1::CatalogEntity>(
      "ad_group { id: 'g0' targeting { all_of { "
      "expressions { in_set { attribute: 'country' values: 'DE' } } "
      "expressions { range { attribute: 'age' min: 18 max: 30 } } } } }");
  v1::Catalog catalog = testing::ACatalogOf(1, 1, 1000, 0);
  *catalog.mutable_ad_groups(0)->mutable_targeting() =
      group.ad_group().targeting();
  const SimulatedClock clock(absl::FromUnixMillis(1750000000000));
  const auto pipeline = *RankingPipeline::Create({}, &clock);
  const ServingSnapshot serving =
      ServingSnapshot::Of(nullptr, AnIndex(catalog));
  ExplainSources sources;
  sources.entity =
      [&](const v1::EntityKey& key) -> std::optional<v1::CatalogEntity> {
    if (key.type() != v1::ENTITY_TYPE_AD_GROUP) return std::nullopt;
    return group;
  };
  const auto ask = [&](const std::string& context) {
    RankTrace trace;
    v1::ExplainResponse response;
    EXPECT_OK(ExplainRanking(
        *pipeline, serving,
        ParseText<v1::ExplainRequest>(absl::StrCat(
            "request { context { ", context, " } } ad_ids: 'ad0'")),
        kId, {}, sources, &trace, &response));
    return response.ads(0);
  };
  EXPECT_EQ(ask("attributes { name: 'country' text: 'FR' }").outcome(),
            "not matched: targeting in_set(country) of ad_group \"g0\": needs "
            "country is one of \"DE\"; the request has \"FR\"");
  const v1::AdExplanation old =
      ask("attributes { name: 'country' text: 'DE' } "
          "attributes { name: 'age' number: 35 }");
  EXPECT_EQ(
      old.outcome(),
      "not matched: targeting range(age) of ad_group \"g0\": needs age in "
      "[18, 30]; the request has 35");
  EXPECT_EQ(old.stage(), v1::RANKING_STAGE_TARGETING);
  EXPECT_EQ(old.needed(), 30);
  EXPECT_EQ(old.had(), 35);
}

TEST(WhyNot, ACampaignWithoutBudgetAndACapTellTheirNumbers) {
  const SimulatedClock clock(absl::FromUnixMillis(1750000000000));
  const auto pipeline = *RankingPipeline::Create({}, &clock);
  const ServingSnapshot serving = ServingSnapshot::Of(
      nullptr, AnIndex(testing::ACatalogOf(3, 3, 1000, 100)));
  class Fixed : public Admission {
   public:
    void Begin(const AdIndex& index, const v1::Context&,
               AdmissionTerms* terms) override {
      gates[2].closed = true;
      terms->campaigns = gates;
      terms->capped_ads.push_back(*index.Find("ad1"));
    }
    void Reserve(const AdIndex&, const v1::Context&, const DecisionId&,
                 absl::Span<const AdmissionSlot>,
                 std::vector<SlotRefusal>*) override {}
    void Release(const DecisionId&) override {}
    std::vector<CampaignGate> gates = std::vector<CampaignGate>(3);
  } fixed;
  ExplainSources sources;
  sources.budget = [](const std::string& id) {
    return StageGap{absl::StrCat("spent 9, reserved 1, of 10 of ", id), 2, 0};
  };
  sources.cap = [](const AdIndex&, uint32_t, const v1::Context&) {
    return StageGap{"3 of 3 in 24 h", 3, 3};
  };
  Admission* const admissions[] = {&fixed};
  CallOptions call;
  call.admissions = admissions;
  call.take = false;
  RankTrace trace;
  v1::ExplainResponse response;
  ASSERT_OK(ExplainRanking(
      *pipeline, serving,
      ParseText<v1::ExplainRequest>("request { } ad_ids: 'ad2' ad_ids: 'ad1'"),
      kId, call, sources, &trace, &response));
  ASSERT_EQ(response.ads_size(), 3);
  EXPECT_EQ(response.ads(1).stage(), v1::RANKING_STAGE_BUDGET);
  EXPECT_EQ(response.ads(1).outcome(),
            "campaign \"c2\" has no budget left: spent 9, reserved 1, of 10 of "
            "c2");
  EXPECT_EQ(response.ads(1).needed(), 2);
  EXPECT_EQ(response.ads(2).stage(), v1::RANKING_STAGE_CAP);
  EXPECT_NE(response.ads(2).outcome().find(": 3 of 3 in 24 h"),
            std::string::npos);
}

}  // namespace
}  // namespace adrank
