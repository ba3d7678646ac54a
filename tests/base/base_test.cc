#include <vector>

#include "base/files.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/textproto.h"
#include "proto/trainer_config.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Golden values of xxhash 0.8.1, from its command line tool (xxhsum -H3, -H2):
// they may never change, every stored feature id depends on them.
TEST(Hash64, IsFrozen) {
  EXPECT_EQ(Hash64(""), 0x2d06800538d394c2ull);
  EXPECT_EQ(Hash64("adrank"), Hash64("adrank", 0));
  EXPECT_NE(Hash64("adrank", 1), Hash64("adrank", 2));
  EXPECT_EQ(Hash128("").high, 0x99aa06d3014798d8ull);
  EXPECT_EQ(Hash128("").low, 0x6001c324468d497full);
}

TEST(Rng, IsFrozen) {
  Rng rng(7);
  const std::vector<uint64_t> first = {rng(), rng(), rng()};
  Rng again(7);
  for (uint64_t expected : first) EXPECT_EQ(again(), expected);
  EXPECT_EQ(MixBits(0), 0xe220a8397b1dcdafull);  // SplitMix64's first output
}

TEST(Rng, MomentsOfItsDistributions) {
  Rng rng(1);
  double uniform = 0, normal = 0, normal2 = 0, exponential = 0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    uniform += rng.Uniform();
    const double z = rng.Normal();
    normal += z;
    normal2 += z * z;
    exponential += rng.Exponential();
  }
  // Five standard errors.
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.0033);
  EXPECT_NEAR(normal / kDraws, 0, 0.0112);
  EXPECT_NEAR(normal2 / kDraws, 1, 0.016);
  EXPECT_NEAR(exponential / kDraws, 1, 0.0112);
}

TEST(TextProto, UnknownFieldNamesFileLineAndColumn) {
  v1::TrainerConfig config;
  EXPECT_THAT(ParseTextProto("seed: 1\nlogistic {\n  alhpa: 0.1\n}\n", "t.cfg",
                             &config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("t.cfg:3:"), HasSubstr("alhpa"))));
}

TEST(TextProto, TakesWhatWindowsEditorsWrite) {
  v1::TrainerConfig config;
  ASSERT_OK(ParseTextProto("\xef\xbb\xbfseed: 1\r\nthreads: 2\r\n", "t.cfg",
                           &config));
  EXPECT_EQ(config.seed(), 1u);
  EXPECT_EQ(config.threads(), 2u);
}

TEST(TextProto, WrongTypeNamesLine) {
  v1::TrainerConfig config;
  EXPECT_THAT(
      ParseTextProto("seed: -1", "t.cfg", &config),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("t.cfg:1:7")));
}

TEST(Files, AtomicWriteReplacesAndLeavesNothingBehind) {
  TempDir dir;
  ASSERT_OK(files::WriteAtomically(dir / "a", "one"));
  ASSERT_OK(files::WriteAtomically(dir / "a", "two"));
  ASSERT_OK_AND_ASSIGN(const std::string content, files::Read(dir / "a"));
  EXPECT_EQ(content, "two");
  ASSERT_OK_AND_ASSIGN(const auto names, files::List(dir.path()));
  EXPECT_THAT(names, ::testing::ElementsAre("a"));
}

TEST(Files, ErrorsNameThePath) {
  TempDir dir;
  EXPECT_THAT(files::Read(dir / "absent"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(files::Mapped::Open(dir / "absent"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
}

TEST(Files, EmptyFileMapsToNoBytes) {
  TempDir dir;
  ASSERT_OK(files::Write(dir / "empty", ""));
  ASSERT_OK_AND_ASSIGN(const files::Mapped mapped,
                       files::Mapped::Open(dir / "empty"));
  EXPECT_EQ(mapped.bytes().size(), 0u);
}

}  // namespace
}  // namespace adrank
