// Fit is killed at every block and goes on from its checkpoint.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "base/log.h"
#include "base/textproto.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/embedding_testing.h"
#include "trainer/checkpoint.h"
#include "trainer/fit.h"
#include "trainer/make_learner.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::AnXor;
using ::adrank::testing::kRows;
using ::adrank::testing::Shape;
using ::adrank::testing::TempDir;

struct Family {
  const char* name;
  const char* config;
};

constexpr Family kFamilies[] = {
    {"Logistic", "seed: 3 logistic { passes: 3 shuffle: true }"},
    {"Fm",
     "seed: 3 embedding { graph { dim: 4 linear: true pairwise: FM } "
     "table { linear_ftrl {} learning_rate: 0.3 } passes: 3 shuffle: true }"},
    {"EarlyStopping",
     "seed: 3 embedding { graph { dim: 4 linear: true streams { layers { "
     "units: 6 batch_norm: true dropout: 0.2 } } } batch_size: 20 "
     "table { kind: ADAM_LAZY learning_rate: 0.05 l2: 0.001 } "
     "average_decay: 0.9 passes: 5 shuffle: true "
     "early_stopping { patience: 1 } "
     "schedule { decay: COSINE warm_up: 0.1 } }"},
    {"Plateau",
     "seed: 3 embedding { graph { dim: 4 streams { layers { units: 6 } } } "
     "batch_size: 20 table { learning_rate: 0.3 } passes: 5 shuffle: true "
     "schedule { decay: PLATEAU final_factor: 0.01 } }"},
    {"AllRowsAdam",
     "seed: 3 embedding { graph { dim: 4 pairwise: FWFM } batch_size: 20 "
     "table { kind: ADAM learning_rate: 0.05 l2: 0.001 } passes: 2 }"},
};

class ResumeTest : public ::testing::TestWithParam<Family> {
 protected:
  ResumeTest()
      : training_(AnXor({300, true, true, 1, {4096, 0, ""}})),
        validation_(AnXor({200, true, true, 2, {4096, 0, ""}})) {
    CHECK(ParseTextProto(GetParam().config, "config", &config_).ok());
    CHECK_GE(training_.blocks(), 4);
  }

  // What is left of a fit: all that ends up in a bundle.
  std::string Left(uint32_t threads, Checkpoints* checkpoints) {
    v1::TrainerConfig config = config_;
    config.set_threads(threads);
    auto learner = MakeLearner(config, ALayout(), kRows, training_);
    CHECK(learner.ok()) << learner.status();
    const SimulatedClock clock(absl::UnixEpoch());
    StepProgress progress(&clock, false, -1);
    const auto result = Fit(FitOptionsOf(config), training_, validation_,
                            learner->get(), &progress, checkpoints);
    CHECK(result.ok()) << result.status();
    std::string left = (*learner)->Save();
    for (const auto& m : result->progressive) left += m.SerializeAsString();
    for (const auto& m : result->validation) left += m.SerializeAsString();
    return left + std::to_string(result->best_pass);
  }

  CheckpointOptions Options(uint32_t every_blocks) const {
    CheckpointOptions options;
    options.path = dir_ / "checkpoint";
    options.fingerprint = 77;
    options.every_blocks = every_blocks;
    return options;
  }

  // Fits in another process, which dies after `blocks` blocks. False: it ended.
  bool KilledAfter(int blocks, uint32_t threads, uint32_t every_blocks) {
    const pid_t child = fork();
    if (child == 0) {
      CheckpointOptions options = Options(every_blocks);
      options.learnt = [&] {
        if (--blocks == 0) kill(getpid(), SIGKILL);
      };
      Checkpoints checkpoints(std::move(options));
      Left(threads, &checkpoints);
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(!WIFSIGNALED(status) || WTERMSIG(status) == SIGKILL);
    return WIFSIGNALED(status);
  }

  TempDir dir_;
  v1::TrainerConfig config_;
  const ExampleBlocks training_;
  const ExampleBlocks validation_;
};

TEST_P(ResumeTest, KilledAtAnyBlockItEndsAsIfItHadNotBeen) {
  const std::string whole = Left(2, nullptr);
  int block = 1;
  while (KilledAfter(block, 1 + block % 3, 3)) {
    Checkpoints checkpoints(Options(3));
    EXPECT_EQ(files::Exists(dir_ / "checkpoint"), block >= 3);
    EXPECT_TRUE(Left(1 + (block + 1) % 3, &checkpoints) == whole) << block;
    checkpoints.Remove();
    ASSERT_LT(++block, 200);
  }
  EXPECT_GT(block, 2 * static_cast<int>(training_.blocks()));
}

TEST_P(ResumeTest, KilledAgainAndAgainItEndsAsIfItHadNotBeen) {
  const std::string whole = Left(1, nullptr);
  int kills = 0;
  // Two blocks at a time, of which one is in no checkpoint when it dies.
  while (KilledAfter(3, 2, 2)) ASSERT_LT(++kills, 200);
  EXPECT_GE(kills, 3);
  Checkpoints checkpoints(Options(2));
  EXPECT_TRUE(Left(2, &checkpoints) == whole);
}

TEST_P(ResumeTest, APausedFitGoesOn) {
  const std::string whole = Left(2, nullptr);
  Checkpoints checkpoints(Options(1000));
  FitOptions options = FitOptionsOf(config_);
  for (const uint64_t pause : {1, 4, 5, 9}) {
    options.pause_after_blocks = pause;
    auto learner = MakeLearner(config_, ALayout(), kRows, training_);
    ASSERT_OK(learner);
    const SimulatedClock clock(absl::UnixEpoch());
    StepProgress progress(&clock, false, -1);
    ASSERT_OK_AND_ASSIGN(const FitResult result,
                         Fit(options, training_, validation_, learner->get(),
                             &progress, &checkpoints));
    EXPECT_FALSE(result.finished && pause < training_.blocks());
    EXPECT_EQ(result.progressive.size(), pause / training_.blocks());
    const auto at = checkpoints.Load();
    ASSERT_TRUE(at.has_value());
    EXPECT_EQ(at->head.pass() * training_.blocks() + at->head.blocks(), pause);
  }
  EXPECT_TRUE(Left(3, &checkpoints) == whole);
}

INSTANTIATE_TEST_SUITE_P(Families, ResumeTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param.name; });

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointOptions Options(uint64_t fingerprint) const {
    CheckpointOptions options;
    options.path = dir_ / "checkpoint";
    options.fingerprint = fingerprint;
    return options;
  }
  Checkpoint Some() const {
    Checkpoint some;
    some.head.set_pass(2);
    some.head.set_blocks(17);
    some.head.add_progressive()->set_auc(0.7);
    some.meter = "meter";
    some.learner = "learner's state";
    some.best = "best";
    return some;
  }
  TempDir dir_;
};

TEST_F(CheckpointTest, WhatIsWrittenIsLoaded) {
  Checkpoints(Options(5)).Write(Some());
  Checkpoints again(Options(5));
  const auto loaded = again.Load();
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->head.pass(), 2);
  EXPECT_EQ(loaded->head.blocks(), 17);
  EXPECT_EQ(loaded->head.progressive(0).auc(), 0.7);
  EXPECT_EQ(loaded->meter, "meter");
  EXPECT_EQ(loaded->learner, "learner's state");
  EXPECT_EQ(loaded->best, "best");
}

TEST_F(CheckpointTest, ADamagedOrTornOneIsIgnoredAndRemoved) {
  Checkpoints(Options(5)).Write(Some());
  ASSERT_OK_AND_ASSIGN(const std::string whole,
                       files::Read(dir_ / "checkpoint"));
  const auto ignored = [&](const std::string& bytes) {
    ASSERT_OK(files::Write(dir_ / "checkpoint", bytes));
    EXPECT_FALSE(Checkpoints(Options(5)).Load().has_value());
    EXPECT_FALSE(files::Exists(dir_ / "checkpoint"));
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    ignored(flipped);
    ignored(whole.substr(0, i));
  }
  ignored(whole + "x");
}

TEST_F(CheckpointTest, OneOfAnotherTrainingIsIgnoredAndRemoved) {
  Checkpoints(Options(5)).Write(Some());
  EXPECT_FALSE(Checkpoints(Options(6)).Load().has_value());
  EXPECT_FALSE(files::Exists(dir_ / "checkpoint"));
}

TEST_F(CheckpointTest, ItIsDueByTimeOrByBlocks) {
  SimulatedClock clock(absl::UnixEpoch());
  CheckpointOptions options = Options(5);
  options.clock = &clock;
  options.every = absl::Seconds(60);
  Checkpoints by_time(options);
  clock.Advance(absl::Seconds(59));
  EXPECT_FALSE(by_time.Due());
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(by_time.Due());
  by_time.Write(Some());
  EXPECT_FALSE(by_time.Due());
  options.every_blocks = 2;
  Checkpoints by_blocks(options);
  EXPECT_FALSE(by_blocks.Due());
  EXPECT_TRUE(by_blocks.Due());
  by_blocks.Write(Some());
  EXPECT_FALSE(by_blocks.Due());
}

// As a trainer that was killed while writing leaves them.
TEST_F(CheckpointTest, RemoveTakesHalfWrittenOnesToo) {
  Checkpoints checkpoints(Options(5));
  checkpoints.Write(Some());
  ASSERT_OK(files::Write(dir_ / "checkpoint.tmp.123", "half"));
  ASSERT_OK(files::Write(dir_ / "checkpoints", "another's"));
  checkpoints.Remove();
  EXPECT_THAT(*files::List(dir_.path()), ::testing::ElementsAre("checkpoints"));
}

TEST(TrainingFingerprint, IsOfAllThatDecidesWhatIsLearnt) {
  const ExampleBlocks some = AnXor({30, true, true, 1, {}});
  const ExampleBlocks other = AnXor({30, true, true, 2, {}});
  v1::TrainerConfig config;
  config.set_threads(2);
  config.mutable_logistic()->set_alpha(0.1);
  const uint64_t first = TrainingFingerprint(config, "1", some, some);
  v1::TrainerConfig moved = config;
  moved.set_threads(7);
  moved.set_model_dir("elsewhere");
  moved.set_data_dir("elsewhere");
  moved.mutable_checkpoint()->set_every_s(1);
  EXPECT_EQ(TrainingFingerprint(moved, "1", some, some), first);
  EXPECT_NE(TrainingFingerprint(config, "2", some, some), first);
  EXPECT_NE(TrainingFingerprint(config, "1", other, some), first);
  EXPECT_NE(TrainingFingerprint(config, "1", some, other), first);
  config.mutable_logistic()->set_alpha(0.2);
  EXPECT_NE(TrainingFingerprint(config, "1", some, some), first);
}

}  // namespace
}  // namespace adrank
