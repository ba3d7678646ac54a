#include "server/trigger/keyword_set.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "features/text.h"
#include "server/trigger/keyword_hash.h"

namespace adrank {

uint32_t KeywordSet::Add(absl::string_view text) {
  return AddWords(Tokenize(text));
}

uint32_t KeywordSet::AddWords(absl::Span<const std::string> words) {
  const auto [it, added] = texts_.try_emplace(
      absl::StrJoin(words, " "), static_cast<uint32_t>(entries_.size()));
  if (!added) return it->second;
  Entry entry = {0, static_cast<uint32_t>(tokens_.size()), 0};
  for (const std::string& word : words) {
    const uint32_t token =
        ids_.try_emplace(word, static_cast<uint32_t>(ids_.size()))
            .first->second;
    tokens_.push_back(token);
    entry.signature |= SignatureBit(token);
  }
  entry.end = static_cast<uint32_t>(tokens_.size());
  entries_.push_back(entry);
  return it->second;
}

void KeywordSet::EndFilling() {
  texts_ = {};
  entries_.shrink_to_fit();
  tokens_.shrink_to_fit();
}

void KeywordSet::Resolve(absl::string_view query, ResolvedQuery* out) const {
  out->tokens.clear();
  out->signature = 0;
  out->words.clear();
  if (query.empty() || ids_.empty()) return;
  TokenizeInto(query, &out->normalized, &out->words);
  for (const absl::string_view word : out->words) PushWord(word, out);
}

void KeywordSet::ResolveWords(const std::vector<std::string>& words, size_t n,
                              ResolvedQuery* out) const {
  out->tokens.clear();
  out->signature = 0;
  if (ids_.empty()) return;
  for (size_t i = 0; i < n; ++i) PushWord(words[i], out);
}

void KeywordSet::PushWord(absl::string_view word, ResolvedQuery* out) const {
  const auto it = ids_.find(word);
  const uint32_t token = it == ids_.end() ? kUnknownToken : it->second;
  out->tokens.push_back(token);
  if (token != kUnknownToken) out->signature |= SignatureBit(token);
}

bool KeywordSet::Verify(const Entry& entry, v1::MatchType type,
                        const ResolvedQuery& query) const {
  const auto first = tokens_.begin() + entry.begin;
  const auto last = tokens_.begin() + entry.end;
  const auto& words = query.tokens;
  if (type == v1::MATCH_TYPE_EXACT) {
    return std::equal(first, last, words.begin(), words.end());
  }
  if (type == v1::MATCH_TYPE_PHRASE) {
    return std::search(words.begin(), words.end(), first, last) != words.end();
  }
  return std::all_of(first, last, [&](uint32_t token) {
    return std::find(words.begin(), words.end(), token) != words.end();
  });
}

}  // namespace adrank
