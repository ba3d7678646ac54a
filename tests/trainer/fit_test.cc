#include "trainer/fit.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

// Remembers the examples it is shown, and predicts as well as it is told to:
// quality[p] after pass p.
class ALearner : public Learner {
 public:
  explicit ALearner(std::vector<double> quality)
      : quality_(std::move(quality)) {}

  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order) override {
    for (size_t i = 0; i < block.examples(); ++i) {
      const size_t at = order.empty() ? i : order[i];
      seen.push_back(block.group(at));
    }
    return absl::OkStatus();
  }
  // A logit of the label, times the quality.
  absl::Status Predict(const ExampleBlock& block,
                       absl::Span<float> logits) const override {
    for (size_t i = 0; i < logits.size(); ++i) {
      const double noise = static_cast<double>(i * 37 % 100) / 25 - 2;
      const double q = quality_[static_cast<size_t>(passes_ - 1)];
      logits[i] = static_cast<float>((block.label(i) ? q : -q) + noise);
    }
    return absl::OkStatus();
  }
  v1::Metrics Progress() const override { return {}; }
  void ResetProgress() override { ++passes_; }
  ProgressMeter Meter() const override { return {}; }
  void SetMeter(const ProgressMeter&) override {}
  std::string Save() const override { return absl::StrCat(passes_); }
  absl::Status Restore(absl::string_view state) override {
    CHECK(absl::SimpleAtoi(state, &passes_));
    return absl::OkStatus();
  }
  absl::Status CheckFinite() const override { return absl::OkStatus(); }
  absl::Status Remap(absl::Span<const uint32_t>) override {
    return absl::OkStatus();
  }
  void ScaleRate(double factor) override { factors.push_back(factor); }
  void FreezeInto(BundleContents*) const override {}

  int passes() const { return passes_; }
  std::vector<uint64_t> seen;
  std::vector<double> factors;

 private:
  std::vector<double> quality_;
  int passes_ = 0;
};

ExampleBlocks Examples(size_t n) {
  ExampleBlocksOptions options;
  options.block_bytes = 4096;
  ExampleBlocks blocks(options);
  for (size_t i = 0; i < n; ++i) {
    CHECK(blocks.Add({1, 2, 3}, {}, i % 3 == 0, 1, i).ok());
  }
  CHECK(blocks.Finish().ok());
  return blocks;
}

FitResult Fitted(const FitOptions& options, ALearner* learner,
                 const ExampleBlocks& training) {
  const ExampleBlocks validation = Examples(120);
  const SimulatedClock clock(absl::UnixEpoch());
  StepProgress progress(&clock, false, -1);
  auto result = Fit(options, training, validation, learner, &progress);
  CHECK(result.ok()) << result.status();
  return *std::move(result);
}

TEST(Fit, EarlyStoppingGivesBackTheBestPass) {
  for (const auto metric :
       {v1::EarlyStopping::LOGLOSS, v1::EarlyStopping::METRIC_UNSPECIFIED}) {
    FitOptions options;
    options.passes = 9;
    options.early_stopping.set_patience(2);
    options.early_stopping.set_metric(metric);
    ALearner learner({0.1, 0.5, 1.1, 0.7, 1.0, 1.6, 1.7, 1.8, 2});
    const FitResult result = Fitted(options, &learner, Examples(10));
    EXPECT_EQ(result.progressive.size(), 5);  // passes 3 and 4 were no better
    EXPECT_EQ(result.validation.size(), 5);
    EXPECT_EQ(result.best_pass, 2);
    EXPECT_EQ(learner.passes(), 3);
  }
}

TEST(Fit, TheLastPassStaysWhereItIsTheBestOrNobodyAsks) {
  FitOptions options;
  options.passes = 3;
  ALearner falling({2, 1, 0.5});
  FitResult result = Fitted(options, &falling, Examples(10));
  EXPECT_EQ(result.best_pass, 2);
  EXPECT_EQ(falling.passes(), 3);
  EXPECT_TRUE(result.validation.empty());
  options.early_stopping.set_patience(1);
  ALearner rising({0.5, 1, 2});
  result = Fitted(options, &rising, Examples(10));
  EXPECT_EQ(result.best_pass, 2);
  EXPECT_EQ(rising.passes(), 3);
}

// A metric that is no number was never improved upon.
TEST(Fit, AFirstPassWithoutAMetricIsNotTheBest) {
  FitOptions options;
  options.passes = 3;
  options.early_stopping.set_patience(5);
  options.early_stopping.set_metric(v1::EarlyStopping::LOGLOSS);
  ALearner learner({NAN, 1, 0.5});
  const FitResult result = Fitted(options, &learner, Examples(10));
  EXPECT_EQ(result.best_pass, 1);
  EXPECT_EQ(learner.passes(), 2);
}

TEST(Fit, APlateauLowersTheRateDownToItsFloor) {
  for (const auto& [floor, drops] :
       std::vector<std::pair<double, size_t>>{{0.1, 1}, {0.01, 2}, {0.5, 0}}) {
    FitOptions options;
    options.passes = 6;
    options.plateau_floor = floor;
    ALearner learner({1, 2, 1.5, 1.6, 1.7, 3});
    const FitResult result = Fitted(options, &learner, Examples(10));
    EXPECT_EQ(learner.factors, std::vector<double>(drops, 0.1)) << floor;
    EXPECT_EQ(result.validation.size(), 6);
    EXPECT_EQ(learner.passes(), 6);
  }
}

TEST(Fit, ShufflesAreAFunctionOfTheSeedAndVisitEveryExampleOnce) {
  const ExampleBlocks training = Examples(1000);
  ASSERT_GT(training.blocks(), 3);
  const auto seen = [&](bool shuffle, bool first, uint64_t seed) {
    FitOptions options;
    options.passes = 2;
    options.shuffle = shuffle;
    options.shuffle_first = first;
    options.seed = seed;
    ALearner learner({1, 1});
    Fitted(options, &learner, training);
    EXPECT_EQ(learner.seen.size(), 2000);
    for (const size_t begin : {0, 1000}) {
      std::vector<uint64_t> pass(learner.seen.begin() + begin,
                                 learner.seen.begin() + begin + 1000);
      std::sort(pass.begin(), pass.end());
      for (size_t i = 0; i < 1000; ++i) EXPECT_EQ(pass[i], i);
    }
    return learner.seen;
  };
  const auto half = [](const std::vector<uint64_t>& v, int which) {
    return std::vector<uint64_t>(v.begin() + which * 1000,
                                 v.begin() + (which + 1) * 1000);
  };
  const auto in_order = half(seen(false, false, 1), 0);
  EXPECT_TRUE(std::is_sorted(in_order.begin(), in_order.end()));
  EXPECT_EQ(half(seen(false, false, 1), 1), in_order);
  EXPECT_EQ(half(seen(true, false, 1), 0), in_order);
  EXPECT_NE(half(seen(true, false, 1), 1), in_order);
  const auto both = seen(true, true, 1);
  EXPECT_NE(half(both, 0), in_order);
  EXPECT_NE(half(both, 0), half(both, 1));
  EXPECT_EQ(both, seen(true, true, 1));
  EXPECT_NE(both, seen(true, true, 2));
}

}  // namespace
}  // namespace adrank
