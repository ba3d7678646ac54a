#include "model/slice_reader.h"

#include <cmath>

#include "tests/model/a_bundle.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::AContents;
using ::adrank::testing::AddText;
using ::adrank::testing::AnExample;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

// Of AContents' spec: the rows of an example with two ads.
struct Extracted {
  explicit Extracted(const v1::GoldenExample& example) {
    auto created =
        FeatureExtractor::Create(AContents().manifest.feature_spec());
    EXPECT_OK(created);
    extractor = *std::move(created);
    std::vector<const v1::AdSnapshot*> ads;
    for (const v1::AdSnapshot& ad : example.ads()) ads.push_back(&ad);
    extractor->Extract(example.context(), "top", ads, {}, &features);
  }
  uint64_t Slice(const std::string& field, size_t i) const {
    const auto reader = SliceReader::Create(*extractor, field);
    EXPECT_OK(reader.status());
    return reader->Slice(features, i);
  }
  std::unique_ptr<const FeatureExtractor> extractor;
  RequestFeatures features;
};

TEST(SliceReader, FindsTheFieldInEachPartOfTheRow) {
  const Extracted e(AnExample("Berlin", 2));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(e.Slice("city", i), e.features.context.ids[0]);
    EXPECT_EQ(e.Slice("category", i), e.features.ads.ids[i]);
    EXPECT_EQ(e.Slice("city_category", i), e.features.crosses.ids[i]);
  }
  EXPECT_NE(e.Slice("category", 0), e.Slice("category", 1));
}

TEST(SliceReader, TakesTheFirstOfManyValuesAndNoneForNone) {
  v1::GoldenExample many = AnExample("Berlin", 1);
  many.mutable_context()->mutable_attributes(0)->add_text("Rome");
  EXPECT_EQ(Extracted(many).Slice("city", 0),
            Extracted(AnExample("Berlin", 1)).Slice("city", 0));
  many.mutable_context()->clear_attributes();
  EXPECT_EQ(Extracted(many).Slice("city", 0), 0u);
  EXPECT_EQ(Extracted(many).Slice("city_category", 0), 0u);
}

TEST(SliceReader, AFieldThatIsNoneAndANumberAreRefused) {
  v1::FeatureSpec spec = AContents().manifest.feature_spec();
  v1::Field* price = spec.add_fields();
  price->set_name("price");
  price->set_kind(v1::Field::LOG1P);
  ASSERT_OK_AND_ASSIGN(const auto extractor, FeatureExtractor::Create(spec));
  EXPECT_THAT(SliceReader::Create(*extractor, "town").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"town\" is no field")));
  EXPECT_THAT(SliceReader::Create(*extractor, "price").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a number without bins")));
}

TEST(SliceReader, ABundleAppliesTheBiasOfEachCandidatesSlice) {
  BundleContents contents = AContents();
  const Extracted e(contents.golden[0]);
  ASSERT_OK_AND_ASSIGN(const auto plain, ModelBundle::FromContents(contents));
  auto* slices = contents.manifest.mutable_calibrator()->mutable_slice_bias();
  slices->set_field("category");
  slices->add_id(e.Slice("category", 1));
  slices->add_bias(std::log(2.0));
  ASSERT_OK_AND_ASSIGN(const auto biased, ModelBundle::FromContents(contents));
  float logits[2], before[2], after[2];
  PredictScratch scratch;
  plain->Predict(e.features, &scratch, absl::MakeSpan(logits),
                 absl::MakeSpan(before));
  biased->Predict(e.features, &scratch, absl::MakeSpan(logits),
                  absl::MakeSpan(after));
  EXPECT_EQ(after[0], before[0]);
  EXPECT_NEAR(after[1] / (1 - after[1]), 2 * before[1] / (1 - before[1]), 1e-6);
  slices->set_field("town");
  EXPECT_THAT(ModelBundle::FromContents(contents).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("calibrator.slice_bias: \"town\"")));
}

}  // namespace
}  // namespace adrank
