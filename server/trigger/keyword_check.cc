#include "server/trigger/keyword_check.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "features/text.h"

namespace adrank {
namespace {

// The most frequent function words of English queries; sorted.
constexpr absl::string_view kStopWords[] = {
    "a",     "an",  "and",   "are",  "as",   "at",    "be",    "but",
    "by",    "can", "do",    "for",  "from", "has",   "have",  "how",
    "i",     "if",  "in",    "into", "is",   "it",    "its",   "me",
    "my",    "no",  "not",   "of",   "on",   "or",    "our",   "so",
    "that",  "the", "their", "them", "then", "there", "these", "they",
    "this",  "to",  "was",   "we",   "were", "what",  "when",  "where",
    "which", "who", "why",   "will", "with", "you",   "your"};

bool IsStopWord(const std::string& word) {
  return std::binary_search(std::begin(kStopWords), std::end(kStopWords),
                            absl::string_view(word));
}

absl::Status CheckKeyword(const std::string& text, bool broad) {
  const std::vector<std::string> words = Tokenize(text);
  if (words.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("keyword \"", text, "\" has no words"));
  }
  if (!broad || !std::all_of(words.begin(), words.end(), IsStopWord)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "keyword \"", text,
      "\" has only stop words and as BROAD would match almost every query; "
      "make it EXACT or PHRASE"));
}

}  // namespace

absl::Status CheckKeywords(const v1::CatalogEntity& entity) {
  if (entity.has_campaign()) {
    for (const std::string& text : entity.campaign().negative_keywords()) {
      RETURN_IF_ERROR(
          Annotate(CheckKeyword(text, false),
                   absl::StrCat("campaign \"", entity.campaign().id(), "\"")));
    }
  }
  for (const v1::Keyword& keyword : entity.ad_group().keywords()) {
    const bool broad = !keyword.negative() &&
                       keyword.match_type() != v1::MATCH_TYPE_EXACT &&
                       keyword.match_type() != v1::MATCH_TYPE_PHRASE;
    RETURN_IF_ERROR(
        Annotate(CheckKeyword(keyword.text(), broad),
                 absl::StrCat("ad_group \"", entity.ad_group().id(), "\"")));
  }
  return absl::OkStatus();
}

}  // namespace adrank
