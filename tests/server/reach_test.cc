#include "server/reach.h"

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
