#include "server/trigger/ad_index.h"

#include "base/textproto.h"
#include "gtest/gtest.h"
#include "tests/server/random_catalog.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::NaiveAnswer;
using ::adrank::testing::NaiveTrigger;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomWords;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

using Strings = google::protobuf::RepeatedPtrField<std::string>;

v1::Catalog ParseCatalog(const std::string& text) {
  v1::Catalog catalog;
  EXPECT_OK(ParseTextProto(text, "catalog", &catalog));
  return catalog;
}

// One advertiser v1, campaign c1, ad group g1, ads a1 and a2, with more fields.
v1::Catalog Small(const std::string& campaign = "",
                  const std::string& group = "",
                  const std::string& advertiser = "") {
  return ParseCatalog(absl::StrCat(
      "advertisers { id: 'v1' ", advertiser,
      "} campaigns { id: 'c1' advertiser_id: 'v1' ", campaign,
      "} ad_groups { id: 'g1' campaign_id: 'c1' bid_micros: 100 ", group,
      "} ads { id: 'a1' ad_group_id: 'g1' landing_url: 'https://x/1' }"
      "  ads { id: 'a2' ad_group_id: 'g1' status: ENTITY_STATUS_PAUSED }"));
}

std::shared_ptr<const AdIndex> Build(const v1::Catalog& catalog) {
  auto index = AdIndex::Build(catalog, 7);
  EXPECT_OK(index);
  return *index;
}

struct Asked {
  Retrieval retrieval;
  std::string why;  // not a1
};

Asked Ask(const v1::Catalog& catalog, const std::string& context_text,
          const std::vector<std::string>& blocked = {}) {
  const auto index = Build(catalog);
  v1::Context context;
  EXPECT_OK(ParseTextProto(context_text, "context", &context));
  const Strings ids(blocked.begin(), blocked.end());
  const RetrieveRequest request = {&context, &ids};
  RetrieveScratch scratch;
  Asked asked;
  index->Retrieve(request, 10, &scratch, &asked.retrieval);
  asked.why = index->WhyNot("a1", request);
  return asked;
}

uint32_t FilteredBy(const Asked& asked, Veto veto) {
  return asked.retrieval.filtered_by[static_cast<size_t>(veto)];
}

TEST(AdIndex, AdCarriesWhatItInherits) {
  const auto index = Build(Small());
  EXPECT_EQ(index->version(), 7);
  const uint32_t i = *index->Find("a1");
  EXPECT_EQ(index->ad(i).advertiser_id, "v1");
  EXPECT_EQ(index->ad(i).campaign_id, "c1");
  EXPECT_EQ(index->ad(i).group_id, "g1");
  EXPECT_EQ(index->landing_url(i), "https://x/1");
  EXPECT_EQ(index->ad(i).bid_micros, 100);
  EXPECT_EQ(index->ad_id(i), "a1");
  EXPECT_FALSE(index->Find("a3").has_value());
  EXPECT_EQ(index->stats().ads, 2u);
  EXPECT_EQ(index->stats().servable_ads, 1u);
}

TEST(AdIndex, TargetingAloneMatches) {
  const Asked asked = Ask(Small(), "");
  ASSERT_EQ(asked.retrieval.matches.size(), 1u);
  EXPECT_EQ(asked.retrieval.matches[0].match_type, v1::MATCH_TYPE_TARGETING);
  EXPECT_EQ(asked.retrieval.matched, 2u);
  EXPECT_EQ(asked.retrieval.filtered, 1u);  // a2 is paused
  EXPECT_EQ(asked.why, "");
}

TEST(AdIndex, BestMatchTypeAndItsKeywordAndBid) {
  const std::string keywords =
      "keywords { text: 'shoes' bid_micros: 900 }"
      "keywords { text: 'Red Shoes' match_type: MATCH_TYPE_EXACT }"
      "keywords { text: 'red' match_type: MATCH_TYPE_PHRASE bid_micros: 300 }"
      "keywords { text: 'cheap' match_type: MATCH_TYPE_PHRASE }";
  const auto index = Build(Small("", keywords));
  const auto match = [&](const char* query) {
    v1::Context context;
    context.set_query(query);
    RetrieveScratch scratch;
    Retrieval out;
    index->Retrieve({&context, nullptr}, 10, &scratch, &out);
    EXPECT_EQ(out.matches.size(), 1u);
    return absl::StrCat(v1::MatchType_Name(out.matches[0].match_type), " ",
                        index->keyword(out.matches[0].keyword), " ",
                        out.matches[0].bid_micros);
  };
  EXPECT_EQ(match("red shoes"), "MATCH_TYPE_EXACT Red Shoes 100");
  EXPECT_EQ(match("red cheap shoes"), "MATCH_TYPE_PHRASE red 300");
  EXPECT_EQ(match("shoes"), "MATCH_TYPE_BROAD shoes 900");
}

TEST(AdIndex, GroupWithKeywordsAnswersOnlyTheirQueries) {
  const v1::Catalog catalog = Small("", "keywords { text: 'red shoes' }");
  Asked asked = Ask(catalog, "");
  EXPECT_EQ(asked.retrieval.reason, v1::NO_AD_REASON_NO_MATCH);
  EXPECT_EQ(asked.why,
            "not matched: no keyword of ad_group \"g1\" matches a request "
            "without a query");
  asked = Ask(catalog, "query: 'red boots'");
  EXPECT_EQ(asked.retrieval.matched, 0u);
  EXPECT_EQ(asked.why,
            "not matched: no keyword of ad_group \"g1\" matches the query "
            "\"red boots\"");
  // A group of negatives only answers everything else.
  EXPECT_EQ(Ask(Small("", "keywords { text: 'free' negative: true }"), "")
                .retrieval.matches.size(),
            1u);
}

TEST(AdIndex, NegativesAlwaysWin) {
  const std::string both =
      "keywords { text: 'shoes' match_type: MATCH_TYPE_EXACT }"
      "keywords { text: 'shoes' }"
      "keywords { text: 'free' negative: true match_type: MATCH_TYPE_EXACT }";
  EXPECT_EQ(
      Ask(Small("", both), "query: 'free shoes'").retrieval.matches.size(),
      1u);  // an EXACT negative is not contained
  Asked asked = Ask(Small("negative_keywords: 'free shipping'", both),
                    "query: 'shipping shoes free'");
  EXPECT_EQ(asked.retrieval.reason, v1::NO_AD_REASON_ALL_FILTERED);
  EXPECT_EQ(FilteredBy(asked, Veto::kNegativeKeyword), 1u);
  EXPECT_EQ(FilteredBy(asked, Veto::kStatus), 1u);
  EXPECT_EQ(asked.why, "negative keyword \"free shipping\" of campaign \"c1\"");
  asked = Ask(Small("", "keywords { text: 'free' negative: true }"),
              "query: 'FREE stuff'");
  EXPECT_EQ(asked.why, "negative keyword \"free\" of ad_group \"g1\"");
}

TEST(AdIndex, StatusOfEachLevelVetoes) {
  const std::string paused = "status: ENTITY_STATUS_PAUSED";
  // With nothing else to serve the catalogue counts as empty...
  Asked asked = Ask(Small(paused), "");
  EXPECT_EQ(asked.retrieval.reason, v1::NO_AD_REASON_EMPTY_CATALOG);
  EXPECT_EQ(asked.why, "campaign \"c1\" is paused");
  EXPECT_EQ(Ask(Small("", paused), "").why, "ad_group \"g1\" is paused");
  EXPECT_EQ(Ask(Small("", "", paused), "").why, "advertiser \"v1\" is paused");
  // ... else the paused ad is counted as filtered.
  v1::Catalog catalog = Small("", paused);
  catalog.MergeFrom(
      ParseCatalog("ad_groups { id: 'g2' campaign_id: 'c1' bid_micros: 5 } "
                   "ads { id: 'b' ad_group_id: 'g2' }"));
  asked = Ask(catalog, "");
  EXPECT_EQ(asked.retrieval.matches.size(), 1u);
  EXPECT_EQ(FilteredBy(asked, Veto::kStatus), 2u);
}

TEST(AdIndex, ScheduleIsHalfOpen) {
  const v1::Catalog catalog =
      Small("start_time_ms: 1767225600000 end_time_ms: 1767225601000");
  EXPECT_EQ(Ask(catalog, "time_ms: 1767225599999").why,
            "campaign \"c1\" starts 2026-01-01T00:00:00Z");
  EXPECT_EQ(Ask(catalog, "time_ms: 1767225600000").why, "");
  EXPECT_EQ(Ask(catalog, "time_ms: 1767225600999").why, "");
  const Asked asked = Ask(catalog, "time_ms: 1767225601000");
  EXPECT_EQ(asked.why, "campaign \"c1\" ended 2026-01-01T00:00:01Z");
  EXPECT_EQ(FilteredBy(asked, Veto::kSchedule), 1u);
  EXPECT_EQ(asked.retrieval.reason, v1::NO_AD_REASON_ALL_FILTERED);
}

TEST(AdIndex, BlockedAdvertiserIsVetoed) {
  const Asked asked = Ask(Small(), "", {"other", "v1"});
  EXPECT_EQ(FilteredBy(asked, Veto::kBlocked), 1u);
  EXPECT_EQ(asked.why, "advertiser \"v1\" is blocked by the request");
}

TEST(AdIndex, TargetingOfBothLevelsIsNamed) {
  const std::string targeting =
      "targeting { in_set { attribute: 'country' values: 'DE' } }";
  EXPECT_EQ(Ask(Small(targeting), "").why,
            "not matched: targeting in_set(country) of campaign \"c1\"");
  EXPECT_EQ(Ask(Small("", targeting), "").why,
            "not matched: targeting in_set(country) of ad_group \"g1\"");
  EXPECT_EQ(
      Ask(Small(targeting), "attributes { name: 'country' text: 'DE' }").why,
      "");
}

TEST(AdIndex, UnknownAdAndEmptyCatalogue) {
  v1::Context context;
  EXPECT_EQ(AdIndex::Empty()->WhyNot("x", {&context, nullptr}),
            "ad \"x\" is not in the catalogue");
  RetrieveScratch scratch;
  Retrieval out;
  AdIndex::Empty()->Retrieve({&context, nullptr}, 5, &scratch, &out);
  EXPECT_EQ(out.reason, v1::NO_AD_REASON_EMPTY_CATALOG);
}

TEST(AdIndex, NamedAdSkipsTargetingButNotTheVetoes) {
  const auto index = Build(Small("targeting { any_of {} } end_time_ms: 10",
                                 "keywords { text: 'x' }"));
  v1::Context context;
  context.set_time_ms(5);
  EXPECT_FALSE(
      index->VetoOfNamed(*index->Find("a1"), {&context, nullptr}).has_value());
  EXPECT_EQ(index->VetoOfNamed(*index->Find("a2"), {&context, nullptr}),
            Veto::kStatus);
  context.set_time_ms(10);
  EXPECT_EQ(index->VetoOfNamed(*index->Find("a1"), {&context, nullptr}),
            Veto::kSchedule);
}

TEST(AdIndex, BadCatalogueIsRefusedByName) {
  const auto refuses = [](const std::string& text, const std::string& why) {
    EXPECT_THAT(AdIndex::Build(ParseCatalog(text), 1),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refuses("advertisers { }", "advertiser without an id");
  refuses("advertisers { id: 'v' } advertisers { id: 'v' }",
          "advertiser \"v\": occurs twice");
  refuses("campaigns { id: 'c' advertiser_id: 'v' }",
          "campaign \"c\": unknown advertiser \"v\"");
  refuses("ads { id: 'a' ad_group_id: 'g' }",
          "ad \"a\": unknown ad_group \"g\"");
  const std::string parents =
      "advertisers { id: 'v' } campaigns { id: 'c' advertiser_id: 'v' }";
  refuses(parents + "ad_groups { id: 'g' campaign_id: 'c' }",
          "ad_group \"g\": bid_micros 0 is not positive");
  refuses(parents +
              "ad_groups { id: 'g' campaign_id: 'c' bid_micros: 1 "
              "targeting { range { attribute: 'x' min: nan } } }",
          "ad_group \"g\": targeting: range(x): NaN");
}

// ---- against the scan of the messages ----

void ExpectSame(const AdIndex& index, const Retrieval& got,
                const NaiveAnswer& expected, size_t limit,
                const std::string& label) {
  ASSERT_EQ(got.matches.size(), std::min(limit, expected.matches.size()))
      << label;
  ASSERT_EQ(got.truncated, expected.matches.size() > limit) << label;
  if (got.truncated) {
    ASSERT_LE(got.matched, expected.matched) << label;
    ASSERT_LE(got.filtered, expected.filtered) << label;
    ASSERT_GT(got.matched - got.filtered, got.matches.size()) << label;
  } else {
    ASSERT_EQ(got.matched, expected.matched) << label;
    ASSERT_EQ(got.filtered, expected.filtered) << label;
  }
  ASSERT_EQ(got.reason, !expected.matches.empty() ? v1::NO_AD_REASON_UNSPECIFIED
                        : expected.matched == 0   ? v1::NO_AD_REASON_NO_MATCH
                                                : v1::NO_AD_REASON_ALL_FILTERED)
      << label;
  for (size_t i = 0; i < got.matches.size(); ++i) {
    const auto& e = expected.matches[i];
    const AdMatch& m = got.matches[i];
    ASSERT_EQ(index.ad(m.ad).id, e.ad_id) << label << " " << i;
    ASSERT_EQ(m.bid_micros, e.bid_micros) << label << " " << i;
    ASSERT_EQ(m.match_type, e.match_type) << label << " " << i;
    ASSERT_EQ(index.keyword(m.keyword), e.keyword) << label << " " << i;
  }
}

// Returns the number of matches compared.
size_t CompareOnRandomRequests(int ads, int requests, uint64_t seed) {
  Rng rng(seed);
  v1::Catalog catalog = RandomCatalog(&rng, ads);
  if (seed % 2 == 1) testing::MixBidTypes(&rng, &catalog);
  const auto index = Build(catalog);
  const NaiveTrigger naive(catalog);
  RetrieveScratch scratch;
  Retrieval got;
  size_t total = 0;
  for (int r = 0; r < requests; ++r) {
    v1::Context context = RandomContext(&rng);
    if (rng.Bernoulli(0.7)) context.set_query(RandomWords(&rng, 6));
    std::vector<std::string> blocked;
    if (rng.Bernoulli(0.3)) {
      blocked.push_back(absl::StrCat("v", rng.Below(std::max(1, ads / 100))));
    }
    const Strings ids(blocked.begin(), blocked.end());
    const size_t limit = rng.Bernoulli(0.5) ? 100000 : 1 + rng.Below(20);
    const RetrieveRequest request = {&context, &ids};
    index->Retrieve(request, limit, &scratch, &got);
    const NaiveAnswer expected = naive.Retrieve(context, blocked);
    if (index->stats().servable_ads == 0) continue;
    ExpectSame(*index, got, expected, limit,
               absl::StrCat("seed ", seed, " request ", r));
    if (::testing::Test::HasFailure()) return total;
    total += got.matches.size();
    // WhyNot agrees with what was found.
    const std::string ad = absl::StrCat("ad", rng.Below(ads));
    const bool found =
        std::any_of(expected.matches.begin(), expected.matches.end(),
                    [&](const auto& m) { return m.ad_id == ad; });
    EXPECT_EQ(index->WhyNot(ad, request).empty(), found) << ad;
  }
  return total;
}

TEST(AdIndex, EqualsTheNaiveScanOnSmallCatalogues) {
  size_t total = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    total += CompareOnRandomRequests(60, 20, seed);
  }
  EXPECT_GT(total, 1000u);
}

TEST(AdIndex, EqualsTheNaiveScanOnTenThousandAds) {
  EXPECT_GT(CompareOnRandomRequests(10000, 25, 99), 1000u);
}

TEST(AdIndex, OrderOfTheCatalogueDoesNotMatter) {
  Rng rng(5);
  const v1::Catalog catalog = RandomCatalog(&rng, 500);
  v1::Catalog reversed = catalog;
  std::reverse(reversed.mutable_ads()->begin(), reversed.mutable_ads()->end());
  std::reverse(reversed.mutable_ad_groups()->begin(),
               reversed.mutable_ad_groups()->end());
  const auto a = Build(catalog), b = Build(reversed);
  RetrieveScratch scratch_a, scratch_b;
  Retrieval x, y;
  for (int r = 0; r < 50; ++r) {
    const v1::Context context = RandomContext(&rng);
    a->Retrieve({&context, nullptr}, 30, &scratch_a, &x);
    b->Retrieve({&context, nullptr}, 30, &scratch_b, &y);
    ASSERT_EQ(x.matches.size(), y.matches.size());
    for (size_t i = 0; i < x.matches.size(); ++i) {
      EXPECT_EQ(x.matches[i].ad, y.matches[i].ad);
    }
  }
}

}  // namespace
}  // namespace adrank
