// Compiled targeting expressions (proto/catalog.proto) and the contexts they
// are asked about.
#ifndef ADRANK_SERVER_TRIGGER_TARGETING_H_
#define ADRANK_SERVER_TRIGGER_TARGETING_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "server/trigger/predicates.h"

namespace adrank {

// Limits of one expression, as in proto/catalog.proto.
inline constexpr int kMaxTargetingNodes = 256;
inline constexpr int kMaxTargetingDepth = 32;

// Of one expression in disjunctive normal form; beyond it NormalForm gives up.
inline constexpr size_t kMaxConjunctions = 64;

// All are true. Sorted, distinct, without a pair of opposites.
using Literals = std::vector<Literal>;

// The expressions of one catalogue: attribute names and values are interned, so
// that a request is compared by integers, and equal expressions are kept once.
// Filled first, then const and thread-safe.
class TargetingSet {
 public:
  // The expression that is always true; what an absent expression means.
  static constexpr uint32_t kAlways = 0;

  TargetingSet();

  // Number of the compiled expression. InvalidArgument beyond the limits above
  // or when a range bound is NaN. A node without a kind is true; an empty
  // any_of is false; an empty all_of or none_of is true.
  absl::StatusOr<uint32_t> Add(const v1::TargetingExpression& expression);

  // `user_id` and `query` are the context's own fields (empty: absent),
  // whatever attributes of these names say.
  void Resolve(const v1::Context& context, ResolvedContext* out) const;

  // Remembered for the request. REQUIRES: `resolved` comes from Resolve of this
  // set.
  bool Matches(uint32_t expression, ResolvedContext* resolved) const;

  // The condition that makes the expression false, e.g. "in_set(country)",
  // "range(age)", "none_of(in_set(country))", "any_of(in_set(country), ...)".
  // Empty when it is true. Slow.
  std::string FirstFailure(uint32_t expression,
                           const ResolvedContext& resolved) const;

  // Conjunctions of which one is true exactly when all of `expressions` are;
  // none: never. Absent when there would be more than kMaxConjunctions on the
  // way (conditions of one literal repeated or refuted do not count).
  std::optional<std::vector<Literals>> NormalForm(
      absl::Span<const uint32_t> expressions) const;

  size_t size() const { return roots_.size(); }
  const PredicateSet& predicates() const { return predicates_; }

 private:
  enum class Op : uint8_t { kAllOf, kAnyOf, kNoneOf, kLeaf };
  // Preorder: the children of a list follow it; `end` is past the subtree.
  struct Node {
    Op op;
    uint32_t end;
    Literal leaf = Literal::OfSymbol(0);
  };

  absl::Status Compile(const v1::TargetingExpression& expression, int depth,
                       uint32_t root);
  absl::Status CompileList(Op op, const v1::TargetingExpression::List& list,
                           int depth, uint32_t root);
  void CompileInSet(const v1::TargetingExpression::InSet& in_set);
  absl::Status CompileRange(const v1::TargetingExpression::Range& range);
  uint32_t Attribute(absl::string_view name);
  bool Evaluate(uint32_t node, const ResolvedContext& resolved) const;
  std::optional<std::vector<Literals>> Normalize(uint32_t node,
                                                 bool negated) const;
  std::string Print(uint32_t node) const;
  std::string Failure(uint32_t node, const ResolvedContext& resolved) const;

  PredicateSet predicates_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> roots_;                             // [expressions]
  absl::flat_hash_map<std::string, uint32_t> expressions_;  // by bytes
  absl::flat_hash_map<std::string, uint32_t> attributes_;
  std::vector<std::string> attribute_names_;
  // [attributes]: text -> symbol, unique over all attributes.
  std::vector<absl::flat_hash_map<std::string, uint32_t>> values_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_TARGETING_H_
