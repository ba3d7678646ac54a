// Properties of retrieval, T1 to T6, each against an oracle or against itself
// on random catalogues and requests. A failure prints its seed.
#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/textproto.h"
#include "features/text.h"
#include "gtest/gtest.h"
#include "server/trigger/ad_index.h"
#include "tests/server/random_catalog.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::MixBidTypes;
using ::adrank::testing::NaiveAnswer;
using ::adrank::testing::NaiveTrigger;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomExpression;
using ::adrank::testing::RandomGroup;
using ::adrank::testing::RandomStatus;
using ::adrank::testing::RandomWords;

constexpr size_t kAll = 1000000;

std::shared_ptr<const AdIndex> Build(const v1::Catalog& catalog,
                                     const AdIndexOptions& options = {}) {
  auto index = AdIndex::Build(catalog, 1, options);
  EXPECT_OK(index);
  return *index;
}

v1::Context ARequest(Rng* rng) {
  v1::Context context = RandomContext(rng);
  if (rng->Bernoulli(0.7)) {
    context.set_query(RandomWords(rng, rng->Bernoulli(0.2) ? 14 : 5));
  }
  return context;
}

// "ad/bid/type/keyword" of each match, in order.
std::vector<std::string> Ask(const AdIndex& index, const v1::Context& context,
                             size_t limit) {
  RetrieveScratch scratch;
  Retrieval out;
  index.Retrieve({&context, nullptr}, limit, &scratch, &out);
  std::vector<std::string> matches;
  for (const AdMatch& m : out.matches) {
    matches.push_back(absl::StrCat(index.ad(m.ad).id, "/", m.bid_micros, "/",
                                   m.match_type, "/",
                                   std::string(index.keyword(m.keyword))));
  }
  return matches;
}

std::vector<std::string> Scan(const v1::Catalog& catalog,
                              const v1::Context& context,
                              double mean_pctr = 0.01) {
  std::vector<std::string> matches;
  for (const auto& m :
       NaiveTrigger(catalog, mean_pctr).Retrieve(context, {}).matches) {
    matches.push_back(absl::StrCat(m.ad_id, "/", m.bid_micros, "/",
                                   m.match_type, "/", m.keyword));
  }
  return matches;
}

std::set<std::string> AdIds(const std::vector<std::string>& matches) {
  std::set<std::string> ids;
  for (const std::string& m : matches) ids.insert(m.substr(0, m.find('/')));
  return ids;
}

// ---- T1 ----

v1::AdGroup AnotherGroup(Rng* rng, const v1::AdGroup& old) {
  v1::AdGroup group = RandomGroup(rng);
  group.set_id(old.id());
  group.set_campaign_id(old.campaign_id());
  // Sometimes beyond the limit of conjunctions.
  if (rng->Bernoulli(0.3))
    *group.mutable_targeting() = RandomExpression(rng, 4);
  if (rng->Bernoulli(0.5)) MixBidTypes(rng, &group);
  return group;
}

// One insertion, replacement, removal or re-insertion.
void Mutate(Rng* rng, std::vector<v1::Ad>* removed, v1::Catalog* catalog) {
  const uint64_t kind = rng->Below(5);
  auto* ads = catalog->mutable_ads();
  if (kind == 0 && !ads->empty()) {
    const int i = static_cast<int>(rng->Below(ads->size()));
    removed->push_back(ads->Get(i));
    ads->DeleteSubrange(i, 1);
  } else if (kind == 1 && !removed->empty()) {
    *ads->Add() = removed->back();
    removed->pop_back();
  } else if (kind == 2) {
    auto& c = *catalog->mutable_campaigns(
        static_cast<int>(rng->Below(catalog->campaigns_size())));
    c.set_status(RandomStatus(rng));
    *c.mutable_targeting() = RandomExpression(rng, 2);
  } else if (kind == 3 && !ads->empty()) {
    ads->Mutable(static_cast<int>(rng->Below(ads->size())))
        ->set_status(RandomStatus(rng));
  } else {
    auto& g = *catalog->mutable_ad_groups(
        static_cast<int>(rng->Below(catalog->ad_groups_size())));
    g = AnotherGroup(rng, g);
  }
}

TEST(T1, IndexEqualsScanAfterAnyUpdateSequence) {
  size_t total = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    v1::Catalog catalog = RandomCatalog(&rng, 30 + static_cast<int>(seed) * 3);
    if (seed % 2 == 1) MixBidTypes(&rng, &catalog);
    std::vector<v1::Ad> removed;
    for (int step = 0; step < 25; ++step) {
      Mutate(&rng, &removed, &catalog);
      const auto index = Build(catalog);
      if (index->stats().servable_ads == 0) continue;
      for (int r = 0; r < 6; ++r) {
        const v1::Context context = ARequest(&rng);
        const auto expected = Scan(catalog, context);
        ASSERT_EQ(Ask(*index, context, kAll), expected) << "step " << step;
        total += expected.size();
      }
    }
  }
  EXPECT_GT(total, 10000u);
}

TEST(T1, EditingOneAdGroupChangesNoOther) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    const v1::Catalog before = RandomCatalog(&rng, 200);
    v1::Catalog after = before;
    auto& edited = *after.mutable_ad_groups(
        static_cast<int>(rng.Below(after.ad_groups_size())));
    edited = AnotherGroup(&rng, edited);
    const auto a = Build(before), b = Build(after);
    const auto others = [&](std::vector<std::string> matches) {
      const auto ours = [&](const std::string& match) {
        const auto ad = a->Find(match.substr(0, match.find('/')));
        return a->ad(*ad).group_id == edited.id();
      };
      matches.erase(std::remove_if(matches.begin(), matches.end(), ours),
                    matches.end());
      return matches;
    };
    for (int r = 0; r < 20; ++r) {
      const v1::Context context = ARequest(&rng);
      ASSERT_EQ(others(Ask(*a, context, kAll)), others(Ask(*b, context, kAll)));
    }
  }
}

// ---- T2, T3: expressions ----

// An ad per expression, named "e0", "e1"...
v1::Catalog OfExpressions(const std::vector<v1::TargetingExpression>& all) {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("v");
  v1::Campaign* campaign = catalog.add_campaigns();
  campaign->set_id("c");
  campaign->set_advertiser_id("v");
  for (size_t i = 0; i < all.size(); ++i) {
    v1::AdGroup* group = catalog.add_ad_groups();
    group->set_id(absl::StrCat("g", i));
    group->set_campaign_id("c");
    group->set_bid_micros(1);
    *group->mutable_targeting() = all[i];
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat("e", i));
    ad->set_ad_group_id(group->id());
  }
  return catalog;
}

TEST(T2, ConjunctsNeverAddAndBranchesNeverRemoveMatches) {
  size_t matched = 0;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    const auto e = RandomExpression(&rng, 3), f = RandomExpression(&rng, 3);
    v1::TargetingExpression both, either, neither;
    for (const auto& x : {e, f}) {
      *both.mutable_all_of()->add_expressions() = x;
      *either.mutable_any_of()->add_expressions() = x;
      *neither.mutable_none_of()->add_expressions() = x;
    }
    const auto index = Build(OfExpressions({e, f, both, either, neither}));
    for (int r = 0; r < 20; ++r) {
      const auto ids = AdIds(Ask(*index, RandomContext(&rng), kAll));
      const bool x = ids.count("e0") > 0, y = ids.count("e1") > 0;
      ASSERT_EQ(ids.count("e2") > 0, x && y);
      ASSERT_EQ(ids.count("e3") > 0, x || y);
      ASSERT_EQ(ids.count("e4") > 0, !x && !y);
      matched += ids.size();
    }
  }
  EXPECT_GT(matched, 1000u);
}

TEST(T3, NotIsTrueOfAnAbsentAttribute) {
  const auto index = [] {
    std::vector<v1::TargetingExpression> all;
    for (const char* text :
         {"in_set { attribute: 'x' values: '1' values: 'a' }",
          "none_of { expressions { in_set { attribute: 'x' values: '1' "
          "values: 'a' } } }",
          "range { attribute: 'x' min: 1 max: 2 }",
          "none_of { expressions { range { attribute: 'x' min: 1 max: 2 } } }",
          // Twice not; and what cannot be.
          "none_of { expressions { none_of { expressions { in_set { "
          "attribute: 'x' values: 'a' } } } } }",
          "all_of { expressions { in_set { attribute: 'x' values: 'a' } } "
          "expressions { none_of { expressions { in_set { attribute: 'x' "
          "values: 'a' } } } } }"}) {
      EXPECT_OK(ParseTextProto(text, "expression", &all.emplace_back()));
    }
    return Build(OfExpressions(all));
  }();
  const auto matches = [&](const std::string& values) {
    v1::Context context;
    EXPECT_OK(ParseTextProto(
        values.empty() ? "" : absl::StrCat("attributes { ", values, "}"),
        "context", &context));
    std::string ids;
    for (const std::string& id : AdIds(Ask(*index, context, kAll))) ids += id;
    return ids;
  };
  // in_set, not in_set, range, not range, not not, contradiction
  EXPECT_EQ(matches(""), "e1e3");
  EXPECT_EQ(matches("name: 'x'"), "e1e3");
  EXPECT_EQ(matches("name: 'y' text: 'a'"), "e1e3");
  EXPECT_EQ(matches("name: 'x' text: 'a'"), "e0e3e4");
  EXPECT_EQ(matches("name: 'x' text: 'b'"), "e1e3");
  EXPECT_EQ(matches("name: 'x' number: 1"), "e0e2");
  EXPECT_EQ(matches("name: 'x' number: 3"), "e1e3");
  // A text is no number, a number is a text.
  EXPECT_EQ(matches("name: 'x' text: '1'"), "e0e3");
  // Of several values one is enough, for the predicate and against its not.
  EXPECT_EQ(matches("name: 'x' text: 'b' text: 'a'"), "e0e3e4");
  EXPECT_EQ(matches("name: 'x' number: 9 number: 2"), "e1e2");
}

TEST(T3, ExpressionsBeyondTheLimitOfConjunctionsAreExact) {
  Rng rng(8);
  std::vector<v1::TargetingExpression> all(2);
  for (int i = 0; i < 3; ++i) {
    auto* any = all[0].mutable_all_of()->add_expressions()->mutable_any_of();
    for (int j = 0; j < 5; ++j) {
      auto* set = any->add_expressions()->mutable_in_set();
      set->set_attribute(absl::StrCat("a", j));
      set->add_values(absl::StrCat("v", i));
      set->add_values(absl::StrCat(j));
    }
  }
  *all[1].mutable_none_of()->add_expressions() = all[0];
  TargetingSet targeting;
  const uint32_t numbers[] = {*targeting.Add(all[0]), *targeting.Add(all[1])};
  EXPECT_FALSE(targeting.NormalForm({numbers, 1}).has_value());
  const v1::Catalog catalog = OfExpressions(all);
  const auto index = Build(catalog);
  size_t first = 0;
  for (int r = 0; r < 3000; ++r) {
    const v1::Context context = RandomContext(&rng);
    const auto expected = Scan(catalog, context);
    ASSERT_EQ(Ask(*index, context, kAll), expected);
    first += AdIds(expected).count("e0");
  }
  EXPECT_GT(first, 10u);
}

TEST(T3, NormalFormDropsRepeatsAndContradictions) {
  TargetingSet set;
  v1::TargetingExpression e;
  ASSERT_OK(ParseTextProto(
      "all_of { expressions { in_set { attribute: 'x' values: 'a' } }"
      " expressions { in_set { attribute: 'x' values: 'a' } }"
      " expressions { any_of {"
      "  expressions { none_of { expressions {"
      "   in_set { attribute: 'x' values: 'a' } } } }"
      "  expressions { in_set { attribute: 'y' } }"
      "  expressions { range { attribute: 'y' min: 1 } } } } }",
      "expression", &e));
  const uint32_t number = *set.Add(e);
  const auto normal = set.NormalForm({&number, 1});
  ASSERT_TRUE(normal.has_value());
  ASSERT_EQ(normal->size(), 1u);
  EXPECT_EQ(normal->front().size(), 2u);
  EXPECT_EQ(set.NormalForm({})->size(), 1u);
}

// ---- T4 ----

TEST(T4, TopKIsThePrefixOfAllMatches) {
  size_t cut = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    // Fifty bids for thousands of ads: ties at every border.
    v1::Catalog catalog = RandomCatalog(&rng, 500 << (seed % 5));
    if (seed % 2 == 1) MixBidTypes(&rng, &catalog);
    const auto index = Build(catalog);
    for (int r = 0; r < 25; ++r) {
      const v1::Context context = ARequest(&rng);
      const auto all = Ask(*index, context, kAll);
      for (const size_t k : {0, 1, 2, 7, 50, 499, 500, 3000}) {
        auto prefix = all;
        if (prefix.size() > k) prefix.resize(k);
        cut += all.size() > k;
        ASSERT_EQ(Ask(*index, context, k), prefix) << k;
      }
    }
  }
  EXPECT_GT(cut, 500u);
}

TEST(T4, CpmBidsDoNotCrowdOutCpcBids) {
  v1::Catalog catalog = OfExpressions(std::vector<v1::TargetingExpression>(5));
  const auto bid = [&](int i, v1::BidType type, int64_t micros,
                       double quality) {
    catalog.mutable_ad_groups(i)->set_bid_type(type);
    catalog.mutable_ad_groups(i)->set_bid_micros(micros);
    catalog.mutable_ads(i)->set_quality(quality);
  };
  // An impression is worth 5000 micros of e0, 4000 of e1, 6000 of e2, 4500 of
  // e3 and 3000 of e4.
  bid(0, v1::BID_TYPE_CPC, 500'000, 0);
  bid(1, v1::BID_TYPE_CPM, 4'000'000, 0);
  bid(2, v1::BID_TYPE_CPA, 30'000'000, 0);
  catalog.mutable_ad_groups(2)->set_conversion_rate(0.02);
  bid(3, v1::BID_TYPE_CPC, 300'000, 1.5);
  bid(4, v1::BID_TYPE_CPM, 6'000'000, 0.5);
  const auto order = [&](double mean_pctr, size_t limit) {
    AdIndexOptions options;
    options.mean_pctr = mean_pctr;
    std::string ids;
    for (const std::string& m :
         Ask(*Build(catalog, options), v1::Context(), limit)) {
      ids += m.substr(0, 2);
    }
    return ids;
  };
  EXPECT_EQ(order(0.01, 5), "e2e0e3e1e4");
  EXPECT_EQ(order(0.01, 2), "e2e0");
  // An impression is worth less when clicks are rare, but to who buys it.
  EXPECT_EQ(order(0.001, 5), "e1e4e2e0e3");
  for (int i = 0; i < 5; ++i) {
    catalog.mutable_ad_groups(i)->add_keywords()->set_text("shoes");
  }
  v1::Context query;
  query.set_query("shoes");
  const auto matches = Ask(*Build(catalog), query, 2);
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(matches[0], "e2/30000000/4/shoes");
  EXPECT_EQ(matches[1], "e0/500000/4/shoes");
}

TEST(T4, OrderIsByWorthWhateverTheMeanPctr) {
  size_t moved = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    v1::Catalog catalog = RandomCatalog(&rng, 200);
    MixBidTypes(&rng, &catalog);
    AdIndexOptions options;
    options.mean_pctr = 0.001 + 0.05 * rng.Uniform();
    const auto index = Build(catalog, options);
    for (int r = 0; r < 20; ++r) {
      const v1::Context context = ARequest(&rng);
      const auto expected = Scan(catalog, context, options.mean_pctr);
      ASSERT_EQ(Ask(*index, context, kAll), expected);
      moved += expected != Scan(catalog, context);
    }
  }
  EXPECT_GT(moved, 100u);
}

// Between ads of one unit nothing else counts, however large the bid is.
TEST(T4, WorthNeverFallsAsTheBidRises) {
  Rng rng(3);
  v1::Catalog catalog = RandomCatalog(&rng, 100);
  MixBidTypes(&rng, &catalog);
  const auto index = Build(catalog);
  for (uint32_t ad = 0; ad < index->size(); ++ad) {
    double last = 0;
    for (int64_t bid = 1; bid < int64_t{1} << 61;) {
      const double value = index->ValueOf(ad, bid);
      ASSERT_GE(value, last) << bid;
      last = value;
      bid +=
          rng.Bernoulli(0.5)
              ? 1
              : static_cast<int64_t>(rng.Below(static_cast<uint64_t>(bid))) + 1;
    }
    EXPECT_GT(last, 1e14);
  }
}

// ---- T5, T6: keywords ----

v1::Catalog OfKeywords(const std::string& text, const std::string& negative) {
  v1::Catalog catalog = OfExpressions(std::vector<v1::TargetingExpression>(4));
  for (int i = 0; i < 3; ++i) {
    v1::Keyword* k = catalog.mutable_ad_groups(i)->add_keywords();
    k->set_text(text);
    k->set_match_type(static_cast<v1::MatchType>(v1::MATCH_TYPE_EXACT + i));
  }
  if (!negative.empty()) {
    catalog.mutable_campaigns(0)->add_negative_keywords(negative);
  }
  return catalog;
}

TEST(T5, ExactImpliesPhraseImpliesBroadAndNegativesWin) {
  size_t exact = 0, broad = 0, vetoed = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    const std::string keyword = RandomWords(&rng, 2);
    const std::string negative = RandomWords(&rng, 2);
    const auto free = Build(OfKeywords(keyword, ""));
    const auto restricted = Build(OfKeywords(keyword, negative));
    for (int r = 0; r < 30; ++r) {
      v1::Context context;
      context.set_query(rng.Bernoulli(0.1)
                            ? keyword
                            : RandomWords(&rng, rng.Bernoulli(0.2) ? 20 : 6));
      const auto ids = AdIds(Ask(*free, context, kAll));
      ASSERT_LE(ids.count("e0"), ids.count("e1"));
      ASSERT_LE(ids.count("e1"), ids.count("e2"));
      ASSERT_EQ(ids.count("e3"), 1u);  // without keywords
      exact += ids.count("e0");
      broad += ids.count("e2");
      // Order is nothing to BROAD.
      std::vector<std::string> words = Tokenize(context.query());
      std::reverse(words.begin(), words.end());
      v1::Context reversed = context;
      reversed.set_query(absl::StrJoin(words, " "));
      ASSERT_EQ(AdIds(Ask(*free, reversed, kAll)).count("e2"), ids.count("e2"));
      // A negative of the campaign takes all, or nothing.
      const auto left = AdIds(Ask(*restricted, context, kAll));
      const auto query = Tokenize(context.query());
      const auto banned = Tokenize(negative);
      const bool veto =
          std::all_of(banned.begin(), banned.end(), [&](const auto& w) {
            return std::count(query.begin(), query.end(), w) > 0;
          });
      ASSERT_EQ(left, veto ? std::set<std::string>() : ids);
      vetoed += veto;
    }
  }
  EXPECT_GT(exact, 100u);
  EXPECT_GT(broad, exact);
  EXPECT_GT(vetoed, 100u);
}

TEST(T5, PhraseMindsOrderAndNegativesAreNotStemmed) {
  const auto index = Build(OfKeywords("red shoes", "heel"));
  const auto ask = [&](const char* query) {
    v1::Context context;
    context.set_query(query);
    std::string ids;
    for (const auto& id : AdIds(Ask(*index, context, kAll))) ids += id;
    return ids;
  };
  EXPECT_EQ(ask("red shoes"), "e0e1e2e3");
  EXPECT_EQ(ask("buy red shoes"), "e1e2e3");
  EXPECT_EQ(ask("shoes red"), "e2e3");
  EXPECT_EQ(ask("red shoes heels"), "e1e2e3");
  EXPECT_EQ(ask("red shoes heel"), "");
}

TEST(T6, CaseWidthAndCompositionDoNotMatter) {
  // Composed, decomposed, upper case, full width, half-width kana.
  const std::vector<std::vector<std::string>> same = {
      {"crème brûlée", "cre\u0300me bru\u0302le\u0301e", "CRÈME BRÛLÉE",
       "CRE\u0300ME BRU\u0302LE\u0301E", "ｃｒｅｍｅ　ｂｒｕｌｅｅ",
       "  creme\tbrulee "},
      {"ＡＢＣ１２", "abc12", "Abc12"},
      {"ガイド", "ｶﾞｲﾄﾞ", "カ\u3099イト\u3099"},
      {"Straße", "STRASSE", "strasse"}};
  for (const auto& variants : same) {
    for (const std::string& keyword : variants) {
      for (const std::string& query : variants) {
        EXPECT_EQ(NormalizeText(NormalizeText(query)), NormalizeText(query));
        v1::Context context;
        context.set_query(query);
        EXPECT_EQ(Ask(*Build(OfKeywords(keyword, "")), context, kAll).size(),
                  4u)
            << keyword << " | " << query;
        EXPECT_TRUE(
            Ask(*Build(OfKeywords("x", keyword)), context, kAll).empty())
            << keyword << " | " << query;
      }
    }
  }
}

TEST(T6, NormalizerIsIdempotentOnAnyText) {
  Rng rng(6);
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (uint64_t n = rng.Below(20); n > 0; --n) {
      text.push_back(static_cast<char>(rng.Below(256)));
      // Two-byte letters and marks.
      if (rng.Bernoulli(0.5)) {
        text.push_back(static_cast<char>(0xc3 + rng.Below(10)));
        text.push_back(static_cast<char>(0x80 + rng.Below(64)));
      }
    }
    const std::string once = NormalizeText(text);
    ASSERT_EQ(NormalizeText(once), once) << "round " << i;
  }
}

}  // namespace
}  // namespace adrank
