#include "server/trigger/targeting.h"

#include <limits>

#include "base/textproto.h"
#include "gtest/gtest.h"
#include "tests/server/expressions.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::Interpret;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomExpression;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

template <typename M>
M Parse(const char* text) {
  M message;
  EXPECT_OK(ParseTextProto(text, "test", &message));
  return message;
}

struct Verdict {
  bool matches;
  std::string failure;
};

Verdict Ask(const char* expression, const char* context) {
  TargetingSet set;
  const auto number = set.Add(Parse<v1::TargetingExpression>(expression));
  EXPECT_OK(number);
  ResolvedContext resolved;
  set.Resolve(Parse<v1::Context>(context), &resolved);
  return {set.Matches(*number, &resolved), set.FirstFailure(*number, resolved)};
}

constexpr char kGermany[] =
    R"(attributes { name: "country" text: "DE" }
       attributes { name: "age" number: 30 number: 99 })";

TEST(Targeting, TruthTableOfLeaves) {
  EXPECT_TRUE(
      Ask("in_set { attribute: 'country' values: 'FR' values: 'DE' }", kGermany)
          .matches);
  EXPECT_FALSE(
      Ask("in_set { attribute: 'country' values: 'FR' }", kGermany).matches);
  EXPECT_FALSE(Ask("in_set { attribute: 'country' }", kGermany).matches);
  // A number counts as its shortest decimal text.
  EXPECT_TRUE(
      Ask("in_set { attribute: 'age' values: '30' }", kGermany).matches);
  // Any of several numbers; both ends belong to the range.
  EXPECT_TRUE(
      Ask("range { attribute: 'age' min: 99 max: 120 }", kGermany).matches);
  EXPECT_FALSE(
      Ask("range { attribute: 'age' min: 31 max: 98 }", kGermany).matches);
  EXPECT_TRUE(Ask("range { attribute: 'age' max: 30 }", kGermany).matches);
  // A text is no number.
  EXPECT_FALSE(Ask("range { attribute: 'country' }", kGermany).matches);
}

TEST(Targeting, AbsentAttributeFailsInclusionAndSatisfiesExclusion) {
  EXPECT_FALSE(Ask("in_set { attribute: 'os' values: 'x' }", kGermany).matches);
  EXPECT_FALSE(Ask("range { attribute: 'os' }", kGermany).matches);
  EXPECT_TRUE(Ask("none_of { expressions { in_set { attribute: 'os' "
                  "values: 'x' } } }",
                  kGermany)
                  .matches);
}

TEST(Targeting, EmptyListsAndAnEmptyNode) {
  EXPECT_TRUE(Ask("", kGermany).matches);
  EXPECT_TRUE(Ask("all_of {}", kGermany).matches);
  EXPECT_TRUE(Ask("none_of {}", kGermany).matches);
  EXPECT_FALSE(Ask("any_of {}", kGermany).matches);
}

TEST(Targeting, UserAndQueryAreTheContextsOwnFields) {
  constexpr char kContext[] =
      R"(user_id: "u1" query: "red shoes"
         attributes { name: "user_id" text: "forged" })";
  EXPECT_TRUE(
      Ask("in_set { attribute: 'user_id' values: 'u1' }", kContext).matches);
  EXPECT_FALSE(Ask("in_set { attribute: 'user_id' values: 'forged' }", kContext)
                   .matches);
  EXPECT_TRUE(Ask("in_set { attribute: 'query' values: 'red shoes' }", kContext)
                  .matches);
  EXPECT_FALSE(Ask("in_set { attribute: 'query' values: '' }", "").matches);
}

TEST(Targeting, FailureNamesTheConditionThatDecides) {
  EXPECT_EQ(Ask("all_of { expressions { range { attribute: 'age' } } "
                "expressions { in_set { attribute: 'country' } } }",
                kGermany)
                .failure,
            "in_set(country)");
  EXPECT_EQ(
      Ask("none_of { expressions { range { attribute: 'age' } } }", kGermany)
          .failure,
      "none_of(range(age))");
  EXPECT_EQ(Ask("any_of { expressions { range { attribute: 'x' } } "
                "expressions { in_set { attribute: 'y' } } }",
                kGermany)
                .failure,
            "any_of(range(x), in_set(y))");
  EXPECT_EQ(Ask("all_of {}", kGermany).failure, "");
}

TEST(Targeting, LimitsOfDepthNodesAndBounds) {
  TargetingSet set;
  v1::TargetingExpression deep;
  for (int i = 1; i < kMaxTargetingDepth; ++i) {
    v1::TargetingExpression outer;
    *outer.mutable_all_of()->add_expressions() = deep;
    deep = outer;
  }
  EXPECT_OK(set.Add(deep));
  v1::TargetingExpression deeper;
  *deeper.mutable_all_of()->add_expressions() = deep;
  EXPECT_THAT(set.Add(deeper), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("32 deep")));
  v1::TargetingExpression wide;
  for (int i = 1; i < kMaxTargetingNodes; ++i) {
    wide.mutable_any_of()->add_expressions()->mutable_range();
  }
  EXPECT_OK(set.Add(wide));
  wide.mutable_any_of()->add_expressions();
  EXPECT_THAT(set.Add(wide), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("256 nodes")));
  v1::TargetingExpression nan;
  nan.mutable_range()->set_attribute("age");
  nan.mutable_range()->set_min(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(set.Add(nan), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("range(age): NaN")));
}

TEST(Targeting, EqualExpressionsAreOne) {
  TargetingSet set;
  const auto e = Parse<v1::TargetingExpression>(
      "in_set { attribute: 'country' values: 'FR' }");
  const size_t before = set.size();
  EXPECT_EQ(*set.Add(e), *set.Add(e));
  EXPECT_EQ(set.size(), before + 1);
  EXPECT_EQ(*set.Add(v1::TargetingExpression()), TargetingSet::kAlways);
}

TEST(Targeting, AgreesWithTheInterpreterOnRandomExpressions) {
  constexpr uint64_t kSeed = 20240601;
  Rng rng(kSeed);
  int matched = 0, asked = 0;
  for (int round = 0; round < 100; ++round) {
    TargetingSet set;
    std::vector<v1::TargetingExpression> expressions;
    std::vector<uint32_t> numbers;
    for (int i = 0; i < 30; ++i) {
      expressions.push_back(RandomExpression(&rng, 4));
      const auto number = set.Add(expressions.back());
      ASSERT_OK(number);
      numbers.push_back(*number);
    }
    ResolvedContext resolved;
    for (int c = 0; c < 20; ++c) {
      const v1::Context context = RandomContext(&rng);
      set.Resolve(context, &resolved);
      for (size_t i = 0; i < expressions.size(); ++i) {
        const bool expected = Interpret(expressions[i], context);
        matched += expected;
        ++asked;
        ASSERT_EQ(set.Matches(numbers[i], &resolved), expected)
            << "seed " << kSeed << " round " << round << "\n"
            << expressions[i].DebugString() << context.DebugString();
        ASSERT_EQ(set.FirstFailure(numbers[i], resolved).empty(), expected);
      }
    }
  }
  // The instances are not trivial.
  EXPECT_GT(matched, asked / 10);
  EXPECT_LT(matched, asked * 9 / 10);
}

TEST(Targeting, ConjunctNeverAddsAndBranchNeverRemoves) {
  constexpr uint64_t kSeed = 7;
  Rng rng(kSeed);
  for (int round = 0; round < 2000; ++round) {
    v1::TargetingExpression narrow, wide;
    const auto base = RandomExpression(&rng, 3);
    const auto extra = RandomExpression(&rng, 3);
    for (const auto& part : {base, extra}) {
      *narrow.mutable_all_of()->add_expressions() = part;
      *wide.mutable_any_of()->add_expressions() = part;
    }
    TargetingSet set;
    const uint32_t b = *set.Add(base), n = *set.Add(narrow), w = *set.Add(wide);
    ResolvedContext resolved;
    set.Resolve(RandomContext(&rng), &resolved);
    EXPECT_LE(set.Matches(n, &resolved), set.Matches(b, &resolved))
        << "seed " << kSeed << " round " << round;
    EXPECT_GE(set.Matches(w, &resolved), set.Matches(b, &resolved))
        << "seed " << kSeed << " round " << round;
  }
}

}  // namespace
}  // namespace adrank
