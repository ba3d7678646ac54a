#include "server/trigger/targeting.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "features/transforms.h"

namespace adrank {
namespace {

// 2 * stamp + 1 fits a verdict.
constexpr uint32_t kMaxStamp = 1u << 31;

// Same expression, same bytes: strings and numbers are length- or width-framed.
std::string Bytes(const v1::TargetingExpression& expression) {
  std::string bytes;
  expression.SerializeToString(&bytes);
  return bytes;
}

}  // namespace

// A list of nothing is true: expression kAlways.
TargetingSet::TargetingSet() {
  nodes_.push_back({Op::kAllOf, 1});
  roots_.push_back(0);
  expressions_.emplace(std::string(), kAlways);
}

absl::StatusOr<uint32_t> TargetingSet::Add(
    const v1::TargetingExpression& expression) {
  std::string bytes = Bytes(expression);
  if (const auto it = expressions_.find(bytes); it != expressions_.end()) {
    return it->second;
  }
  const auto root = static_cast<uint32_t>(nodes_.size());
  if (absl::Status s = Compile(expression, 1, root); !s.ok()) {
    nodes_.resize(root);
    return s;
  }
  const auto number = static_cast<uint32_t>(roots_.size());
  roots_.push_back(root);
  expressions_.emplace(std::move(bytes), number);
  return number;
}

absl::Status TargetingSet::Compile(const v1::TargetingExpression& expression,
                                   int depth, uint32_t root) {
  if (depth > kMaxTargetingDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("targeting: more than ", kMaxTargetingDepth, " deep"));
  }
  if (nodes_.size() - root >= kMaxTargetingNodes) {
    return absl::InvalidArgumentError(
        absl::StrCat("targeting: more than ", kMaxTargetingNodes, " nodes"));
  }
  switch (expression.node_case()) {
    case v1::TargetingExpression::kAllOf:
      return CompileList(Op::kAllOf, expression.all_of(), depth, root);
    case v1::TargetingExpression::kAnyOf:
      return CompileList(Op::kAnyOf, expression.any_of(), depth, root);
    case v1::TargetingExpression::kNoneOf:
      return CompileList(Op::kNoneOf, expression.none_of(), depth, root);
    case v1::TargetingExpression::kInSet:
      CompileInSet(expression.in_set());
      return absl::OkStatus();
    case v1::TargetingExpression::kRange:
      return CompileRange(expression.range());
    case v1::TargetingExpression::NODE_NOT_SET:
      break;
  }
  nodes_.push_back({Op::kAllOf, static_cast<uint32_t>(nodes_.size() + 1)});
  return absl::OkStatus();
}

absl::Status TargetingSet::CompileList(
    Op op, const v1::TargetingExpression::List& list, int depth,
    uint32_t root) {
  const size_t self = nodes_.size();
  nodes_.push_back({op, 0});
  for (const auto& child : list.expressions()) {
    RETURN_IF_ERROR(Compile(child, depth + 1, root));
  }
  nodes_[self].end = static_cast<uint32_t>(nodes_.size());
  return absl::OkStatus();
}

void TargetingSet::CompileInSet(const v1::TargetingExpression::InSet& in_set) {
  const uint32_t attribute = Attribute(in_set.attribute());
  auto& values = values_[attribute];
  std::vector<uint32_t> symbols;
  for (const std::string& text : in_set.values()) {
    auto it = values.find(text);
    if (it == values.end()) {
      it = values.emplace(text, predicates_.AddSymbol(attribute)).first;
    }
    symbols.push_back(it->second);
  }
  nodes_.push_back({Op::kLeaf, static_cast<uint32_t>(nodes_.size() + 1),
                    predicates_.InSet(attribute, std::move(symbols))});
}

absl::Status TargetingSet::CompileRange(
    const v1::TargetingExpression::Range& range) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double min = range.has_min() ? range.min() : -kInfinity;
  const double max = range.has_max() ? range.max() : kInfinity;
  if (std::isnan(min) || std::isnan(max)) {
    return absl::InvalidArgumentError(
        absl::StrCat("targeting: range(", range.attribute(), "): NaN"));
  }
  const uint32_t attribute = Attribute(range.attribute());
  nodes_.push_back({Op::kLeaf, static_cast<uint32_t>(nodes_.size() + 1),
                    predicates_.Range(attribute, min, max)});
  return absl::OkStatus();
}

uint32_t TargetingSet::Attribute(absl::string_view name) {
  const auto [it, added] = attributes_.try_emplace(
      std::string(name), static_cast<uint32_t>(attribute_names_.size()));
  if (added) {
    predicates_.AddAttribute();
    attribute_names_.emplace_back(name);
    values_.emplace_back();
  }
  return it->second;
}

void TargetingSet::Resolve(const v1::Context& context,
                           ResolvedContext* out) const {
  predicates_.Clear(out);
  // Verdicts of other requests, and of other sets, carry other stamps.
  if (++out->stamp >= kMaxStamp) {
    out->verdicts.clear();
    out->stamp = 1;
  }
  out->verdicts.resize(roots_.size(), 0);
  const auto add_text = [&](uint32_t attribute, absl::string_view text) {
    const auto it = values_[attribute].find(text);
    if (it != values_[attribute].end()) predicates_.Put(it->second, out);
  };
  const auto add_field = [&](absl::string_view name, const std::string& text) {
    const auto it = attributes_.find(name);
    if (it != attributes_.end() && !text.empty()) add_text(it->second, text);
  };
  add_field("user_id", context.user_id());
  add_field("query", context.query());
  for (const v1::Attribute& attribute : context.attributes()) {
    if (attribute.name() == "user_id" || attribute.name() == "query") continue;
    const auto it = attributes_.find(attribute.name());
    if (it == attributes_.end()) continue;
    for (const std::string& text : attribute.text()) add_text(it->second, text);
    for (const double number : attribute.number()) {
      if (!std::isfinite(number)) continue;
      char buffer[kNumberTextSize];
      add_text(it->second, FormatNumber(number, buffer));
      predicates_.PutNumber(it->second, number, out);
    }
  }
}

bool TargetingSet::Matches(uint32_t expression,
                           ResolvedContext* resolved) const {
  uint32_t& verdict = resolved->verdicts[expression];
  if (verdict / 2 != resolved->stamp) {
    verdict = 2 * resolved->stamp + Evaluate(roots_[expression], *resolved);
  }
  return verdict % 2 != 0;
}

bool TargetingSet::Evaluate(uint32_t node,
                            const ResolvedContext& resolved) const {
  const Node& n = nodes_[node];
  if (n.op == Op::kLeaf) return predicates_.Holds(n.leaf, resolved);
  // all_of stops at the first false child, any_of and none_of at the first
  // true.
  const bool stop_at = n.op != Op::kAllOf;
  for (uint32_t child = node + 1; child < n.end; child = nodes_[child].end) {
    if (Evaluate(child, resolved) == stop_at) return n.op == Op::kAnyOf;
  }
  return n.op != Op::kAnyOf;
}

std::string TargetingSet::FirstFailure(uint32_t expression,
                                       const ResolvedContext& resolved) const {
  const uint32_t root = roots_[expression];
  return Evaluate(root, resolved) ? "" : Failure(root, resolved);
}

// REQUIRES: the node is false.
std::string TargetingSet::Failure(uint32_t node,
                                  const ResolvedContext& resolved) const {
  const Node& n = nodes_[node];
  if (n.op == Op::kLeaf || n.op == Op::kAnyOf) {
    return Print(node);
  }
  for (uint32_t child = node + 1; child < n.end; child = nodes_[child].end) {
    const bool value = Evaluate(child, resolved);
    if (n.op == Op::kAllOf && !value) return Failure(child, resolved);
    if (n.op == Op::kNoneOf && value) {
      return absl::StrCat("none_of(", Print(child), ")");
    }
  }
  return Print(node);
}

std::string TargetingSet::Print(uint32_t node) const {
  const Node& n = nodes_[node];
  if (n.op == Op::kLeaf) {
    return absl::StrCat(predicates_.is_range(n.leaf) ? "range" : "in_set", "(",
                        attribute_names_[predicates_.attribute(n.leaf)], ")");
  }
  const absl::string_view name = n.op == Op::kAllOf   ? "all_of("
                                 : n.op == Op::kAnyOf ? "any_of("
                                                      : "none_of(";
  constexpr int kShown = 4;  // a sentence, not a dump
  std::string text(name);
  int shown = 0;
  for (uint32_t child = node + 1; child < n.end; child = nodes_[child].end) {
    if (shown > 0) text += ", ";
    if (++shown > kShown) {
      text += "...";
      break;
    }
    text += Print(child);
  }
  return text + ")";
}

}  // namespace adrank
