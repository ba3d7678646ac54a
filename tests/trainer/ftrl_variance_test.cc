// What FTRL's n says of the weights' variance, against the curvature that it
// stands for.
#include <cmath>

#include "gtest/gtest.h"
#include "model/model_bundle.h"
#include "tests/testing/status_matchers.h"
#include "tests/trainer/planted.h"
#include "trainer/ftrl.h"

namespace adrank {
namespace {

using ::adrank::testing::Planted;
using ::adrank::testing::PlantedOptions;

// The diagonal of the log-likelihood's Hessian at what was learnt:
// sum of p (1 - p) x^2 over the examples that have the row.
std::vector<double> Curvature(const ExampleBlocks& blocks,
                              const FtrlLearner& learner) {
  std::vector<double> sum(learner.rows());
  EXPECT_OK(blocks.ForEach([&](const ExampleBlock& block) {
    std::vector<float> logits(block.examples());
    RETURN_IF_ERROR(learner.Predict(block, absl::MakeSpan(logits)));
    for (size_t i = 0; i < block.examples(); ++i) {
      const double p = 1 / (1 + std::exp(-static_cast<double>(logits[i])));
      for (size_t e = block.begin(i); e < block.begin(i + 1); ++e) {
        sum[block.rows()[e]] += p * (1 - p);
      }
    }
    return absl::OkStatus();
  }));
  return sum;
}

TEST(FtrlVariance, IsTheInverseCurvatureWhereThereIsMuchData) {
  PlantedOptions shape;
  shape.examples = 150000;
  shape.fields = 4;
  shape.field_rows = 50;
  const ExampleBlocks blocks = Planted(shape);
  auto learner = FtrlLearner::Create(FtrlOptions(), shape.rows());
  ASSERT_OK(learner);
  ASSERT_OK(blocks.ForEach(
      [&](const ExampleBlock& block) { return (*learner)->Update(block); }));
  const FrozenLogistic frozen = (*learner)->Freeze();
  const std::vector<double> curvature = Curvature(blocks, **learner);
  ASSERT_EQ(frozen.variances.size(), shape.rows());
  double squares = 0, seen = 0, compared = 0;
  const double precision = 1 / static_cast<double>(frozen.prior_variance);
  for (uint32_t r = 0; r < shape.rows(); ++r) {
    const double n = 1 / static_cast<double>(frozen.variances[r]) - precision;
    if (n >= 0.9999) {
      seen += 1;
      squares += frozen.weights[r] * frozen.weights[r];
    }
    // n is a sum over chance: within a tenth or so of its mean by now.
    if (curvature[r] < 400) continue;
    EXPECT_NEAR(n / curvature[r], 1, 0.25) << r;
    compared += 1;
  }
  EXPECT_GT(compared, 20);
  EXPECT_NEAR(frozen.prior_variance / (squares / seen), 1, 0.01);
}

TEST(FtrlVariance, OfWhatWasNeverSeenIsThePriors) {
  auto learner = FtrlLearner::Create(FtrlOptions(), 3);
  ASSERT_OK(learner);
  BundleContents contents;
  (*learner)->FreezeInto(&contents);
  EXPECT_EQ(contents.prior_variance, 1);
  EXPECT_EQ(contents.variances, std::vector<float>(3, 1.0f));
}

}  // namespace
}  // namespace adrank
