#include "model/feature_names.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

TEST(FeatureNames, AnyTextComesBack) {
  const std::vector<FeatureName> names = {
      {1, 9, "city=Berlin"},
      {0xfedcba9876543210, 8, "query=a\tb\nc\\d\\te"},
      {3, 0, ""},
      {4, 1, "stadt=M\xc3\xbcnchen"}};
  auto parsed = ParseFeatureNames(SerializeFeatureNames(names));
  ASSERT_OK(parsed);
  ASSERT_EQ(parsed->size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ((*parsed)[i].id, names[i].id);
    EXPECT_EQ((*parsed)[i].rows, names[i].rows);
    EXPECT_EQ((*parsed)[i].text, names[i].text);
  }
  EXPECT_OK(ParseFeatureNames(SerializeFeatureNames({})));
}

TEST(FeatureNames, DamageNamesTheLine) {
  const std::string good = SerializeFeatureNames({{1, 2, "a"}, {3, 4, "b"}});
  for (size_t n = 0; n < good.size(); ++n) {
    auto parsed = ParseFeatureNames(good.substr(0, n));
    // A whole number of lines is a shorter file; nothing else is one.
    const bool whole = n > 0 && good[n - 1] == '\n';
    EXPECT_EQ(parsed.ok(), whole) << n;
  }
  for (const char* line :
       {"x\t1\ta\n", "000000000000000g\t1\ta\n", "0000000000000001\t-1\ta\n",
        "0000000000000001\t1\n", "0000000000000001\t1\ta\\x\n"}) {
    EXPECT_THAT(ParseFeatureNames(good + line).status(),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(":4:")))
        << line;
  }
}

}  // namespace
}  // namespace adrank
