#include "server/trigger/keyword_index.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

std::string Words(Rng* rng, uint64_t n, uint64_t vocabulary) {
  std::string text;
  for (uint64_t i = 0; i < n; ++i) {
    absl::StrAppend(&text, i == 0 ? "w" : " w", rng->Below(vocabulary));
  }
  return text;
}

// Returns how many postings matched.
size_t Compare(uint64_t seed, uint64_t vocabulary, size_t keywords,
               int queries) {
  Rng rng(seed);
  KeywordSet set;
  std::vector<KeywordPosting> postings;
  for (size_t i = 0; i < keywords; ++i) {
    constexpr v1::MatchType kTypes[] = {
        v1::MATCH_TYPE_UNSPECIFIED, v1::MATCH_TYPE_EXACT, v1::MATCH_TYPE_PHRASE,
        v1::MATCH_TYPE_BROAD};
    // Also no word at all, repeats, and more words than subsets are hashed of.
    const uint64_t n = rng.Bernoulli(0.1) ? rng.Below(12) : 1 + rng.Below(3);
    postings.push_back(
        {set.Add(Words(&rng, n, vocabulary)), kTypes[rng.Below(4)]});
  }
  // A keyword of the set that is not of the index.
  set.Add("unused w1");
  const KeywordIndex index(set, postings);
  KeywordIndex::Scratch scratch;
  ResolvedQuery query;
  std::vector<uint32_t> found;
  size_t total = 0;
  for (int q = 0; q < queries; ++q) {
    std::string text = Words(&rng, rng.Below(14), vocabulary + 2);
    if (rng.Bernoulli(0.2)) text += " unused";
    set.Resolve(text, &query);
    std::vector<uint32_t> expected;
    for (uint32_t i = 0; i < postings.size(); ++i) {
      if (set.Matches(postings[i].keyword, postings[i].type, query)) {
        expected.push_back(i);
      }
    }
    index.Match(set, query, &scratch, &found);
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, expected) << "seed " << seed << ": " << text;
    EXPECT_EQ(index.MatchesAny(set, query, &scratch), !expected.empty());
    total += expected.size();
    if (::testing::Test::HasFailure()) break;
  }
  return total;
}

TEST(KeywordIndex, EqualsTheScanOfAllKeywords) {
  size_t total = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    total += Compare(seed, 4 + seed % 20, seed * 5, 40);
  }
  EXPECT_GT(total, 10000u);
  EXPECT_GT(Compare(99, 300, 20000, 200), 10000u);
}

TEST(KeywordIndex, NothingMatchesWithoutKeywordsOrWords) {
  KeywordSet set;
  const KeywordPosting wordless = {set.Add("!!!"), v1::MATCH_TYPE_BROAD};
  const KeywordIndex index(set, {&wordless, 1}), empty(set, {});
  KeywordIndex::Scratch scratch;
  ResolvedQuery query;
  for (const char* text : {"", "!!!", "word"}) {
    set.Resolve(text, &query);
    EXPECT_FALSE(index.MatchesAny(set, query, &scratch));
    EXPECT_FALSE(empty.MatchesAny(set, query, &scratch));
    EXPECT_FALSE(KeywordIndex().MatchesAny(set, query, &scratch));
  }
}

}  // namespace
}  // namespace adrank
