#include "trainer/fm.h"

#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "model/model.h"
#include "tests/testing/status_matchers.h"
#include "tests/trainer/planted.h"

namespace adrank {
namespace {

using ::adrank::testing::Planted;
using ::adrank::testing::PlantedOptions;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr FmOptimizer kOptimizers[] = {
    FmOptimizer::kRowAdagrad, FmOptimizer::kAdagrad, FmOptimizer::kFtrl};

FmOptions SomeOptions(FmOptimizer optimizer, uint32_t dim) {
  FmOptions o;
  o.linear.alpha = 0.1;
  o.linear.l1 = 0.4;
  o.linear.l2 = 0.7;
  o.linear.initial_bias = -1;
  o.optimizer = optimizer;
  o.dim = dim;
  o.lr = 0.1;
  o.eps = 0.5;
  o.l2 = optimizer == FmOptimizer::kFtrl ? 0.3 : 0.002;
  o.l1 = optimizer == FmOptimizer::kFtrl ? 0.01 : 0;
  o.initial_accumulator = optimizer == FmOptimizer::kFtrl ? 0 : 0.1;
  o.init_std = 0.1;
  return o;
}

std::unique_ptr<FmLearner> ALearner(const FmOptions& options, uint64_t rows) {
  auto learner = FmLearner::Create(options, rows);
  CHECK(learner.ok()) << learner.status();
  return *std::move(learner);
}

void Learn(const ExampleBlocks& blocks, FmLearner* learner) {
  EXPECT_OK(blocks.ForEach(
      [&](const ExampleBlock& block) { return learner->Update(block); }));
}

// FTRL-Proximal of one coordinate in double.
struct Coordinate {
  double z = 0, n = 0;
  double Weight(double alpha, double beta, double l1, double l2) const {
    if (std::fabs(z) <= l1) return 0;
    return -(z - (z < 0 ? -l1 : l1)) / ((beta + std::sqrt(n)) / alpha + l2);
  }
  void Step(double g, double w, double alpha) {
    z += g - (std::sqrt(n + g * g) - std::sqrt(n)) / alpha * w;
    n += g * g;
  }
};

// The header's formulas in double, one example at a time. Initial vectors are
// the kernel's.
class Transcription {
 public:
  Transcription(const FmOptions& o, size_t rows)
      : o_(o), linear_(rows), v_(rows), g_(rows), began_(rows) {}

  double Linear(size_t r) const {
    const FtrlOptions& l = o_.linear;
    return linear_[r].Weight(l.alpha, l.beta, l.l1, l.l2);
  }
  double Vector(size_t r, uint32_t j) const {
    if (!began_[r]) return 0;
    if (!ftrl()) return v_[r][j].z;
    return v_[r][j].Weight(o_.lr, o_.eps, o_.l1, o_.l2);
  }
  double bias() const {
    return o_.linear.initial_bias +
           bias_.Weight(o_.linear.alpha, o_.linear.beta, 0, 0);
  }

  void Learn(const ExampleBlock& b, size_t i) {
    const size_t begin = b.begin(i), end = b.begin(i + 1);
    const auto value = [&](size_t e) {
      return b.values() ? double{b.values()[e]} : 1.0;
    };
    std::vector<double> s(o_.dim);
    double logit = bias(), pairs = 0;
    for (size_t e = begin; e < end; ++e) {
      const uint32_t r = b.rows()[e];
      Begin(r);
      logit += Linear(r) * value(e);
      for (uint32_t j = 0; j < o_.dim; ++j) {
        const double vx = Vector(r, j) * value(e);
        s[j] += vx;
        pairs -= vx * vx;
      }
    }
    for (const double x : s) pairs += x * x;
    const double p = 1 / (1 + std::exp(-(logit + pairs / 2)));
    const double delta = (p - b.label(i)) * b.weight(i);
    loss_ -= b.weight(i) * (b.label(i) ? std::log(p) : std::log(1 - p));
    weight_ += b.weight(i);
    if (delta == 0) return;
    for (size_t e = begin; e < end; ++e) {
      Step(b.rows()[e], delta * value(e), value(e), s);
    }
    bias_.Step(delta, bias() - o_.linear.initial_bias, o_.linear.alpha);
  }
  double loss() const { return loss_ / weight_; }

 private:
  bool ftrl() const { return o_.optimizer == FmOptimizer::kFtrl; }

  void Begin(uint32_t r) {
    if (began_[r]) return;
    began_[r] = true;
    FmScale scale = {};
    scale.optimizer = FmOptimizer::kRowAdagrad;  // which has v as it is
    scale.dim = o_.dim;
    scale.init_std = static_cast<float>(o_.init_std);
    scale.seed = o_.seed;
    std::vector<float> state(FmStride(scale.optimizer, o_.dim));
    FmBegin(scale, r, state.data());
    v_[r].resize(o_.dim);
    g_[r] = o_.initial_accumulator;
    for (uint32_t j = 0; j < o_.dim; ++j) {
      const double v = state[4 + j];
      v_[r][j] = {v, o_.initial_accumulator};
      if (ftrl()) {
        v_[r][j].z = -(v * (o_.eps / o_.lr + o_.l2) + std::copysign(o_.l1, v));
      }
    }
  }

  void Step(uint32_t r, double gx, double x, const std::vector<double>& s) {
    linear_[r].Step(gx, Linear(r), o_.linear.alpha);
    std::vector<double> g(o_.dim);
    double square = 0;
    for (uint32_t j = 0; j < o_.dim; ++j) {
      const double v = Vector(r, j);
      g[j] = gx * (s[j] - v * x) + (ftrl() ? 0 : o_.l2 * v);
      square += g[j] * g[j];
      if (ftrl()) v_[r][j].Step(g[j], v, o_.lr);
    }
    if (ftrl()) return;
    g_[r] += square / o_.dim;
    for (uint32_t j = 0; j < o_.dim; ++j) {
      v_[r][j].n += g[j] * g[j];
      const double accumulator =
          o_.optimizer == FmOptimizer::kAdagrad ? v_[r][j].n : g_[r];
      v_[r][j].z -= o_.lr * g[j] / (std::sqrt(accumulator) + o_.eps);
    }
  }

  const FmOptions o_;
  std::vector<Coordinate> linear_;
  std::vector<std::vector<Coordinate>> v_;  // z is v where not FTRL
  std::vector<double> g_;
  std::vector<bool> began_;
  Coordinate bias_;
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

TEST(FmLearner, OneAtATimeIsTheTranscription) {
  for (const PlantedOptions& shape : AllShapes()) {
    const ExampleBlocks blocks = Planted(shape);
    for (const FmOptimizer optimizer : kOptimizers) {
      for (const uint32_t dim : {4, 8, 12, 16}) {
        FmOptions options = SomeOptions(optimizer, dim);
        options.linear.max_batch = 1;
        const auto learner = ALearner(options, shape.rows());
        Transcription oracle(options, shape.rows());
        Learn(blocks, learner.get());
        ASSERT_OK(blocks.ForEach([&](const ExampleBlock& block) {
          for (size_t i = 0; i < block.examples(); ++i) oracle.Learn(block, i);
          return absl::OkStatus();
        }));
        const EmbeddingWeights frozen = learner->Freeze();
        EXPECT_NEAR(frozen.parameters.at(0), oracle.bias(), 2e-4);
        for (uint32_t r = 0; r < shape.rows(); ++r) {
          ASSERT_NEAR(frozen.linear[r], oracle.Linear(r), 2e-4) << r;
          for (uint32_t j = 0; j < dim; ++j) {
            ASSERT_NEAR(frozen.vectors[r * dim + j], oracle.Vector(r, j), 2e-4)
                << r << " " << j;
          }
        }
        EXPECT_NEAR(learner->Progress().logloss(), oracle.loss(), 1e-5);
        EXPECT_EQ(learner->examples(), shape.examples);
      }
    }
  }
}

// The logit of Rendle's pairs, one by one.
double LogitByPairs(const EmbeddingWeights& w, uint32_t dim,
                    const std::vector<uint32_t>& rows,
                    const std::vector<float>& values) {
  double logit = w.parameters.at(0);
  for (size_t a = 0; a < rows.size(); ++a) {
    logit += double{w.linear[rows[a]]} * values[a];
    for (size_t b = a + 1; b < rows.size(); ++b) {
      double dot = 0;
      for (uint32_t j = 0; j < dim; ++j) {
        dot +=
            double{w.vectors[rows[a] * dim + j]} * w.vectors[rows[b] * dim + j];
      }
      logit += dot * values[a] * values[b];
    }
  }
  return logit;
}

TEST(FmLearner, PredictIsTheSumOverAllPairsOfEntries) {
  for (const PlantedOptions& shape : AllShapes()) {
    const ExampleBlocks blocks = Planted(shape);
    for (const FmOptimizer optimizer : kOptimizers) {
      FmOptions options = SomeOptions(optimizer, 12);
      options.linear.threads = 3;
      const auto learner = ALearner(options, shape.rows());
      Learn(blocks, learner.get());
      const EmbeddingWeights frozen = learner->Freeze();
      const auto block = *blocks.Read(0);
      std::vector<float> logits(block->examples());
      ASSERT_OK(learner->Predict(*block, absl::MakeSpan(logits)));
      for (size_t i = 0; i < logits.size(); ++i) {
        std::vector<uint32_t> rows;
        std::vector<float> values;
        for (size_t e = block->begin(i); e < block->begin(i + 1); ++e) {
          rows.push_back(block->rows()[e]);
          values.push_back(block->values() ? block->values()[e] : 1.0f);
        }
        ASSERT_NEAR(logits[i], LogitByPairs(frozen, 12, rows, values), 1e-5);
      }
    }
  }
}

TEST(FmLearner, StepsPointDownTheFiniteDifferencesOfTheLoss) {
  // With constant steps: an accumulator too large for one gradient to change.
  FmOptions options = SomeOptions(FmOptimizer::kAdagrad, 4);
  options.l2 = 0;
  options.initial_accumulator = 1e4;
  options.lr = 1e3;
  options.eps = 0;
  const std::vector<uint32_t> rows = {0, 1, 2};
  const std::vector<float> values = {1.5f, -0.5f, 2.0f};
  ExampleBlocks blocks;
  ASSERT_OK(blocks.Add(rows, values, true));
  ASSERT_OK(blocks.Finish());
  // A weight of zero: the rows begin and nothing is learnt.
  ExampleBlocks nothing;
  ASSERT_OK(nothing.Add(rows, values, true, 0));
  ASSERT_OK(nothing.Finish());
  const auto learner = ALearner(options, 3);
  Learn(nothing, learner.get());
  EmbeddingWeights before = learner->Freeze();
  Learn(blocks, learner.get());
  const EmbeddingWeights after = learner->Freeze();
  const auto loss = [&] {
    return std::log1p(std::exp(-LogitByPairs(before, 4, rows, values)));
  };
  for (size_t i = 0; i < before.vectors.size(); ++i) {
    const float v = before.vectors[i];
    constexpr float kStep = 0x1p-10f;
    before.vectors[i] = v + kStep;
    const double up = loss();
    before.vectors[i] = v - kStep;
    const double slope = (up - loss()) / (2 * kStep);
    before.vectors[i] = v;
    EXPECT_NEAR((v - after.vectors[i]) / 10, slope, 1e-5);
  }
}

TEST(FmLearner, SameBytesForAnyNumberOfThreads) {
  for (PlantedOptions shape : AllShapes()) {
    shape.examples = 30000;  // past 16384 batches are for all threads
    shape.fields = 4;
    const ExampleBlocks blocks = Planted(shape);
    for (const FmOptimizer optimizer : kOptimizers) {
      std::string expected;
      v1::Metrics progress;
      for (const uint32_t threads : {1, 2, 3, 8}) {
        FmOptions options = SomeOptions(optimizer, 8);
        options.linear.threads = threads;
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
}

TEST(FmLearner, AnOrderOfExamplesIsTheSameAsBlocksInThatOrder) {
  PlantedOptions shape;
  shape.examples = 30000;
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
  for (const uint32_t threads : {1, 2}) {
    FmOptions options;
    options.linear.threads = threads;
    const auto a = ALearner(options, shape.rows());
    EXPECT_OK(a->Update(*block, order));
    const auto b = ALearner(options, shape.rows());
    Learn(moved, b.get());
    EXPECT_TRUE(a->Save() == b->Save());
  }
}

// Labels by the pair of two fields alone: no main effect tells anything.
ExampleBlocks PairsOnly(size_t examples, uint64_t seed) {
  ExampleBlocks blocks;
  Rng rng(seed);
  for (size_t i = 0; i < examples; ++i) {
    const auto a = static_cast<uint32_t>(rng.Below(50));
    const auto b = static_cast<uint32_t>(rng.Below(50));
    const double logit = (a % 2 == b % 2) ? 2 : -2;
    const std::vector<uint32_t> rows = {a, 50 + b};
    CHECK(blocks.Add(rows, {}, rng.Bernoulli(1 / (1 + std::exp(-logit)))).ok());
  }
  CHECK(blocks.Finish().ok());
  return blocks;
}

TEST(FmLearner, PairEffectsThatNoLinearModelSeesAreLearntInOnePass) {
  const ExampleBlocks train = PairsOnly(60000, 1);
  const ExampleBlocks test = PairsOnly(20000, 2);
  for (const FmOptimizer optimizer : kOptimizers) {
    FmOptions options;
    options.optimizer = optimizer;
    options.init_std = 0.1;
    options.lr = 0.1;
    const auto learner = ALearner(options, 100);
    Learn(train, learner.get());
    learner->ResetProgress();
    Learn(test, learner.get());
    // The truth's logloss is .365, that of no knowledge .693.
    EXPECT_LT(learner->Progress().logloss(), 0.385);
  }
}

TEST(FmLearner, MiniBatchesLearnAsWellAsOneAtATime) {
  for (const FmOptimizer optimizer : kOptimizers) {
    PlantedOptions shape;
    shape.examples = 60000;
    shape.fields = 20;
    const ExampleBlocks blocks = Planted(shape);
    double ne[2];
    for (const uint32_t batch : {1, 256}) {
      FmOptions options;
      options.optimizer = optimizer;
      options.linear.max_batch = batch;
      const auto learner = ALearner(options, shape.rows());
      Learn(blocks, learner.get());
      ne[batch > 1] = learner->Progress().normalized_entropy();
    }
    EXPECT_LT(ne[1] / ne[0], 1.002);
  }
}

TEST(FmLearner, RestoredInTheMiddleEndsWithTheSameBytes) {
  for (const FmOptimizer optimizer : kOptimizers) {
    PlantedOptions shape;
    shape.examples = 30000;
    shape.blocks.block_bytes = 64 << 10;
    const ExampleBlocks blocks = Planted(shape);
    const FmOptions options = SomeOptions(optimizer, 12);
    const auto whole = ALearner(options, shape.rows());
    Learn(blocks, whole.get());
    const auto first = ALearner(options, shape.rows());
    for (size_t i = 0; i < 5; ++i) EXPECT_OK(first->Update(**blocks.Read(i)));
    FmOptions others = options;
    others.linear.threads = 2;
    others.linear.initial_bias = 0;  // the state's counts
    const auto second = ALearner(others, 3);
    ASSERT_OK(second->Restore(first->Save()));
    EXPECT_EQ(second->rows(), shape.rows());
    for (size_t i = 5; i < blocks.blocks(); ++i) {
      EXPECT_OK(second->Update(**blocks.Read(i)));
    }
    EXPECT_TRUE(second->Save() == whole->Save());
  }
}

TEST(FmLearner, AnyDamageOfTheStateIsRefusedAndChangesNothing) {
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
  FmOptions wider;
  wider.dim = 12;
  EXPECT_THAT(
      ALearner(wider, 4)->Restore(state),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("of dim 8")));
  std::string damaged = state;
  damaged[0] = 'x';
  EXPECT_THAT(other->Restore(damaged),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not of an FM learner")));
}

TEST(FmLearner, RowsCanBeAddedAndMovedAndUnknownRowsAreZero) {
  PlantedOptions shape;
  shape.fields = 2;
  shape.field_rows = 10;
  const auto learner = ALearner({}, 20);
  Learn(Planted(shape), learner.get());
  const EmbeddingWeights before = learner->Freeze();
  ASSERT_OK(learner->Grow(25));
  const std::vector<uint32_t> source = {7, kNoRow, 3, 24};
  ASSERT_OK(learner->Remap(source));
  const EmbeddingWeights after = learner->Freeze();
  ASSERT_EQ(after.vectors.size(), 4 * 8);
  for (uint32_t r = 0; r < 4; ++r) {
    const bool known = source[r] < 20;
    EXPECT_EQ(after.linear[r], known ? before.linear[source[r]] : 0.0f);
    for (uint32_t j = 0; j < 8; ++j) {
      EXPECT_EQ(after.vectors[r * 8 + j],
                known ? before.vectors[source[r] * 8 + j] : 0.0f);
    }
  }
  EXPECT_THAT(learner->Remap({4}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row 4")));
}

TEST(FmLearner, UnknownRowsAndOrdersAreRefusedAndNothingIsLearnt) {
  PlantedOptions shape;
  shape.examples = 100;
  const ExampleBlocks blocks = Planted(shape);
  const auto learner = ALearner({}, 5);
  EXPECT_THAT(learner->Update(**blocks.Read(0)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the learner has 5 rows")));
  ASSERT_OK(learner->Grow(shape.rows()));
  EXPECT_THAT(learner->Update(**blocks.Read(0), {3, 100}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("example 100 of 100")));
  EXPECT_EQ(learner->examples(), 0);
}

TEST(FmLearner, ExamplesWithoutFeaturesTeachTheBiasOnly) {
  ExampleBlocks blocks;
  for (int i = 0; i < 20000; ++i) ASSERT_OK(blocks.Add({}, {}, i % 10 == 0));
  ASSERT_OK(blocks.Finish());
  const auto learner = ALearner({}, 0);
  Learn(blocks, learner.get());
  EXPECT_NEAR(learner->Freeze().parameters.at(0), std::log(0.1 / 0.9), 0.05);
  EXPECT_OK(learner->CheckFinite());
}

TEST(FmLearner, NonFiniteStateIsFound) {
  ExampleBlocks blocks;
  const std::vector<uint32_t> rows = {1, 2};
  const std::vector<float> values = {3e38f, 1.0f};
  ASSERT_OK(blocks.Add(rows, values, true));
  ASSERT_OK(blocks.Add(rows, values, false));
  ASSERT_OK(blocks.Finish());
  for (const FmOptimizer optimizer : kOptimizers) {
    const auto learner = ALearner(SomeOptions(optimizer, 8), 3);
    EXPECT_OK(learner->CheckFinite());
    Learn(blocks, learner.get());
    EXPECT_THAT(learner->CheckFinite(),
                StatusIs(absl::StatusCode::kInternal, HasSubstr("row 1")));
  }
}

TEST(FmLearner, BadOptionsAreNamed) {
  const auto refused = [](auto change, const char* what) {
    FmOptions options;
    change(&options);
    EXPECT_THAT(FmLearner::Create(options, 1).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused([](FmOptions* o) { o->dim = 0; }, "dim: 0");
  refused([](FmOptions* o) { o->dim = 10; }, "dim: 10");
  refused([](FmOptions* o) { o->dim = 68; }, "dim: 68");
  refused([](FmOptions* o) { o->lr = 0; }, "lr: 0");
  refused([](FmOptions* o) { o->eps = -1; }, "eps: -1");
  refused([](FmOptions* o) { o->init_std = NAN; }, "init_std");
  refused([](FmOptions* o) { o->l2 = INFINITY; }, "l2");
  refused([](FmOptions* o) { o->l1 = 1; }, "l1: 1");
  refused(
      [](FmOptions* o) {
        o->eps = 0;
        o->initial_accumulator = 0;
      },
      "where initial_accumulator is 0");
  refused(
      [](FmOptions* o) {
        o->optimizer = FmOptimizer::kFtrl;
        o->initial_accumulator = 1;
      },
      "0 for FTRL");
  refused([](FmOptions* o) { o->linear.alpha = 0; }, "alpha: 0");
  refused([](FmOptions* o) { o->linear.max_batch = 0; }, "max_batch: 0");
}

}  // namespace
}  // namespace adrank
