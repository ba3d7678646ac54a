#include "server/trigger/keyword_set.h"

#include "absl/strings/str_join.h"
#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

// Bits: EXACT 1, PHRASE 2, BROAD 4.
int Ask(absl::string_view keyword, absl::string_view query) {
  KeywordSet set;
  set.Add("some other words");
  const uint32_t number = set.Add(keyword);
  ResolvedQuery resolved;
  set.Resolve(query, &resolved);
  return set.Matches(number, v1::MATCH_TYPE_EXACT, resolved) * 1 +
         set.Matches(number, v1::MATCH_TYPE_PHRASE, resolved) * 2 +
         set.Matches(number, v1::MATCH_TYPE_BROAD, resolved) * 4;
}

TEST(KeywordSet, OrderAndNeighboursDecideTheMatch) {
  EXPECT_EQ(Ask("red shoes", "red shoes"), 7);
  EXPECT_EQ(Ask("red shoes", "cheap red shoes now"), 6);
  EXPECT_EQ(Ask("red shoes", "shoes red"), 4);
  EXPECT_EQ(Ask("red shoes", "red running shoes"), 4);
  EXPECT_EQ(Ask("red shoes", "red"), 0);
  EXPECT_EQ(Ask("red shoes", ""), 0);
  EXPECT_EQ(Ask("red shoes", "infrared shoes"), 0);
  EXPECT_EQ(Ask("red red", "red"), 4);
}

TEST(KeywordSet, CaseAccentsWidthAndPunctuationDoNotMatter) {
  EXPECT_EQ(Ask("Crème Brûlée!", "  CREME\tbrulee "), 7);
  EXPECT_EQ(Ask("ＡＢＣ", "abc"), 7);
}

TEST(KeywordSet, TextWithoutWordsMatchesNothing) {
  EXPECT_EQ(Ask("!!!", "!!!"), 0);
  EXPECT_EQ(Ask("", ""), 0);
  EXPECT_EQ(Ask("", "shoes"), 0);
}

TEST(KeywordSet, EqualWordsAreOneEntry) {
  KeywordSet set;
  EXPECT_EQ(set.Add("Red  shoes"), set.Add("red shoes"));
  EXPECT_NE(set.Add("red shoes"), set.Add("shoes red"));
}

bool Contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

TEST(KeywordSet, AgreesWithPlainTextSearchOnRandomQueries) {
  constexpr uint64_t kSeed = 11;
  Rng rng(kSeed);
  const auto random_words = [&](uint64_t max) {
    std::vector<std::string> words;
    for (uint64_t n = 1 + rng.Below(max); n > 0; --n) {
      words.push_back(std::string(1, static_cast<char>('a' + rng.Below(4))));
    }
    return words;
  };
  for (int round = 0; round < 5000; ++round) {
    const auto keyword = random_words(3), query = random_words(6);
    const std::string k = absl::StrJoin(keyword, " ");
    const std::string q = absl::StrJoin(query, " ");
    bool broad = true;
    for (const std::string& word : keyword) broad &= Contains(query, word);
    const bool phrase =
        (" " + q + " ").find(" " + k + " ") != std::string::npos;
    EXPECT_EQ(Ask(k, q), (k == q) * 1 + phrase * 2 + broad * 4)
        << "seed " << kSeed << ": \"" << k << "\" in \"" << q << "\"";
  }
}

}  // namespace
}  // namespace adrank
