// Compiled targeting expressions (proto/catalog.proto) and the contexts they
// are asked about.
#ifndef ADRANK_SERVER_TRIGGER_TARGETING_H_
#define ADRANK_SERVER_TRIGGER_TARGETING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"

namespace adrank {

// Limits of one expression, as in proto/catalog.proto.
inline constexpr int kMaxTargetingNodes = 256;
inline constexpr int kMaxTargetingDepth = 32;

// What one request says about the attributes that a TargetingSet asks for, and
// the verdicts reached so far. Reused from request to request.
struct ResolvedContext {
  struct Values {
    std::vector<uint32_t> symbols;  // known texts, any order
    std::vector<double> numbers;
  };
  std::vector<Values> attributes;  // [attributes of the set]
  std::vector<uint8_t> verdicts;   // [expressions]: 0 unknown, 1 no, 2 yes
};

// The expressions of one catalogue: attribute names and values are interned, so
// that a request is compared by integers, and equal expressions are kept (and
// evaluated, per request) once. Filled first, then const and thread-safe.
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

  // REQUIRES: `resolved` comes from Resolve of this set.
  bool Matches(uint32_t expression, ResolvedContext* resolved) const;

  // The condition that makes the expression false, e.g. "in_set(country)",
  // "range(age)", "none_of(in_set(country))", "any_of(in_set(country), ...)".
  // Empty when it is true. Slow.
  std::string FirstFailure(uint32_t expression,
                           const ResolvedContext& resolved) const;

  size_t size() const { return roots_.size(); }

 private:
  enum class Op : uint8_t { kAllOf, kAnyOf, kNoneOf, kInSet, kRange };
  // Preorder: the children of a list follow it; `end` is past the subtree.
  struct Node {
    Op op;
    uint32_t end;
    uint32_t attribute = 0;
    // Into symbols_ (sorted) for kInSet; `first` into bounds_ for kRange.
    uint32_t first = 0, last = 0;
  };
  struct Bounds {
    double min, max;
  };

  absl::Status Compile(const v1::TargetingExpression& expression, int depth,
                       uint32_t root);
  absl::Status CompileList(Op op, const v1::TargetingExpression::List& list,
                           int depth, uint32_t root);
  void CompileInSet(const v1::TargetingExpression::InSet& in_set);
  absl::Status CompileRange(const v1::TargetingExpression::Range& range);
  uint32_t Attribute(absl::string_view name);
  bool Evaluate(uint32_t node, const ResolvedContext& resolved) const;
  bool Contains(const Node& node, const ResolvedContext::Values& values) const;
  std::string Print(uint32_t node) const;
  std::string Failure(uint32_t node, const ResolvedContext& resolved) const;

  std::vector<Node> nodes_;
  std::vector<uint32_t> symbols_;
  std::vector<Bounds> bounds_;
  std::vector<uint32_t> roots_;                             // [expressions]
  absl::flat_hash_map<std::string, uint32_t> expressions_;  // by bytes
  absl::flat_hash_map<std::string, uint32_t> attributes_;
  std::vector<std::string> attribute_names_;
  // [attributes]: text -> symbol, unique over all attributes.
  std::vector<absl::flat_hash_map<std::string, uint32_t>> values_;
  uint32_t num_symbols_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_TARGETING_H_
