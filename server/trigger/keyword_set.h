// Keywords compiled for one query at a time.
#ifndef ADRANK_SERVER_TRIGGER_KEYWORD_SET_H_
#define ADRANK_SERVER_TRIGGER_KEYWORD_SET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/common.pb.h"

namespace adrank {

// A query as the token numbers of one KeywordSet. Reused between requests.
struct ResolvedQuery {
  std::vector<uint32_t>
      tokens;              // in order; kUnknownToken when no keyword has it
  uint64_t signature = 0;  // one bit a token, of 64
  std::string normalized;  // scratch of the tokenizer
  std::vector<absl::string_view> words;
};

// Keyword texts as sequences of token numbers (features/text.h: Tokenize), kept
// once each. Filled first, then const and thread-safe.
class KeywordSet {
 public:
  static constexpr uint32_t kUnknownToken = 0xffffffffu;

  // Number of the text's token sequence. A text without words is legal and
  // matches nothing.
  uint32_t Add(absl::string_view text);
  // The same of words that are known already.
  uint32_t AddWords(absl::Span<const std::string> words);

  // No Add follows: frees what only Add needs.
  void EndFilling();

  size_t size() const { return entries_.size(); }
  size_t words() const { return ids_.size(); }
  // The words of a keyword in order, as numbers below words().
  absl::Span<const uint32_t> tokens(uint32_t keyword) const {
    const Entry& e = entries_[keyword];
    return {tokens_.data() + e.begin, e.end - e.begin};
  }

  void Resolve(absl::string_view query, ResolvedQuery* out) const;
  // Of the first `n` of words; uses nothing of *out but tokens and signature.
  void ResolveWords(const std::vector<std::string>& words, size_t n,
                    ResolvedQuery* out) const;

  // EXACT: the query's words are the keyword's. PHRASE: they contain them,
  // adjacent and in order. BROAD (and UNSPECIFIED): each word of the keyword is
  // one of the query's. Hence EXACT implies PHRASE implies BROAD.
  bool Matches(uint32_t keyword, v1::MatchType type,
               const ResolvedQuery& query) const {
    const Entry& e = entries_[keyword];
    // A bit that the query lacks is a word that the query lacks.
    if ((e.signature & ~query.signature) != 0 || e.begin == e.end) return false;
    return Verify(e, type, query);
  }

 private:
  struct Entry {
    uint64_t signature;
    uint32_t begin, end;  // into tokens_
  };
  void PushWord(absl::string_view word, ResolvedQuery* out) const;
  bool Verify(const Entry& entry, v1::MatchType type,
              const ResolvedQuery& query) const;

  std::vector<Entry> entries_;
  std::vector<uint32_t> tokens_;
  absl::flat_hash_map<std::string, uint32_t> ids_;    // word -> token
  absl::flat_hash_map<std::string, uint32_t> texts_;  // joined words -> entry
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_KEYWORD_SET_H_
