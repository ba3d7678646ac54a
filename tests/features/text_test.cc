#include "features/text.h"

#include <unicode/brkiter.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Slow and obvious: ICU's words of the normalised text, through UTF-16.
std::vector<std::string> OracleTokens(const std::string& normalized) {
  UErrorCode error = U_ZERO_ERROR;
  std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createWordInstance(icu::Locale::getRoot(), error));
  const auto text = icu::UnicodeString::fromUTF8(normalized);
  breaks->setText(text);
  std::vector<std::string> tokens;
  int32_t begin = breaks->first();
  for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE;
       begin = end, end = breaks->next()) {
    if (breaks->getRuleStatus() < UBRK_WORD_NONE_LIMIT) continue;
    std::string word;
    text.tempSubStringBetween(begin, end).toUTF8String(word);
    if (word.find_first_not_of("@_") != word.npos) tokens.push_back(word);
  }
  return tokens;
}

std::string Utf8(UChar32 c) {
  std::string out;
  icu::UnicodeString(c).toUTF8String(out);
  return out;
}

UChar32 RandomCharacter(Rng& rng) {
  // Scripts with marks, widths, cases and dictionaries more often than chance.
  static constexpr UChar32 kRanges[][2] = {
      {0x20, 0x7e},     {0xa0, 0x24f},     {0x300, 0x36f},   {0x370, 0x52f},
      {0x591, 0x6ff},   {0x900, 0x97f},    {0xe01, 0xe5b},   {0x1ea0, 0x1fff},
      {0x2000, 0x206f}, {0x3040, 0x30ff},  {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
      {0xff00, 0xffef}, {0x1f300, 0x1f6ff}};
  if (rng.Below(8) == 0) {
    const UChar32 c = static_cast<UChar32>(rng.Below(0x110000));
    return U_IS_SURROGATE(c) ? 0x20 : c;
  }
  const auto& range = kRanges[rng.Below(std::size(kRanges))];
  return range[0] + static_cast<UChar32>(rng.Below(range[1] - range[0] + 1));
}

TEST(NormalizeText, IsFrozen) {
  EXPECT_EQ(kNormalizerVersion, 1);
  EXPECT_EQ(NormalizerId().substr(0, 6), "1/icu-");
  EXPECT_EQ(NormalizeText(""), "");
  EXPECT_EQ(NormalizeText(" \t\r\n "), "");
  EXPECT_EQ(NormalizeText("  Red \t\n SHOES\x01 "), "red shoes");
  EXPECT_EQ(NormalizeText("Crème BRÛLÉE"), "creme brulee");
  EXPECT_EQ(NormalizeText("Straße"), "strasse");
  EXPECT_EQ(NormalizeText("ﬁne ①②"), "fine 12");
  EXPECT_EQ(NormalizeText("ŁÓDŹ smørrebrød Đà Nẵng"),
            "lodz smorrebrod da nang");
  EXPECT_EQ(NormalizeText("İstanbul ısparta"), "istanbul isparta");
  EXPECT_EQ(NormalizeText("Ёлка ΆΘΗΝΑ"), "елка αθηνα");
  EXPECT_EQ(NormalizeText("so\u00adft zero\u200djoin"), "soft zerojoin");
  EXPECT_EQ(NormalizeText("a\u200bb\u3000c\u00a0d"), "a b c d");
}

TEST(NormalizeText, UnifiesComposedAndDecomposed) {
  EXPECT_EQ(NormalizeText("caf\u00e9"), "cafe");
  EXPECT_EQ(NormalizeText("cafe\u0301"), "cafe");
  EXPECT_EQ(NormalizeText("\uac00"), NormalizeText("\u1100\u1161"));
  EXPECT_EQ(NormalizeText("\u30ac"), NormalizeText("\u30ab\u3099"));
}

TEST(NormalizeText, UnifiesWidths) {
  EXPECT_EQ(NormalizeText("ＡＢＣ１２"), "abc12");
  EXPECT_EQ(NormalizeText("ｶﾞｲﾄﾞ"), "ガイド");
}

TEST(NormalizeText, UnifiesApostrophes) {
  EXPECT_EQ(NormalizeText("L’Oréal"), "l'oreal");
  EXPECT_EQ(NormalizeText("L＇OREAL"), "l'oreal");
}

TEST(NormalizeText, KeepsMarksThatAreLettersOfTheirScript) {
  EXPECT_EQ(NormalizeText("か"), "か");
  EXPECT_EQ(NormalizeText("が"), "が");
  EXPECT_EQ(NormalizeText("ที่"), "ที่");
  EXPECT_EQ(NormalizeText("हिन्दी"), "हिन्दी");
}

TEST(NormalizeText, IllFormedSequencesBecomeReplacementCharacters) {
  EXPECT_EQ(NormalizeText("A\xff"
                          "B"),
            "a\uFFFDb");
  EXPECT_EQ(NormalizeText("x\xe4\xb8"), "x\uFFFD");
  EXPECT_EQ(NormalizeText("\xed\xa0\x80").find("\uFFFD"), 0u);
  EXPECT_TRUE(IsValidUtf8(NormalizeText("\xc0\x80\xf5\x80 \xe9t\xe9")));
}

TEST(NormalizeText, IsIdempotentOnEveryCharacter) {
  for (UChar32 c = 1; c < 0x110000; ++c) {
    if (U_IS_SURROGATE(c)) continue;
    const std::string once = NormalizeText(Utf8(c));
    ASSERT_EQ(NormalizeText(once), once) << "U+" << std::hex << c;
  }
}

TEST(NormalizeText, IsIdempotentOnRandomText) {
  Rng rng(1);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (uint64_t n = rng.Below(12); n > 0; --n) {
      text += Utf8(RandomCharacter(rng));
    }
    const std::string once = NormalizeText(text);
    ASSERT_EQ(NormalizeText(once), once) << text;
    ASSERT_TRUE(IsValidUtf8(once));
    ASSERT_EQ(Tokenize(once), Tokenize(text)) << text;
    ASSERT_EQ(Tokenize(text), OracleTokens(once)) << text;
  }
}

TEST(NormalizeText, AnyBytesGiveValidUtf8) {
  Rng rng(2);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(rng.Below(12), '\0');
    for (char& c : bytes) c = static_cast<char>(rng.Below(256));
    const std::string once = NormalizeText(bytes);
    ASSERT_TRUE(IsValidUtf8(once));
    ASSERT_EQ(NormalizeText(once), once);
  }
}

TEST(NormalizeText, AsciiPathEqualsUnicodePath) {
  Rng rng(3);
  for (int i = 0; i < 20000; ++i) {
    std::string text(rng.Below(16), ' ');
    for (char& c : text) c = static_cast<char>(rng.Below(128));
    // One accent sends the whole text through ICU and vanishes.
    ASSERT_EQ(NormalizeText(text + "x"), NormalizeText(text + "x\u0301"));
  }
}

TEST(Tokenize, AsciiPathEqualsIcu) {
  Rng rng(4);
  static constexpr char kLikely[] = "ab1 2.,;:'_-\"@#";
  for (int i = 0; i < 60000; ++i) {
    std::string text(rng.Below(10), ' ');
    for (char& c : text) {
      c = rng.Below(4) == 0 ? static_cast<char>(rng.Below(128))
                            : kLikely[rng.Below(sizeof(kLikely) - 1)];
    }
    ASSERT_EQ(Tokenize(text), OracleTokens(NormalizeText(text)))
        << "\"" << text << "\"";
  }
}

TEST(Tokenize, FindsWords) {
  EXPECT_THAT(Tokenize(""), IsEmpty());
  EXPECT_THAT(Tokenize(" ?! -- ☃ "), IsEmpty());
  EXPECT_THAT(Tokenize("Wi-Fi router, 2.4GHz"),
              ElementsAre("wi", "fi", "router", "2.4ghz"));
  EXPECT_THAT(Tokenize("Men's shoes & men’s SHOES"),
              ElementsAre("men's", "shoes", "men's", "shoes"));
  EXPECT_THAT(Tokenize("me@example.com @ _ shop"),
              ElementsAre("me@example.com", "shop"));
  EXPECT_THAT(Tokenize("www.example.com/a_b"),
              ElementsAre("www.example.com", "a_b"));
}

TEST(Tokenize, BreaksScriptsWithoutSpaces) {
  EXPECT_THAT(Tokenize("北京大学"), ElementsAre("北京", "大学"));
  EXPECT_THAT(Tokenize("買新手機"), ElementsAre("買", "新", "手機"));
  EXPECT_THAT(Tokenize("私は学生です"),
              ElementsAre("私", "は", "学生", "です"));
  EXPECT_THAT(Tokenize("ซื้อรองเท้า"), ElementsAre("ซื้อ", "รองเท้า"));
  EXPECT_THAT(Tokenize("iPhone手机壳"), ElementsAre("iphone", "手机", "壳"));
}

TEST(TokenizeInto, ReusesItsStorage) {
  std::string normalized = "old";
  std::vector<absl::string_view> tokens = {"old"};
  TokenizeInto("Ein ZWEI", &normalized, &tokens);
  EXPECT_EQ(normalized, "ein zwei");
  EXPECT_THAT(tokens, ElementsAre("ein", "zwei"));
  TokenizeInto("", &normalized, &tokens);
  EXPECT_THAT(tokens, IsEmpty());
}

TEST(IsValidUtf8, KnowsTheForms) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("aé買😀"));
  EXPECT_TRUE(IsValidUtf8(absl::string_view("\0", 1)));
  for (const char* bad :
       {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xff", "\xe4\xb8 "}) {
    EXPECT_FALSE(IsValidUtf8(bad));
  }
}

}  // namespace
}  // namespace adrank
