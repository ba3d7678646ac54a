// Retrieval by the served model's embeddings against all matches scored by the
// model itself.
#include "server/predict/model_vectors.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/rank/auction_ads.h"
#include "server/serving_state.h"
#include "storage/catalog_store.h"
#include "tests/model/a_random_bundle.h"
#include "tests/server/catalog_changes.h"
#include "tests/server/random_catalog.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::AddRandomAttributes;
using ::adrank::testing::ARandomBundle;
using ::adrank::testing::ChangesOf;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomExpression;
using ::adrank::testing::RandomStatus;
using ::adrank::testing::RandomWords;
using ::testing::HasSubstr;

constexpr double kAlpha = 0.8, kMeanPctr = 0.02;

constexpr const char* kGraphs[] = {
    "",  // logistic
    "dim: 3 linear: true pairwise: FM",
    "dim: 3 linear: true pairwise: FWFM",
};

AdIndexOptions OptionsOf(v1::TriggerConfig::ModelOrder order,
                         size_t approximate_from = 1 << 30) {
  AdIndexOptions options;
  options.by_model = true;
  options.model_order = order;
  options.mean_pctr = kMeanPctr;
  options.approximate_from = approximate_from;
  return options;
}

v1::Calibrator ACalibrator() {
  v1::Calibrator calibrator;
  calibrator.set_negative_keep_rate(0.5);
  calibrator.mutable_platt()->set_slope(0.7);
  calibrator.mutable_platt()->set_intercept(-0.3);
  return calibrator;
}

v1::Catalog ARandomCatalog(Rng* rng, int ads) {
  v1::Catalog catalog = RandomCatalog(rng, ads);
  for (v1::Ad& ad : *catalog.mutable_ads()) {
    AddRandomAttributes(rng, "a", ad.mutable_attributes());
    if (rng->Bernoulli(0.3)) ad.set_quality(0.5 + rng->Uniform());
  }
  for (v1::AdGroup& g : *catalog.mutable_ad_groups()) {
    const double kind = rng->Uniform();
    if (kind < 0.2) {
      g.set_bid_type(v1::BID_TYPE_CPM);
      g.set_bid_micros(g.bid_micros() * 1000);
      for (v1::Keyword& k : *g.mutable_keywords()) {
        k.set_bid_micros(k.bid_micros() * 1000);
      }
    } else if (kind < 0.4) {
      g.set_bid_type(v1::BID_TYPE_CPA);
      g.set_conversion_rate(1);
    }
  }
  return catalog;
}

struct Asked {
  v1::Context context;
  size_t limit = 0;
};

Asked RandomAsked(Rng* rng, size_t ads) {
  Asked asked;
  asked.context = RandomContext(rng);
  AddRandomAttributes(rng, "c", asked.context.mutable_attributes());
  if (rng->Bernoulli(0.7)) asked.context.set_query(RandomWords(rng, 4));
  asked.limit = 1 + rng->Below(rng->Bernoulli(0.5) ? 20 : 2 * ads);
  return asked;
}

double LogitOf(const ModelBundle& bundle, const v1::Context& context,
               const v1::AdSnapshot& ad) {
  RequestFeatures features;
  bundle.extractor().Extract(context, "top", {&ad}, {}, &features);
  PredictScratch scratch;
  float logit = 0, pctr = 0;
  bundle.Predict(features, &scratch, {&logit, 1}, {&pctr, 1});
  return static_cast<double>(logit);
}

// What the ads are to be in the order of, as the header of ModelVectors has it.
double ScoreBy(v1::TriggerConfig::ModelOrder order, const ModelBundle& bundle,
               const AdIndex& index, const v1::Context& context,
               const AdMatch& match) {
  const IndexedAd& ad = index.ad(match.ad);
  const double logit = LogitOf(bundle, context, index.Snapshot(match.ad));
  if (order == v1::TriggerConfig::BY_LOGIT) return logit;
  const v1::Calibrator& c = bundle.manifest().calibrator();
  const double slope = c.has_platt() ? c.platt().slope() : 1;
  double log_odds = logit;
  if (c.has_platt()) {
    log_odds = slope * (logit + std::log(c.negative_keep_rate())) +
               c.platt().intercept();
  }
  const double value =
      std::log(static_cast<double>(EventBid(ad.bid_type, match.bid_micros,
                                            ad.conversion_rate, 1)) *
               static_cast<double>(ad.quality));
  return ad.bid_type == v1::BID_TYPE_CPM
             ? value
             : value + kAlpha * log_odds + (1 - kAlpha) * std::log(kMeanPctr);
}

// The matches of the model's source, asked as the pipeline does.
class Asker {
 public:
  explicit Asker(const ServingSnapshot& serving) : serving_(serving) {}

  const std::vector<AdMatch>& Ask(const Asked& asked,
                                  const AdmissionTerms* terms = nullptr) {
    EXPECT_TRUE(
        serving_.model_vectors->Prepare(asked.context, "top", kAlpha, &query_));
    RetrieveRequest request;
    request.context = &asked.context;
    request.terms = terms;
    request.model = serving_.model_vectors.get();
    request.model_vector = query_.vector;
    SourceQuota quota;
    quota.model = static_cast<uint32_t>(asked.limit);
    serving_.index->RetrieveSources(request, quota, 0, asked.limit, &scratch,
                                    &out);
    return scratch.by_model.matches;
  }

  RetrieveScratch scratch;
  Retrieval out;

 private:
  const ServingSnapshot& serving_;
  ModelVectors::Query query_;
};

// All matches without a limit, by the model's score, best first.
std::vector<std::pair<double, AdMatch>> AllByScore(
    const ServingSnapshot& serving, const Asked& asked,
    v1::TriggerConfig::ModelOrder order) {
  RetrieveRequest request;
  request.context = &asked.context;
  RetrieveScratch scratch;
  Retrieval all;
  serving.index->Retrieve(request, serving.index->size() + 1, &scratch, &all);
  std::vector<std::pair<double, AdMatch>> scored;
  for (const AdMatch& match : all.matches) {
    scored.emplace_back(
        ScoreBy(order, *serving.bundle, *serving.index, asked.context, match),
        match);
  }
  std::sort(scored.begin(), scored.end(),
            [](const auto& a, const auto& b) { return a.first > b.first; });
  return scored;
}

void ExpectTheBest(const ServingSnapshot& serving, Rng* rng, int requests,
                   v1::TriggerConfig::ModelOrder order) {
  Asker asker(serving);
  for (int r = 0; r < requests; ++r) {
    SCOPED_TRACE(r);
    const Asked asked = RandomAsked(rng, serving.index->size());
    const auto scored = AllByScore(serving, asked, order);
    std::map<uint32_t, std::pair<double, AdMatch>> by_ad;
    for (const auto& s : scored) by_ad[s.second.ad] = s;
    const std::vector<AdMatch>& found = asker.Ask(asked);
    ASSERT_EQ(found.size(), std::min(asked.limit, scored.size()));
    std::set<uint32_t> distinct;
    for (size_t i = 0; i < found.size(); ++i) {
      const auto it = by_ad.find(found[i].ad);
      ASSERT_NE(it, by_ad.end());
      EXPECT_TRUE(distinct.insert(found[i].ad).second);
      const auto& [score, match] = it->second;
      ASSERT_NEAR(score, scored[i].first, 1e-4 * (1 + std::abs(score))) << i;
      EXPECT_EQ(found[i].bid_micros, match.bid_micros);
      EXPECT_EQ(found[i].keyword, match.keyword);
      EXPECT_EQ(found[i].match_type,
                match.match_type == v1::MATCH_TYPE_TARGETING
                    ? v1::MATCH_TYPE_MODEL
                    : match.match_type);
      // Products differ as scores do.
      EXPECT_NEAR(found[0].similarity - found[i].similarity,
                  scored[0].first - score, 1e-3 * (1 + std::abs(score)));
    }
    // And they are the answer, as far as the quota goes.
    std::set<uint32_t> answered;
    for (const AdMatch& m : asker.out.matches) answered.insert(m.ad);
    for (const AdMatch& m : found) EXPECT_TRUE(answered.count(m.ad));
    EXPECT_EQ(asker.out.truncated, scored.size() > asked.limit);
  }
}

TEST(ModelVectors, T8TheBestOfAllMatchesByTheModelsOwnScoreThousandsOfCases) {
  for (const auto order :
       {v1::TriggerConfig::BY_LOGIT, v1::TriggerConfig::BY_VALUE}) {
    for (const std::string graph : kGraphs) {
      for (uint64_t seed = 0; seed < 60; ++seed) {
        SCOPED_TRACE(absl::StrCat(graph, " order ", order, " seed ", seed));
        Rng rng(seed);
        const auto bundle =
            ARandomBundle(&rng, graph, false,
                          seed % 2 == 0 ? ACalibrator() : v1::Calibrator());
        const v1::Catalog catalog =
            ARandomCatalog(&rng, 1 + static_cast<int>(rng.Below(150)));
        const auto index = AdIndex::Build(catalog, 1, OptionsOf(order));
        ASSERT_OK(index);
        const auto serving = ServingSnapshot::Of(bundle, *index);
        ASSERT_EQ(serving.model_retrieval, "exact");
        ExpectTheBest(serving, &rng, 12, order);
        if (HasFailure()) return;
      }
    }
  }
}

// Enough ads for the choice between reading all and those whose targeting is
// true.
TEST(ModelVectors, T8SoItIsWhenOnlyThoseOfTrueTargetingAreRead) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    v1::Catalog catalog = ARandomCatalog(&rng, 16000);
    for (v1::Campaign& c : *catalog.mutable_campaigns()) {
      v1::TargetingExpression::List* all =
          c.mutable_targeting()->mutable_all_of();
      all->clear_expressions();
      for (int i = 0; i < (seed < 2 ? 2 : 5); ++i) {
        *all->add_expressions() = RandomExpression(&rng, 1);
      }
    }
    const auto order = v1::TriggerConfig::BY_VALUE;
    const auto index = AdIndex::Build(catalog, 1, OptionsOf(order));
    ASSERT_OK(index);
    const auto serving =
        ServingSnapshot::Of(ARandomBundle(&rng, kGraphs[1]), *index);
    ExpectTheBest(serving, &rng, 12, order);
    if (HasFailure()) return;
  }
}

// Of lists, as large catalogues have them: never an ad that does not match, and
// most of the best.
TEST(ModelVectors, ApproximatelyItFindsMatchesOnlyAndMostOfTheBest) {
  Rng rng(3);
  v1::Catalog catalog = ARandomCatalog(&rng, 12000);
  for (v1::Campaign& c : *catalog.mutable_campaigns()) c.clear_targeting();
  const auto order = v1::TriggerConfig::BY_VALUE;
  const auto index = AdIndex::Build(catalog, 1, OptionsOf(order, 1));
  ASSERT_OK(index);
  const auto serving = ServingSnapshot::Of(
      ARandomBundle(&rng, "dim: 8 linear: true pairwise: FM"), *index);
  ASSERT_TRUE(serving.model_vectors->documents().approximate());
  Asker asker(serving);
  double recall = 0;
  constexpr int kRequests = 40;
  for (int r = 0; r < kRequests; ++r) {
    Asked asked = RandomAsked(&rng, 0 + 100);
    asked.limit = 100;
    const auto scored = AllByScore(serving, asked, order);
    std::map<uint32_t, double> by_ad;
    for (const auto& [score, match] : scored) by_ad[match.ad] = score;
    const double worst = scored[std::min<size_t>(100, scored.size()) - 1].first;
    int among = 0;
    const auto& found = asker.Ask(asked);
    ASSERT_EQ(found.size(), std::min<size_t>(100, scored.size()));
    for (const AdMatch& m : found) {
      ASSERT_TRUE(by_ad.count(m.ad));
      among += by_ad[m.ad] >= worst - 1e-4;
    }
    recall += static_cast<double>(among) / static_cast<double>(found.size()) /
              kRequests;
  }
  std::printf("recall %.4f\n", recall);
  EXPECT_GE(recall, 0.95);
}

std::vector<std::string> Shown(const AdIndex& index,
                               const std::vector<AdMatch>& matches) {
  std::vector<std::string> shown;
  for (const AdMatch& m : matches) {
    shown.push_back(absl::StrCat(
        index.ad_id(m.ad), "/", m.bid_micros, "/", m.match_type, "/",
        std::string(index.keyword(m.keyword)), "/", m.similarity));
  }
  return shown;
}

std::vector<std::string> IdsOf(const AdIndex& index,
                               const std::vector<AdMatch>& matches) {
  std::set<std::string> ids;
  for (const AdMatch& m : matches) ids.insert(std::string(index.ad_id(m.ad)));
  return {ids.begin(), ids.end()};
}

// Some campaigns have no budget: which ads that kept out must be the same too,
// for the log has it.
TEST(ModelVectors, AnIndexOnABaseAnswersAsOneBuiltAnew) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    v1::Catalog catalog = ARandomCatalog(&rng, 120);
    const auto options = OptionsOf(seed % 2 ? v1::TriggerConfig::BY_LOGIT
                                            : v1::TriggerConfig::BY_VALUE);
    const auto bundle = ARandomBundle(&rng, kGraphs[1 + seed % 2]);
    const auto base = AdIndex::Build(catalog, 1, options);
    ASSERT_OK(base);
    ServingState state;
    state.SetBundle(bundle);
    state.SetIndex(*base);
    const auto base_vectors = state.Current()->model_vectors;
    std::map<std::string, v1::EntityKey> keys;
    std::set<std::string> groups;
    for (int change = 0; change < 10; ++change) {
      const auto at = static_cast<int>(rng.Below(catalog.ads_size()));
      v1::Ad* ad = catalog.mutable_ads(at);
      if (rng.Bernoulli(0.3)) {
        const v1::Ad old = *ad;
        ad = catalog.add_ads();
        *ad = old;
        ad->set_id(absl::StrCat(old.id(), "x", change));
      }
      ad->clear_attributes();
      AddRandomAttributes(&rng, "a", ad->mutable_attributes());
      // Longer than any vector of the base.
      if (change == 5) ad->mutable_attributes()->Add()->set_name("none");
      ad->set_status(RandomStatus(&rng));
      v1::EntityKey& key = keys[ad->id()];
      key.set_type(v1::ENTITY_TYPE_AD);
      key.set_id(ad->id());
      groups.insert(ad->ad_group_id());
      for (v1::AdGroup& g : *catalog.mutable_ad_groups()) {
        if (g.id() == ad->ad_group_id() && rng.Bernoulli(0.5)) {
          g.set_bid_micros(g.bid_micros() * 1000);
        }
      }
      const auto on = AdIndex::BuildOn(*base, ChangesOf(catalog, keys, groups));
      ASSERT_OK(on);
      state.SetIndex(*on);
      const auto serving = state.Current();
      ASSERT_EQ(serving->model_vectors->base(), base_vectors);
      const auto anew = AdIndex::Build(catalog, 2, options);
      ASSERT_OK(anew);
      const auto other = ServingSnapshot::Of(bundle, *anew);
      Asker a(*serving), b(other);
      for (int r = 0; r < 20; ++r) {
        const Asked asked = RandomAsked(&rng, 120);
        std::set<std::string> closed;
        for (const v1::Campaign& c : catalog.campaigns()) {
          if (rng.Bernoulli(0.2)) closed.insert(c.id());
        }
        const auto gates = [&](const AdIndex& index) {
          std::vector<CampaignGate> gates(index.campaigns());
          for (uint32_t c = 0; c < gates.size(); ++c) {
            gates[c].closed = closed.count(index.campaign_id(c)) > 0;
          }
          return gates;
        };
        const auto gates_a = gates(**on), gates_b = gates(**anew);
        AdmissionTerms terms_a, terms_b;
        terms_a.campaigns = gates_a;
        terms_b.campaigns = gates_b;
        ASSERT_EQ(Shown(**on, a.Ask(asked, &terms_a)),
                  Shown(**anew, b.Ask(asked, &terms_b)));
        ASSERT_EQ(Shown(**on, a.out.matches), Shown(**anew, b.out.matches));
        EXPECT_EQ(IdsOf(**on, a.scratch.by_model.closed),
                  IdsOf(**anew, b.scratch.by_model.closed));
        EXPECT_EQ(a.out.truncated, b.out.truncated);
        EXPECT_EQ(a.out.reason, b.out.reason);
      }
    }
    if (HasFailure()) return;
  }
}

// Those that would be among the best, were their campaigns open.
TEST(ModelVectors, WhatAClosedBudgetKeptFromTheBestIsTold) {
  size_t asked_about = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const v1::Catalog catalog = ARandomCatalog(&rng, 200);
    const auto order = v1::TriggerConfig::BY_LOGIT;
    const auto index = AdIndex::Build(catalog, 1, OptionsOf(order));
    ASSERT_OK(index);
    const auto serving =
        ServingSnapshot::Of(ARandomBundle(&rng, kGraphs[1]), *index);
    Asker asker(serving);
    for (int r = 0; r < 20; ++r) {
      const Asked asked = RandomAsked(&rng, 50);
      std::vector<CampaignGate> gates((*index)->campaigns());
      for (CampaignGate& g : gates) g.closed = rng.Bernoulli(0.3);
      AdmissionTerms terms;
      terms.campaigns = gates;
      const auto scored = AllByScore(serving, asked, order);
      const auto& found = asker.Ask(asked, &terms);
      std::set<uint32_t> told, in;
      for (const AdMatch& m : asker.scratch.by_model.closed) told.insert(m.ad);
      for (const AdMatch& m : found) in.insert(m.ad);
      // The last of the best that are open; none: all closed ones are told.
      size_t open = 0;
      double last = -1e30;
      for (const auto& [score, match] : scored) {
        const bool closed = gates[(*index)->ad(match.ad).campaign].closed;
        EXPECT_FALSE(closed && in.count(match.ad));
        if (!closed && ++open == asked.limit) last = score;
      }
      for (const auto& [score, match] : scored) {
        if (!gates[(*index)->ad(match.ad).campaign].closed) continue;
        if (std::abs(score - last) < 1e-4) continue;  // a tie: either way
        EXPECT_EQ(told.count(match.ad) > 0, score > last);
        ++asked_about;
      }
    }
  }
  EXPECT_GT(asked_about, 10000u);
}

TEST(ModelVectors, AModelWithoutSuchVectorsSaysSoAndIsNotAsked) {
  Rng rng(1);
  const auto index = AdIndex::Build(ARandomCatalog(&rng, 50), 1,
                                    OptionsOf(v1::TriggerConfig::BY_VALUE));
  ASSERT_OK(index);
  const auto deep = ServingSnapshot::Of(
      ARandomBundle(&rng, "dim: 3 streams { layers { units: 4 } }"), *index);
  EXPECT_EQ(deep.model_vectors, nullptr);
  EXPECT_THAT(deep.model_retrieval,
              HasSubstr("off: the model has neither an FM nor an FwFM part"));
  const auto mixed =
      ServingSnapshot::Of(ARandomBundle(&rng, kGraphs[1], true), *index);
  EXPECT_EQ(mixed.model_retrieval,
            "approximate: without 1 cross of context and ad");
  const auto none = ServingSnapshot::Of(nullptr, *index);
  EXPECT_EQ(none.model_retrieval, "off: no model is loaded");
  const auto wide =
      ServingSnapshot::Of(ARandomBundle(&rng, "dim: 128 pairwise: FM"), *index);
  EXPECT_EQ(wide.model_vectors->dims(), 131u);
}

TEST(ModelVectors, WithoutAQuotaNothingIsBuilt) {
  Rng rng(1);
  const auto index = AdIndex::Build(ARandomCatalog(&rng, 50), 1);
  ASSERT_OK(index);
  const auto serving =
      ServingSnapshot::Of(ARandomBundle(&rng, kGraphs[1]), *index);
  EXPECT_EQ(serving.model_vectors, nullptr);
  EXPECT_EQ(serving.model_retrieval, "off: trigger.quota.model is 0");
}

}  // namespace
}  // namespace adrank
