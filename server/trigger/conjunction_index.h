// Documents that are true when one of their conjunctions is, found best first
// without looking at the others.
#ifndef ADRANK_SERVER_TRIGGER_CONJUNCTION_INDEX_H_
#define ADRANK_SERVER_TRIGGER_CONJUNCTION_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/huge_pages.h"
#include "server/trigger/predicates.h"

namespace adrank {

// Access predicates (Fabret et al., SIGMOD 2001; the hashing variant of
// PS-Tree, PVLDB) with posting lists in static-score order.
//
// Each conjunction hangs in the posting lists of one of its positive
// predicates, the one that the fewest conjunctions name: of a symbol, or of
// each symbol of a set. A request reads only the lists of its own symbols. An
// entry carries the mask of all requirements of its conjunction, so that most
// false ones are dismissed without touching their literals; the rest is
// verified literal by literal. What has no set of at most kMaxAccessSymbols
// hangs at its attribute's presence (a range, a long set) or, when nothing is
// required (negations only), in the list that every request reads.
//
// Documents are numbered in the order in which they are preferred, lists are in
// that order, and a walk advances through all lists of a request together, a
// window of numbers at a time. So the first K documents found are the best K
// that match, and the walk may stop: its cost depends on K and on the share of
// documents that match, hardly on their number. Immutable, thread-safe.
class ConjunctionIndex {
 public:
  static constexpr size_t kMaxAccessSymbols = 64;

  // Names a conjunction to AddDocument.
  using Conjunction = uint32_t;

  // The state of one walk; storage that is used again.
  struct Walk;

  // Adds documents; then Build.
  class Builder;

  ConjunctionIndex() = default;

  size_t documents() const { return documents_; }
  size_t bytes() const {
    return entries_.capacity() * sizeof(Entry) +
           literals_.capacity() * sizeof(Literal) +
           lists_.capacity() * sizeof(uint32_t);
  }

  // Starts a walk that will likely end after `wanted` documents (a hint).
  // `context` is of the set that the index was built with.
  void Start(const ResolvedContext& context, size_t wanted, Walk* walk) const;
  // The next documents that match, in walk->found: ascending, all above those
  // of earlier calls, maybe none. False: there are no more.
  bool Next(const PredicateSet& predicates, const ResolvedContext& context,
            Walk* walk) const;

 private:
  struct Entry {
    uint32_t document;
    Conjunction conjunction;  // into literals_
    RequirementMask mask;
  };
  static constexpr Conjunction kTrue = 0xffffffffu;
  // Ends each list.
  static constexpr uint32_t kEnd = 0xffffffffu;

  bool Verify(Conjunction conjunction, const PredicateSet& predicates,
              const ResolvedContext& context) const;
  void VerifyPending(size_t n, const PredicateSet& predicates,
                     const ResolvedContext& context, Walk* walk) const;
  void Open(uint32_t list, Walk* walk) const;

  size_t documents_ = 0;
  size_t symbols_ = 0, attributes_ = 0;
  HugeVector<Entry> entries_;
  HugeVector<Literal> literals_;
  // [symbols + attributes + 1]: first entry of each list (of a symbol, of an
  // attribute's presence, of every request); kEnd: no such list.
  std::vector<uint32_t> lists_;
};

struct ConjunctionIndex::Walk {
  std::vector<uint32_t> found;

  // The rest is the index's own.
  static constexpr size_t kPending = 32;
  const Entry* pending[kPending];  // to verify; their literals are on the way
  std::vector<const Entry*> cursors;
  std::vector<uint64_t> bitmap;
  uint32_t begin = 0;  // of the next window
  size_t wanted = 0;
  size_t total = 0;  // documents found so far
};

class ConjunctionIndex::Builder {
 public:
  // `predicates` outlives the builder and has all symbols already.
  explicit Builder(const PredicateSet* predicates);

  void Reserve(size_t documents, size_t literals);

  // All literals are true. No literal: always.
  Conjunction AddConjunction(absl::Span<const Literal> literals);
  // The next document, which matches when one of the conjunctions is true.
  void AddDocument(absl::Span<const Conjunction> conjunctions);

  // So many conjunctions are indexed by several threads, to the same index;
  // fewer take one a tenth of a second.
  static constexpr size_t kParallelFrom = size_t{1} << 20;
  ConjunctionIndex Build(size_t parallel_from = kParallelFrom) &&;

 private:
  // A conjunction of a document, and where it hangs: the list itself, or
  // kInSet and the number of a set whose symbols' lists it hangs in.
  struct Posting {
    uint32_t document;
    Conjunction conjunction;
    uint32_t list;
  };
  static constexpr uint32_t kInSet = 1u << 31;

  void CountUses(size_t parts);
  uint32_t Cost(Literal literal) const;
  uint32_t AccessOf(Conjunction conjunction) const;
  // Calls f with the number of each list that a posting hangs in.
  template <typename F>
  void ForEachList(const Posting& posting, F f) const;
  RequirementMask MaskOf(Conjunction conjunction) const;

  const PredicateSet& predicates_;
  ConjunctionIndex index_;
  HugeVector<Posting> postings_;
  // [symbols]: by how many conjunctions it is named.
  std::vector<uint32_t> uses_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_CONJUNCTION_INDEX_H_
