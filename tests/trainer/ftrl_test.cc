#include "trainer/ftrl.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "model/model.h"
#include "tests/testing/status_matchers.h"
#include "tests/trainer/planted.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

using ::adrank::testing::Planted;
using ::adrank::testing::PlantedOptions;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

std::unique_ptr<FtrlLearner> ALearner(const FtrlOptions& options,
                                      uint64_t rows) {
  auto learner = FtrlLearner::Create(options, rows);
  CHECK(learner.ok()) << learner.status();
  return *std::move(learner);
}

void Learn(const ExampleBlocks& blocks, FtrlLearner* learner) {
  EXPECT_OK(blocks.ForEach(
      [&](const ExampleBlock& block) { return learner->Update(block); }));
}

// McMahan et al. 2013, Algorithm 1, in double, one example at a time.
class AlgorithmOne {
 public:
  AlgorithmOne(const FtrlOptions& o, size_t rows) : o_(o), z_(rows), n_(rows) {}

  double Weight(size_t i) const {
    if (std::fabs(z_[i]) <= o_.l1) return 0;
    const double sign = z_[i] < 0 ? -1 : 1;
    return -(z_[i] - sign * o_.l1) /
           ((o_.beta + std::sqrt(n_[i])) / o_.alpha + o_.l2);
  }
  double bias() const {
    return o_.initial_bias -
           bias_z_ * o_.alpha / (o_.beta + std::sqrt(bias_n_));
  }

  void Learn(const ExampleBlock& b, size_t example) {
    double logit = bias();
    for (size_t e = b.begin(example); e < b.begin(example + 1); ++e) {
      logit += Weight(b.rows()[e]) * (b.values() ? b.values()[e] : 1.0);
    }
    const double p = 1 / (1 + std::exp(-logit));
    const double delta = (p - b.label(example)) * b.weight(example);
    loss_ -=
        b.weight(example) * (b.label(example) ? std::log(p) : std::log(1 - p));
    weight_ += b.weight(example);
    for (size_t e = b.begin(example); e < b.begin(example + 1); ++e) {
      const size_t i = b.rows()[e];
      const double g = delta * (b.values() ? b.values()[e] : 1.0);
      const double sigma =
          (std::sqrt(n_[i] + g * g) - std::sqrt(n_[i])) / o_.alpha;
      z_[i] += g - sigma * Weight(i);
      n_[i] += g * g;
    }
    const double sigma =
        (std::sqrt(bias_n_ + delta * delta) - std::sqrt(bias_n_)) / o_.alpha;
    bias_z_ += delta - sigma * (bias() - o_.initial_bias);
    bias_n_ += delta * delta;
  }
  double loss() const { return loss_ / weight_; }

 private:
  const FtrlOptions o_;
  std::vector<double> z_, n_;
  double bias_z_ = 0, bias_n_ = 0;
  double loss_ = 0, weight_ = 0;
};

std::vector<PlantedOptions> AllShapes() {
  std::vector<PlantedOptions> shapes(6);
  shapes[1].ragged = true;
  shapes[2].values = true;
  shapes[3].weights = true;
  shapes[4].duplicates = true;
  shapes[5].ragged = shapes[5].values = shapes[5].weights =
      shapes[5].duplicates = true;
  for (PlantedOptions& shape : shapes) shape.blocks.block_bytes = 40 << 10;
  return shapes;
}

TEST(FtrlLearner, OneAtATimeIsAlgorithmOne) {
  for (const PlantedOptions& shape : AllShapes()) {
    const ExampleBlocks blocks = Planted(shape);
    FtrlOptions options;
    options.alpha = 0.1;
    options.l1 = 0.4;
    options.l2 = 0.7;
    options.max_batch = 1;
    options.initial_bias = -1;
    const auto learner = ALearner(options, shape.rows());
    AlgorithmOne oracle(options, shape.rows());
    Learn(blocks, learner.get());
    ASSERT_OK(blocks.ForEach([&](const ExampleBlock& block) {
      for (size_t i = 0; i < block.examples(); ++i) oracle.Learn(block, i);
      return absl::OkStatus();
    }));
    const FrozenLogistic frozen = learner->Freeze();
    EXPECT_NEAR(frozen.bias, oracle.bias(), 1e-4);
    uint64_t nonzero = 0;
    for (uint32_t r = 0; r < shape.rows(); ++r) {
      ASSERT_NEAR(frozen.weights[r], oracle.Weight(r), 1e-4) << r;
      nonzero += frozen.weights[r] != 0;
    }
    EXPECT_EQ(frozen.nonzero, nonzero);
    EXPECT_NEAR(learner->Progress().logloss(), oracle.loss(), 1e-5);
    EXPECT_EQ(learner->examples(), shape.examples);
  }
}

TEST(FtrlLearner, MiniBatchesLearnAsWellAsOneAtATime) {
  for (const size_t examples : {500, 5000, 60000}) {
    for (const double alpha : {0.05, 0.3}) {
      PlantedOptions shape;
      shape.examples = examples;
      shape.fields = 20;
      const ExampleBlocks blocks = Planted(shape);
      shape.seed = 99;
      shape.examples = 20000;
      const ExampleBlocks test = Planted(shape);
      double train[2], loss[2];
      for (const uint32_t batch : {1, 256}) {
        FtrlOptions options;
        options.alpha = alpha;
        options.max_batch = batch;
        const auto learner = ALearner(options, shape.rows());
        Learn(blocks, learner.get());
        train[batch > 1] = learner->Progress().normalized_entropy();
        learner->ResetProgress();
        double sum = 0;
        ASSERT_OK(test.ForEach([&](const ExampleBlock& block) {
          std::vector<float> logits(block.examples());
          RETURN_IF_ERROR(learner->Predict(block, absl::MakeSpan(logits)));
          for (size_t i = 0; i < logits.size(); ++i) {
            sum +=
                std::log1p(std::exp(block.label(i) ? -logits[i] : logits[i]));
          }
          return absl::OkStatus();
        }));
        loss[batch > 1] = sum / 20000;
      }
      EXPECT_LT(train[1] / train[0], 1.002) << examples << " " << alpha;
      EXPECT_LT(loss[1] / loss[0], 1.002) << examples << " " << alpha;
    }
  }
}

TEST(FtrlLearner, SameBytesForAnyNumberOfThreads) {
  for (PlantedOptions shape : AllShapes()) {
    shape.examples = 40000;  // past 16384 batches are for all threads
    shape.fields = 4;
    const ExampleBlocks blocks = Planted(shape);
    std::string expected;
    v1::Metrics progress;
    for (const uint32_t threads : {1, 2, 3, 8}) {
      FtrlOptions options;
      options.threads = threads;
      const auto learner = ALearner(options, shape.rows());
      Learn(blocks, learner.get());
      if (threads == 1) {
        expected = learner->Save();
        progress = learner->Progress();
      }
      ASSERT_TRUE(learner->Save() == expected) << threads << " threads";
      EXPECT_EQ(learner->Progress().SerializeAsString(),
                progress.SerializeAsString());
    }
  }
}

TEST(FtrlLearner, AnOrderOfExamplesIsTheSameAsBlocksInThatOrder) {
  PlantedOptions shape;
  shape.examples = 40000;
  shape.fields = 5;
  shape.ragged = true;
  const ExampleBlocks blocks = Planted(shape);
  ASSERT_EQ(blocks.blocks(), 1);
  ASSERT_OK_AND_ASSIGN(const auto block, blocks.Read(0));
  const std::vector<uint32_t> order = Permutation(block->examples(), 5);
  ExampleBlocks moved;
  for (const uint32_t i : order) {
    const size_t begin = block->begin(i);
    EXPECT_OK(moved.Add({block->rows() + begin, block->begin(i + 1) - begin},
                        {}, block->label(i)));
  }
  EXPECT_OK(moved.Finish());
  std::string expected;
  for (const uint32_t threads : {1, 2, 3}) {
    FtrlOptions options;
    options.threads = threads;
    const auto a = ALearner(options, shape.rows());
    EXPECT_OK(a->Update(*block, order));
    const auto b = ALearner(options, shape.rows());
    Learn(moved, b.get());
    EXPECT_TRUE(a->Save() == b->Save());
    if (expected.empty()) expected = a->Save();
    EXPECT_TRUE(a->Save() == expected);
  }
}

TEST(FtrlLearner, RestoredInTheMiddleEndsWithTheSameBytes) {
  PlantedOptions shape;
  shape.examples = 30000;
  shape.blocks.block_bytes = 64 << 10;
  const ExampleBlocks blocks = Planted(shape);
  ASSERT_GT(blocks.blocks(), 10);
  FtrlOptions options;
  options.initial_bias = -2;
  const auto whole = ALearner(options, shape.rows());
  Learn(blocks, whole.get());
  const auto first = ALearner(options, shape.rows());
  for (size_t i = 0; i < 5; ++i) EXPECT_OK(first->Update(**blocks.Read(i)));
  FtrlOptions others = options;
  others.threads = 2;
  others.initial_bias = 0;  // the state's counts
  const auto second = ALearner(others, 3);
  ASSERT_OK(second->Restore(first->Save()));
  EXPECT_EQ(second->rows(), shape.rows());
  for (size_t i = 5; i < blocks.blocks(); ++i) {
    EXPECT_OK(second->Update(**blocks.Read(i)));
  }
  EXPECT_TRUE(second->Save() == whole->Save());
}

TEST(FtrlLearner, AnyDamageOfTheStateIsRefusedAndChangesNothing) {
  PlantedOptions shape;
  shape.examples = 50;
  shape.fields = 2;
  shape.field_rows = 5;
  const auto learner = ALearner({}, shape.rows());
  Learn(Planted(shape), learner.get());
  const std::string state = learner->Save();
  const auto other = ALearner({}, 4);
  const std::string before = other->Save();
  for (size_t i = 0; i < state.size(); ++i) {
    std::string damaged = state;
    damaged[i] ^= 0x10;
    EXPECT_FALSE(other->Restore(damaged).ok()) << i;
    EXPECT_FALSE(other->Restore(state.substr(0, i)).ok()) << i;
  }
  EXPECT_TRUE(other->Save() == before);
  std::string damaged = state;
  damaged[60] ^= 1;
  EXPECT_THAT(other->Restore(damaged),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  damaged = state;
  damaged[7] = '2';
  EXPECT_THAT(
      other->Restore(damaged),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("format 02")));
  damaged[0] = 'x';
  EXPECT_THAT(other->Restore(damaged),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not of an FTRL learner")));
}

TEST(FtrlLearner, FewerAndSmallerWeightsAsL1Grows) {
  PlantedOptions shape;
  const ExampleBlocks blocks = Planted(shape);
  double before = std::numeric_limits<double>::infinity();
  uint64_t nonzero_before = shape.rows() + 1;
  for (const double l1 : {0.0, 0.5, 1.0, 2.0, 4.0, 8.0}) {
    FtrlOptions options;
    options.l1 = l1;
    const auto learner = ALearner(options, shape.rows());
    Learn(blocks, learner.get());
    const FrozenLogistic frozen = learner->Freeze();
    double sum = 0;
    for (const float w : frozen.weights) sum += std::fabs(w);
    EXPECT_LT(sum, before) << l1;
    EXPECT_LT(frozen.nonzero, nonzero_before) << l1;
    before = sum;
    nonzero_before = frozen.nonzero;
  }
}

TEST(FtrlLearner, PredictIsTheFrozenWeightsSummedInOrder) {
  for (const PlantedOptions& shape : AllShapes()) {
    const ExampleBlocks blocks = Planted(shape);
    FtrlOptions options;
    options.threads = 3;
    const auto learner = ALearner(options, shape.rows());
    Learn(blocks, learner.get());
    const FrozenLogistic frozen = learner->Freeze();
    const auto block = *blocks.Read(0);
    std::vector<float> logits(block->examples());
    ASSERT_OK(learner->Predict(*block, absl::MakeSpan(logits)));
    for (size_t i = 0; i < logits.size(); ++i) {
      double sum = 0;
      for (size_t e = block->begin(i); e < block->begin(i + 1); ++e) {
        sum += static_cast<double>(frozen.weights[block->rows()[e]]) *
               (block->values() ? block->values()[e] : 1.0f);
      }
      ASSERT_EQ(logits[i], static_cast<float>(frozen.bias + sum));
    }
  }
}

TEST(FtrlLearner, RowsCanBeAddedAndMoved) {
  PlantedOptions shape;
  shape.fields = 2;
  shape.field_rows = 10;
  const auto learner = ALearner({}, 20);
  Learn(Planted(shape), learner.get());
  const std::vector<float> before = learner->Freeze().weights;
  ASSERT_OK(learner->Grow(25));
  std::vector<float> after = learner->Freeze().weights;
  ASSERT_EQ(after.size(), 25);
  for (int r = 0; r < 25; ++r) {
    EXPECT_EQ(after[r], r < 20 ? before[r] : 0.0f);
  }
  const std::vector<uint32_t> source = {7, kNoRow, 3, 19};
  ASSERT_OK(learner->Remap(source));
  EXPECT_THAT(learner->Freeze().weights,
              ::testing::ElementsAre(before[7], 0.0f, before[3], before[19]));
  EXPECT_THAT(learner->Remap({4}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row 4")));
}

TEST(FtrlLearner, UnknownRowsAndOrdersAreRefusedAndNothingIsLearnt) {
  PlantedOptions shape;
  shape.examples = 100;
  const ExampleBlocks blocks = Planted(shape);
  const auto learner = ALearner({}, 5);
  const std::string before = learner->Save();
  EXPECT_THAT(learner->Update(**blocks.Read(0)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the learner has 5 rows")));
  ASSERT_OK(learner->Grow(shape.rows()));
  EXPECT_THAT(learner->Update(**blocks.Read(0), {3, 100}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("example 100 of 100")));
  EXPECT_EQ(learner->examples(), 0);
}

TEST(FtrlLearner, BadOptionsAreNamed) {
  const auto refused = [](auto change, const char* what) {
    FtrlOptions options;
    change(&options);
    EXPECT_THAT(FtrlLearner::Create(options, 1).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused([](FtrlOptions* o) { o->alpha = 0; }, "alpha: 0");
  refused([](FtrlOptions* o) { o->alpha = NAN; }, "alpha");
  refused([](FtrlOptions* o) { o->beta = -1; }, "beta: -1");
  refused([](FtrlOptions* o) { o->l1 = -2; }, "l1: -2");
  refused([](FtrlOptions* o) { o->l2 = INFINITY; }, "l2");
  refused([](FtrlOptions* o) { o->beta = 0; }, "where l2 is 0");
  refused([](FtrlOptions* o) { o->max_batch = 0; }, "max_batch: 0");
  refused([](FtrlOptions* o) { o->max_batch = 5000; }, "max_batch: 5000");
  refused([](FtrlOptions* o) { o->initial_bias = NAN; }, "initial_bias");
  EXPECT_THAT(FtrlLearner::Create({}, uint64_t{1} << 32).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rows")));
}

TEST(FtrlLearner, ConfigZerosAreTheDocumentedDefaults) {
  v1::LogisticConfig config;
  FtrlOptions options = FtrlOptionsFrom(config, 3);
  EXPECT_EQ(options.alpha, 0.05);
  EXPECT_EQ(options.beta, 1);
  EXPECT_EQ(options.l1, 0);
  EXPECT_EQ(options.threads, 3);
  config.set_alpha(0.2);
  config.set_beta(0.5);
  config.set_l1(2);
  config.set_l2(3);
  options = FtrlOptionsFrom(config, 1);
  EXPECT_EQ(options.alpha, 0.2);
  EXPECT_EQ(options.beta, 0.5);
  EXPECT_EQ(options.l1, 2);
  EXPECT_EQ(options.l2, 3);
}

TEST(FtrlLearner, ExamplesWithoutFeaturesTeachTheBiasOnly) {
  ExampleBlocks blocks;
  for (int i = 0; i < 20000; ++i) ASSERT_OK(blocks.Add({}, {}, i % 10 == 0));
  ASSERT_OK(blocks.Finish());
  const auto learner = ALearner({}, 0);
  Learn(blocks, learner.get());
  EXPECT_NEAR(learner->Freeze().bias, std::log(0.1 / 0.9), 0.05);
  EXPECT_OK(learner->CheckFinite());
}

TEST(FtrlLearner, NonFiniteStateIsFound) {
  ExampleBlocks blocks;
  const std::vector<uint32_t> rows = {1};
  const std::vector<float> values = {3e38f};
  ASSERT_OK(blocks.Add(rows, values, true));
  ASSERT_OK(blocks.Add(rows, values, false));
  ASSERT_OK(blocks.Finish());
  const auto learner = ALearner({}, 2);
  Learn(blocks, learner.get());
  EXPECT_THAT(learner->CheckFinite(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("row 1")));
}

TEST(FtrlLearner, ProgressJudgesThePredictionsBeforeLearning) {
  PlantedOptions shape;
  shape.examples = 400;
  shape.weights = true;
  const ExampleBlocks blocks = Planted(shape);
  FtrlOptions options;
  options.max_batch = 1;
  const auto learner = ALearner(options, shape.rows());
  const auto block = *blocks.Read(0);
  std::vector<float> pctr, logits(block->examples());
  for (uint32_t i = 0; i < block->examples(); ++i) {
    ASSERT_OK(learner->Predict(*block, absl::MakeSpan(logits)));
    pctr.push_back(1 / (1 + std::exp(-logits[i])));
    ASSERT_OK(learner->Update(*block, {i}));
  }
  const v1::Metrics exact =
      ComputeMetrics({pctr, block->labels(), {block->weights(), 400}});
  const v1::Metrics progress = learner->Progress();
  EXPECT_EQ(progress.examples(), exact.examples());
  EXPECT_EQ(progress.clicks(), exact.clicks());
  EXPECT_NEAR(progress.mean_pctr(), exact.mean_pctr(), 1e-6);
  EXPECT_NEAR(progress.ctr(), exact.ctr(), 1e-6);
  EXPECT_NEAR(progress.logloss(), exact.logloss(), 1e-6);
  EXPECT_NEAR(progress.normalized_entropy(), exact.normalized_entropy(), 1e-5);
  EXPECT_NEAR(progress.calibration_ratio(), exact.calibration_ratio(), 1e-5);
  EXPECT_NEAR(progress.auc(), exact.auc(), 1e-3);  // few examples: ties of bins
  learner->ResetProgress();
  EXPECT_EQ(learner->Progress().examples(), 0);
  EXPECT_TRUE(std::isnan(learner->Progress().logloss()));
}

}  // namespace
}  // namespace adrank
