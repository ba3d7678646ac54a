// Every way in which a FeatureSpec is refused, and what it is told.
#include "features/spec_check.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/textproto.h"
#include "features/feature_extractor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::FeatureSpec Spec(const std::string& text) {
  v1::FeatureSpec spec;
  const absl::Status status = ParseTextProto(text, "spec", &spec);
  EXPECT_TRUE(status.ok()) << status;
  return spec;
}

// The reason why the spec is refused.
std::string Refusal(const v1::FeatureSpec& spec) {
  const auto extractor = FeatureExtractor::Create(spec);
  EXPECT_EQ(extractor.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(extractor.status().message());
}
std::string Refusal(const std::string& text) { return Refusal(Spec(text)); }

TEST(SpecCheck, Names) {
  EXPECT_EQ(Refusal("fields {}"), "fields[0]: empty name");
  EXPECT_EQ(Refusal("fields { name: 'a' } crosses { of: 'a' }"),
            "crosses[0]: empty name");
  EXPECT_EQ(Refusal("fields { name: 'a' } fields { name: 'a' }"),
            "fields[1]: name \"a\" is already that of fields[0]");
  EXPECT_EQ(Refusal("fields { name: 'a' } crosses { name: 'a' }"),
            "crosses[0]: name \"a\" is already that of fields[0]");
  v1::FeatureSpec spec;
  spec.add_fields()->set_name("a\xff");
  EXPECT_EQ(Refusal(spec), "fields[0]: name is not valid UTF-8");
}

TEST(SpecCheck, TooManyFields) {
  v1::FeatureSpec spec;
  for (int i = 0; i < 65536; ++i) spec.add_fields()->set_name(absl::StrCat(i));
  EXPECT_EQ(Refusal(spec), "65536 fields and crosses, at most 65535");
}

TEST(SpecCheck, Sources) {
  for (const char* bad :
       {"contxt.a", "context.", "ad.", "user", "Query", "ad", "context"}) {
    EXPECT_THAT(
        Refusal(absl::StrCat("fields { name: 'a' source: '", bad, "' }")),
        StartsWith(absl::StrCat("field \"a\": unknown source \"", bad, "\"")));
  }
  EXPECT_EQ(ParseSource("", "city")->attribute, "city");
  EXPECT_EQ(ParseSource("context.user_id", "x")->attribute, "user_id");
  EXPECT_EQ(ParseSource("ad.price", "x")->kind, SourceKind::kAdAttribute);
  EXPECT_EQ(ParseSource("ad.id", "x")->kind, SourceKind::kAdId);
}

TEST(SpecCheck, KindsAndPoolings) {
  EXPECT_EQ(Refusal("fields { name: 'a' kind: 99 }"),
            "field \"a\": unknown kind 99");
  EXPECT_EQ(Refusal("fields { name: 'a' pooling: 7 }"),
            "field \"a\": unknown pooling 7");
}

TEST(SpecCheck, KindsSuitTheirSources) {
  EXPECT_EQ(Refusal("fields { name: 'a' kind: HOUR }"),
            "field \"a\": kind HOUR does not suit source \"context.a\"");
  EXPECT_EQ(Refusal("fields { name: 'a' source: 'ad.b' kind: WEEKDAY }"),
            "field \"a\": kind WEEKDAY does not suit source \"ad.b\"");
  EXPECT_EQ(Refusal("fields { name: 'a' source: 'time' }"),
            "field \"a\": kind CATEGORICAL does not suit source \"time\"");
  EXPECT_EQ(Refusal("fields { name: 'a' source: 'query' kind: LOG1P }"),
            "field \"a\": kind LOG1P does not suit source \"query\"");
  EXPECT_EQ(Refusal("fields { name: 'a' source: 'position' kind: TOKENS }"),
            "field \"a\": kind TOKENS does not suit source \"position\"");
}

TEST(SpecCheck, Bins) {
  EXPECT_EQ(Refusal("fields { name: 'a' kind: QUANTILE_BIN }"),
            "field \"a\": QUANTILE_BIN without learnt boundaries");
  EXPECT_EQ(Refusal("fields { name: 'a' kind: QUANTILE_BIN num_bins: 1 }"),
            "field \"a\": num_bins 1 not in [2, 65536]");
  EXPECT_EQ(Refusal("fields { name: 'a' kind: QUANTILE_BIN num_bins: 65537 }"),
            "field \"a\": num_bins 65537 not in [2, 65536]");
  EXPECT_EQ(Refusal("fields { name: 'a' kind: QUANTILE_BIN"
                    " boundaries: [1, 3, 3] }"),
            "field \"a\": boundaries do not increase: boundaries[2] = 3 after "
            "3");
  EXPECT_EQ(Refusal("fields { name: 'a' kind: QUANTILE_BIN boundaries: nan }"),
            "field \"a\": boundaries[0] is not finite");
  EXPECT_EQ(Refusal("fields { name: 'a' num_bins: 4 }"),
            "field \"a\": num_bins and boundaries are for QUANTILE_BIN, its "
            "kind is CATEGORICAL");
  EXPECT_EQ(Refusal("fields { name: 'a' kind: LOG1P boundaries: 4 }"),
            "field \"a\": num_bins and boundaries are for QUANTILE_BIN, its "
            "kind is LOG1P");
  v1::FeatureSpec spec = Spec("fields { name: 'a' kind: QUANTILE_BIN }");
  for (int i = 0; i < 65536; ++i) spec.mutable_fields(0)->add_boundaries(i);
  EXPECT_EQ(Refusal(spec), "field \"a\": 65536 boundaries, at most 65535");
}

TEST(SpecCheck, UnlearntBinsMayBeAllowed) {
  EXPECT_OK(FeatureExtractor::Create(
      Spec("fields { name: 'a' kind: QUANTILE_BIN }"), true));
}

TEST(SpecCheck, MaxValues) {
  EXPECT_EQ(Refusal("fields { name: 'a' max_values: 1025 }"),
            "field \"a\": max_values 1025 not in [1, 1024] (0: 64)");
}

TEST(SpecCheck, TimeZones) {
  for (const char* bad : {"Europe/Atlantis", "localtime", "/etc/localtime",
                          "libc:localtime", "file:UTC", "../zoneinfo/UTC"}) {
    EXPECT_EQ(Refusal(absl::StrCat("time_zone: '", bad, "'")),
              absl::StrCat("time_zone \"", bad,
                           "\" is no IANA time zone of this machine"));
  }
  EXPECT_OK(FeatureExtractor::Create(Spec("time_zone: 'Asia/Tokyo'")));
  EXPECT_OK(FeatureExtractor::Create(Spec("time_zone: 'UTC'")));
}

constexpr char kFields[] =
    "fields { name: 'a' } fields { name: 'b' } fields { name: 'c' } "
    "fields { name: 'd' } fields { name: 'n' kind: IDENTITY } "
    "fields { name: 'ad' source: 'ad.x' } ";

std::string CrossRefusal(const std::string& crosses) {
  return Refusal(kFields + crosses);
}

TEST(SpecCheck, Crosses) {
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'zz'] }"),
            "cross \"x\": of unknown field \"zz\"");
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' }"),
            "cross \"x\": is of 0 distinct fields, must be of 2 or 3");
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'a'] }"),
            "cross \"x\": is of 1 distinct field, must be of 2 or 3");
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'b', 'c', 'd'] }"),
            "cross \"x\": is of 4 distinct fields, must be of 2 or 3");
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'b'] }"
                         "crosses { name: 'y' of: ['x', 'c', 'd'] }"),
            "cross \"y\": is of 4 distinct fields, must be of 2 or 3");
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'n'] }"),
            "cross \"x\": field \"n\" of kind IDENTITY has a number for a "
            "value and cannot be crossed");
}

TEST(SpecCheck, CyclesOfCrossesNameTheChain) {
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'x'] }"),
            "cross \"x\": cycle x -> x");
  EXPECT_EQ(CrossRefusal("crosses { name: 'x' of: ['a', 'y'] }"
                         "crosses { name: 'y' of: ['b', 'z'] }"
                         "crosses { name: 'z' of: ['x', 'c'] }"),
            "cross \"x\": cycle x -> y -> z -> x");
}

TEST(SpecCheck, DeepOrRepeatedNestingEnds) {
  v1::FeatureSpec spec = Spec(kFields);
  const auto add = [&spec](const std::string& name, const std::string& of) {
    v1::Cross* cross = spec.add_crosses();
    cross->set_name(name);
    // Twice, so that a naive expansion would take 2^60 steps.
    cross->add_of(of);
    cross->add_of(of);
    cross->add_of("b");
  };
  for (int i = 0; i < 60; ++i) {
    add(absl::StrCat("x", i), i == 0 ? "a" : absl::StrCat("x", i - 1));
  }
  ASSERT_OK_AND_ASSIGN(const ResolvedSpec resolved, ResolveSpec(spec, false));
  EXPECT_THAT(resolved.crosses.back().fields, ElementsAre(0, 1));
  for (int i = 60; i < 70; ++i) {
    add(absl::StrCat("x", i), absl::StrCat("x", i - 1));
  }
  EXPECT_EQ(Refusal(spec),
            "cross \"x64\": crosses of crosses nest deeper than 64");
}

TEST(SpecCheck, CrossesStandForTheirFieldsAndBelongToTheirPart) {
  ASSERT_OK_AND_ASSIGN(
      const ResolvedSpec resolved,
      ResolveSpec(Spec(std::string(kFields) +
                       "fields { name: 'p' source: 'position' }"
                       "fields { name: 'ad2' source: 'ad.id' }"
                       "crosses { name: 'all' of: ['ab', 'ad'] }"
                       "crosses { name: 'ab' of: ['b', 'a'] }"
                       "crosses { name: 'again' of: ['ab', 'a'] }"
                       "crosses { name: 'ads' of: ['ad2', 'ad'] }"
                       "crosses { name: 'pos' of: ['p', 'a'] }"),
                  false));
  EXPECT_THAT(resolved.crosses[0].fields, ElementsAre(1, 0, 5));
  EXPECT_EQ(resolved.crosses[0].part, Part::kCross);
  EXPECT_EQ(resolved.crosses[1].part, Part::kContext);
  EXPECT_THAT(resolved.crosses[2].fields, ElementsAre(1, 0));
  EXPECT_EQ(resolved.crosses[3].part, Part::kAd);
  EXPECT_EQ(resolved.crosses[4].part, Part::kCross);
}

}  // namespace
}  // namespace adrank
