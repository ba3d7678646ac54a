// Retrieval by vector and by all sources together, against the catalogue read
// as a person would.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/admission.h"
#include "server/trigger/ad_index.h"
#include "storage/catalog_store.h"
#include "tests/server/catalog_changes.h"
#include "tests/server/random_catalog.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ChangesOf;
using ::adrank::testing::MixBidTypes;
using ::adrank::testing::NaiveMatch;
using ::adrank::testing::NaiveTrigger;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomExpression;
using ::adrank::testing::RandomStatus;
using ::adrank::testing::RandomWords;

constexpr size_t kDims = 5;

std::vector<float> RandomVector(Rng* rng) {
  std::vector<float> v(kDims);
  // Few directions: similarities tie.
  do {
    for (float& x : v) x = static_cast<float>(rng->Below(3)) - 1;
  } while (std::all_of(v.begin(), v.end(), [](float x) { return x == 0; }));
  return v;
}

void SetVector(const std::vector<float>& v, v1::Ad* ad) {
  ad->mutable_embedding()->Assign(v.begin(), v.end());
}

void GiveVectors(Rng* rng, v1::Catalog* catalog) {
  for (v1::Ad& ad : *catalog->mutable_ads()) {
    if (rng->Bernoulli(0.7)) SetVector(RandomVector(rng), &ad);
  }
}

std::string Shown(absl::string_view id, int64_t bid, v1::MatchType type,
                  absl::string_view keyword, float similarity) {
  return absl::StrCat(id, "/", bid, "/", static_cast<int>(type), "/", keyword,
                      "/", similarity);
}

struct Asked {
  v1::Context context;
  std::vector<float> vector;
  SourceQuota quota;
  float min_similarity = 0;
  size_t limit = 0;
  google::protobuf::RepeatedPtrField<std::string> blocked;

  RetrieveRequest request() const {
    return {&context, &blocked, nullptr, nullptr, nullptr, vector};
  }
};

Asked RandomAsked(Rng* rng, size_t ads) {
  Asked asked;
  asked.context = RandomContext(rng);
  if (rng->Bernoulli(0.7)) asked.context.set_query(RandomWords(rng, 4));
  if (rng->Bernoulli(0.9)) asked.vector = RandomVector(rng);
  asked.min_similarity = static_cast<float>(rng->Uniform() * 2 - 1);
  asked.limit = 1 + rng->Below(rng->Bernoulli(0.5) ? 20 : 2 * ads);
  if (rng->Bernoulli(0.3)) *asked.blocked.Add() = "v0";
  for (uint32_t* q :
       {&asked.quota.keyword, &asked.quota.embedding, &asked.quota.targeting}) {
    if (rng->Bernoulli(0.5)) *q = static_cast<uint32_t>(rng->Below(30));
  }
  return asked;
}

std::vector<std::string> Shown(const AdIndex& index, const Retrieval& out) {
  std::vector<std::string> shown;
  for (const AdMatch& m : out.matches) {
    shown.push_back(Shown(index.ad(m.ad).id, m.bid_micros, m.match_type,
                          index.keyword(m.keyword), m.similarity));
  }
  return shown;
}

// The same from the messages: eligible is what would match if no group had
// positive keywords.
class Oracle {
 public:
  Oracle(const v1::Catalog& catalog, const AdIndex& index)
      : catalog_(catalog), index_(index), open_(catalog) {
    for (v1::AdGroup& g : *open_.mutable_ad_groups()) {
      const auto keywords = g.keywords();
      g.clear_keywords();
      for (const v1::Keyword& k : keywords) {
        if (k.negative()) *g.add_keywords() = k;
      }
    }
    for (const v1::Ad& ad : catalog.ads()) ads_[ad.id()] = &ad;
  }

  std::vector<std::string> Answer(const Asked& asked, size_t* found) const {
    const std::vector<std::string> blocked(asked.blocked.begin(),
                                           asked.blocked.end());
    std::vector<AdMatch> keyword, targeting, embedding;
    std::map<uint32_t, std::string> text;
    for (const NaiveMatch& m :
         NaiveTrigger(catalog_).Retrieve(asked.context, blocked).matches) {
      const AdMatch match = MatchOf(m);
      text[match.ad] = m.keyword;
      (m.match_type == v1::MATCH_TYPE_TARGETING ? targeting : keyword)
          .push_back(match);
    }
    if (!asked.vector.empty()) {
      for (const NaiveMatch& m :
           NaiveTrigger(open_).Retrieve(asked.context, blocked).matches) {
        if (ads_.at(m.ad_id)->embedding().empty()) continue;
        AdMatch match = MatchOf(m);
        match.match_type = v1::MATCH_TYPE_EMBEDDING;
        match.similarity = *index_.SimilarityOf(match.ad, asked.request());
        if (match.similarity >= asked.min_similarity) {
          embedding.push_back(match);
        }
      }
      std::sort(embedding.begin(), embedding.end(),
                [](const AdMatch& a, const AdMatch& b) {
                  return a.similarity != b.similarity
                             ? a.similarity > b.similarity
                             : a.ad < b.ad;
                });
      if (embedding.size() > asked.limit) embedding.resize(asked.limit + 1);
    }
    // Cut as the index cuts them: the most worth.
    const bool cut =
        keyword.size() > asked.limit || targeting.size() > asked.limit;
    if (keyword.size() > asked.limit) keyword.resize(asked.limit);
    if (targeting.size() > asked.limit) targeting.resize(asked.limit);
    MergeScratch scratch;
    std::vector<AdMatch> merged;
    *found = MergeSources(
        {keyword, embedding, targeting}, asked.quota, asked.limit,
        [](const AdMatch& a, const AdMatch& b) {
          return a.value != b.value ? a.value > b.value : a.ad < b.ad;
        },
        &scratch, &merged);
    if (cut) *found = std::max(*found, asked.limit + 1);
    std::vector<std::string> shown;
    for (const AdMatch& m : merged) {
      const bool by_keyword = m.match_type != v1::MATCH_TYPE_EMBEDDING &&
                              m.match_type != v1::MATCH_TYPE_TARGETING;
      shown.push_back(Shown(index_.ad(m.ad).id, m.bid_micros, m.match_type,
                            by_keyword ? text[m.ad] : "", m.similarity));
    }
    return shown;
  }

 private:
  AdMatch MatchOf(const NaiveMatch& m) const {
    AdMatch match;
    match.ad = *index_.Find(m.ad_id);
    match.match_type = m.match_type;
    match.bid_micros = m.bid_micros;
    match.value = m.value;
    return match;
  }

  const v1::Catalog& catalog_;
  const AdIndex& index_;
  v1::Catalog open_;
  std::map<std::string, const v1::Ad*> ads_;
};

void ExpectTheOraclesAnswer(const v1::Catalog& catalog, Rng* rng,
                            int requests) {
  const auto built = AdIndex::Build(catalog, 1);
  ASSERT_OK(built);
  const AdIndex& index = **built;
  const Oracle oracle(catalog, index);
  RetrieveScratch scratch;
  Retrieval out;
  for (int r = 0; r < requests; ++r) {
    const Asked asked = RandomAsked(rng, index.size());
    index.RetrieveSources(asked.request(), asked.quota, asked.min_similarity,
                          asked.limit, &scratch, &out);
    size_t found = 0;
    const std::vector<std::string> expected = oracle.Answer(asked, &found);
    ASSERT_EQ(Shown(index, out), expected) << "request " << r;
    EXPECT_EQ(out.truncated, found > asked.limit);
    if (out.truncated) {
      EXPECT_GT(out.matched - out.filtered, out.matches.size());
    } else {
      EXPECT_EQ(out.matched - out.filtered, out.matches.size());
    }
    EXPECT_EQ(out.reason == v1::NO_AD_REASON_UNSPECIFIED, !out.matches.empty());
  }
}

TEST(AdIndexSimilar, T8EverySourceIsWhatAScanOfTheCatalogueFinds) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    v1::Catalog catalog =
        RandomCatalog(&rng, 1 + static_cast<int>(rng.Below(150)));
    if (seed % 2 == 1) MixBidTypes(&rng, &catalog);
    GiveVectors(&rng, &catalog);
    ExpectTheOraclesAnswer(catalog, &rng, 20);
    if (HasFailure()) return;
  }
}

// Enough vectors for the choice between reading all and those whose targeting
// is true.
TEST(AdIndexSimilar, T8SoItIsWhenOnlyThoseOfTrueTargetingAreRead) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    v1::Catalog catalog = RandomCatalog(&rng, 9000);
    GiveVectors(&rng, &catalog);
    // Selective: few campaigns match a request.
    for (v1::Campaign& c : *catalog.mutable_campaigns()) {
      v1::TargetingExpression::List* all =
          c.mutable_targeting()->mutable_all_of();
      all->clear_expressions();
      for (int i = 0; i < (seed < 2 ? 2 : 5); ++i) {
        *all->add_expressions() = RandomExpression(&rng, 1);
      }
    }
    ExpectTheOraclesAnswer(catalog, &rng, 15);
    if (HasFailure()) return;
  }
}

TEST(AdIndexSimilar, WithoutVectorAndQuotasItIsRetrieve) {
  Rng rng(3);
  v1::Catalog catalog = RandomCatalog(&rng, 300);
  GiveVectors(&rng, &catalog);
  const auto index = AdIndex::Build(catalog, 1);
  ASSERT_OK(index);
  RetrieveScratch a, b;
  Retrieval one, other;
  for (int r = 0; r < 500; ++r) {
    Asked asked = RandomAsked(&rng, 300);
    asked.vector.clear();
    (*index)->Retrieve(asked.request(), asked.limit, &a, &one);
    (*index)->RetrieveSources(asked.request(), {}, 0, asked.limit, &b, &other);
    EXPECT_EQ(Shown(**index, one), Shown(**index, other));
    EXPECT_EQ(one.matched, other.matched);
    EXPECT_EQ(one.filtered, other.filtered);
    EXPECT_EQ(one.truncated, other.truncated);
    EXPECT_EQ(one.reason, other.reason);
  }
}

TEST(AdIndexSimilar, AnIndexOnABaseAnswersAsOneBuiltAnew) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    v1::Catalog catalog = RandomCatalog(&rng, 120);
    if (seed % 2 == 1) MixBidTypes(&rng, &catalog);
    GiveVectors(&rng, &catalog);
    const auto base = AdIndex::Build(catalog, 1);
    ASSERT_OK(base);
    std::map<std::string, v1::EntityKey> keys;
    std::set<std::string> groups;
    for (int change = 0; change < 10; ++change) {
      // An ad changes, or is new.
      const auto at = static_cast<int>(rng.Below(catalog.ads_size()));
      v1::Ad* ad = catalog.mutable_ads(at);
      if (rng.Bernoulli(0.3)) {
        const v1::Ad old = *ad;
        ad = catalog.add_ads();
        *ad = old;
        ad->set_id(absl::StrCat(old.id(), "x", change));
      }
      ad->clear_embedding();
      if (rng.Bernoulli(0.8)) SetVector(RandomVector(&rng), ad);
      ad->set_status(RandomStatus(&rng));
      v1::EntityKey& key = keys[ad->id()];
      key.set_type(v1::ENTITY_TYPE_AD);
      key.set_id(ad->id());
      groups.insert(ad->ad_group_id());
      const CatalogChanges changes = ChangesOf(catalog, keys, groups);
      const auto on = AdIndex::BuildOn(*base, changes);
      ASSERT_OK(on);
      const auto anew = AdIndex::Build(catalog, 2);
      ASSERT_OK(anew);
      RetrieveScratch a, b;
      Retrieval one, other;
      for (int r = 0; r < 20; ++r) {
        const Asked asked = RandomAsked(&rng, 120);
        (*on)->RetrieveSources(asked.request(), asked.quota,
                               asked.min_similarity, asked.limit, &a, &one);
        (*anew)->RetrieveSources(asked.request(), asked.quota,
                                 asked.min_similarity, asked.limit, &b, &other);
        ASSERT_EQ(Shown(**on, one), Shown(**anew, other));
        EXPECT_EQ(one.truncated, other.truncated);
        EXPECT_EQ(one.reason, other.reason);
      }
    }
    if (HasFailure()) return;
  }
}

v1::Catalog TwoAds() {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("v");
  catalog.add_campaigns()->set_id("c");
  catalog.mutable_campaigns(0)->set_advertiser_id("v");
  v1::AdGroup* g = catalog.add_ad_groups();
  g->set_id("g");
  g->set_campaign_id("c");
  g->set_bid_micros(100);
  g->add_keywords()->set_text("shoes");
  for (const char* id : {"a1", "a2"}) {
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(id);
    ad->set_ad_group_id("g");
  }
  return catalog;
}

TEST(AdIndexSimilar, VectorsOfDifferentLengthsAreRefusedByTheAdsName) {
  v1::Catalog catalog = TwoAds();
  SetVector({1, 2}, catalog.mutable_ads(0));
  SetVector({1, 2, 3}, catalog.mutable_ads(1));
  EXPECT_EQ(AdIndex::Build(catalog, 1).status().message(),
            "ad \"a2\": embedding has 3 components, others have 2");
}

TEST(AdIndexSimilar, AVectorStandsForKeywordsAndWhyNotSaysItsCosine) {
  v1::Catalog catalog = TwoAds();
  SetVector({3, 4}, catalog.mutable_ads(0));
  const auto index = AdIndex::Build(catalog, 1);
  ASSERT_OK(index);
  v1::Context context;
  context.set_time_ms(1);
  const std::vector<float> vector = {4, 3};
  const RetrieveRequest request = {&context, nullptr, nullptr,
                                   nullptr,  nullptr, vector};
  RetrieveScratch scratch;
  Retrieval out;
  (*index)->RetrieveSources(request, {}, 0, 10, &scratch, &out);
  ASSERT_EQ(out.matches.size(), 1u);
  EXPECT_EQ(out.matches[0].match_type, v1::MATCH_TYPE_EMBEDDING);
  EXPECT_FLOAT_EQ(out.matches[0].similarity, 0.96f);
  EXPECT_EQ(out.matches[0].bid_micros, 100);
  EXPECT_EQ(out.matched, 1u);
  (*index)->RetrieveSources(request, {}, 0.97f, 10, &scratch, &out);
  EXPECT_EQ(out.reason, v1::NO_AD_REASON_NO_MATCH);
  EXPECT_EQ((*index)->WhyNot("a1", request),
            "not matched: no keyword of ad_group \"g\" matches a request "
            "without a query, and its vector (cosine 0.96) is not among the "
            "nearest");
}

TEST(AdIndexSimilar, AClosedBudgetIsTheReasonAlsoByVector) {
  v1::Catalog catalog = TwoAds();
  SetVector({3, 4}, catalog.mutable_ads(0));
  const auto index = AdIndex::Build(catalog, 1);
  ASSERT_OK(index);
  v1::Context context;
  context.set_time_ms(1);
  std::vector<CampaignGate> gates(1);
  gates[0].closed = true;
  AdmissionTerms terms;
  terms.campaigns = gates;
  const std::vector<float> vector = {4, 3};
  RetrieveScratch scratch;
  Retrieval out;
  (*index)->RetrieveSources(
      {&context, nullptr, &terms, nullptr, nullptr, vector}, {}, 0, 10,
      &scratch, &out);
  EXPECT_EQ(out.reason, v1::NO_AD_REASON_BUDGET);
  EXPECT_EQ(out.matched, 1u);
  EXPECT_EQ(out.filtered_by[static_cast<size_t>(Veto::kBudget)], 1u);
  EXPECT_FALSE(out.closed_campaigns.empty());
}

}  // namespace
}  // namespace adrank
