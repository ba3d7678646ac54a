// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/trigger/conjunction_index.h"

#include <algorithm>

#include "server/trigger/sort_distinct.h"

namespace adrank {
namespace {

// The first window, before the share of documents that match is known: twice
// the 500 best of a catalogue of which a quarter matches.
constexpr uint64_t kFirstWindow = 4096;
constexpr uint64_t kMinWindow = 1024;
// Without a match in sight windows grow by this factor, so that few are needed.
constexpr uint64_t kWindowGrowth = 8;

}  // namespace

void ConjunctionIndex::Open(uint32_t list, Walk* walk) const {
  const uint32_t first = lists_[list];
  if (first == kEnd) return;
  walk->cursors.push_back(&entries_[first]);
  __builtin_prefetch(walk->cursors.back());
}

void ConjunctionIndex::Start(const ResolvedContext& context, size_t wanted,
                             Walk* walk) const {
  walk->found.clear();
  walk->cursors.clear();
  walk->begin = 0;
  walk->wanted = wanted;
  walk->total = 0;
  if (lists_.empty()) return;
  for (const uint32_t symbol : context.symbols) {
    if (symbol < symbols_) Open(symbol, walk);
  }
  for (const uint32_t attribute : context.present) {
    if (attribute >= attributes_) continue;
    Open(static_cast<uint32_t>(symbols_ + attribute), walk);
  }
  Open(static_cast<uint32_t>(symbols_ + attributes_), walk);
}

bool ConjunctionIndex::Next(const PredicateSet& predicates,
                            const ResolvedContext& context, Walk* walk) const {
  walk->found.clear();
  if (walk->begin >= documents_ || walk->cursors.empty()) return false;
  uint64_t window = std::max<uint64_t>(kFirstWindow, 8 * walk->wanted);
  if (walk->begin != 0) {
    // So many documents that those still wanted are among them, by the share
    // found so far and a tenth more.
    window = kWindowGrowth * walk->begin;
    if (walk->total != 0) {
      const uint64_t left =
          walk->wanted > walk->total ? walk->wanted - walk->total : 1;
      window = std::min<uint64_t>(
          window, left * walk->begin / walk->total * 11 / 10 + kMinWindow);
    }
  }
  const auto end = static_cast<uint32_t>(
      std::min<uint64_t>(documents_, walk->begin + window));
  const RequirementMask mask = context.mask;
  size_t pending = 0;
  for (const Entry*& cursor : walk->cursors) {
    const Entry* e = cursor;
    for (; e->document < end; ++e) {
      if (!e->mask.Within(mask)) continue;
      if (e->conjunction != kTrue) {
        __builtin_prefetch(&literals_[e->conjunction]);
      }
      walk->pending[pending++] = e;
      if (pending == Walk::kPending) {
        VerifyPending(pending, predicates, context, walk);
        pending = 0;
      }
    }
    cursor = e;
  }
  VerifyPending(pending, predicates, context, walk);
  SortDistinct(walk->begin, end, &walk->bitmap, &walk->found);
  walk->begin = end;
  walk->total += walk->found.size();
  return true;
}

void ConjunctionIndex::VerifyPending(size_t n, const PredicateSet& predicates,
                                     const ResolvedContext& context,
                                     Walk* walk) const {
  for (size_t i = 0; i < n; ++i) {
    const Entry& e = *walk->pending[i];
    if (Verify(e.conjunction, predicates, context)) {
      walk->found.push_back(e.document);
    }
  }
}

bool ConjunctionIndex::Verify(Conjunction conjunction,
                              const PredicateSet& predicates,
                              const ResolvedContext& context) const {
  if (conjunction == kTrue) return true;
  for (const Literal* literal = &literals_[conjunction];; ++literal) {
    if (!predicates.Holds(*literal, context)) return false;
    if (literal->last()) return true;
  }
}

}  // namespace adrank
