// What TargetingSet says of an expression to people: why it is false, and what
// made it true. Slow; not for the search.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "features/transforms.h"
#include "server/trigger/targeting.h"

namespace adrank {
namespace {

void AppendNew(std::string text, std::vector<std::string>* out) {
  if (std::find(out->begin(), out->end(), text) == out->end()) {
    out->push_back(std::move(text));
  }
}

std::string NumberText(double number) {
  char buffer[kNumberTextSize];
  return std::string(FormatNumber(number, buffer));
}

}  // namespace

std::string TargetingSet::FirstFailure(uint32_t expression,
                                       const ResolvedContext& resolved) const {
  const uint32_t root = roots_[expression];
  return Evaluate(root, resolved) ? "" : Failure(root, resolved);
}

// REQUIRES: the node is false.
std::string TargetingSet::Failure(uint32_t node,
                                  const ResolvedContext& resolved) const {
  const Node& n = nodes_[node];
  if (n.is_leaf()) return LeafFailure(n, resolved);
  if (n.op() == Op::kAnyOf) return Print(node);
  for (uint32_t child = node + 1; child < End(node); child = End(child)) {
    const bool value = Evaluate(child, resolved);
    if (n.op() == Op::kAllOf && !value) return Failure(child, resolved);
    if (n.op() == Op::kNoneOf && value) {
      return absl::StrCat("none_of(", Print(child), ")");
    }
  }
  return Print(node);
}

// With how far the request is from it, where that says more.
std::string TargetingSet::LeafFailure(const Node& leaf,
                                      const ResolvedContext& resolved) const {
  const auto self = static_cast<uint32_t>(&leaf - nodes_.data());
  if (OpOf(leaf) == Op::kGeoRadius) {
    const auto [place, number] = CircleOf(leaf);
    const GeoIndex::Circle& c = place->circles.circle(number);
    const auto& latitude = resolved.attributes[place->latitude].numbers;
    const auto& longitude = resolved.attributes[place->longitude].numbers;
    if (latitude.empty() || longitude.empty()) {
      return Print(self) + ": the request has no place";
    }
    return absl::StrCat(
        Print(self), ": ",
        DistanceKm(c.latitude, c.longitude, latitude[0], longitude[0]),
        " km away");
  }
  if (OpOf(leaf) == Op::kTimeWindow) {
    return absl::StrCat(Print(self), ": it is ",
                        windows_.Local(WindowOf(leaf), resolved.time_ms));
  }
  return Print(self);
}

// Symbols are numbered in the order of creation.
std::pair<const TargetingSet::Place*, uint32_t> TargetingSet::CircleOf(
    const Node& leaf) const {
  const uint32_t symbol = leaf.leaf().number();
  for (const Place& place : places_) {
    const auto it =
        std::lower_bound(place.symbols.begin(), place.symbols.end(), symbol);
    if (it != place.symbols.end() && *it == symbol) {
      return {&place, static_cast<uint32_t>(it - place.symbols.begin())};
    }
  }
  LOG(FATAL) << "no circle";
}

uint32_t TargetingSet::WindowOf(const Node& leaf) const {
  return static_cast<uint32_t>(std::lower_bound(window_symbols_.begin(),
                                                window_symbols_.end(),
                                                leaf.leaf().number()) -
                               window_symbols_.begin());
}

std::string TargetingSet::Print(uint32_t node) const {
  const Node& n = nodes_[node];
  const auto attribute = [&] {
    return absl::StrCat("(", entries_[predicates_.attribute(n.leaf())].name,
                        ")");
  };
  switch (OpOf(n)) {
    case Op::kInSet:
      return "in_set" + attribute();
    case Op::kRange:
      return "range" + attribute();
    case Op::kPrefix:
      return "prefix" + attribute();
    case Op::kGeoRadius: {
      const auto [place, number] = CircleOf(n);
      const GeoIndex::Circle& c = place->circles.circle(number);
      return absl::StrCat("geo_radius(", c.latitude, ", ", c.longitude, ", ",
                          c.radius_km, " km)");
    }
    case Op::kTimeWindow:
      return absl::StrCat("time_window(", windows_.Text(WindowOf(n)), ")");
    default:
      break;
  }
  const absl::string_view name = n.op() == Op::kAllOf   ? "all_of("
                                 : n.op() == Op::kAnyOf ? "any_of("
                                                        : "none_of(";
  constexpr int kShown = 4;  // a sentence, not a dump
  std::string text(name);
  int shown = 0;
  for (uint32_t child = node + 1; child < End(node); child = End(child)) {
    if (shown > 0) text += ", ";
    if (++shown > kShown) {
      text += "...";
      break;
    }
    text += Print(child);
  }
  return text + ")";
}

// ---- evidence ----

void TargetingSet::AppendEvidence(uint32_t expression,
                                  const v1::Context& context,
                                  const ResolvedContext& resolved,
                                  std::vector<std::string>* out) const {
  NodeEvidence(roots_[expression], context, resolved, out);
}

void TargetingSet::NodeEvidence(uint32_t node, const v1::Context& context,
                                const ResolvedContext& resolved,
                                std::vector<std::string>* out) const {
  const Node& n = nodes_[node];
  if (!Evaluate(node, resolved)) return;
  if (n.is_leaf()) return LeafEvidence(n, context, resolved, out);
  if (n.op() == Op::kNoneOf) return;
  for (uint32_t child = node + 1; child < End(node); child = End(child)) {
    NodeEvidence(child, context, resolved, out);
  }
}

bool TargetingSet::AsksFor(const Node& leaf, uint32_t attribute,
                           absl::string_view text) const {
  const auto asked = [&](uint32_t symbol) {
    if (!leaf.leaf().general()) return symbol == leaf.leaf().number();
    const auto set = predicates_.set(leaf.leaf());
    return std::binary_search(set.begin(), set.end(), symbol);
  };
  const AttributeEntry& entry = entries_[attribute];
  if (OpOf(leaf) == Op::kInSet) {
    const auto it = entry.values.find(text);
    return it != entry.values.end() && asked(it->second);
  }
  for (const uint32_t length : entry.prefix_lengths) {
    if (length > text.size()) break;
    const auto it = entry.prefixes.find(text.substr(0, length));
    if (it != entry.prefixes.end() && asked(it->second)) return true;
  }
  return false;
}

void TargetingSet::LeafEvidence(const Node& leaf, const v1::Context& context,
                                const ResolvedContext& resolved,
                                std::vector<std::string>* out) const {
  if (OpOf(leaf) == Op::kTimeWindow) {
    const std::string local = windows_.Local(WindowOf(leaf), resolved.time_ms);
    return AppendNew("time=" + local, out);
  }
  if (OpOf(leaf) == Op::kGeoRadius) {
    const Place& place = *CircleOf(leaf).first;
    const auto number = [&](uint32_t attribute) {
      return NumberText(resolved.attributes[attribute].numbers[0]);
    };
    return AppendNew(
        absl::StrCat(entries_[place.latitude].name, ",",
                     entries_[place.longitude].name, "=",
                     number(place.latitude), ",", number(place.longitude)),
        out);
  }
  const uint32_t attribute = predicates_.attribute(leaf.leaf());
  const std::string& name = entries_[attribute].name;
  const auto take = [&](const std::string& text) {
    if (AsksFor(leaf, attribute, text)) {
      AppendNew(absl::StrCat(name, "=", text), out);
    }
  };
  if (OpOf(leaf) == Op::kRange) {
    for (const double number : resolved.attributes[attribute].numbers) {
      if (predicates_.InRange(leaf.leaf(), number)) {
        AppendNew(absl::StrCat(name, "=", NumberText(number)), out);
      }
    }
    return;
  }
  if (name == "user_id") return take(context.user_id());
  if (name == "query") return take(context.query());
  for (const v1::Attribute& a : context.attributes()) {
    if (a.name() != name) continue;
    for (const std::string& text : a.text()) take(text);
    for (const double number : a.number()) take(NumberText(number));
  }
}

}  // namespace adrank
