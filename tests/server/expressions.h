// Random contexts and targeting expressions, and an interpreter of the latter
// that is slow and obvious: the oracle of the compiled form.
#ifndef ADRANK_TESTS_SERVER_EXPRESSIONS_H_
#define ADRANK_TESTS_SERVER_EXPRESSIONS_H_

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"

namespace adrank::testing {

// Attributes "a0".."a4" with texts "v0".."v5" or whole numbers 0..9, some
// absent, some multi-valued; sometimes a user and a query.
inline v1::Context RandomContext(Rng* rng) {
  v1::Context context;
  context.set_time_ms(1 + static_cast<int64_t>(rng->Below(1000)));
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

inline v1::TargetingExpression RandomExpression(Rng* rng, int depth) {
  v1::TargetingExpression e;
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
