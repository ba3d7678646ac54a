// What two texts must share to count as the same text. One normaliser and one
// tokenizer for the whole product: the TOKENS fields of the model and the
// keywords and queries of the trigger all pass through here.
#ifndef ADRANK_FEATURES_TEXT_H_
#define ADRANK_FEATURES_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace adrank {

// Raised whenever the same input may give another output. Word breaks of
// Chinese, Japanese, Thai, Lao, Khmer and Burmese come from ICU's dictionaries,
// so they may also change with ICU's version: see NormalizerId().
inline constexpr int kNormalizerVersion = 1;

// kNormalizerVersion and the Unicode data behind it, e.g. "1/icu-72.1": equal
// ids give equal texts and tokens.
std::string NormalizerId();

// Well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool IsValidUtf8(absl::string_view text);

// Unicode NFKC with full case folding (which unifies full-width and half-width
// forms, ligatures, superscripts, and drops invisible characters), then without
// accents (nonspacing marks shared by scripts, and the strokes of letters such
// as o-slash; marks that make another letter or vowel in Japanese, Thai or
// Indic scripts stay), typographic apostrophes as ', white space and controls
// as single spaces with none at the ends.
//
//   "  Crème BRÛLÉE\t" -> "creme brulee"    "ＡＢＣ１２" -> "abc12"
//   "Straße" -> "strasse"                   "Ｌ’Oréal" -> "l'oreal"
//
// Idempotent. Each ill-formed UTF-8 sequence becomes U+FFFD. Thread-safe.
std::string NormalizeText(absl::string_view text);

// The words of NormalizeText(text) by Unicode's word boundaries (UAX 29; with
// ICU's dictionaries for scripts without spaces), in order, repeats included.
// Punctuation, symbols and spaces are no words. Thread-safe.
//
//   "Wi-Fi router, 2.4GHz" -> wi | fi | router | 2.4ghz
//   "買新手機" -> 買 | 新 | 手機
std::vector<std::string> Tokenize(absl::string_view text);

// Tokenize into storage that is used again: *tokens are views into *normalized,
// which is NormalizeText(text). ASCII text allocates nothing after warm-up.
void TokenizeInto(absl::string_view text, std::string* normalized,
                  std::vector<absl::string_view>* tokens);

}  // namespace adrank

#endif  // ADRANK_FEATURES_TEXT_H_
