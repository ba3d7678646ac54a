// ConjunctionIndex::Builder: counts, chooses access predicates, fills lists.
#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/log.h"
#include "server/trigger/conjunction_index.h"

namespace adrank {
namespace {

// More wait for memory.
constexpr unsigned kMaxThreads = 4;

// f(part, begin, end) of [0, n) cut into `parts`, each on a thread of its own.
void InParts(size_t parts, size_t n,
             absl::FunctionRef<void(size_t, size_t, size_t)> f) {
  std::vector<std::thread> threads;
  for (size_t part = 1; part < parts; ++part) {
    threads.emplace_back(
        [=] { f(part, n * part / parts, n * (part + 1) / parts); });
  }
  f(0, 0, n / parts);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

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

void ConjunctionIndex::Builder::CountUses(size_t parts) {
  std::vector<std::vector<uint32_t>> uses(parts);
  const HugeVector<Literal>& literals = index_.literals_;
  InParts(parts, literals.size(), [&](size_t part, size_t begin, size_t end) {
    std::vector<uint32_t>& own = uses[part];
    own.assign(predicates_.symbols(), 0);
    for (size_t i = begin; i < end; ++i) {
      const Literal literal = literals[i];
      if (literal.negated()) continue;
      if (!literal.general()) {
        ++own[literal.number()];
      } else if (!predicates_.is_range(literal)) {
        const auto set = predicates_.set(literal);
        if (set.size() > kMaxAccessSymbols) continue;
        for (const uint32_t symbol : set) ++own[symbol];
      }
    }
  });
  uses_ = std::move(uses[0]);
  for (size_t part = 1; part < parts; ++part) {
    for (size_t s = 0; s < uses_.size(); ++s) uses_[s] += uses[part][s];
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

ConjunctionIndex ConjunctionIndex::Builder::Build(size_t parallel_from) && {
  const size_t parts =
      postings_.size() < parallel_from
          ? 1
          : std::clamp(std::thread::hardware_concurrency(), 1u, kMaxThreads);
  index_.literals_.shrink_to_fit();
  CountUses(parts);
  index_.symbols_ = predicates_.symbols();
  index_.attributes_ = predicates_.attributes();
  std::vector<uint32_t>& lists = index_.lists_;
  lists.assign(index_.symbols_ + index_.attributes_ + 1, 0);
  // [parts][lists]: how many entries a part of the postings has in a list, then
  // where its next one goes.
  std::vector<std::vector<uint32_t>> next(parts);
  InParts(parts, postings_.size(), [&](size_t part, size_t begin, size_t end) {
    next[part].assign(lists.size(), 0);
    for (size_t i = begin; i < end; ++i) {
      Posting& p = postings_[i];
      p.list = AccessOf(p.conjunction);
      ForEachList(p, [&](uint32_t list) { ++next[part][list]; });
    }
  });
  // Places of lists; each non-empty one ends with a kEnd.
  uint64_t size = 0;
  for (size_t list = 0; list < lists.size(); ++list) {
    const uint64_t first = size;
    for (size_t part = 0; part < parts; ++part) {
      const uint32_t entries = next[part][list];
      next[part][list] = static_cast<uint32_t>(size);
      size += entries;
    }
    lists[list] = size == first ? kEnd : static_cast<uint32_t>(first);
    size += size == first ? 0 : 1;
    CHECK_LT(size, uint64_t{kEnd}) << "too many conjunctions";
  }
  index_.entries_.assign(size, Entry{kEnd, kTrue, {}});
  InParts(parts, postings_.size(), [&](size_t part, size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const Posting& p = postings_[i];
      const Entry entry = {p.document, p.conjunction, MaskOf(p.conjunction)};
      ForEachList(p, [&](uint32_t list) {
        index_.entries_[next[part][list]++] = entry;
      });
    }
  });
  return std::move(index_);
}

}  // namespace adrank
