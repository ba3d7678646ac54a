// LogitSplit against the model that it takes apart.
#include "model/logit_split.h"

#include <cmath>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "tests/model/a_random_bundle.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::AddRandomAttributes;
using ::adrank::testing::ARandomBundle;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

struct Pair {
  v1::Context context;
  v1::AdSnapshot ad;
};

Pair RandomPair(Rng* rng) {
  Pair pair;
  AddRandomAttributes(rng, "c", pair.context.mutable_attributes());
  AddRandomAttributes(rng, "a", pair.ad.mutable_attributes());
  return pair;
}

double LogitOf(const ModelBundle& bundle, const Pair& pair) {
  RequestFeatures features;
  bundle.extractor().Extract(pair.context, "top", {&pair.ad}, {}, &features);
  PredictScratch scratch;
  float logit = 0, pctr = 0;
  bundle.Predict(features, &scratch, {&logit, 1}, {&pctr, 1});
  return static_cast<double>(logit);
}

double SplitLogit(const ModelBundle& bundle, const LogitSplit& split,
                  const Pair& pair) {
  FeatureBatch ads;
  std::vector<uint32_t> rows;
  // Not the first row.
  bundle.extractor().ExtractAd(v1::AdSnapshot(), &ads);
  bundle.extractor().ExtractAd(pair.ad, &ads);
  bundle.vocabulary().Lookup(ads, &rows);
  LogitSplit::Scratch scratch;
  std::vector<float> of_ad(split.dims()), of_context(split.dims());
  double sum =
      split.Ad(ads, rows, 1, &scratch, absl::MakeSpan(of_ad)) +
      split.Context(pair.context, "top", &scratch, absl::MakeSpan(of_context));
  for (size_t d = 0; d < split.dims(); ++d) {
    sum += double{of_ad[d]} * of_context[d];
  }
  return sum;
}

constexpr const char* kExact[] = {
    "",  // logistic
    "dim: 3 linear: true",
    "dim: 3 linear: true pairwise: FM",
    "dim: 7 pairwise: FM",
    "dim: 4 linear: true pairwise: FM field_dims { field: 'c0' dim: 0 }",
    "dim: 3 linear: true pairwise: FWFM",
    "dim: 5 pairwise: FWFM",
    "dim: 3 linear: true pairwise: FVFM",
    "dim: 5 pairwise: FVFM field_dims { field: 'a0' dim: 0 }",
    "dim: 5 linear: true pairwise: FWFM field_dims { field: 'a0' dim: 0 }",
};

TEST(LogitSplit, SumsToTheLogitOfEveryModelThatItIsExactFor) {
  for (const std::string graph : kExact) {
    for (uint64_t seed = 0; seed < 60; ++seed) {
      SCOPED_TRACE(absl::StrCat(graph, " seed ", seed));
      Rng rng(seed);
      const auto bundle = ARandomBundle(&rng, graph);
      ASSERT_OK_AND_ASSIGN(const LogitSplit split, LogitSplit::Create(*bundle));
      EXPECT_EQ(split.left_out(), "");
      for (int i = 0; i < 20; ++i) {
        const Pair pair = RandomPair(&rng);
        const double logit = LogitOf(*bundle, pair);
        ASSERT_NEAR(SplitLogit(*bundle, split, pair), logit,
                    2e-5 * (1 + std::abs(logit)));
      }
    }
  }
}

TEST(LogitSplit, FwfmHasABlockForEachFieldOfTheSideWithFewer) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Rng rng(seed);
    const auto bundle = ARandomBundle(&rng, "dim: 2 pairwise: FWFM");
    ASSERT_OK_AND_ASSIGN(const LogitSplit split, LogitSplit::Create(*bundle));
    size_t ads = 0, contexts = 0;
    for (const auto& f : bundle->extractor().spec().fields()) {
      if (f.name()[0] == 'a') ++ads;
      if (f.name()[0] == 'c' || f.name() == "place") ++contexts;
    }
    for (const auto& c : bundle->extractor().spec().crosses()) {
      if (c.of(0)[0] == 'a') ++ads;
      if (c.of(0)[0] == 'c') ++contexts;
    }
    EXPECT_EQ(split.dims(), 2 * std::min(ads, contexts)) << seed;
  }
}

// What is left out is said, and it is that alone: without the mixed cross's
// value the sum is the logit again.
TEST(LogitSplit, ACrossOfBothSidesIsLeftOutAndSaid) {
  for (const char* graph : {"", "dim: 3 linear: true pairwise: FM",
                            "dim: 3 linear: true pairwise: FWFM"}) {
    int differ = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(absl::StrCat(graph, " seed ", seed));
      Rng rng(seed);
      const auto bundle = ARandomBundle(&rng, graph, true);
      ASSERT_OK_AND_ASSIGN(const LogitSplit split, LogitSplit::Create(*bundle));
      EXPECT_EQ(split.left_out(), "1 cross of context and ad");
      Pair pair = RandomPair(&rng);
      RequestFeatures features;
      RequestRows rows;
      bundle->extractor().Extract(pair.context, "top", {&pair.ad}, {},
                                  &features);
      bundle->vocabulary().Lookup(features, &rows);
      const size_t last = bundle->extractor().field_names().size() - 1;
      for (size_t e = 0; e < rows.crosses.size(); ++e) {
        if (features.crosses.fields[e] == last) rows.crosses[e] = kNoRow;
      }
      float logit = 0;
      bundle->model().Logits(features, rows, {&logit, 1});
      const double sum = SplitLogit(*bundle, split, pair);
      EXPECT_NEAR(sum, logit, 2e-5 * (1 + std::abs(sum)));
      differ += std::abs(sum - LogitOf(*bundle, pair)) > 1e-3;
    }
    EXPECT_GT(differ, 5);
  }
}

TEST(LogitSplit, HiddenLayersAreLeftOutAndSaid) {
  Rng rng(1);
  const auto bundle = ARandomBundle(
      &rng, "dim: 3 linear: true pairwise: FM streams { layers { units: 4 } }",
      true);
  ASSERT_OK_AND_ASSIGN(const LogitSplit split, LogitSplit::Create(*bundle));
  EXPECT_EQ(split.left_out(), "1 cross of context and ad and hidden layers");
}

TEST(LogitSplit, AModelWithoutPairsIsRefusedUnlessItIsLinear) {
  Rng rng(1);
  for (const char* graph :
       {"dim: 3 linear: true streams { layers { units: 4 } }",
        "dim: 3 streams { layers { units: 4 } }"}) {
    EXPECT_THAT(LogitSplit::Create(*ARandomBundle(&rng, graph)).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("neither an FM nor an FwFM part")));
  }
}

}  // namespace
}  // namespace adrank
