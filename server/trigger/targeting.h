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
#include "base/hash.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "server/trigger/geo_index.h"
#include "server/trigger/predicates.h"
#include "server/trigger/time_windows.h"

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
// Prefixes, circles and time windows are symbols too ("the attribute has a text
// that begins so", "the point lies within"), which a request has or lacks:
// each distinct one is asked about at most once a request, however many ads
// name it, and is an access predicate as good as a value.
// Filled first, then const and thread-safe.
class TargetingSet {
 public:
  // The expression that is always true; what an absent expression means.
  static constexpr uint32_t kAlways = 0;

  TargetingSet();

  // Number of the compiled expression. InvalidArgument beyond the limits above,
  // when a range bound is NaN, for a circle or a time window that is none. A
  // node without a kind is true; an empty any_of is false; an empty all_of or
  // none_of is true.
  absl::StatusOr<uint32_t> Add(const v1::TargetingExpression& expression);

  // `user_id` and `query` are the context's own fields (empty: absent),
  // whatever attributes of these names say.
  void Resolve(const v1::Context& context, ResolvedContext* out) const;

  // Remembered for the request. REQUIRES: `resolved` comes from Resolve of this
  // set.
  bool Matches(uint32_t expression, ResolvedContext* resolved) const;

  // The condition that makes the expression false, e.g. "in_set(country)",
  // "range(age)", "prefix(zip)", "none_of(in_set(country))",
  // "any_of(in_set(country), ...)",
  // "geo_radius(52.52, 13.405, 10 km): 23.4 km away",
  // "time_window(Mon,Tue 09:00-17:00 Europe/Berlin): it is Sun 09:12
  // Europe/Berlin". Empty when it is true. Slow.
  std::string FirstFailure(uint32_t expression,
                           const ResolvedContext& resolved) const;

  // Appends what of `context` the expression asks for and has, e.g.
  // "country=DE", "age=30", "zip=10115", "lat,lon=52.5,13.4",
  // "time=Mon 09:12 Europe/Berlin": of the conditions that are true and not
  // negated, in their order. Nothing twice, nothing that *out has already.
  // REQUIRES: `resolved` is of `context`.
  void AppendEvidence(uint32_t expression, const v1::Context& context,
                      const ResolvedContext& resolved,
                      std::vector<std::string>* out) const;

  // Conjunctions of which one is true exactly when all of `expressions` are;
  // none: never. Absent when there would be more than kMaxConjunctions on the
  // way (conditions of one literal repeated or refuted do not count).
  std::optional<std::vector<Literals>> NormalForm(
      absl::Span<const uint32_t> expressions) const;

  // No Add follows: frees what only Add needs.
  void EndFilling();

  size_t size() const { return roots_.size(); }
  size_t bytes() const;
  const PredicateSet& predicates() const { return predicates_; }

 private:
  enum class Op : uint8_t {
    kAllOf,
    kAnyOf,
    kNoneOf,
    // Leaves.
    kInSet,
    kRange,
    kPrefix,
    kGeoRadius,
    kTimeWindow
  };
  // Preorder: the children of a list follow it. A catalogue has ten an ad, so
  // they are packed.
  class Node {
   public:
    // `size` is of the whole subtree.
    static Node List(Op op, size_t size) {
      return Node(kList | static_cast<uint32_t>(op) << kOpShift |
                  static_cast<uint32_t>(size));
    }
    static Node Leaf(Literal literal, bool prefix) {
      return Node(literal.number() | (literal.general() ? kGeneral : 0) |
                  (prefix ? kPrefix : 0));
    }

    bool is_leaf() const { return (bits_ & kList) == 0; }
    // Of a list.
    Op op() const { return static_cast<Op>((bits_ & ~kList) >> kOpShift); }
    uint32_t size() const {
      return is_leaf() ? 1 : bits_ & ((1u << kOpShift) - 1);
    }
    // Of a leaf.
    bool prefix() const { return (bits_ & kPrefix) != 0; }
    Literal leaf() const {
      const uint32_t number = bits_ & Literal::kMaxNumber;
      return (bits_ & kGeneral) != 0 ? Literal::OfGeneral(number)
                                     : Literal::OfSymbol(number);
    }

   private:
    static constexpr uint32_t kList = 1u << 31, kGeneral = 1u << 30,
                              kPrefix = 1u << 29, kOpShift = 16;
    static_assert(kMaxTargetingNodes < 1 << kOpShift);
    explicit Node(uint32_t bits) : bits_(bits) {}
    uint32_t bits_;
  };
  struct AttributeEntry {
    std::string name;
    // Text -> symbol; unique over all attributes.
    absl::flat_hash_map<std::string, uint32_t> values, prefixes;
    std::vector<uint32_t> prefix_lengths;  // that occur, ascending
  };
  // The circles that one pair of attributes is asked about.
  struct Place {
    uint32_t latitude, longitude;  // attributes
    uint32_t self;                 // the attribute of the symbols
    GeoIndex circles;
    std::vector<uint32_t> symbols;  // [circles]
  };

  absl::Status Compile(const v1::TargetingExpression& expression, int depth,
                       uint32_t root);
  absl::Status CompileList(Op op, const v1::TargetingExpression::List& list,
                           int depth, uint32_t root);
  absl::Status CompileLeaf(const v1::TargetingExpression& expression);
  void CompileInSet(const v1::TargetingExpression::InSet& in_set);
  absl::Status CompileRange(const v1::TargetingExpression::Range& range);
  void CompilePrefix(const v1::TargetingExpression::Prefix& prefix);
  absl::Status CompileGeoRadius(const v1::TargetingExpression::GeoRadius& geo);
  absl::Status CompileTimeWindow(
      const v1::TargetingExpression::TimeWindow& window);
  void AddLeaf(Literal leaf, bool prefix = false);
  uint32_t End(uint32_t node) const { return node + nodes_[node].size(); }
  // Of any node. Slow.
  Op OpOf(const Node& node) const;
  uint32_t Attribute(absl::string_view name);
  uint32_t NewAttribute(absl::string_view name);
  Place& PlaceOf(uint32_t latitude, uint32_t longitude);
  void PutText(uint32_t attribute, absl::string_view text,
               ResolvedContext* out) const;
  void PutPlacesAndTime(int64_t time_ms, ResolvedContext* out) const;
  bool Evaluate(uint32_t node, const ResolvedContext& resolved) const;
  std::optional<std::vector<Literals>> Normalize(uint32_t node,
                                                 bool negated) const;
  // Appends the literals of a node that is one conjunction, or its negation;
  // false when it is not.
  bool AppendConjunction(uint32_t node, bool negated, Literals* out) const;
  std::string Print(uint32_t node) const;
  std::string Failure(uint32_t node, const ResolvedContext& resolved) const;
  std::string LeafFailure(const Node& leaf,
                          const ResolvedContext& resolved) const;
  void LeafEvidence(const Node& leaf, const v1::Context& context,
                    const ResolvedContext& resolved,
                    std::vector<std::string>* out) const;
  void NodeEvidence(uint32_t node, const v1::Context& context,
                    const ResolvedContext& resolved,
                    std::vector<std::string>* out) const;
  bool AsksFor(const Node& leaf, uint32_t attribute,
               absl::string_view text) const;
  // The place and circle, or the window, of a leaf of that kind.
  std::pair<const Place*, uint32_t> CircleOf(const Node& leaf) const;
  uint32_t WindowOf(const Node& leaf) const;

  PredicateSet predicates_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> roots_;                              // [expressions]
  absl::flat_hash_map<Hash128Value, uint32_t> expressions_;  // of their bytes
  std::string scratch_;
  absl::flat_hash_map<std::string, uint32_t> attributes_;
  // [attributes]. Those of places and of the time are no request's own.
  std::vector<AttributeEntry> entries_;
  std::vector<Place> places_;
  TimeWindows windows_;
  std::vector<uint32_t> window_symbols_;  // [windows]
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_TARGETING_H_
