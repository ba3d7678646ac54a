#include "trainer/drift.h"

#include <cmath>

#include "gtest/gtest.h"

namespace adrank {
namespace {

TEST(Drift, FieldsAreMatchedByNameAndSharesCounted) {
  v1::ModelManifest candidate, live;
  candidate.add_field_coverage(1);
  candidate.add_field_coverage(0.5);
  candidate.add_field_coverage(0.25);
  live.add_field_coverage(0.75);
  live.add_field_coverage(0.125);
  live.add_field_oov(0.5);
  const std::vector<std::string> names = {"a", "b", "c"};
  const std::vector<std::string> live_names = {"c", "b"};
  const std::vector<FieldCounts> counts = {{200, 200, 0}, {50, 80, 20}, {}};
  const NamedManifest theirs = {live, live_names};
  const auto drift = FieldDrifts({candidate, names}, counts, 200, &theirs);
  ASSERT_EQ(drift.size(), 3u);
  EXPECT_EQ(drift[0].field(), "a");
  EXPECT_EQ(drift[0].training_coverage(), 1);
  EXPECT_EQ(drift[0].evaluation_coverage(), 1);
  EXPECT_TRUE(std::isnan(drift[0].live_coverage()));
  EXPECT_EQ(drift[1].evaluation_coverage(), 0.25);
  EXPECT_EQ(drift[1].live_coverage(), 0.125);
  EXPECT_EQ(drift[1].oov(), 0.25);
  EXPECT_TRUE(std::isnan(drift[1].live_oov()));  // it does not say
  EXPECT_EQ(drift[2].live_coverage(), 0.75);
  EXPECT_EQ(drift[2].live_oov(), 0.5);
  EXPECT_EQ(drift[2].oov(), 0);  // no features, none unknown
  const auto alone = FieldDrifts({candidate, names}, counts, 200, nullptr);
  EXPECT_TRUE(std::isnan(alone[2].live_coverage()));
}

}  // namespace
}  // namespace adrank
