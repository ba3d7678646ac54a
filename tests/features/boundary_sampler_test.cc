#include "features/boundary_sampler.h"

#include <cmath>
#include <vector>

#include "base/textproto.h"
#include "features/feature_extractor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

v1::FeatureSpec Spec() {
  v1::FeatureSpec spec;
  const absl::Status status = ParseTextProto(
      "fields { name: 'age' kind: QUANTILE_BIN num_bins: 4 }"
      "fields { name: 'price' source: 'ad.price' kind: QUANTILE_BIN "
      "  max_values: 2 num_bins: 100 }"
      "fields { name: 'pos' source: 'position' kind: QUANTILE_BIN }"
      "fields { name: 'learnt' kind: QUANTILE_BIN boundaries: [1, 2] }"
      "fields { name: 'never' kind: QUANTILE_BIN }",
      "spec", &spec);
  EXPECT_TRUE(status.ok()) << status;
  return spec;
}

v1::Context Aged(double age) {
  v1::Context context;
  v1::Attribute* a = context.add_attributes();
  a->set_name("age");
  a->add_number(age);
  return context;
}

TEST(BoundarySampler, LearnsWhatIsNotLearntYet) {
  ASSERT_OK_AND_ASSIGN(auto sampler, BoundarySampler::Create(Spec(), 1));
  EXPECT_TRUE(sampler->needed());
  v1::AdSnapshot ad;
  v1::Attribute* price = ad.add_attributes();
  price->set_name("price");
  price->add_text("10");
  price->add_text("no number");
  price->add_number(NAN);
  price->add_number(20);
  price->add_number(30);  // beyond max_values
  for (int i = 0; i < 100; ++i) sampler->Add(Aged(i), ad, i % 3);
  const v1::FeatureSpec learnt = sampler->Learn();
  EXPECT_THAT(learnt.fields(0).boundaries(), ElementsAre(25, 50, 75));
  EXPECT_THAT(learnt.fields(1).boundaries(), ElementsAre(20));
  EXPECT_THAT(learnt.fields(2).boundaries(), ElementsAre(2));
  EXPECT_THAT(learnt.fields(3).boundaries(), ElementsAre(1, 2));
  EXPECT_THAT(learnt.fields(4).boundaries(), ElementsAre(0));
  EXPECT_OK(FeatureExtractor::Create(learnt));
  ASSERT_OK_AND_ASSIGN(auto again, BoundarySampler::Create(learnt, 1));
  EXPECT_FALSE(again->needed());
}

TEST(BoundarySampler, SamplesUniformlyAndRepeatably) {
  std::vector<double> first;
  for (int run = 0; run < 2; ++run) {
    ASSERT_OK_AND_ASSIGN(auto sampler,
                         BoundarySampler::Create(Spec(), 7, 2000));
    for (int i = 0; i < 100000; ++i) sampler->Add(Aged(i), {}, 1);
    const v1::FeatureSpec learnt = sampler->Learn();
    ASSERT_THAT(learnt.fields(0).boundaries(), SizeIs(3));
    for (int b = 0; b < 3; ++b) {
      // Five standard errors of a quantile of 2000.
      EXPECT_NEAR(learnt.fields(0).boundaries(b), 25000 * (b + 1), 5600);
      if (run == 0) {
        first.push_back(learnt.fields(0).boundaries(b));
      } else {
        EXPECT_EQ(learnt.fields(0).boundaries(b), first[b]);
      }
    }
  }
}

TEST(BoundarySampler, RefusesABadSpec) {
  v1::FeatureSpec spec;
  spec.add_fields();
  EXPECT_THAT(BoundarySampler::Create(spec, 1),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                "fields[0]: empty name"));
}

}  // namespace
}  // namespace adrank
