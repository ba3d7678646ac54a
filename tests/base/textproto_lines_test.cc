#include "base/textproto_lines.h"

#include "base/files.h"
#include "base/textproto.h"
#include "gtest/gtest.h"
#include "proto/catalog.pb.h"
#include "proto/server_config.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

TEST(TextProtoLines, FindsFieldsAndElementsByTheirPath) {
  const TextProtoLines lines(
      "\xef\xbb\xbf"
      "ads { id: 'a' }\n"
      "ads {\n"
      "  id: 'b'\n"
      "  frequency_caps { impressions: 1 }\n"
      "  frequency_caps {\n"
      "    impressions: 2\n"
      "  }\n"
      "}\n",
      v1::Catalog());
  EXPECT_EQ(lines.Of("ads[0].id"), 1);
  EXPECT_EQ(lines.Of("ads[1].id"), 3);
  EXPECT_EQ(lines.Of("ads[1]"), 2);
  EXPECT_EQ(lines.Of("ads[1].frequency_caps[1].impressions"), 6);
  // An element without index is the first; what is not there is looked for
  // around it.
  EXPECT_EQ(lines.Of("ads.id"), 1);
  EXPECT_EQ(lines.Of("ads[1].frequency_caps[0].unit"), 4);
  EXPECT_EQ(lines.Of("ads[1].no_such_field.id"), 2);
  EXPECT_EQ(lines.Of("ads[1].id.deeper"), 3);
  EXPECT_EQ(lines.Of("campaigns[0].id"), 0);
  EXPECT_EQ(lines.Of("ads[7].id"), 0);
  EXPECT_EQ(lines.Of("ads[-3].id"), 1);
  EXPECT_EQ(lines.Of("ads[x"), 1);
  EXPECT_EQ(lines.Of(""), 0);
  EXPECT_EQ(lines.Of("..."), 0);
}

TEST(TextProtoLines, AnErrorSaysWhereItsFieldStands) {
  EXPECT_EQ(FieldOfError("rank.position_effects[1]: 0 not in (0, 1]"),
            "rank.position_effects[1]");
  EXPECT_EQ(FieldOfError("\"x\" is wrong"), "");
  TempDir dir;
  const std::string path = dir / "s.textproto";
  ASSERT_OK(files::Write(path, "model {\n prior_ctr: 2\n}\n"));
  const v1::ServerConfig type;
  EXPECT_OK(AtItsLine(absl::OkStatus(), path, type));
  EXPECT_EQ(AtItsLine(absl::OutOfRangeError("model.prior_ctr: 2 is wrong"),
                      path, type)
                .message(),
            path + ":2: model.prior_ctr: 2 is wrong");
  EXPECT_EQ(
      AtItsLine(absl::OutOfRangeError("storage.data_dir: required"), path, type)
          .message(),
      path + ": storage.data_dir: required");
  EXPECT_EQ(AtItsLine(absl::OutOfRangeError("wrong"), dir / "none", type),
            absl::OutOfRangeError(dir / "none: wrong"));
}

// adrankctl died of it.
TEST(TextProto, NestingWithoutEndIsAnErrorWithItsPlace) {
  std::string text = "ad_groups { targeting { ";
  for (int i = 0; i < 100'000; ++i) text += "all_of { expressions { ";
  v1::Catalog catalog;
  EXPECT_THAT(
      ParseTextProto(text, "deep", &catalog),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("deep:1:")));
  // What a catalogue may have is no deeper than 32.
  text = "ad_groups { targeting ";
  std::string end = " }";
  for (int i = 0; i < 31; ++i) {
    text += "{ none_of { expressions ";
    end += "}}";
  }
  text += "{ in_set { attribute: 'a' values: 'b' } } " + end;
  EXPECT_OK(ParseTextProto(text, "deep", &catalog));
}

}  // namespace
}  // namespace adrank
