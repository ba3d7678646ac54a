#include "model/uncertainty.h"

#include <cmath>

#include "model/bundle_files.h"
#include "model/checksums.h"
#include "tests/model/a_bundle.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AContents;
using ::testing::HasSubstr;

BundleContents WithVariances() {
  BundleContents contents = AContents();
  contents.variances = {0.5f, 0.25f, 1, 2, 0.125f, 3, 4};
  contents.prior_variance = 1.5f;
  return contents;
}

TEST(Uncertainty, GoldenBytes) {
  const std::vector<float> v = {1.0f, 0.00390625f, 1.001953125f, 1.00390625f,
                                1.01171875f};
  const std::string bytes = Uncertainty::Serialize(0.5f, v);
  ASSERT_EQ(bytes.size(), 64u + 10u);
  EXPECT_EQ(bytes.substr(0, 8), "ADRKVAR1");
  // 1, 2^-8, then rounded down, a tie to even down, a tie to even up.
  EXPECT_EQ(bytes.substr(64),
            std::string("\x80\x3f\x80\x3b\x80\x3f\x80\x3f\x82\x3f", 10));
  const auto parsed = Uncertainty::Parse(bytes, 5);
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->prior(), 0.5f);
  EXPECT_EQ(parsed->variance(1), 0.00390625f);
  EXPECT_EQ(parsed->variance(kNoRow), 0.5f);
}

TEST(Uncertainty, BundleKeepsIt) {
  testing::TempDir dir;
  const BundleContents contents = WithVariances();
  ASSERT_OK(WriteBundle(dir / "1", contents));
  const auto bundle = ModelBundle::Load(dir / "1");
  ASSERT_OK(bundle);
  const Uncertainty* uncertainty = (*bundle)->uncertainty();
  ASSERT_NE(uncertainty, nullptr);
  for (uint32_t r = 0; r < contents.variances.size(); ++r) {
    EXPECT_EQ(uncertainty->variance(r), contents.variances[r]);
  }
  const auto made = ModelBundle::FromContents(contents);
  ASSERT_OK(made);
  EXPECT_EQ((*made)->uncertainty()->variance(3), 2);
}

TEST(Uncertainty, OlderBundlesHaveNone) {
  testing::TempDir dir;
  ASSERT_OK(WriteBundle(dir / "1", AContents()));
  const auto bundle = ModelBundle::Load(dir / "1");
  ASSERT_OK(bundle);
  EXPECT_EQ((*bundle)->uncertainty(), nullptr);
}

// What the ad and the crosses add; an unknown feature adds the prior.
TEST(Uncertainty, VarianceOfALogitIsTheSumOverTheRow) {
  const auto bundle = ModelBundle::FromContents(WithVariances());
  ASSERT_OK(bundle);
  const BundleContents contents = WithVariances();
  for (const v1::GoldenExample& example : contents.golden) {
    std::vector<const v1::AdSnapshot*> ads;
    for (const v1::AdSnapshot& ad : example.ads()) ads.push_back(&ad);
    RequestFeatures features;
    (*bundle)->extractor().Extract(example.context(), "top", ads, {},
                                   &features);
    RequestRows rows;
    (*bundle)->vocabulary().Lookup(features, &rows);
    for (size_t i = 0; i < ads.size(); ++i) {
      double want = 0;
      const auto add = [&](const FeatureBatch& batch,
                           const std::vector<uint32_t>& r) {
        for (size_t e = batch.offsets[i]; e < batch.offsets[i + 1]; ++e) {
          want += (r[e] == kNoRow ? 1.5 : contents.variances[r[e]]) *
                  batch.values[e] * batch.values[e];
        }
      };
      add(features.ads, rows.ads);
      add(features.crosses, rows.crosses);
      EXPECT_GT(want, 0);
      EXPECT_DOUBLE_EQ(
          (*bundle)->uncertainty()->LogitVariance(features, rows, i), want);
    }
  }
}

TEST(Uncertainty, RefusesWhatIsNoVariance) {
  for (const float bad : {0.0f, -1.0f, NAN, INFINITY, 2e6f}) {
    BundleContents contents = WithVariances();
    contents.variances[2] = bad;
    EXPECT_THAT(ModelBundle::FromContents(contents).status().message(),
                HasSubstr("uncertainty.bin: variance[2]"))
        << bad;
    contents = WithVariances();
    contents.prior_variance = bad;
    EXPECT_THAT(ModelBundle::FromContents(contents).status().message(),
                HasSubstr("uncertainty.bin: prior"))
        << bad;
  }
  BundleContents contents = WithVariances();
  contents.variances.pop_back();
  EXPECT_THAT(ModelBundle::FromContents(contents).status().message(),
              HasSubstr("6 variances"));
  const std::string bytes = Uncertainty::Serialize(1, {1, 1});
  EXPECT_FALSE(Uncertainty::Parse(bytes.substr(0, 66), 2).ok());
  EXPECT_FALSE(Uncertainty::Parse(bytes.substr(0, 20), 2).ok());
}

}  // namespace
}  // namespace adrank
