#include "server/reach.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gtest/gtest.h"
#include "tests/server/random_catalog.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::NaiveTrigger;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomWords;

v1::MutateResponse AskAll(const v1::Catalog& catalog) {
  v1::MutateResponse response;
  for (const auto& c : catalog.campaigns()) {
    v1::EntityKey* key = response.add_results()->mutable_key();
    key->set_type(v1::ENTITY_TYPE_CAMPAIGN);
    key->set_id(c.id());
  }
  for (const auto& g : catalog.ad_groups()) {
    v1::EntityKey* key = response.add_results()->mutable_key();
    key->set_type(v1::ENTITY_TYPE_AD_GROUP);
    key->set_id(g.id());
  }
  return response;
}

// The part of the catalogue that hangs on the ad group or campaign, its
// schedule open.
v1::Catalog Part(const v1::Catalog& catalog, const v1::EntityKey& key) {
  v1::Catalog part = catalog;
  part.clear_ad_groups();
  part.clear_ads();
  for (v1::Campaign& c : *part.mutable_campaigns()) {
    c.clear_start_time_ms();
    c.clear_end_time_ms();
  }
  for (const v1::AdGroup& g : catalog.ad_groups()) {
    const bool in = key.type() == v1::ENTITY_TYPE_AD_GROUP
                        ? g.id() == key.id()
                        : g.campaign_id() == key.id();
    if (!in) continue;
    *part.add_ad_groups() = g;
    for (const v1::Ad& ad : catalog.ads()) {
      if (ad.ad_group_id() == g.id()) *part.add_ads() = ad;
    }
  }
  return part;
}

TEST(Reach, IsWhatAScanOfEachPartCounts) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    const v1::Catalog catalog = RandomCatalog(&rng, 60);
    std::vector<v1::Decision> decisions(60);
    uint32_t sampled = 0;
    for (v1::Decision& d : decisions) {
      *d.mutable_context() = RandomContext(&rng);
      d.mutable_context()->set_query(RandomWords(&rng, 5));
      d.set_test(rng.Bernoulli(0.1));
      if (rng.Bernoulli(0.1)) d.mutable_request()->add_candidates();
      if (rng.Bernoulli(0.3)) {
        d.mutable_request()->add_blocked_advertiser_ids("v0");
      }
      sampled += !d.test() && d.request().candidates().empty();
    }
    v1::MutateResponse response = AskAll(catalog);
    ASSERT_OK(EstimateReach(catalog, decisions, {}, &response));
    for (const v1::OperationResult& result : response.results()) {
      const v1::Catalog part = Part(catalog, result.key());
      v1::Catalog probed = part;
      probed.clear_ads();
      for (const v1::AdGroup& g : part.ad_groups()) {
        v1::Ad* ad = probed.add_ads();
        ad->set_id(g.id());
        ad->set_ad_group_id(g.id());
      }
      const NaiveTrigger eligible_scan(part), matched_scan(probed);
      uint32_t matched = 0, eligible = 0;
      for (const v1::Decision& d : decisions) {
        if (d.test() || !d.request().candidates().empty()) continue;
        const auto& blocked = d.request().blocked_advertiser_ids();
        eligible +=
            !eligible_scan
                 .Retrieve(d.context(), {blocked.begin(), blocked.end()})
                 .matches.empty();
        matched += matched_scan.Retrieve(d.context(), {}).matched > 0;
      }
      EXPECT_EQ(result.requests_sampled(), sampled);
      EXPECT_EQ(result.requests_matched(), matched) << result.key().id();
      EXPECT_EQ(result.requests_eligible(), eligible) << result.key().id();
    }
  }
}

// A vector stands for keywords: what has one answers also requests whose vector
// is near.
TEST(Reach, CountsWhatVectorsFindAsAScanDoes) {
  constexpr float kNear = 0.513f;
  uint32_t by_vector_alone = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    v1::Catalog catalog = RandomCatalog(&rng, 60);
    const auto vector = [&](google::protobuf::RepeatedField<float>* v) {
      for (int i = 0; i < 4; ++i) {
        v->Add(static_cast<float>(rng.Below(3)) - 1.25f);
      }
    };
    for (v1::Ad& ad : *catalog.mutable_ads()) {
      if (rng.Bernoulli(0.4)) vector(ad.mutable_embedding());
    }
    std::vector<v1::Decision> decisions(60);
    for (v1::Decision& d : decisions) {
      *d.mutable_context() = RandomContext(&rng);
      if (rng.Bernoulli(0.7)) {
        vector(d.mutable_request()->mutable_query_embedding());
      }
    }
    v1::MutateResponse response = AskAll(catalog);
    ReachOptions options;
    options.min_similarity = kNear;
    ASSERT_OK(EstimateReach(catalog, decisions, {}, &response, options));
    for (const v1::OperationResult& result : response.results()) {
      const v1::Catalog part = Part(catalog, result.key());
      v1::Catalog open = part;  // without positive keywords
      for (v1::AdGroup& g : *open.mutable_ad_groups()) {
        const auto keywords = g.keywords();
        g.clear_keywords();
        for (const v1::Keyword& k : keywords) {
          if (k.negative()) *g.add_keywords() = k;
        }
      }
      const NaiveTrigger by_words(part), by_vector(open);
      std::map<std::string, const v1::Ad*> ads;
      for (const v1::Ad& ad : part.ads()) ads[ad.id()] = &ad;
      uint32_t eligible = 0;
      for (const v1::Decision& d : decisions) {
        const bool words = !by_words.Retrieve(d.context(), {}).matches.empty();
        bool near = false;
        for (const auto& m : by_vector.Retrieve(d.context(), {}).matches) {
          const auto& a = ads[m.ad_id]->embedding();
          const auto& q = d.request().query_embedding();
          if (a.empty() || q.empty()) continue;
          double aq = 0, aa = 0, qq = 0;
          for (int i = 0; i < 4; ++i) {
            aq += double{a[i]} * q[i];
            aa += double{a[i]} * a[i];
            qq += double{q[i]} * q[i];
          }
          near = near || aq / std::sqrt(aa * qq) >= double{kNear};
        }
        by_vector_alone += near && !words;
        eligible += words || near;
      }
      EXPECT_EQ(result.requests_eligible(), eligible) << result.key().id();
      EXPECT_GE(result.requests_matched(), eligible);
    }
  }
  EXPECT_GT(by_vector_alone, 100u);
}

// Of the live catalogue's vectors two are nearer than the limit of two.
TEST(Reach, AVectorMustBeAmongTheNearestOfTheLiveCatalogue) {
  v1::Catalog live;
  live.add_advertisers()->set_id("v");
  live.add_campaigns()->set_id("c");
  live.mutable_campaigns(0)->set_advertiser_id("v");
  v1::AdGroup* g = live.add_ad_groups();
  g->set_id("g");
  g->set_campaign_id("c");
  g->set_bid_micros(100);
  g->add_keywords()->set_text("never");
  v1::Catalog changed = live;
  const auto add = [](const std::string& id, float x, v1::Catalog* to) {
    v1::Ad* ad = to->add_ads();
    ad->set_id(id);
    ad->set_ad_group_id("g");
    ad->add_embedding(x);
    ad->add_embedding(1);
  };
  add("near", 0.1f, &live);
  add("nearer", 0.05f, &live);
  add("new", 0.2f, &changed);
  const auto index = AdIndex::Build(live, 1);
  ASSERT_OK(index);
  std::vector<v1::Decision> decisions(2);
  for (v1::Decision& d : decisions) {
    d.mutable_request()->add_query_embedding(0);
    d.mutable_request()->add_query_embedding(1);
  }
  decisions[1].mutable_request()->set_max_candidates(2);
  ReachOptions options;
  options.live = index->get();
  options.max_candidates = 3;
  v1::MutateResponse response = AskAll(changed);
  ASSERT_OK(EstimateReach(changed, decisions, {}, &response, options));
  EXPECT_EQ(response.results(0).requests_eligible(), 1u);
}

TEST(Reach, StopsWhenToldAndSaysHowMuchItSaw) {
  Rng rng(1);
  const v1::Catalog catalog = RandomCatalog(&rng, 10);
  v1::MutateResponse response = AskAll(catalog);
  int left = 3;
  ASSERT_OK(EstimateReach(
      catalog, std::vector<v1::Decision>(9), [&left] { return left-- == 0; },
      &response));
  EXPECT_EQ(response.results(0).requests_sampled(), 3u);
}

}  // namespace
}  // namespace adrank
