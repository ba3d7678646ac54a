// ConjunctionIndex::Builder: counts, chooses access predicates, fills lists.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "server/trigger/conjunction_index.h"

namespace adrank {

ConjunctionIndex::Builder::Builder(const PredicateSet* predicates)
    : predicates_(*predicates) {
  CHECK_LT(predicates_.symbols() + predicates_.attributes(), size_t{kInSet});
}

void ConjunctionIndex::Builder::Reserve(size_t documents, size_t literals) {
  postings_.reserve(documents);
  index_.literals_.reserve(literals);
}

ConjunctionIndex::Conjunction ConjunctionIndex::Builder::AddConjunction(
    absl::Span<const Literal> literals) {
  if (literals.empty()) return kTrue;
  auto& all = index_.literals_;
  const auto first = static_cast<Conjunction>(all.size());
  all.insert(all.end(), literals.begin(), literals.end());
  CHECK_LT(all.size(), size_t{kTrue});
  all.back() = all.back().AsLast();
  return first;
}

void ConjunctionIndex::Builder::AddDocument(
    absl::Span<const Conjunction> conjunctions) {
  const auto document = static_cast<uint32_t>(index_.documents_++);
  for (const Conjunction c : conjunctions) {
    postings_.push_back({document, c, 0});
  }
}

void ConjunctionIndex::Builder::CountUses() {
  uses_.assign(predicates_.symbols(), 0);
  for (const Literal literal : index_.literals_) {
    if (literal.negated()) continue;
    if (!literal.general()) {
      ++uses_[literal.number()];
    } else if (!predicates_.is_range(literal)) {
      const auto set = predicates_.set(literal);
      if (set.size() > kMaxAccessSymbols) continue;
      for (const uint32_t symbol : set) ++uses_[symbol];
    }
  }
}

// How often the lists that it would hang in are named, the estimate of how
// often a request reads them; the largest number when it cannot be an access.
uint32_t ConjunctionIndex::Builder::Cost(Literal literal) const {
  constexpr uint32_t kNever = 0xffffffffu;
  if (literal.negated()) return kNever;
  if (!literal.general()) return uses_[literal.number()];
  const uint32_t presence = kNever - 1;  // better than always, no more
  if (predicates_.is_range(literal)) return presence;
  const auto set = predicates_.set(literal);
  if (set.size() > kMaxAccessSymbols) return presence;
  uint64_t sum = 0;
  for (const uint32_t symbol : set) sum += uses_[symbol];
  return static_cast<uint32_t>(std::min<uint64_t>(sum, presence - 1));
}

uint32_t ConjunctionIndex::Builder::AccessOf(Conjunction conjunction) const {
  const auto presence = static_cast<uint32_t>(predicates_.symbols());
  const auto always =
      static_cast<uint32_t>(presence + predicates_.attributes());
  if (conjunction == kTrue) return always;
  const Literal* best = &index_.literals_[conjunction];
  uint32_t cost = Cost(*best);
  for (const Literal* l = best; !l->last();) {
    const uint32_t other = Cost(*++l);
    if (other < cost) {
      cost = other;
      best = l;
    }
  }
  if (best->negated()) return always;
  if (!best->general()) return best->number();
  if (predicates_.is_range(*best) ||
      predicates_.set(*best).size() > kMaxAccessSymbols) {
    return presence + predicates_.attribute(*best);
  }
  return kInSet | best->number();
}

template <typename F>
void ConjunctionIndex::Builder::ForEachList(const Posting& posting, F f) const {
  if ((posting.list & kInSet) == 0) return f(posting.list);
  const Literal set = Literal::OfGeneral(posting.list & ~kInSet);
  for (const uint32_t symbol : predicates_.set(set)) f(symbol);
}

RequirementMask ConjunctionIndex::Builder::MaskOf(
    Conjunction conjunction) const {
  RequirementMask mask;
  if (conjunction == kTrue) return mask;
  for (const Literal* l = &index_.literals_[conjunction];; ++l) {
    if (!l->negated()) mask.Set(predicates_.RequirementBit(*l));
    if (l->last()) return mask;
  }
}

ConjunctionIndex ConjunctionIndex::Builder::Build() && {
  CountUses();
  index_.symbols_ = predicates_.symbols();
  index_.attributes_ = predicates_.attributes();
  // Sizes, then places, of lists; each non-empty one ends with a kEnd.
  std::vector<uint32_t>& lists = index_.lists_;
  lists.assign(index_.symbols_ + index_.attributes_ + 1, 0);
  for (Posting& p : postings_) {
    p.list = AccessOf(p.conjunction);
    ForEachList(p, [&](uint32_t list) { ++lists[list]; });
  }
  uint64_t size = 0;
  for (uint32_t& list : lists) {
    const uint64_t entries = list;
    list = entries == 0 ? kEnd : static_cast<uint32_t>(size);
    size += entries == 0 ? 0 : entries + 1;
  }
  CHECK_LT(size, uint64_t{kEnd}) << "too many conjunctions";
  index_.entries_.assign(size, Entry{kEnd, kTrue, {}});
  std::vector<uint32_t> next = lists;
  for (const Posting& p : postings_) {
    const Entry entry = {p.document, p.conjunction, MaskOf(p.conjunction)};
    ForEachList(p,
                [&](uint32_t list) { index_.entries_[next[list]++] = entry; });
  }
  return std::move(index_);
}

}  // namespace adrank
