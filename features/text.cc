#include "features/text.h"

#include <unicode/brkiter.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>
#include <unicode/uversion.h>

#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace adrank {
namespace {

constexpr UChar32 kReplacement = 0xFFFD;

bool IsAscii(absl::string_view text) {
  unsigned char all = 0;
  for (unsigned char c : text) all |= c;
  return all < 0x80;
}

// --- ASCII: what the ICU path below does, without ICU (the test compares
// them).

void NormalizeAscii(absl::string_view text, std::string* out) {
  out->clear();
  bool space = false;
  for (char c : text) {
    if (c <= ' ' || c == 0x7f) {
      space = !out->empty();
      continue;
    }
    if (space) out->push_back(' ');
    space = false;
    out->push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
  }
}

// Classes of UAX 29 that occur in normalised ASCII.
enum class WordClass : uint8_t {
  kOther,
  kLetter,
  kDigit,
  kUnderscore,  // ExtendNumLet
  kMidNumber,   // , ;
  kMidEither,   // . '
};

WordClass ClassOf(char c) {
  // ICU 72 counts @ among the letters, which keeps addresses whole.
  if ((c >= 'a' && c <= 'z') || c == '@') return WordClass::kLetter;
  if (c >= '0' && c <= '9') return WordClass::kDigit;
  switch (c) {
    case '_':
      return WordClass::kUnderscore;
    case ',':
    case ';':
      return WordClass::kMidNumber;
    case '.':
    case '\'':
      return WordClass::kMidEither;
    default:
      return WordClass::kOther;
  }
}

// For ICU, a few @ or underscores alone are a word too.
bool SaysSomething(absl::string_view word) {
  return word.find_first_not_of("@_") != absl::string_view::npos;
}

bool IsWordClass(WordClass c) {
  return c == WordClass::kLetter || c == WordClass::kDigit ||
         c == WordClass::kUnderscore;
}

// WB6, WB7, WB11, WB12: `mid` holds two letters or two digits together.
bool Joins(WordClass before, WordClass mid, WordClass after) {
  if (before != after) return false;
  if (before == WordClass::kLetter) {
    return mid == WordClass::kMidEither;
  }
  return before == WordClass::kDigit &&
         (mid == WordClass::kMidNumber || mid == WordClass::kMidEither);
}

size_t EndOfAsciiWord(absl::string_view text, size_t begin) {
  size_t end = begin + 1;
  while (end < text.size()) {
    const WordClass c = ClassOf(text[end]);
    if (IsWordClass(c)) {
      ++end;
    } else if (end + 1 < text.size() &&
               Joins(ClassOf(text[end - 1]), c, ClassOf(text[end + 1]))) {
      end += 2;
    } else {
      break;
    }
  }
  return end;
}

void TokenizeAscii(absl::string_view text,
                   std::vector<absl::string_view>* tokens) {
  for (size_t i = 0; i < text.size();) {
    if (!IsWordClass(ClassOf(text[i]))) {
      ++i;
      continue;
    }
    const size_t end = EndOfAsciiWord(text, i);
    const absl::string_view word = text.substr(i, end - i);
    if (SaysSomething(word)) tokens->push_back(word);
    i = end;
  }
}

// --- Everything else.

struct Normalizers {
  const icu::Normalizer2* casefold = nullptr;
  const icu::Normalizer2* decompose = nullptr;
  const icu::Normalizer2* compose = nullptr;
};

// ICU's data is linked in; without it no text has a meaning, and a guess would
// be training/serving skew.
const Normalizers& GetNormalizers() {
  static const Normalizers normalizers = [] {
    UErrorCode error = U_ZERO_ERROR;
    Normalizers n;
    n.casefold = icu::Normalizer2::getNFKCCasefoldInstance(error);
    n.decompose = icu::Normalizer2::getNFDInstance(error);
    n.compose = icu::Normalizer2::getNFCInstance(error);
    CHECK(U_SUCCESS(error)) << "ICU has no data: " << u_errorName(error);
    return n;
  }();
  return normalizers;
}

// A nonspacing mark that scripts share (Inherited) is an accent; a mark of one
// script is a vowel or a tone. The voicing marks of kana, though shared by two
// scripts, make another letter.
bool IsAccent(UChar32 c) {
  if (c == 0x3099 || c == 0x309A) return false;
  if (u_charType(c) != U_NON_SPACING_MARK) return false;
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(c, &error);
  return script == USCRIPT_INHERITED || script == USCRIPT_COMMON;
}

UChar32 FoldLetter(UChar32 c) {
  switch (c) {
    case 0x00F8:  // o with stroke
      return 'o';
    case 0x0111:  // d with stroke
      return 'd';
    case 0x0127:  // h with stroke
      return 'h';
    case 0x0131:  // dotless i
      return 'i';
    case 0x0142:  // l with stroke
      return 'l';
    case 0x0167:  // t with stroke
      return 't';
    case 0x02BC:  // modifier apostrophe
    case 0x2018:  // left single quote
    case 0x2019:  // right single quote
      return '\'';
    default:
      return c;
  }
}

// Zero width space separates words where spaces are not written.
bool IsSpaceOrControl(UChar32 c) {
  return u_isUWhiteSpace(c) || u_charType(c) == U_CONTROL_CHAR || c == 0x200B;
}

icu::UnicodeString FoldCharacters(const icu::UnicodeString& in) {
  icu::UnicodeString out;
  bool space = false;
  for (int32_t i = 0; i < in.length();) {
    UChar32 c = in.char32At(i);
    i += U16_LENGTH(c);
    if (IsSpaceOrControl(c)) {
      space = !out.isEmpty();
      continue;
    }
    if (IsAccent(c)) continue;
    if (U_IS_SURROGATE(c)) c = kReplacement;
    if (space) out.append(static_cast<UChar32>(' '));
    space = false;
    out.append(FoldLetter(c));
  }
  return out;
}

// Spaces are found before the case folding, which would drop U+200B unseen.
icu::UnicodeString KeepZeroWidthSpaces(icu::UnicodeString text) {
  return text.findAndReplace(icu::UnicodeString(static_cast<UChar32>(0x200B)),
                             icu::UnicodeString(static_cast<UChar32>(' ')));
}

void NormalizeUnicode(absl::string_view text, std::string* out) {
  const Normalizers& n = GetNormalizers();
  UErrorCode error = U_ZERO_ERROR;
  icu::UnicodeString current = KeepZeroWidthSpaces(icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size()))));
  // One round is nearly always the fixed point; a mark taken away can let its
  // neighbours compose or fold once more. Each further round only shortens or
  // composes, so that this ends.
  for (int round = 0; round < 16; ++round) {
    const icu::UnicodeString folded =
        n.compose->normalize(FoldCharacters(n.decompose->normalize(
                                 n.casefold->normalize(current, error), error)),
                             error);
    CHECK(U_SUCCESS(error)) << "ICU: " << u_errorName(error);
    const bool stable = round > 0 && folded == current;
    current = folded;
    if (stable) break;
  }
  out->clear();
  current.toUTF8String(*out);
}

icu::BreakIterator& ThreadWordBreaks() {
  thread_local const std::unique_ptr<icu::BreakIterator> breaks = [] {
    UErrorCode error = U_ZERO_ERROR;
    std::unique_ptr<icu::BreakIterator> b(
        icu::BreakIterator::createWordInstance(icu::Locale::getRoot(), error));
    CHECK(U_SUCCESS(error)) << "ICU has no word breaks: " << u_errorName(error);
    return b;
  }();
  return *breaks;
}

void TokenizeUnicode(absl::string_view text,
                     std::vector<absl::string_view>* tokens) {
  icu::BreakIterator& breaks = ThreadWordBreaks();
  UErrorCode error = U_ZERO_ERROR;
  UText utext = UTEXT_INITIALIZER;
  utext_openUTF8(&utext, text.data(), static_cast<int64_t>(text.size()),
                 &error);
  breaks.setText(&utext, error);
  CHECK(U_SUCCESS(error)) << "ICU: " << u_errorName(error);
  int32_t begin = breaks.first();
  for (int32_t end = breaks.next(); end != icu::BreakIterator::DONE;
       begin = end, end = breaks.next()) {
    if (breaks.getRuleStatus() < UBRK_WORD_NONE_LIMIT) continue;
    const absl::string_view word = text.substr(begin, end - begin);
    if (SaysSomething(word)) tokens->push_back(word);
  }
  utext_close(&utext);
}

void NormalizeInto(absl::string_view text, std::string* out) {
  if (IsAscii(text)) {
    NormalizeAscii(text, out);
  } else {
    NormalizeUnicode(text, out);
  }
}

}  // namespace

std::string NormalizerId() {
  return absl::StrCat(kNormalizerVersion, "/icu-", U_ICU_VERSION);
}

bool IsValidUtf8(absl::string_view text) {
  if (IsAscii(text)) return true;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const int64_t size = static_cast<int64_t>(text.size());
  for (int64_t i = 0; i < size;) {
    UChar32 c;
    U8_NEXT(bytes, i, size, c);
    if (c < 0) return false;
  }
  return true;
}

std::string NormalizeText(absl::string_view text) {
  std::string out;
  NormalizeInto(text, &out);
  return out;
}

void TokenizeInto(absl::string_view text, std::string* normalized,
                  std::vector<absl::string_view>* tokens) {
  NormalizeInto(text, normalized);
  tokens->clear();
  if (IsAscii(*normalized)) {
    TokenizeAscii(*normalized, tokens);
  } else {
    TokenizeUnicode(*normalized, tokens);
  }
}

std::vector<std::string> Tokenize(absl::string_view text) {
  std::string normalized;
  std::vector<absl::string_view> views;
  TokenizeInto(text, &normalized, &views);
  return {views.begin(), views.end()};
}

}  // namespace adrank
