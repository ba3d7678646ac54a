#include "base/message_diff.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/textproto.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/catalog.pb.h"
#include "proto/events.pb.h"

namespace adrank {
namespace {

using ::testing::ElementsAre;

template <typename M>
std::vector<std::string> Diff(const std::string& left, const std::string& right,
                              size_t limit = 100) {
  M a, b;
  EXPECT_TRUE(ParseTextProto(left, "left", &a).ok());
  EXPECT_TRUE(ParseTextProto(right, "right", &b).ok());
  std::vector<std::string> lines;
  for (const FieldDifference& d : DiffMessages(a, b, limit)) {
    lines.push_back(absl::StrCat(d.path, "|", d.left, "|", d.right));
  }
  EXPECT_EQ(lines.empty(), a.SerializeAsString() == b.SerializeAsString());
  return lines;
}

TEST(MessageDiff, NamesFieldsByPathAndShowsBothSides) {
  EXPECT_THAT(
      Diff<v1::Campaign>("id: 'c' budget { daily_micros: 1 } time_zone: 'UTC'",
                         "id: 'c' budget { daily_micros: 2 } status: 2"),
      ElementsAre("status|ENTITY_STATUS_UNSPECIFIED|"
                  "ENTITY_STATUS_PAUSED",
                  "budget.daily_micros|1|2", "time_zone|\"UTC\"|\"\""));
  EXPECT_THAT(Diff<v1::Campaign>("", "budget { total_micros: 5 }"),
              ElementsAre("budget||{ total_micros: 5 }"));
  EXPECT_THAT(Diff<v1::Campaign>("id: 'a' name: 'x'", "id: 'b' name: 'y'", 1),
              ElementsAre("id|\"a\"|\"b\""));
}

TEST(MessageDiff, ListsShowWhatWasPutInTakenOutOrReplaced) {
  const std::string base =
      "keywords { text: 'a' } keywords { text: 'b' } keywords { text: 'c' }";
  EXPECT_THAT(Diff<v1::AdGroup>(base, base), ElementsAre());
  EXPECT_THAT(
      Diff<v1::AdGroup>(base,
                        "keywords { text: 'a' } keywords { text: 'x' }"
                        "keywords { text: 'b' } keywords { text: 'c' }"),
      ElementsAre("keywords[1]||{ text: \"x\" }"));
  EXPECT_THAT(
      Diff<v1::AdGroup>(base, "keywords { text: 'a' } keywords { text: 'c' }"),
      ElementsAre("keywords[1]|{ text: \"b\" }|"));
  EXPECT_THAT(Diff<v1::AdGroup>(base,
                                "keywords { text: 'a' } keywords { text: 'b' "
                                "negative: true } keywords { text: 'c' }"),
              ElementsAre("keywords[1].negative|false|true"));
  EXPECT_THAT(Diff<v1::Campaign>("negative_keywords: 'a'",
                                 "negative_keywords: 'a' "
                                 "negative_keywords: 'b'"),
              ElementsAre("negative_keywords[1]||\"b\""));
}

TEST(MessageDiff, NumbersAreComparedByTheirBits) {
  v1::ServedAd a, b;
  a.set_pctr(0.1f);
  b.set_pctr(std::nextafterf(0.1f, 1));
  ASSERT_EQ(DiffMessages(a, b, 9).size(), 1u);
  EXPECT_NE(DiffMessages(a, b, 9)[0].left, DiffMessages(a, b, 9)[0].right);
  a.set_pctr(std::nanf(""));
  b = a;
  EXPECT_TRUE(DiffMessages(a, b, 9).empty());
  a.set_pctr(0.0f);
  b.set_pctr(-0.0f);
  EXPECT_EQ(DiffMessages(a, b, 9).size(), 1u);
}

TEST(MessageDiff, OptionalAndOneofFieldsKnowAbsence) {
  EXPECT_THAT(Diff<v1::TargetingExpression>("range { attribute: 'a' min: 0 }",
                                            "range { attribute: 'a' }"),
              ElementsAre("range.min|0|"));
  EXPECT_THAT(Diff<v1::TargetingExpression>("range { attribute: 'a' }",
                                            "in_set { attribute: 'a' }"),
              ElementsAre("in_set||{ attribute: \"a\" }",
                          "range|{ attribute: \"a\" }|"));
}

}  // namespace
}  // namespace adrank
