#include "server/targeting_gap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "features/transforms.h"
#include "server/trigger/targeting.h"

namespace adrank {
namespace {

constexpr int kShown = 8;  // values of a list

bool Holds(const v1::TargetingExpression& expression,
           const v1::Context& context) {
  TargetingSet set;
  const auto number = set.Add(expression);
  if (!number.ok()) return true;
  ResolvedContext resolved;
  set.Resolve(context, &resolved);
  return set.Matches(*number, &resolved);
}

std::string Quoted(const std::string& text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text), "\"");
}

std::string NumberText(double number) {
  char buffer[kNumberTextSize];
  return std::string(FormatNumber(number, buffer));
}

template <typename Values>
std::string List(const Values& values) {
  std::vector<std::string> shown;
  for (const std::string& value : values) {
    if (static_cast<int>(shown.size()) == kShown) {
      shown.push_back(absl::StrCat("... (", values.size(), ")"));
      break;
    }
    shown.push_back(Quoted(value));
  }
  return absl::StrJoin(shown, ", ");
}

std::vector<double> NumbersOf(const v1::Context& context,
                              const std::string& name) {
  for (const v1::Attribute& a : context.attributes()) {
    if (a.name() == name) return {a.number().begin(), a.number().end()};
  }
  return {};
}

// What the context has of the attribute: "\"FR\"", "35", "none".
std::string Had(const v1::Context& context, const std::string& name) {
  std::vector<std::string> values;
  if (name == "user_id" || name == "query") {
    const std::string& text =
        name == "query" ? context.query() : context.user_id();
    if (!text.empty()) values.push_back(Quoted(text));
  } else {
    for (const v1::Attribute& a : context.attributes()) {
      if (a.name() != name) continue;
      for (const std::string& text : a.text()) values.push_back(Quoted(text));
      for (const double x : a.number()) values.push_back(NumberText(x));
    }
  }
  return values.empty() ? "none" : absl::StrJoin(values, ", ");
}

std::string Interval(const v1::TargetingExpression::Range& range) {
  return absl::StrCat(range.has_min() ? NumberText(range.min()) : "-inf", ", ",
                      range.has_max() ? NumberText(range.max()) : "inf");
}

// What the condition asks for, as a person says it.
std::string Wanted(const v1::TargetingExpression& e) {
  switch (e.node_case()) {
    case v1::TargetingExpression::kInSet:
      return absl::StrCat(e.in_set().attribute(), " is one of ",
                          List(e.in_set().values()));
    case v1::TargetingExpression::kRange:
      return absl::StrCat(e.range().attribute(), " in [", Interval(e.range()),
                          "]");
    case v1::TargetingExpression::kPrefix:
      return absl::StrCat(e.prefix().attribute(), " begins with one of ",
                          List(e.prefix().prefixes()));
    case v1::TargetingExpression::kGeoRadius: {
      const auto& g = e.geo_radius();
      return absl::StrFormat("within %g km of %g, %g", g.radius_km(),
                             g.latitude(), g.longitude());
    }
    case v1::TargetingExpression::kTimeWindow: {
      const auto& w = e.time_window();
      return absl::StrFormat(
          "%02d:%02d to %02d:%02d%s%s, %s", w.from_minute() / 60,
          w.from_minute() % 60, w.to_minute() / 60, w.to_minute() % 60,
          w.days().empty() ? "" : " on days ", absl::StrJoin(w.days(), ", "),
          w.time_zone().empty() ? "UTC" : w.time_zone());
    }
    case v1::TargetingExpression::kAllOf:
      return "all of a list";
    case v1::TargetingExpression::kAnyOf:
      return "any of a list";
    case v1::TargetingExpression::kNoneOf:
      return "none of a list";
    case v1::TargetingExpression::NODE_NOT_SET:
      break;
  }
  return "always";
}

std::string HadFor(const v1::TargetingExpression& e,
                   const v1::Context& context) {
  switch (e.node_case()) {
    case v1::TargetingExpression::kInSet:
      return Had(context, e.in_set().attribute());
    case v1::TargetingExpression::kRange:
      return Had(context, e.range().attribute());
    case v1::TargetingExpression::kPrefix:
      return Had(context, e.prefix().attribute());
    case v1::TargetingExpression::kGeoRadius: {
      const auto& g = e.geo_radius();
      const std::string lat =
          g.latitude_attribute().empty() ? "lat" : g.latitude_attribute();
      const std::string lon =
          g.longitude_attribute().empty() ? "lon" : g.longitude_attribute();
      return absl::StrCat(lat, " ", Had(context, lat), ", ", lon, " ",
                          Had(context, lon));
    }
    case v1::TargetingExpression::kTimeWindow:
      return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ",
                              absl::FromUnixMillis(context.time_ms()),
                              absl::UTCTimeZone());
    default:
      return "";
  }
}

// The number of the context that comes nearest to the range.
void RangeGap(const v1::TargetingExpression::Range& range,
              const v1::Context& context, TargetingGap* gap) {
  double least = INFINITY;
  for (const double x : NumbersOf(context, range.attribute())) {
    const bool low = range.has_min() && x < range.min();
    const double bound = low ? range.min() : range.max();
    if (std::abs(bound - x) >= least) continue;
    least = std::abs(bound - x);
    gap->needed = bound;
    gap->had = x;
  }
}

TargetingGap Leaf(const v1::TargetingExpression& e, const v1::Context& context,
                  bool negated) {
  TargetingGap gap;
  gap.text = absl::StrCat("needs ", negated ? "not: " : "", Wanted(e),
                          "; the request has ", HadFor(e, context));
  if (!negated && e.has_range()) RangeGap(e.range(), context, &gap);
  return gap;
}

bool IsList(const v1::TargetingExpression& e) {
  return e.has_all_of() || e.has_any_of() || e.has_none_of();
}

TargetingGap AnyOfGap(const v1::TargetingExpression::List& list,
                      const v1::Context& context) {
  TargetingGap gap;
  std::vector<std::string> wanted, had;
  for (const auto& child : list.expressions()) {
    if (static_cast<int>(wanted.size()) == kShown) {
      wanted.push_back("...");
      break;
    }
    wanted.push_back(Wanted(child));
    std::string text = HadFor(child, context);
    if (!text.empty() && std::find(had.begin(), had.end(), text) == had.end()) {
      had.push_back(std::move(text));
    }
  }
  gap.text = absl::StrCat("needs any of: ", absl::StrJoin(wanted, " | "));
  if (!had.empty()) {
    absl::StrAppend(&gap.text, "; the request has ", absl::StrJoin(had, " | "));
  }
  return gap;
}

// REQUIRES: the expression is false.
TargetingGap GapOf(const v1::TargetingExpression& e,
                   const v1::Context& context) {
  if (e.has_all_of()) {
    for (const auto& child : e.all_of().expressions()) {
      if (!Holds(child, context)) return GapOf(child, context);
    }
  }
  if (e.has_none_of()) {
    for (const auto& child : e.none_of().expressions()) {
      if (!Holds(child, context)) continue;
      if (!IsList(child)) return Leaf(child, context, /*negated=*/true);
      TargetingGap gap;
      gap.text = absl::StrCat("needs not: ", Wanted(child));
      return gap;
    }
  }
  if (e.has_any_of()) {
    // A list of one is its element.
    if (e.any_of().expressions_size() == 1) {
      return GapOf(e.any_of().expressions(0), context);
    }
    return AnyOfGap(e.any_of(), context);
  }
  return Leaf(e, context, /*negated=*/false);
}

}  // namespace

std::optional<TargetingGap> FindTargetingGap(
    const v1::TargetingExpression& expression, const v1::Context& context) {
  if (Holds(expression, context)) return std::nullopt;
  return GapOf(expression, context);
}

}  // namespace adrank
