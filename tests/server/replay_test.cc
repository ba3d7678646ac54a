// X1: the same decision again, byte for byte, whatever has changed since.
#include "server/replay.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gtest/gtest.h"
#include "tests/server/random_catalog.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::AContents;
using ::adrank::testing::AddText;
using ::adrank::testing::MixBidTypes;
using ::adrank::testing::ParseText;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomStatus;
using ::adrank::testing::RandomWords;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Says and refuses whatever chance says, within the contract.
class ChanceAdmission : public Admission {
 public:
  ChanceAdmission(Rng* rng, bool budgets) : rng_(rng), budgets_(budgets) {}

  void Begin(const AdIndex& index, const v1::Context&,
             AdmissionTerms* terms) override {
    if (budgets_) {
      auto gates =
          std::make_shared<std::vector<CampaignGate>>(index.campaigns());
      for (CampaignGate& gate : *gates) {
        gate.closed = rng_->Bernoulli(0.1);
        if (rng_->Bernoulli(0.3)) {
          gate.multiplier = 0.1f + 0.9f * static_cast<float>(rng_->Uniform());
        }
      }
      terms->campaigns = *gates;
      terms->campaigns_owner = gates;
      return;
    }
    const auto some = [&](uint64_t n, std::vector<uint32_t>* numbers) {
      for (uint32_t i = 0; i < n; ++i) {
        if (rng_->Bernoulli(0.03)) numbers->push_back(i);
      }
    };
    some(index.size(), &terms->capped_ads);
    some(index.groups(), &terms->capped_groups);
    some(index.campaigns(), &terms->capped_campaigns);
  }

  void Reserve(const AdIndex&, const v1::Context&, const DecisionId&,
               absl::Span<const AdmissionSlot> slots,
               std::vector<SlotRefusal>* refused) override {
    for (uint32_t s = 0; s < slots.size(); ++s) {
      if (!rng_->Bernoulli(0.2)) continue;
      SlotRefusal r;
      r.slot = s;
      constexpr v1::Refusal::Level kLevels[] = {
          v1::Refusal::AD, v1::Refusal::AD_GROUP, v1::Refusal::CAMPAIGN};
      r.level = kLevels[rng_->Below(3)];
      refused->push_back(r);
    }
  }
  void Release(const DecisionId&) override {}

 private:
  Rng* const rng_;
  const bool budgets_;
};

// A server's parts, without the network.
class ReplayTest : public ::testing::Test {
 protected:
  ReplayTest() { Open(); }

  void Open() {
    replayer_.reset();
    log_.reset();
    catalog_.reset();
    v1::ServerConfig config = ParseText<v1::ServerConfig>(
        "rank { reserve_micros: 3 max_ads_per_advertiser: 2 }");
    if (!more_config_.empty()) {
      config.MergeFrom(ParseText<v1::ServerConfig>(more_config_));
    }
    config.mutable_storage()->set_data_dir(dir_ / "data");
    index_options_ = AdIndexOptions::Of(config);
    auto log = EventLog::Open(config.storage(), &clock_);
    ASSERT_OK(log);
    log_ = *std::move(log);
    auto catalog = CatalogStore::Open(dir_ / "data", &clock_);
    ASSERT_OK(catalog);
    catalog_ = *std::move(catalog);
    pipeline_ = *RankingPipeline::Create(config, &clock_);
    state_ = std::make_unique<ServingState>();
    Serve();
    ServeModel();
    auto replayer = Replayer::Create(config, state_.get(), catalog_.get(),
                                     models_, log_.get());
    ASSERT_OK(replayer);
    replayer_ = *std::move(replayer);
  }

  // Sometimes on the index that is served, as a large catalogue is.
  void Serve() {
    const auto now = state_->Current()->index;
    const auto base = now->base() == nullptr ? now : now->base();
    // The empty index that is there first has other options.
    if (++served_versions_ % 4 != 0 && base->size() > 0) {
      const auto also = [&](absl::Span<const v1::EntityKey> changed) {
        return base->GroupsOf(changed);
      };
      const auto changes = catalog_->LoadChanges(base->version(), also, 1000);
      if (changes.ok()) {
        const auto index = AdIndex::BuildOn(base, *changes);
        ASSERT_OK(index);
        incremental_ += (*index)->base() != nullptr;
        return state_->SetIndex(*index);
      }
    }
    ASSERT_OK_AND_ASSIGN(const auto loaded, catalog_->Load());
    const auto index =
        AdIndex::Build(loaded.first, loaded.second, index_options_);
    ASSERT_OK(index);
    state_->SetIndex(*index);
  }

  void ServeModel() {
    const auto published = models_.Published();
    if (!published.ok()) return;
    auto bundle = ModelBundle::Load(models_.VersionDir(*published));
    ASSERT_OK(bundle);
    state_->SetBundle(*bundle);
  }

  void Apply(const std::vector<v1::CatalogOperation>& operations) {
    ASSERT_OK_AND_ASSIGN(
        const ApplyResult result,
        catalog_->Apply(operations, {.partial_failure = true}));
    if (result.applied > 0) Serve();
  }

  void ApplyCatalog(const v1::Catalog& catalog) {
    std::vector<v1::CatalogOperation> ops;
    for (const auto& x : catalog.advertisers()) {
      *ops.emplace_back().mutable_upsert()->mutable_advertiser() = x;
    }
    for (const auto& x : catalog.campaigns()) {
      *ops.emplace_back().mutable_upsert()->mutable_campaign() = x;
    }
    for (const auto& x : catalog.ad_groups()) {
      *ops.emplace_back().mutable_upsert()->mutable_ad_group() = x;
    }
    for (v1::Ad x : catalog.ads()) {
      AddText(x.mutable_attributes(), "category",
              x.id().back() % 2 == 0 ? "a" : "b");
      *ops.emplace_back().mutable_upsert()->mutable_ad() = x;
    }
    Apply(ops);
  }

  DecisionId Rank(const v1::RankRequest& request,
                  const std::vector<Admission*>& admissions) {
    clock_.Advance(absl::Milliseconds(1));
    const DecisionId id = {static_cast<uint64_t>(clock_.NowMs()), 1,
                           ++sequence_};
    CallOptions call;
    call.admissions = admissions;
    RankTrace trace;
    RankOutcome outcome;
    const auto serving = state_->Current();
    EXPECT_OK(pipeline_->Rank(*serving, request, id, call, &trace, &outcome));
    EXPECT_TRUE(log_->AppendDecision(id, outcome.decision, outcome.ads));
    last_ads_.clear();
    for (const auto& p : outcome.response.placements()) {
      last_ads_.insert(last_ads_.end(), p.ads().begin(), p.ads().end());
    }
    served_ += static_cast<size_t>(outcome.decision.ads_size());
    refused_ += static_cast<size_t>(outcome.decision.refused_size());
    return id;
  }

  absl::StatusOr<v1::ExplainResponse> Replay(const DecisionId& id,
                                             const std::string& more = "") {
    auto request = ParseText<v1::ExplainRequest>(more);
    request.set_decision_id(id.ToHex());
    RankTrace trace;
    v1::ExplainResponse response;
    const absl::Status status =
        replayer_->Explain(request, {}, &trace, &response);
    if (!status.ok()) return status;
    return response;
  }

  void ExpectIdentical(const DecisionId& id) {
    const auto response = Replay(id);
    ASSERT_OK(response);
    ASSERT_TRUE(response->replay_identical())
        << id.ToHex() << ": " << response->replay_difference() << "\n"
        << log_->GetDecision(id)->DebugString();
    EXPECT_THAT(response->replay_difference(), IsEmpty());
  }

  TempDir dir_;
  SimulatedClock clock_{absl::FromUnixMillis(1'800'000'000'000)};
  ModelStore models_{dir_ / "models", "ctr"};
  std::string more_config_;
  AdIndexOptions index_options_;
  std::unique_ptr<EventLog> log_;
  std::unique_ptr<CatalogStore> catalog_;
  std::unique_ptr<ServingState> state_;
  std::unique_ptr<const RankingPipeline> pipeline_;
  std::unique_ptr<Replayer> replayer_;
  uint32_t sequence_ = 0;
  size_t served_ = 0, refused_ = 0;
  std::vector<v1::RankedAd> last_ads_;
  int served_versions_ = 0, incremental_ = 0;
};

v1::RankRequest RandomRequest(Rng* rng) {
  v1::RankRequest request;
  *request.mutable_context() = RandomContext(rng);
  if (rng->Bernoulli(0.1)) request.mutable_context()->clear_time_ms();
  if (rng->Bernoulli(0.7)) {
    request.mutable_context()->set_query(RandomWords(rng, 4));
  }
  if (rng->Bernoulli(0.7)) {
    AddText(request.mutable_context()->mutable_attributes(), "city",
            rng->Bernoulli(0.5) ? "Berlin" : "Rome");
  }
  for (uint64_t p = rng->Below(4); p > 0; --p) {
    v1::Placement* placement = request.add_placements();
    placement->set_id(absl::StrCat("p", p));
    placement->set_count(static_cast<uint32_t>(rng->Below(5)));
    if (rng->Bernoulli(0.3)) {
      placement->set_reserve_micros(static_cast<int64_t>(rng->Below(40)));
    }
  }
  if (rng->Bernoulli(0.3)) request.set_request_id(absl::StrCat(rng->Below(99)));
  if (rng->Bernoulli(0.2)) {
    request.set_max_candidates(1 + static_cast<uint32_t>(rng->Below(20)));
  }
  if (rng->Bernoulli(0.2)) {
    request.add_blocked_advertiser_ids(absl::StrCat("v", rng->Below(3)));
  }
  if (rng->Bernoulli(0.15)) {
    std::vector<std::string> ids;
    for (int i = 0; i < 6; ++i)
      ids.push_back(absl::StrCat("ad", 40 * i + rng->Below(40)));
    for (const std::string& id : ids) request.add_candidates()->set_ad_id(id);
    v1::Candidate* foreign = request.add_candidates();
    foreign->set_bid_micros(20);
    *foreign->mutable_ad() = testing::AnAd("foreign", "a");
  }
  request.set_test(rng->Bernoulli(0.05));
  return request;
}

v1::CatalogOperation RandomChange(Rng* rng, const v1::Catalog& like) {
  v1::CatalogOperation op;
  const v1::AdGroup& old =
      like.ad_groups(static_cast<int>(rng->Below(like.ad_groups_size())));
  switch (rng->Below(4)) {
    case 0: {
      v1::AdGroup* g = op.mutable_upsert()->mutable_ad_group();
      *g = testing::RandomGroup(rng);
      g->set_id(old.id());
      g->set_campaign_id(old.campaign_id());
      break;
    }
    case 1: {
      v1::Campaign* c = op.mutable_upsert()->mutable_campaign();
      *c = like.campaigns(static_cast<int>(rng->Below(like.campaigns_size())));
      c->set_status(RandomStatus(rng));
      break;
    }
    case 2:
      op.mutable_remove()->set_type(v1::ENTITY_TYPE_AD);
      op.mutable_remove()->set_id(absl::StrCat("ad", rng->Below(240)));
      break;
    default: {
      v1::Ad* ad = op.mutable_upsert()->mutable_ad();
      ad->set_id(absl::StrCat("ad", rng->Below(240)));
      ad->set_ad_group_id(old.id());
      ad->set_landing_url(absl::StrCat("https://x/", rng->Below(9)));
      AddText(ad->mutable_attributes(), "category",
              rng->Bernoulli(0.5) ? "a" : "b");
    }
  }
  return op;
}

TEST_F(ReplayTest, X1EveryDecisionIsTheSameAgainThroughChangesAndRestarts) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    v1::Catalog first = RandomCatalog(&rng, 240);
    if (seed == 2) MixBidTypes(&rng, &first);
    ApplyCatalog(first);
    ChanceAdmission budgets(&rng, true), caps(&rng, false);
    std::vector<DecisionId> ids;
    int64_t model = models_.Published().value_or(0);
    for (int i = 0; i < 1500; ++i) {
      if (rng.Bernoulli(0.03)) {
        std::vector<v1::CatalogOperation> ops;
        for (uint64_t n = 1 + rng.Below(5); n > 0; --n) {
          ops.push_back(RandomChange(&rng, first));
        }
        Apply(ops);
      }
      if (rng.Bernoulli(0.004)) {
        ASSERT_OK(models_.Publish(AContents(++model)));
        ServeModel();
      }
      if (i == 700) Open();
      ids.push_back(Rank(RandomRequest(&rng), {&budgets, &caps}));
      // Some at once, most much later.
      if (rng.Bernoulli(0.05)) {
        ASSERT_NO_FATAL_FAILURE(ExpectIdentical(ids[rng.Below(ids.size())]));
      }
    }
    Open();
    for (const DecisionId& id : ids) {
      ASSERT_NO_FATAL_FAILURE(ExpectIdentical(id));
    }
  }
  // The cases were not empty ones.
  EXPECT_GT(served_, 3000u);
  EXPECT_GT(refused_, 1000u);
  EXPECT_GT(incremental_, 30);
}

// Candidates that the model's embeddings chose are those that they choose
// again, on an index that was put together another way.
TEST_F(ReplayTest, X1CandidatesThatTheModelFoundAreTheSameAgain) {
  more_config_ =
      "trigger { quota { model: 6 targeting: 3 keyword: 3 } } "
      "limits { max_candidates: 20 }";
  Open();
  Rng rng(9);
  const v1::Catalog first = RandomCatalog(&rng, 240);
  ApplyCatalog(first);
  ChanceAdmission budgets(&rng, true), caps(&rng, false);
  const std::string graphs[] = {"dim: 4 linear: true pairwise: FM",
                                "dim: 4 linear: true pairwise: FWFM",
                                "dim: 4 streams { layers { units: 3 } }"};
  std::vector<DecisionId> ids;
  int64_t model = 0;
  size_t by_model = 0;
  for (int i = 0; i < 1500; ++i) {
    if (rng.Bernoulli(0.03)) Apply({RandomChange(&rng, first)});
    if (i == 50 || rng.Bernoulli(0.01)) {
      ++model;
      ASSERT_OK(models_.Publish(testing::AnEmbeddingContents(
          graphs[model % 3], v1::STORE_FP32, model)));
      ServeModel();
      EXPECT_EQ(state_->Current()->model_vectors == nullptr, model % 3 == 2);
    }
    if (i == 700) Open();
    v1::RankRequest request = RandomRequest(&rng);
    request.clear_candidates();
    ids.push_back(Rank(request, {&budgets, &caps}));
    for (const v1::RankedAd& ad : last_ads_) {
      by_model += ad.match_type() == v1::MATCH_TYPE_MODEL;
    }
  }
  Open();
  for (const DecisionId& id : ids) ASSERT_NO_FATAL_FAILURE(ExpectIdentical(id));
  EXPECT_GT(by_model, 300u);
  EXPECT_GT(incremental_, 20);
}

constexpr char kOneAd[] =
    "advertisers { id: 'v' } campaigns { id: 'c' advertiser_id: 'v' } "
    "ad_groups { id: 'g' campaign_id: 'c' bid_micros: 900 } "
    "ads { id: 'ad0' ad_group_id: 'g' } ads { id: 'ad1' ad_group_id: 'g' }";

TEST_F(ReplayTest, ExplainsFromTheCatalogueOfThen) {
  ApplyCatalog(ParseText<v1::Catalog>(kOneAd));
  const DecisionId id = Rank({}, {});
  v1::CatalogOperation op;
  op.mutable_remove()->set_type(v1::ENTITY_TYPE_AD);
  op.mutable_remove()->set_id("ad0");
  Apply({op});
  const auto response = Replay(id, "ad_ids: 'ad0' ad_ids: 'ad1' ad_ids: 'x'");
  ASSERT_OK(response);
  EXPECT_TRUE(response->replay_identical());
  EXPECT_EQ(response->response().decision_id(), id.ToHex());
  ASSERT_EQ(response->ads_size(), 3);
  EXPECT_TRUE(response->ads(0).served());
  EXPECT_EQ(response->ads(1).stage(), v1::RANKING_STAGE_RANK);
  EXPECT_EQ(response->ads(2).outcome(), "ad \"x\" is not in the catalogue");
}

TEST_F(ReplayTest, WhatIsGoneIsNamed) {
  EXPECT_THAT(
      Replay({5, 1, 1}).status(),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("is not in the log")));
  v1::ExplainRequest bad;
  bad.set_decision_id("xyz");
  RankTrace trace;
  v1::ExplainResponse response;
  EXPECT_EQ(replayer_->Explain(bad, {}, &trace, &response).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Replay({5, 1, 1}, "request { }").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("not together with decision_id")));

  ApplyCatalog(ParseText<v1::Catalog>(kOneAd));
  ASSERT_OK(models_.Publish(AContents(1)));
  ServeModel();
  const DecisionId id = Rank({}, {});
  ASSERT_OK(models_.Publish(AContents(2)));
  ServeModel();
  ExpectIdentical(id);
  Open();  // forgets what it had loaded
  std::filesystem::remove_all(models_.VersionDir(1));
  EXPECT_THAT(Replay(id).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       StartsWith("model version 1: ")));

  LogBatch batch;
  batch.decisions.push_back({{7, 1, 1}, {}});
  ASSERT_OK(log_->Write(batch));
  EXPECT_THAT(Replay({7, 1, 1}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("imported or simulated")));
}

TEST_F(ReplayTest, ADifferenceNamesTheFieldAndWhyItMayBe) {
  ApplyCatalog(ParseText<v1::Catalog>(kOneAd));
  const DecisionId id = Rank({}, {});
  more_config_ = "rank { reserve_micros: 500 }";
  Open();
  const auto response = Replay(id);
  ASSERT_OK(response);
  EXPECT_FALSE(response->replay_identical());
  EXPECT_THAT(response->replay_difference(),
              StartsWith("ads[0].price_micros: logged 3, replayed 500; the "
                         "ranking configuration"));
  // Cut by the deadline.
  v1::Decision cut = *log_->GetDecision(id);
  cut.clear_decision_id();
  cut.add_degraded(v1::DEGRADATION_DEADLINE);
  LogBatch batch;
  batch.decisions.push_back({{id.ms + 9, 1, 1}, cut});
  more_config_.clear();
  Open();
  ASSERT_OK(log_->Write(batch));
  const auto late = Replay({id.ms + 9, 1, 1});
  ASSERT_OK(late);
  EXPECT_FALSE(late->replay_identical());
  EXPECT_THAT(late->replay_difference(), HasSubstr("the deadline had cut"));
}

// Which refusals came from one auction matters.
TEST_F(ReplayTest, X1RefusalsBelongToTheirAuctions) {
  ApplyCatalog(ParseText<v1::Catalog>(
      "advertisers { id: 'v' } advertisers { id: 'w' } "
      "campaigns { id: 'c' advertiser_id: 'v' } "
      "campaigns { id: 'd' advertiser_id: 'w' } "
      "ad_groups { id: 'g1' campaign_id: 'c' bid_micros: 900 } "
      "ad_groups { id: 'g2' campaign_id: 'c' bid_micros: 800 } "
      "ad_groups { id: 'g3' campaign_id: 'd' bid_micros: 700 } "
      "ad_groups { id: 'g4' campaign_id: 'd' bid_micros: 600 } "
      "ads { id: 'a1' ad_group_id: 'g1' } ads { id: 'a2' ad_group_id: 'g2' } "
      "ads { id: 'a3' ad_group_id: 'g3' } ads { id: 'a4' ad_group_id: 'g4' }"));
  // Refuses a named ad in each auction in turn.
  class Scripted : public Admission {
   public:
    void Begin(const AdIndex&, const v1::Context&, AdmissionTerms*) override {}
    void Reserve(const AdIndex& index, const v1::Context&, const DecisionId&,
                 absl::Span<const AdmissionSlot> slots,
                 std::vector<SlotRefusal>* refused) override {
      for (const auto& [ad, level] :
           round < script.size()
               ? script[round]
               : std::vector<std::pair<std::string, v1::Refusal::Level>>()) {
        for (uint32_t s = 0; s < slots.size(); ++s) {
          if (index.ad_id(slots[s].ad) != ad) continue;
          SlotRefusal r;
          r.slot = s;
          r.level = level;
          refused->push_back(r);
        }
      }
      ++round;
    }
    void Release(const DecisionId&) override {}
    std::vector<std::vector<std::pair<std::string, v1::Refusal::Level>>> script;
    size_t round = 0;
  };
  v1::RankRequest request;
  request.add_placements()->set_id("p");
  request.mutable_placements(0)->set_count(2);
  const auto served = [&](const DecisionId& id) {
    return log_->GetDecision(id)->ads_size();
  };
  using L = v1::Refusal;
  // a2 goes, then a1 with its campaign: a3 holds a slot, a4 may follow.
  Scripted apart;
  apart.script = {{{"a2", L::AD}}, {{"a3", L::CAMPAIGN}}};
  const DecisionId one = Rank(request, {&apart});
  Scripted together;
  together.script = {{{"a2", L::AD}, {"a1", L::CAMPAIGN}}};
  const DecisionId two = Rank(request, {&together});
  ASSERT_OK(log_->Flush());
  EXPECT_EQ(served(one), 1);
  EXPECT_EQ(served(two), 2);
  ExpectIdentical(one);
  ExpectIdentical(two);
}

// Says that one ad group of all is at its cap.
class GroupAtItsCap : public Admission {
 public:
  explicit GroupAtItsCap(std::string id) : id_(std::move(id)) {}
  void Begin(const AdIndex& index, const v1::Context&,
             AdmissionTerms* terms) override {
    terms->capped_groups.push_back(*index.FindGroup(id_));
  }
  void Reserve(const AdIndex&, const v1::Context&, const DecisionId&,
               absl::Span<const AdmissionSlot>,
               std::vector<SlotRefusal>*) override {}
  void Release(const DecisionId&) override {}

 private:
  const std::string id_;
};

// An ad, a group and a campaign of one id that all have a cap: the log said the
// id only, and all three were taken to be capped.
TEST_F(ReplayTest, CapsOfEntitiesWithOneIdAreToldApart) {
  v1::Catalog catalog = ParseText<v1::Catalog>(
      "advertisers { id: 'v' } "
      "campaigns { id: 'x' advertiser_id: 'v' "
      "  frequency_caps { impressions: 1 } } "
      "campaigns { id: 'y' advertiser_id: 'v' } "
      "ad_groups { id: 'other' campaign_id: 'x' bid_micros: 3000 } "
      "ad_groups { id: 'x' campaign_id: 'y' bid_micros: 2000 "
      "  frequency_caps { impressions: 1 } } "
      "ad_groups { id: 'third' campaign_id: 'y' bid_micros: 1000 } "
      "ads { id: 'a' ad_group_id: 'other' } "
      "ads { id: 'b' ad_group_id: 'x' } "
      "ads { id: 'x' ad_group_id: 'third' "
      "  frequency_caps { impressions: 1 } } ");
  ApplyCatalog(catalog);
  GroupAtItsCap caps("x");
  const DecisionId id = Rank(ParseText<v1::RankRequest>("placements { id: 'p' "
                                                        "count: 3 }"),
                             {&caps});
  ASSERT_OK(log_->Flush());
  ASSERT_OK_AND_ASSIGN(const v1::Decision decision, log_->GetDecision(id));
  EXPECT_EQ(decision.ads_size(), 2);
  ASSERT_EQ(decision.capped_ad_group_ids_size(), 1);
  EXPECT_EQ(decision.capped_ad_group_ids(0), "x");
  EXPECT_EQ(decision.capped_ad_ids_size() + decision.capped_campaign_ids_size(),
            0);
  ExpectIdentical(id);
}

}  // namespace
}  // namespace adrank
