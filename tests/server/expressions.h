// Random contexts and targeting expressions, and an interpreter of the latter
// that is slow and obvious: the oracle of the compiled form.
#ifndef ADRANK_TESTS_SERVER_EXPRESSIONS_H_
#define ADRANK_TESTS_SERVER_EXPRESSIONS_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"

namespace adrank::testing {

inline void AddNumber(const std::string& name, double number,
                      v1::Context* context) {
  v1::Attribute* attribute = context->add_attributes();
  attribute->set_name(name);
  attribute->add_number(number);
}

// Poles and the antimeridian more often than elsewhere.
inline double RandomLatitude(Rng* rng) {
  return rng->Bernoulli(0.1)
             ? (rng->Bernoulli(0.5) ? 90 : -90)
             : -90 + static_cast<double>(rng->Below(18000)) / 100;
}
inline double RandomLongitude(Rng* rng) {
  return rng->Bernoulli(0.1)
             ? (rng->Bernoulli(0.5) ? 179.99 : -180)
             : -180 + static_cast<double>(rng->Below(36000)) / 100;
}

// Attributes "a0".."a4" with texts "v0".."v5" or whole numbers 0..9, some
// absent, some multi-valued; sometimes a user and a query.
inline v1::Context RandomContext(Rng* rng) {
  v1::Context context;
  // Campaigns start and end in the first second; the rest of the week for
  // time windows.
  context.set_time_ms(1 + static_cast<int64_t>(rng->Below(1000)));
  if (rng->Bernoulli(0.5)) {
    context.set_time_ms(static_cast<int64_t>(rng->Below(7 * 86400)) * 1000 + 1);
  }
  if (rng->Bernoulli(0.7)) {
    AddNumber("lat", RandomLatitude(rng), &context);
    AddNumber("lon", RandomLongitude(rng), &context);
  }
  if (rng->Bernoulli(0.5))
    context.set_user_id(absl::StrCat("v", rng->Below(6)));
  if (rng->Bernoulli(0.5)) context.set_query(absl::StrCat("v", rng->Below(6)));
  for (int i = 0; i < 5; ++i) {
    if (rng->Bernoulli(0.3)) continue;
    v1::Attribute* attribute = context.add_attributes();
    attribute->set_name(absl::StrCat("a", i));
    for (uint64_t n = rng->Below(3); n > 0; --n) {
      if (rng->Bernoulli(0.5)) {
        attribute->add_text(absl::StrCat("v", rng->Below(6)));
      } else {
        attribute->add_number(static_cast<double>(rng->Below(10)));
      }
    }
  }
  return context;
}

inline std::string RandomAttributeName(Rng* rng) {
  const uint64_t i = rng->Below(8);
  return i == 6 ? "user_id" : i == 7 ? "query" : absl::StrCat("a", i);
}

inline v1::TargetingExpression RandomGeoRadius(Rng* rng) {
  v1::TargetingExpression e;
  auto* geo = e.mutable_geo_radius();
  if (rng->Bernoulli(0.3)) geo->set_latitude_attribute("a0");
  if (rng->Bernoulli(0.1)) geo->set_longitude_attribute("a1");
  geo->set_latitude(RandomLatitude(rng));
  geo->set_longitude(RandomLongitude(rng));
  // From a street to the whole Earth.
  constexpr double kRadii[] = {1, 300, 2500, 6000, 12000, 20030};
  geo->set_radius_km(kRadii[rng->Below(6)]);
  return e;
}

inline v1::TargetingExpression RandomTimeWindow(Rng* rng) {
  v1::TargetingExpression e;
  auto* window = e.mutable_time_window();
  for (uint64_t n = rng->Below(4); n > 0; --n) {
    window->add_days(static_cast<uint32_t>(1 + rng->Below(7)));
  }
  window->set_from_minute(static_cast<uint32_t>(rng->Below(24)) * 60);
  window->set_to_minute(static_cast<uint32_t>(rng->Below(25)) * 60);
  constexpr const char* kZones[] = {"", "UTC", "Europe/Berlin", "Asia/Kolkata"};
  window->set_time_zone(kZones[rng->Below(4)]);
  return e;
}

inline v1::TargetingExpression RandomPrefix(Rng* rng) {
  v1::TargetingExpression e;
  e.mutable_prefix()->set_attribute(RandomAttributeName(rng));
  constexpr const char* kPrefixes[] = {"v", "v1", "v12", "3", "x", "v4"};
  for (uint64_t n = rng->Below(4); n > 0; --n) {
    e.mutable_prefix()->add_prefixes(kPrefixes[rng->Below(6)]);
  }
  return e;
}

inline v1::TargetingExpression RandomExpression(Rng* rng, int depth) {
  v1::TargetingExpression e;
  if (rng->Bernoulli(0.25)) {
    const uint64_t kind = rng->Below(3);
    return kind == 0   ? RandomPrefix(rng)
           : kind == 1 ? RandomGeoRadius(rng)
                       : RandomTimeWindow(rng);
  }
  const uint64_t kind = rng->Below(depth > 0 ? 5 : 2);
  if (kind == 0) {
    e.mutable_in_set()->set_attribute(RandomAttributeName(rng));
    for (uint64_t n = rng->Below(4); n > 0; --n) {
      // A number's text is one of the values too.
      e.mutable_in_set()->add_values(rng->Bernoulli(0.6)
                                         ? absl::StrCat("v", rng->Below(6))
                                         : absl::StrCat(rng->Below(10)));
    }
    return e;
  }
  if (kind == 1) {
    e.mutable_range()->set_attribute(RandomAttributeName(rng));
    const double min = static_cast<double>(rng->Below(10));
    if (rng->Bernoulli(0.7)) e.mutable_range()->set_min(min);
    if (rng->Bernoulli(0.7)) {
      e.mutable_range()->set_max(min + static_cast<double>(rng->Below(4)));
    }
    return e;
  }
  v1::TargetingExpression::List* list = kind == 2   ? e.mutable_all_of()
                                        : kind == 3 ? e.mutable_any_of()
                                                    : e.mutable_none_of();
  for (uint64_t n = rng->Below(4); n > 0; --n) {
    *list->add_expressions() = RandomExpression(rng, depth - 1);
  }
  return e;
}

// Texts and numbers of one name.
inline v1::Attribute AttributeOf(const v1::Context& context,
                                 const std::string& name) {
  v1::Attribute result;
  if (name == "user_id" || name == "query") {
    const std::string& text =
        name == "query" ? context.query() : context.user_id();
    if (!text.empty()) result.add_text(text);
    return result;
  }
  for (const v1::Attribute& a : context.attributes()) {
    if (a.name() == name) return a;
  }
  return result;
}

// The first number of an attribute; false when it has none.
inline bool FirstNumber(const v1::Context& context, const std::string& name,
                        double* number) {
  const v1::Attribute a = AttributeOf(context, name);
  if (a.number().empty()) return false;
  *number = a.number(0);
  return true;
}

// By the spherical law of cosines, another formula than the code's; whoever
// asks for more than a metre at the border must not ask here.
inline bool InCircle(const v1::TargetingExpression::GeoRadius& geo,
                     const v1::Context& context) {
  double lat = 0, lon = 0;
  const auto name = [](const std::string& name, const char* standard) {
    return name.empty() ? std::string(standard) : name;
  };
  if (!FirstNumber(context, name(geo.latitude_attribute(), "lat"), &lat) ||
      !FirstNumber(context, name(geo.longitude_attribute(), "lon"), &lon) ||
      lat < -90 || lat > 90) {
    return false;
  }
  constexpr long double kDegree = 3.14159265358979323846264338327950288L / 180;
  const long double a = lat * kDegree, b = geo.latitude() * kDegree;
  const long double cosine =
      std::sin(a) * std::sin(b) +
      std::cos(a) * std::cos(b) * std::cos((lon - geo.longitude()) * kDegree);
  const long double angle = std::acos(std::min(1.0L, std::max(-1.0L, cosine)));
  return angle * 6371.0088L <= geo.radius_km();
}

// Minute by minute of the wall clock, with the C library's calendar reduced to
// offsets: the zones of RandomTimeWindow have a constant one in January 1970.
inline bool InWindow(const v1::TargetingExpression::TimeWindow& window,
                     int64_t time_ms) {
  const int offset = window.time_zone() == "Europe/Berlin"  ? 60
                     : window.time_zone() == "Asia/Kolkata" ? 330
                                                            : 0;
  const int64_t minute = time_ms / 60000 + offset;
  const auto listed = [&](int64_t day) {
    // The first day of 1970 was a Thursday.
    const auto weekday = static_cast<uint32_t>((day + 3) % 7 + 1);
    return window.days().empty() ||
           std::count(window.days().begin(), window.days().end(), weekday) > 0;
  };
  // Windows that begin yesterday or today.
  for (int64_t day = minute / 1440 - 1; day <= minute / 1440; ++day) {
    const int64_t begin = day * 1440 + window.from_minute();
    int64_t end = day * 1440 + window.to_minute();
    if (window.to_minute() <= window.from_minute()) end += 1440;
    if (listed(day + 7) && minute >= begin && minute < end) {
      return true;
    }
  }
  return false;
}

inline bool Interpret(const v1::TargetingExpression& e,
                      const v1::Context& context) {
  if (e.has_all_of()) {
    for (const auto& child : e.all_of().expressions()) {
      if (!Interpret(child, context)) return false;
    }
    return true;
  }
  if (e.has_any_of() || e.has_none_of()) {
    const auto& list = e.has_any_of() ? e.any_of() : e.none_of();
    for (const auto& child : list.expressions()) {
      if (Interpret(child, context)) return e.has_any_of();
    }
    return e.has_none_of();
  }
  if (e.has_in_set()) {
    const v1::Attribute a = AttributeOf(context, e.in_set().attribute());
    for (const std::string& value : e.in_set().values()) {
      for (const std::string& text : a.text()) {
        if (text == value) return true;
      }
      for (const double number : a.number()) {
        if (absl::StrCat(number) == value) return true;  // whole and small
      }
    }
    return false;
  }
  if (e.has_prefix()) {
    const v1::Attribute a = AttributeOf(context, e.prefix().attribute());
    for (const std::string& prefix : e.prefix().prefixes()) {
      for (const std::string& text : a.text()) {
        if (text.rfind(prefix, 0) == 0) return true;
      }
      for (const double number : a.number()) {
        if (absl::StrCat(number).rfind(prefix, 0) == 0) return true;
      }
    }
    return false;
  }
  if (e.has_geo_radius()) return InCircle(e.geo_radius(), context);
  if (e.has_time_window()) return InWindow(e.time_window(), context.time_ms());
  if (e.has_range()) {
    const v1::Attribute a = AttributeOf(context, e.range().attribute());
    for (const double number : a.number()) {
      if (e.range().has_min() && number < e.range().min()) continue;
      if (e.range().has_max() && number > e.range().max()) continue;
      return true;
    }
    return false;
  }
  return true;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_EXPRESSIONS_H_
