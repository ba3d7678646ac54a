// Which of many keywords match a query, without looking at the others.
#ifndef ADRANK_SERVER_TRIGGER_KEYWORD_INDEX_H_
#define ADRANK_SERVER_TRIGGER_KEYWORD_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "proto/common.pb.h"
#include "server/trigger/keyword_set.h"

namespace adrank {

// A keyword of a KeywordSet with a match type: a bid for queries, or a veto.
struct KeywordPosting {
  uint32_t keyword = 0;
  v1::MatchType type = v1::MATCH_TYPE_BROAD;
};

// Keywords with the same set of words are kept together; EXACT implies PHRASE
// implies BROAD, so a query's candidates are the word sets within its own, and
// order is looked at only there. Sets are found (König, Church and Markov, ICDE
// 2009) by hashing each subset of a query of at most kMaxHashedWords known
// words, and in the lists of each word that is the rarest of its set, behind a
// signature, for longer queries (the number of subsets doubles with each word).
// Immutable, thread-safe.
class KeywordIndex {
 public:
  // 255 subsets; where lists of rarest words begin to be faster.
  static constexpr size_t kMaxHashedWords = 8;

  // Storage that is used again; one a thread.
  struct Scratch {
    std::vector<uint32_t> words;   // of the query, known here, distinct
    std::vector<uint64_t> hashes;  // [subsets of words]
    std::vector<uint32_t> bags;    // within the query
  };

  KeywordIndex() = default;
  // Postings are numbered as here. Texts without words match nothing.
  KeywordIndex(const KeywordSet& set,
               absl::Span<const KeywordPosting> postings);

  // The numbers of the postings that match, each once, in no order of use.
  // Clears *out first.
  void Match(const KeywordSet& set, const ResolvedQuery& query,
             Scratch* scratch, std::vector<uint32_t>* out) const;
  bool MatchesAny(const KeywordSet& set, const ResolvedQuery& query,
                  Scratch* scratch) const;

  size_t bytes() const;

 private:
  // One set of words.
  struct Bag {
    uint64_t signature;
    uint32_t tokens_begin, tokens_end;        // into tokens_, ascending
    uint32_t sequences_begin, sequences_end;  // into sequences_
  };
  // One order of them.
  struct Sequence {
    uint32_t keyword;
    // Into postings_: BROAD, then PHRASE, then EXACT.
    uint32_t begin, phrase, exact, end;
  };
  struct Slot {
    uint64_t hash = 0;
    uint32_t bag = kEmpty;
  };
  static constexpr uint32_t kEmpty = 0xffffffffu;

  class Builder;

  void FindBags(const ResolvedQuery& query, Scratch* scratch) const;
  void HashSubsets(Scratch* scratch) const;
  void ScanLists(const ResolvedQuery& query, Scratch* scratch) const;
  // Past the postings of the sequence that match.
  uint32_t MatchedEnd(const Sequence& sequence, const KeywordSet& set,
                      const ResolvedQuery& query) const;

  std::vector<Bag> bags_;
  std::vector<Sequence> sequences_;
  std::vector<uint32_t> postings_;
  std::vector<uint32_t> tokens_;
  std::vector<Slot> slots_;  // open addressing, a power of 2
  // [words of the set + 1]: bags whose rarest word it is, into list_bags_.
  std::vector<uint32_t> lists_;
  std::vector<uint32_t> list_bags_;
  std::vector<uint8_t> known_;  // [words of the set]: some bag has it
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_KEYWORD_INDEX_H_
