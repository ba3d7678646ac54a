// TargetingSet::NormalForm. Negations move to the leaves by De Morgan's laws,
// which the two truth values here obey: an absent attribute makes a predicate
// false, its negation true, and nothing unknown.
#include <algorithm>
#include <utility>

#include "server/trigger/targeting.h"

namespace adrank {
namespace {

using Disjunction = std::vector<Literals>;

// Nothing when a literal of one is the negation of one of the other.
std::optional<Literals> Conjoin(const Literals& a, const Literals& b) {
  Literals all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(),
                 std::back_inserter(all));
  for (const Literal literal : all) {
    if (std::binary_search(all.begin(), all.end(), literal.Negation())) {
      return std::nullopt;
    }
  }
  return all;
}

bool Trivial(const Disjunction& d) {
  return std::any_of(d.begin(), d.end(),
                     [](const Literals& c) { return c.empty(); });
}

// a or b, in place. False beyond the limit.
bool Or(Disjunction b, Disjunction* a) {
  for (Literals& c : b) a->push_back(std::move(c));
  if (Trivial(*a)) a->assign(1, {});
  std::sort(a->begin(), a->end());
  a->erase(std::unique(a->begin(), a->end()), a->end());
  return a->size() <= kMaxConjunctions;
}

// a and b. Absent beyond the limit.
std::optional<Disjunction> And(const Disjunction& a, const Disjunction& b) {
  Disjunction product;
  for (const Literals& x : a) {
    for (const Literals& y : b) {
      if (auto both = Conjoin(x, y)) product.push_back(*std::move(both));
      if (product.size() > kMaxConjunctions) return std::nullopt;
    }
  }
  Disjunction distinct;
  Or(std::move(product), &distinct);
  return distinct;
}

}  // namespace

std::optional<std::vector<Literals>> TargetingSet::NormalForm(
    absl::Span<const uint32_t> expressions) const {
  // Most are plain conjunctions.
  Literals literals;
  if (std::all_of(expressions.begin(), expressions.end(), [&](uint32_t e) {
        return AppendConjunction(roots_[e], false, &literals);
      })) {
    std::sort(literals.begin(), literals.end());
    literals.erase(std::unique(literals.begin(), literals.end()),
                   literals.end());
    auto both = Conjoin(literals, {});
    return both.has_value() ? Disjunction{*std::move(both)} : Disjunction();
  }
  Disjunction result(1);
  for (const uint32_t expression : expressions) {
    std::optional<Disjunction> next = Normalize(roots_[expression], false);
    if (next.has_value()) next = And(result, *next);
    if (!next.has_value()) return std::nullopt;
    result = *std::move(next);
  }
  return result;
}

bool TargetingSet::AppendConjunction(uint32_t node, bool negated,
                                     Literals* out) const {
  const Node& n = nodes_[node];
  if (n.is_leaf()) {
    // No value at all: false.
    if (n.leaf().general() && !predicates_.is_range(n.leaf()) &&
        predicates_.set(n.leaf()).empty()) {
      return negated;
    }
    out->push_back(negated ? n.leaf().Negation() : n.leaf());
    return true;
  }
  const bool negate_children = negated != (n.op() == Op::kNoneOf);
  const bool conjunction = negated == (n.op() == Op::kAnyOf);
  // One alternative is itself; none is false.
  if (!conjunction && (node + 1 == End(node) || End(node + 1) != End(node))) {
    return false;
  }
  for (uint32_t child = node + 1; child < End(node); child = End(child)) {
    if (!AppendConjunction(child, negate_children, out)) return false;
  }
  return true;
}

std::optional<std::vector<Literals>> TargetingSet::Normalize(
    uint32_t node, bool negated) const {
  const Node& n = nodes_[node];
  if (n.is_leaf()) {
    // No value at all: false.
    if (n.leaf().general() && !predicates_.is_range(n.leaf()) &&
        predicates_.set(n.leaf()).empty()) {
      return Disjunction(negated ? 1 : 0);
    }
    return Disjunction{{negated ? n.leaf().Negation() : n.leaf()}};
  }
  // none_of is all_of the negations.
  const bool negate_children = negated != (n.op() == Op::kNoneOf);
  const bool conjunction = negated == (n.op() == Op::kAnyOf);
  Disjunction result(conjunction ? 1 : 0);
  for (uint32_t child = node + 1; child < End(node); child = End(child)) {
    std::optional<Disjunction> next = Normalize(child, negate_children);
    if (!next.has_value()) return std::nullopt;
    if (!conjunction) {
      if (!Or(*std::move(next), &result)) return std::nullopt;
      continue;
    }
    next = And(result, *next);
    if (!next.has_value()) return std::nullopt;
    result = *std::move(next);
  }
  return result;
}

}  // namespace adrank
