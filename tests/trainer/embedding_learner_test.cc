#include "trainer/embedding_learner.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "model/model.h"
#include "tests/trainer/embedding_testing.h"
#include "tests/trainer/planted.h"
#include "trainer/ftrl.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::ALearner;
using ::adrank::testing::AnXor;
using ::adrank::testing::Auc;
using ::adrank::testing::Learn;
using ::adrank::testing::Logits;
using ::adrank::testing::OptionsOf;
using ::adrank::testing::Planted;
using ::adrank::testing::PlantedOptions;
using ::adrank::testing::Shape;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;
using Optimizer = RowTableOptions::Optimizer;

TEST(EmbeddingLearner, SameBytesForAnyNumberOfThreads) {
  Shape shape;
  shape.examples = 700;
  const ExampleBlocks blocks = AnXor(shape);
  for (const Optimizer optimizer : {Optimizer::kAdagradRow, Optimizer::kAdagrad,
                                    Optimizer::kAdam, Optimizer::kAdamLazy}) {
    for (const char* text :
         {"dim: 5 linear: true pairwise: FM",
          "dim: 3 linear: true pairwise: FWFM streams { gate { kind: FIELD } "
          "layers { units: 33 batch_norm: true dropout: 0.3 } }"}) {
      std::string expected, progress;
      std::vector<float> logits;
      for (const uint32_t threads : {1, 2, 3}) {
        EmbeddingOptions o = OptionsOf(text, optimizer);
        o.batch_size = 300;
        o.threads = threads;
        o.average_decay = 0.9f;
        o.clip_norm = 0.01f;
        o.table.l2 = 0.01f;
        const auto learner = ALearner(o);
        Learn(blocks, learner.get());
        const std::vector<float> z = Logits(*learner, **blocks.Read(0));
        if (threads == 1) {
          expected = learner->Save();
          progress = learner->Progress().SerializeAsString();
          logits = z;
        }
        EXPECT_TRUE(learner->Save() == expected) << threads << " " << text;
        EXPECT_EQ(learner->Progress().SerializeAsString(), progress);
        EXPECT_EQ(z, logits);
      }
    }
  }
}

TEST(EmbeddingLearner, SavedInTheMiddleItGoesOnAsIfNeverInterrupted) {
  Shape shape;
  shape.blocks.block_bytes = 8 << 10;
  const ExampleBlocks blocks = AnXor(shape);
  ASSERT_GT(blocks.blocks(), 2);
  for (const Optimizer optimizer :
       {Optimizer::kAdagradRow, Optimizer::kAdam, Optimizer::kAdamLazy}) {
    EmbeddingOptions o = OptionsOf(
        "dim: 3 linear: true "
        "streams { layers { units: 9 batch_norm: true dropout: 0.2 } }",
        optimizer);
    o.average_decay = 0.8f;
    o.schedule.set_warm_up(0.1);
    o.schedule.set_decay(v1::Schedule::LINEAR);
    const auto whole = ALearner(o);
    auto part = ALearner(o);
    whole->Begin(300);
    part->Begin(300);
    for (size_t b = 0; b < blocks.blocks(); ++b) {
      const auto block = *blocks.Read(b);
      ASSERT_OK(whole->Update(*block));
      ASSERT_OK(part->Update(*block));
      const std::string state = part->Save();
      part = ALearner(o);
      ASSERT_OK(part->Restore(state));
    }
    EXPECT_TRUE(part->Save() == whole->Save());
  }
}

TEST(EmbeddingLearner, DamagedOrForeignStateIsRefusedAndChangesNothing) {
  const ExampleBlocks blocks = AnXor({});
  const EmbeddingOptions o =
      OptionsOf("dim: 3 linear: true streams { layers { units: 4 } }");
  const auto learner = ALearner(o), other = ALearner(o);
  Learn(blocks, learner.get());
  const std::string state = learner->Save(), before = other->Save();
  for (size_t i = 0; i < state.size(); i += 97) {
    std::string damaged = state;
    damaged[i] ^= 0x10;
    EXPECT_FALSE(other->Restore(damaged).ok()) << i;
    EXPECT_FALSE(other->Restore(state.substr(0, i)).ok()) << i;
  }
  EXPECT_FALSE(other->Restore(state + "x").ok());
  EXPECT_TRUE(other->Save() == before);
  for (const char* text :
       {"dim: 4 linear: true streams { layers { units: 4 } }",
        "dim: 3 linear: true pairwise: FM",
        "dim: 3 linear: true "
        "streams { layers { units: 5 } }"}) {
    EXPECT_EQ(ALearner(OptionsOf(text))->Restore(state).code(),
              absl::StatusCode::kFailedPrecondition)
        << text;
  }
  EXPECT_EQ(
      ALearner(OptionsOf("dim: 3 linear: true streams { layers { units: 4 } }",
                         Optimizer::kAdam))
          ->Restore(state)
          .code(),
      absl::StatusCode::kFailedPrecondition);
}

TEST(EmbeddingLearner, AnXorIsLearntThatTheLinearPartCannot) {
  Shape shape;
  shape.multi = shape.weights = false;
  shape.examples = 4000;
  const ExampleBlocks blocks = AnXor(shape);
  shape.seed = 2;
  const ExampleBlocks test = AnXor(shape);
  const auto auc = [&](const char* text, Optimizer optimizer) {
    EmbeddingOptions o = OptionsOf(text, optimizer);
    o.dense_rate = 0.01f;
    o.table.initial_std = 0.1f;
    const auto learner = ALearner(o);
    double before = 0;
    for (int pass = 0; pass < 12; ++pass) {
      learner->ResetProgress();
      Learn(blocks, learner.get());
      if (pass == 0) before = learner->Progress().logloss();
    }
    EXPECT_LT(learner->Progress().logloss(), before) << text;
    return Auc(*learner, **test.Read(0));
  };
  // Rows 0 and 1 of every example are those of fields 0 and 1: the best is
  // 0.9 against 0.1.
  for (const Optimizer optimizer : {Optimizer::kAdagradRow, Optimizer::kAdagrad,
                                    Optimizer::kAdam, Optimizer::kAdamLazy}) {
    // Seven rows a field: their odd one out is all that it can see.
    EXPECT_LT(auc("dim: 4 linear: true", optimizer), 0.65);
    EXPECT_GT(auc("dim: 4 linear: true pairwise: FM", optimizer), 0.85);
    EXPECT_GT(auc("dim: 4 streams { layers { units: 16 } }", optimizer), 0.85);
    EXPECT_GT(auc("dim: 4 streams { layers { kind: CROSS } "
                  "layers { units: 16 batch_norm: true } }",
                  optimizer),
              0.85);
  }
}

TEST(EmbeddingLearner, ExamplesWithoutFeaturesTeachTheBiasOnly) {
  ExampleBlocks blocks;
  for (int i = 0; i < 20000; ++i) ASSERT_OK(blocks.Add({}, {}, i % 10 == 0));
  ASSERT_OK(blocks.Finish());
  EmbeddingOptions o = OptionsOf("dim: 3 linear: true pairwise: FM");
  o.dense_rate = 0.05f;
  const auto learner = ALearner(o, 0);
  for (int pass = 0; pass < 3; ++pass) Learn(blocks, learner.get());
  EXPECT_NEAR(learner->Freeze().parameters[0], std::log(0.1 / 0.9), 0.1);
  EXPECT_OK(learner->CheckFinite());
}

// L2 was added only where gradients are clipped.
TEST(EmbeddingLearner, DenseL2DoesNotNeedClipping) {
  const ExampleBlocks blocks = AnXor({});
  EmbeddingOptions o = OptionsOf("dim: 3 streams { layers { units: 9 } }");
  o.dense_l2 = 0.5f;
  o.clip_norm = 1e9f;
  const auto clipped = ALearner(o);
  o.clip_norm = -1;
  const auto free = ALearner(o);
  Learn(blocks, clipped.get());
  Learn(blocks, free.get());
  EXPECT_EQ(clipped->Freeze().parameters, free->Freeze().parameters);
}

// A row of two fields, one of them linear alone, as in a hashed table.
TEST(EmbeddingLearner, ARowSharedWithALinearFieldKeepsItsOwnGradient) {
  EmbeddingOptions o = OptionsOf(
      "dim: 3 linear: true pairwise: FM field_dims { field: 'ad' dim: 0 }");
  o.table.initial_std = 1;
  const auto alone = ALearner(o), shared = ALearner(o);
  for (const bool first : {false, true}) {
    ExampleBlocks blocks;
    if (first) {
      ASSERT_OK(blocks.Add({3}, {}, true, 1, 0, {0}));
    }
    ASSERT_OK(blocks.Add({3, 4}, {}, true, first ? 1 : 0.5, 0, {1, 3}));
    if (!first) {
      ASSERT_OK(blocks.Add({5}, {}, true, 0.5, 0, {0}));
    }
    ASSERT_OK(blocks.Finish());
    ASSERT_OK((first ? shared : alone)->Update(**blocks.Read(0)));
  }
  // The direction of row 3 is that of its pair, row 4.
  const auto moved = [&](const EmbeddingLearner& learner) {
    const auto before = ALearner(o)->Freeze().vectors;
    std::vector<double> d;
    for (int k = 0; k < 3; ++k) {
      d.push_back((learner.Freeze().vectors[9 + k] - before[9 + k]) /
                  before[12 + k]);
    }
    return d;
  };
  for (const auto* learner : {&alone, &shared}) {
    const std::vector<double> d = moved(**learner);
    EXPECT_NEAR(d[0], d[1], 1e-3 * std::fabs(d[0]));
    EXPECT_NEAR(d[0], d[2], 1e-3 * std::fabs(d[0]));
  }
}

TEST(EmbeddingLearner, AStepIsNotLongerThanTheClippedGradientAllows) {
  // Adam does not see a scale, but its second moments do: a large batch after
  // clipped ones.
  const ExampleBlocks blocks = AnXor({});
  EmbeddingOptions o = OptionsOf("dim: 3 streams { layers { units: 9 } }");
  o.clip_norm = 1e6f;
  const auto loose = ALearner(o);
  o.clip_norm = 1e-9f;  // all gradients vanish beside epsilon
  const auto tight = ALearner(o);
  const std::vector<float> before = tight->Freeze().parameters;
  Learn(blocks, loose.get());
  Learn(blocks, tight.get());
  double far = 0, near = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    far += std::fabs(loose->Freeze().parameters[i] - before[i]);
    near += std::fabs(tight->Freeze().parameters[i] - before[i]);
  }
  EXPECT_GT(far, 20 * near);
  EXPECT_GT(near, 0);
}

TEST(EmbeddingLearner, NumbersThatAreNotFiniteAreFoundAndNamed) {
  const auto status = [](float value, const char* text) {
    ExampleBlocks blocks;
    CHECK(blocks.Add({9}, {value}, true, 1, 0, {1}).ok());
    CHECK(blocks.Add({9}, {-value}, true, 1, 0, {1}).ok());
    CHECK(blocks.Finish().ok());
    EmbeddingOptions o = OptionsOf(text);
    o.batch_size = 1;
    const auto learner = ALearner(o);
    EXPECT_OK(learner->CheckFinite());
    for (int i = 0; i < 3; ++i) EXPECT_OK(learner->Update(**blocks.Read(0)));
    return learner->CheckFinite();
  };
  EXPECT_THAT(status(3e38f, "dim: 3 linear: true pairwise: FM"),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("row 9")));
  // No row at all: the parameters are named.
  EmbeddingOptions o = OptionsOf("dim: 3 streams { layers { units: 2 } }");
  o.dense_rate = 1e38f;
  const auto learner = ALearner(o);
  ExampleBlocks blocks;
  ASSERT_OK(blocks.Add({}, {}, true));
  ASSERT_OK(blocks.Finish());
  for (int i = 0; i < 20; ++i) ASSERT_OK(learner->Update(**blocks.Read(0)));
  EXPECT_THAT(learner->CheckFinite(),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("bias[0] is not finite")));
}

TEST(EmbeddingLearner, UnknownRowsFieldsAndOrdersAreRefused) {
  const ExampleBlocks blocks = AnXor({});
  const auto few = ALearner(OptionsOf("dim: 3 linear: true"), 5);
  EXPECT_THAT(few->Update(**blocks.Read(0)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the learner has 5 rows")));
  const auto learner = ALearner(OptionsOf("dim: 3 linear: true"));
  const std::string before = learner->Save();
  EXPECT_THAT(learner->Update(**blocks.Read(0), {3, 300}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("example 300 of 300")));
  ExampleBlocks wide;
  ASSERT_OK(wide.Add({1}, {}, true, 1, 0, {6}));
  ASSERT_OK(wide.Finish());
  EXPECT_THAT(learner->Update(**wide.Read(0)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field 6, the graph has 6")));
  EXPECT_TRUE(learner->Save() == before);
}

TEST(EmbeddingLearner, BadOptionsAreNamed) {
  const auto refused = [](auto change, const char* what) {
    EmbeddingOptions o = OptionsOf("dim: 3 linear: true");
    change(&o);
    EXPECT_THAT(EmbeddingLearner::Create(o, ALayout(), 1).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  using O = EmbeddingOptions;
  refused([](O* o) { o->table.learning_rate = 0; }, "table.learning_rate: 0");
  refused([](O* o) { o->table.l2 = -1; }, "table.l2: -1");
  refused([](O* o) { o->table.initial_std = NAN; }, "table.initial_std");
  refused([](O* o) { o->table.initial_accumulator = -1; },
          "table.initial_accumulator: -1");
  refused([](O* o) { o->dense_rate = INFINITY; }, "dense.learning_rate");
  refused([](O* o) { o->dense_l2 = -1; }, "dense.l2: -1");
  refused([](O* o) { o->clip_norm = NAN; }, "dense.clip_norm");
  refused([](O* o) { o->batch_size = 0; }, "batch_size: 0");
  refused([](O* o) { o->average_decay = 1; }, "average_decay: 1");
  refused([](O* o) { o->initial_bias = NAN; }, "initial_bias");
  refused([](O* o) { o->self_distillation = true; }, "self_distillation");
  EXPECT_THAT(EmbeddingLearner::Create(OptionsOf("linear: true"), ALayout(),
                                       uint64_t{1} << 32)
                  .status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rows")));
}

TEST(EmbeddingLearner, RatesFollowTheScheduleAtItsCorners) {
  // A row of Adagrad with a large accumulator moves by rate x gradient: two
  // equal batches at other times differ by the schedule's factor alone.
  const auto factor = [](double at, const v1::Schedule& schedule) {
    ExampleBlocks one, weightless;
    CHECK(one.Add({0}, {}, true, 1, 0, {0}).ok());
    CHECK(one.Finish().ok());
    CHECK(weightless.Add({}, {}, true, 0).ok());
    CHECK(weightless.Finish().ok());
    EmbeddingOptions o = OptionsOf("dim: 1 linear: true");
    o.table.initial_accumulator = 1e12f;
    o.table.learning_rate = 1e6f;
    o.initial_bias = 0;
    o.schedule = schedule;
    const auto learner = ALearner(o);
    learner->Begin(100);
    for (int i = 0; i < at * 100 - 1e-9; ++i) {
      CHECK(learner->Update(**weightless.Read(0)).ok());
    }
    CHECK(learner->Update(**one.Read(0)).ok());
    return learner->Freeze().linear[0] / 0.5;
  };
  v1::Schedule s;
  EXPECT_NEAR(factor(0, s), 1, 1e-4);
  EXPECT_NEAR(factor(2, s), 1, 1e-4);
  s.set_warm_up(0.2);
  s.set_decay(v1::Schedule::LINEAR);
  s.set_decay_begin(0.6);
  s.set_final_factor(0.5);
  EXPECT_NEAR(factor(0, s), 0, 1e-4);
  EXPECT_NEAR(factor(0.1, s), 0.5, 1e-4);
  EXPECT_NEAR(factor(0.2, s), 1, 1e-4);
  EXPECT_NEAR(factor(0.6, s), 1, 1e-4);
  EXPECT_NEAR(factor(0.8, s), 0.75, 1e-4);
  EXPECT_NEAR(factor(1, s), 0.5, 1e-4);
  EXPECT_NEAR(factor(1.5, s), 0.5, 1e-4);
  s.set_decay(v1::Schedule::COSINE);
  EXPECT_NEAR(factor(0.7, s), 0.5 + 0.5 * 0.5 * (1 + std::cos(M_PI / 4)), 1e-4);
  EXPECT_NEAR(factor(1, s), 0.5, 1e-4);
}

// FTRL was given the gradients of the mean loss: as if alpha were a thousandth.
TEST(EmbeddingLearner, LinearFtrlLearnsAsTheLogisticFamilyDoes) {
  PlantedOptions shape;
  shape.examples = 30000;
  const ExampleBlocks blocks = Planted(shape);
  FtrlOptions logistic;
  logistic.initial_bias = -1;
  logistic.max_batch = 256;
  const auto twin = *FtrlLearner::Create(logistic, shape.rows());
  EXPECT_OK(blocks.ForEach(
      [&](const ExampleBlock& block) { return twin->Update(block); }));
  FieldLayout layout;
  for (uint32_t f = 0; f < shape.fields; ++f) {
    layout.names.push_back(absl::StrCat("f", f));
    layout.context.push_back(true);
    layout.position.push_back(false);
  }
  v1::EmbeddingConfig config;
  config.mutable_graph()->set_linear(true);
  config.mutable_table()->mutable_linear_ftrl();
  EmbeddingOptions o = EmbeddingOptionsFrom(config, 1, 1);
  o.batch_size = 256;
  o.initial_bias = -1;
  o.dense_rate = 0.01f;
  const auto learner = *EmbeddingLearner::Create(o, layout, shape.rows());
  Learn(blocks, learner.get());
  EXPECT_LT(learner->Progress().normalized_entropy(),
            twin->Progress().normalized_entropy() * 1.02);
}

TEST(EmbeddingLearner, RemapKeepsWhatIsLearnt) {
  const ExampleBlocks blocks = AnXor({});
  const auto learner = ALearner(OptionsOf("dim: 3 linear: true"));
  Learn(blocks, learner.get());
  const EmbeddingWeights before = learner->Freeze();
  ASSERT_OK(learner->Remap({7, kNoRow, 3}));
  const EmbeddingWeights after = learner->Freeze();
  EXPECT_THAT(after.linear,
              ::testing::ElementsAre(before.linear[7], 0, before.linear[3]));
  EXPECT_EQ(after.vectors[6], before.vectors[9]);
  EXPECT_THAT(learner->Remap({3}), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("row 3 of")));
}

}  // namespace
}  // namespace adrank
