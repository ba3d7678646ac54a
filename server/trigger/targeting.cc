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

}  // namespace

// A list of nothing is true: expression kAlways.
TargetingSet::TargetingSet() {
  nodes_.push_back(Node::List(Op::kAllOf, 1));
  roots_.push_back(0);
  expressions_.emplace(Hash128(""), kAlways);
}

absl::StatusOr<uint32_t> TargetingSet::Add(
    const v1::TargetingExpression& expression) {
  // Same expression, same bytes: strings and numbers are length- or
  // width-framed.
  expression.SerializeToString(&scratch_);
  const Hash128Value hash = Hash128(scratch_);
  if (const auto it = expressions_.find(hash); it != expressions_.end()) {
    return it->second;
  }
  const auto root = static_cast<uint32_t>(nodes_.size());
  if (absl::Status s = Compile(expression, 1, root); !s.ok()) {
    nodes_.erase(nodes_.begin() + root, nodes_.end());
    return s;
  }
  const auto number = static_cast<uint32_t>(roots_.size());
  roots_.push_back(root);
  expressions_.emplace(hash, number);
  return number;
}

void TargetingSet::EndFilling() {
  expressions_ = {};
  std::string().swap(scratch_);
  nodes_.shrink_to_fit();
  roots_.shrink_to_fit();
  predicates_.EndFilling();
}

size_t TargetingSet::bytes() const {
  return nodes_.capacity() * sizeof(Node) +
         roots_.capacity() * sizeof(uint32_t) + predicates_.bytes();
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
    case v1::TargetingExpression::NODE_NOT_SET:
      nodes_.push_back(Node::List(Op::kAllOf, 1));
      return absl::OkStatus();
    default:
      return Annotate(CompileLeaf(expression), "targeting");
  }
}

absl::Status TargetingSet::CompileLeaf(
    const v1::TargetingExpression& expression) {
  switch (expression.node_case()) {
    case v1::TargetingExpression::kInSet:
      CompileInSet(expression.in_set());
      return absl::OkStatus();
    case v1::TargetingExpression::kRange:
      return CompileRange(expression.range());
    case v1::TargetingExpression::kPrefix:
      CompilePrefix(expression.prefix());
      return absl::OkStatus();
    case v1::TargetingExpression::kGeoRadius:
      return CompileGeoRadius(expression.geo_radius());
    case v1::TargetingExpression::kTimeWindow:
      return CompileTimeWindow(expression.time_window());
    default:
      return absl::InternalError("not a leaf");
  }
}

void TargetingSet::AddLeaf(Literal leaf, bool prefix) {
  nodes_.push_back(Node::Leaf(leaf, prefix));
}

// Places and the time have attributes of their own.
TargetingSet::Op TargetingSet::OpOf(const Node& node) const {
  if (!node.is_leaf()) return node.op();
  if (node.prefix()) return Op::kPrefix;
  if (predicates_.is_range(node.leaf())) return Op::kRange;
  const uint32_t attribute = predicates_.attribute(node.leaf());
  if (!window_symbols_.empty() &&
      attribute ==
          predicates_.attribute(Literal::OfSymbol(window_symbols_[0]))) {
    return Op::kTimeWindow;
  }
  return std::any_of(places_.begin(), places_.end(),
                     [&](const Place& p) { return p.self == attribute; })
             ? Op::kGeoRadius
             : Op::kInSet;
}

absl::Status TargetingSet::CompileList(
    Op op, const v1::TargetingExpression::List& list, int depth,
    uint32_t root) {
  const size_t self = nodes_.size();
  nodes_.push_back(Node::List(op, 0));
  for (const auto& child : list.expressions()) {
    RETURN_IF_ERROR(Compile(child, depth + 1, root));
  }
  nodes_[self] = Node::List(op, nodes_.size() - self);
  return absl::OkStatus();
}

void TargetingSet::CompileInSet(const v1::TargetingExpression::InSet& in_set) {
  const uint32_t attribute = Attribute(in_set.attribute());
  std::vector<uint32_t> symbols;
  for (const std::string& text : in_set.values()) {
    auto& values = entries_[attribute].values;
    auto it = values.find(text);
    if (it == values.end()) {
      it = values.emplace(text, predicates_.AddSymbol(attribute)).first;
    }
    symbols.push_back(it->second);
  }
  AddLeaf(predicates_.InSet(attribute, std::move(symbols)));
}

absl::Status TargetingSet::CompileRange(
    const v1::TargetingExpression::Range& range) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double min = range.has_min() ? range.min() : -kInfinity;
  const double max = range.has_max() ? range.max() : kInfinity;
  if (std::isnan(min) || std::isnan(max)) {
    return absl::InvalidArgumentError(
        absl::StrCat("range(", range.attribute(), "): NaN"));
  }
  const uint32_t attribute = Attribute(range.attribute());
  AddLeaf(predicates_.Range(attribute, min, max));
  return absl::OkStatus();
}

void TargetingSet::CompilePrefix(
    const v1::TargetingExpression::Prefix& prefix) {
  const uint32_t attribute = Attribute(prefix.attribute());
  AttributeEntry& entry = entries_[attribute];
  std::vector<uint32_t> symbols;
  for (const std::string& text : prefix.prefixes()) {
    auto it = entry.prefixes.find(text);
    if (it == entry.prefixes.end()) {
      it = entry.prefixes.emplace(text, predicates_.AddSymbol(attribute)).first;
      const auto length = static_cast<uint32_t>(text.size());
      auto& lengths = entry.prefix_lengths;
      const auto place =
          std::lower_bound(lengths.begin(), lengths.end(), length);
      if (place == lengths.end() || *place != length) {
        lengths.insert(place, length);
      }
    }
    symbols.push_back(it->second);
  }
  AddLeaf(predicates_.InSet(attribute, std::move(symbols)), true);
}

absl::Status TargetingSet::CompileGeoRadius(
    const v1::TargetingExpression::GeoRadius& geo) {
  // Written so that NaN is refused.
  if (!(geo.latitude() >= -90 && geo.latitude() <= 90) ||
      !std::isfinite(geo.longitude()) || !(geo.radius_km() > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("geo_radius(", geo.latitude(), ", ", geo.longitude(), ", ",
                     geo.radius_km(), " km) is no circle"));
  }
  const auto name = [](const std::string& given, const char* standard) {
    return given.empty() ? absl::string_view(standard) : given;
  };
  const uint32_t latitude = Attribute(name(geo.latitude_attribute(), "lat"));
  const uint32_t longitude = Attribute(name(geo.longitude_attribute(), "lon"));
  Place& place = PlaceOf(latitude, longitude);
  const uint32_t circle =
      place.circles.Add({geo.latitude(), geo.longitude(), geo.radius_km()});
  if (circle == place.symbols.size()) {
    place.symbols.push_back(predicates_.AddSymbol(place.self));
  }
  AddLeaf(Literal::OfSymbol(place.symbols[circle]));
  return absl::OkStatus();
}

absl::Status TargetingSet::CompileTimeWindow(
    const v1::TargetingExpression::TimeWindow& window) {
  ASSIGN_OR_RETURN(const uint32_t number, windows_.Add(window));
  if (number == window_symbols_.size()) {
    const uint32_t attribute =
        window_symbols_.empty()
            ? NewAttribute("time")
            : predicates_.attribute(Literal::OfSymbol(window_symbols_[0]));
    window_symbols_.push_back(predicates_.AddSymbol(attribute));
  }
  AddLeaf(Literal::OfSymbol(window_symbols_[number]));
  return absl::OkStatus();
}

TargetingSet::Place& TargetingSet::PlaceOf(uint32_t latitude,
                                           uint32_t longitude) {
  for (Place& place : places_) {
    if (place.latitude == latitude && place.longitude == longitude) {
      return place;
    }
  }
  return places_.emplace_back(
      Place{latitude, longitude, NewAttribute("place"), {}, {}});
}

uint32_t TargetingSet::Attribute(absl::string_view name) {
  const auto it = attributes_.find(name);
  if (it != attributes_.end()) return it->second;
  const uint32_t attribute = NewAttribute(name);
  attributes_.emplace(name, attribute);
  return attribute;
}

uint32_t TargetingSet::NewAttribute(absl::string_view name) {
  entries_.emplace_back().name = std::string(name);
  return predicates_.AddAttribute();
}

void TargetingSet::PutText(uint32_t attribute, absl::string_view text,
                           ResolvedContext* out) const {
  const AttributeEntry& entry = entries_[attribute];
  const auto it = entry.values.find(text);
  if (it != entry.values.end()) predicates_.Put(it->second, out);
  for (const uint32_t length : entry.prefix_lengths) {
    if (length > text.size()) break;
    const auto prefix = entry.prefixes.find(text.substr(0, length));
    if (prefix != entry.prefixes.end()) predicates_.Put(prefix->second, out);
  }
}

void TargetingSet::PutPlacesAndTime(int64_t time_ms,
                                    ResolvedContext* out) const {
  for (const Place& place : places_) {
    const auto& latitude = out->attributes[place.latitude].numbers;
    const auto& longitude = out->attributes[place.longitude].numbers;
    if (latitude.empty() || longitude.empty()) continue;
    place.circles.ForEachAround(
        latitude[0], longitude[0],
        [&](uint32_t circle) { predicates_.Put(place.symbols[circle], out); });
  }
  out->time_ms = time_ms;
  windows_.ForEachOpen(time_ms, [&](uint32_t window) {
    predicates_.Put(window_symbols_[window], out);
  });
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
  const auto put_field = [&](absl::string_view name, const std::string& text) {
    const auto it = attributes_.find(name);
    if (it != attributes_.end() && !text.empty())
      PutText(it->second, text, out);
  };
  put_field("user_id", context.user_id());
  put_field("query", context.query());
  for (const v1::Attribute& attribute : context.attributes()) {
    if (attribute.name() == "user_id" || attribute.name() == "query") continue;
    const auto it = attributes_.find(attribute.name());
    if (it == attributes_.end()) continue;
    for (const std::string& text : attribute.text()) {
      PutText(it->second, text, out);
    }
    for (const double number : attribute.number()) {
      if (!std::isfinite(number)) continue;
      char buffer[kNumberTextSize];
      PutText(it->second, FormatNumber(number, buffer), out);
      predicates_.PutNumber(it->second, number, out);
    }
  }
  PutPlacesAndTime(context.time_ms(), out);
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
  if (n.is_leaf()) return predicates_.Holds(n.leaf(), resolved);
  // all_of stops at the first false child, any_of and none_of at the first
  // true.
  const Op op = n.op();
  const bool stop_at = op != Op::kAllOf;
  for (uint32_t child = node + 1; child < End(node); child = End(child)) {
    if (Evaluate(child, resolved) == stop_at) return op == Op::kAnyOf;
  }
  return op != Op::kAnyOf;
}

}  // namespace adrank
