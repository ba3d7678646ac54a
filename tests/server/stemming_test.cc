// Close variants by stems: T5's rules with them, against a scan.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/rng.h"
#include "features/text.h"
#include "gtest/gtest.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/keyword_check.h"
#include "server/trigger/stemmer.h"
#include "tests/server/serving_testing.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ParseText;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr char kOneGroup[] =
    "advertisers { id: 'v' } campaigns { id: 'c' advertiser_id: 'v' ";

std::shared_ptr<const AdIndex> Build(const v1::Catalog& catalog,
                                     const std::string& language) {
  auto index = AdIndex::Build(catalog, 1, {language});
  EXPECT_OK(index);
  return *index;
}

// "TYPE keyword bid" of the only ad; empty when it does not match.
std::string Ask(const AdIndex& index, const std::string& query) {
  v1::Context context;
  context.set_query(query);
  const RetrieveRequest request = {&context, nullptr, nullptr};
  RetrieveScratch scratch;
  Retrieval out;
  index.Retrieve(request, 10, &scratch, &out);
  EXPECT_EQ(index.WhyNot("a", request).empty(), !out.matches.empty());
  if (out.matches.empty()) return "";
  return absl::StrCat(v1::MatchType_Name(out.matches[0].match_type).substr(11),
                      " ", std::string(index.keyword(out.matches[0].keyword)),
                      " ", out.matches[0].bid_micros);
}

v1::Catalog Group(const std::string& keywords,
                  const std::string& campaign = "") {
  return ParseText<v1::Catalog>(
      absl::StrCat(kOneGroup, campaign,
                   "} ad_groups { id: 'g' campaign_id: 'c' bid_micros: 5 ",
                   keywords, "} ads { id: 'a' ad_group_id: 'g' }"));
}

TEST(Stemming, VariantsAreNearAndWordsThemselvesAreNot) {
  const v1::Catalog catalog = Group(
      "keywords { text: 'running shoe' match_type: MATCH_TYPE_EXACT }"
      "keywords { text: 'red shoes' match_type: MATCH_TYPE_PHRASE }"
      "keywords { text: 'boots' bid_micros: 9 }");
  const auto index = Build(catalog, "english");
  EXPECT_EQ(Ask(*index, "running shoe"), "EXACT running shoe 5");
  EXPECT_EQ(Ask(*index, "Runs Shoes"), "NEAR_EXACT running shoe 5");
  EXPECT_EQ(Ask(*index, "shoes running"), "");
  EXPECT_EQ(Ask(*index, "buy red shoes"), "PHRASE red shoes 5");
  EXPECT_EQ(Ask(*index, "buy red shoe"), "NEAR_PHRASE red shoes 5");
  EXPECT_EQ(Ask(*index, "a boot"), "BROAD boots 9");
  const auto plain = Build(catalog, "");
  EXPECT_EQ(Ask(*plain, "runs shoes"), "");
  EXPECT_EQ(Ask(*plain, "a boot"), "");
  EXPECT_NE(index->normalizer_id(), plain->normalizer_id());
  EXPECT_EQ(plain->normalizer_id(), NormalizerId());
}

TEST(Stemming, OrderOfPreference) {
  const auto ask = [](const std::string& keywords, const std::string& query) {
    return Ask(*Build(Group(keywords), "english"), query);
  };
  const auto keyword = [](const char* text, const char* type, int bid) {
    return absl::StrCat("keywords { text: '", text, "' match_type: MATCH_TYPE_",
                        type, " bid_micros: ", bid, " }");
  };
  // EXACT by words before a better bid by stems, that before PHRASE by words.
  EXPECT_EQ(ask(keyword("shoes", "EXACT", 90) + keyword("shoe", "EXACT", 10) +
                    keyword("shoe", "PHRASE", 99),
                "shoe"),
            "EXACT shoe 10");
  EXPECT_EQ(ask(keyword("shoes", "EXACT", 10) + keyword("shoe", "PHRASE", 99),
                "shoe"),
            "NEAR_EXACT shoes 10");
  EXPECT_EQ(ask(keyword("shoes", "PHRASE", 10) + keyword("shoe", "BROAD", 99),
                "shoe"),
            "NEAR_PHRASE shoes 10");
  // "red car" and "car red" compete as one, by the better bid.
  EXPECT_EQ(
      ask(keyword("red car", "BROAD", 10) + keyword("car red", "BROAD", 20),
          "red cars"),
      "BROAD car red 20");
}

TEST(T5, NegativesAreNeverStemmed) {
  const auto index = Build(
      Group(
          "keywords { text: 'shoe' } keywords { text: 'heel' negative: true }",
          "negative_keywords: 'run'"),
      "english");
  EXPECT_EQ(Ask(*index, "shoes heels"), "BROAD shoe 5");
  EXPECT_EQ(Ask(*index, "shoes heel"), "");
  EXPECT_EQ(Ask(*index, "running shoes"), "BROAD shoe 5");
  EXPECT_EQ(Ask(*index, "run shoes"), "");
}

// ---- against a scan ----

std::vector<std::string> Stems(const std::string& text) {
  static Stemmer* const stemmer = Stemmer::Create("english")->release();
  std::vector<std::string> words = Tokenize(text);
  for (std::string& word : words) word = std::string(stemmer->Stem(word));
  return words;
}

bool Matches(const std::vector<std::string>& words, v1::MatchType type,
             const std::vector<std::string>& query) {
  const std::string k = absl::StrCat(" ", absl::StrJoin(words, " "), " ");
  const std::string q = absl::StrCat(" ", absl::StrJoin(query, " "), " ");
  if (type == v1::MATCH_TYPE_EXACT) return k == q;
  if (type == v1::MATCH_TYPE_PHRASE) return q.find(k) != std::string::npos;
  return std::all_of(words.begin(), words.end(), [&](const std::string& w) {
    return std::count(query.begin(), query.end(), w) > 0;
  });
}

std::string Scan(const v1::AdGroup& group, const std::string& query) {
  const v1::MatchType order[] = {
      v1::MATCH_TYPE_EXACT, v1::MATCH_TYPE_NEAR_EXACT, v1::MATCH_TYPE_PHRASE,
      v1::MATCH_TYPE_NEAR_PHRASE, v1::MATCH_TYPE_BROAD};
  for (const v1::MatchType wanted : order) {
    const v1::Keyword* best = nullptr;
    for (const v1::Keyword& k : group.keywords()) {
      const bool words =
          Matches(Tokenize(k.text()), k.match_type(), Tokenize(query));
      const bool stems = Matches(Stems(k.text()), k.match_type(), Stems(query));
      EXPECT_LE(words, stems);
      if (!stems) continue;
      const v1::MatchType type =
          words || k.match_type() == v1::MATCH_TYPE_BROAD ? k.match_type()
          : k.match_type() == v1::MATCH_TYPE_EXACT ? v1::MATCH_TYPE_NEAR_EXACT
                                                   : v1::MATCH_TYPE_NEAR_PHRASE;
      if (type != wanted) continue;
      if (best == nullptr || k.bid_micros() > best->bid_micros()) best = &k;
    }
    if (best != nullptr) {
      return absl::StrCat(v1::MatchType_Name(wanted).substr(11), " ",
                          best->text(), " ", best->bid_micros());
    }
  }
  return "";
}

TEST(T1, StemmedKeywordsEqualTheScan) {
  constexpr const char* kWords[] = {"run",   "runs", "running", "shoe",
                                    "shoes", "red",  "reds",    "boot",
                                    "boots", "the",  "happy",   "happiness"};
  size_t near = 0, all = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    const auto text = [&](uint64_t max) {
      std::vector<std::string> words;
      for (uint64_t n = 1 + rng.Below(max); n > 0; --n) {
        words.push_back(kWords[rng.Below(12)]);
      }
      return absl::StrJoin(words, " ");
    };
    v1::Catalog catalog = Group("");
    v1::AdGroup& group = *catalog.mutable_ad_groups(0);
    for (uint64_t n = 1 + rng.Below(6); n > 0; --n) {
      v1::Keyword* k = group.add_keywords();
      k->set_text(text(3));
      k->set_match_type(
          static_cast<v1::MatchType>(v1::MATCH_TYPE_EXACT + rng.Below(3)));
      k->set_bid_micros(1 + static_cast<int64_t>(rng.Below(9)));
    }
    const auto index = Build(catalog, "english");
    for (int r = 0; r < 20; ++r) {
      const std::string query = text(rng.Bernoulli(0.2) ? 12 : 4);
      const std::string expected = Scan(group, query);
      ASSERT_EQ(Ask(*index, query), expected) << query;
      near += expected.rfind("NEAR", 0) == 0;
      all += !expected.empty();
    }
  }
  EXPECT_GT(near, 300u);
  EXPECT_GT(all, 1000u);
}

TEST(Stemming, AnUnknownLanguageIsRefused) {
  EXPECT_THAT(AdIndex::Build(v1::Catalog(), 1, {"klingon"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("stemmer_language: \"klingon\"")));
}

TEST(CheckKeywords, WithoutWordsOrWithStopWordsOnlyIsRefused) {
  const auto error = [](const std::string& text) {
    return std::string(
        CheckKeywords(ParseText<v1::CatalogEntity>(text)).message());
  };
  EXPECT_EQ(error("ad_group { id: 'g' keywords { text: '!?' } }"),
            "ad_group \"g\": keyword \"!?\" has no words");
  EXPECT_EQ(error("campaign { id: 'c' negative_keywords: '...' }"),
            "campaign \"c\": keyword \"...\" has no words");
  EXPECT_THAT(error("ad_group { id: 'g' keywords { text: 'Of THE' } }"),
              HasSubstr("only stop words"));
  EXPECT_EQ(error("ad_group { id: 'g' keywords { text: 'the who' match_type: "
                  "MATCH_TYPE_EXACT } keywords { text: 'the shop' } keywords { "
                  "text: 'the' negative: true } }"),
            "");
  EXPECT_EQ(error("ad { id: 'x' }"), "");
}

}  // namespace
}  // namespace adrank
