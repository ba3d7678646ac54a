// A trainer that was killed while it learnt publishes, when it is run again,
// the bytes that it would have published.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/textproto.h"
#include "model/model_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/a_log.h"
#include "trainer/config.h"
#include "trainer/training_run.h"

namespace adrank {
namespace {

using ::adrank::testing::AConfig;
using ::adrank::testing::ALog;
using ::adrank::testing::TempDir;

// How this test talks to itself run as another process.
constexpr char kDirVariable[] = "ADRANK_RESUME_RUN_TEST_DIR";
constexpr char kConfigVariable[] = "ADRANK_RESUME_RUN_TEST_CONFIG";
constexpr char kBlocksVariable[] = "ADRANK_RESUME_RUN_TEST_BLOCKS";

constexpr char kLogistic[] = "logistic { passes: 3 shuffle: true }";
constexpr char kEmbedding[] =
    "embedding { graph { dim: 4 linear: true streams { layers { units: 8 "
    "batch_norm: true dropout: 0.1 } } } table { learning_rate: 0.02 } "
    "passes: 5 shuffle: true early_stopping { patience: 1 } }";

// Dies after so many blocks; -1: lives.
absl::StatusOr<v1::TrainingReport> Train(const std::string& dir,
                                         const std::string& models,
                                         const std::string& more,
                                         uint32_t threads, int blocks) {
  v1::TrainerConfig config = AConfig(dir + "/log", models);
  v1::TrainerConfig rest;
  RETURN_IF_ERROR(ParseTextProto(more, "config", &rest));
  config.MergeFrom(rest);
  config.set_threads(threads);
  config.mutable_checkpoint()->set_every_blocks(1);
  ASSIGN_OR_RETURN(config, ResolveConfig(config));
  StepProgress progress(Clock::Real(), false, -1);
  return RunTraining(config, &progress, [&](const char* step) {
    if (strcmp(step, "learnt a block") == 0 && --blocks == 0) {
      kill(getpid(), SIGKILL);
    }
  });
}

// Not a test of its own: the process that the others kill.
TEST(ResumeRunChild, TrainsUntilItsBlock) {
  const char* const dir = getenv(kDirVariable);
  if (dir == nullptr) GTEST_SKIP() << "runs in the other tests' children";
  int blocks = 0;
  ASSERT_TRUE(absl::SimpleAtoi(getenv(kBlocksVariable), &blocks));
  ASSERT_OK(Train(dir, std::string(dir) + "/killed", getenv(kConfigVariable),
                  1 + blocks % 2, blocks));
}

// False: it ended before.
bool KilledAfter(const std::string& dir, const char* config, int blocks) {
  const pid_t child = fork();
  if (child == 0) {
    setenv(kDirVariable, dir.c_str(), 1);
    setenv(kConfigVariable, config, 1);
    setenv(kBlocksVariable, std::to_string(blocks).c_str(), 1);
    if (freopen("/dev/null", "w", stdout) == nullptr ||
        freopen("/dev/null", "w", stderr) == nullptr) {
      _exit(3);
    }
    execl("/proc/self/exe", "trainer_test", "--gtest_filter=ResumeRunChild.*",
          nullptr);
    _exit(4);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << status;
  return WIFSIGNALED(status);
}

// Name and bytes of each file of the only version.
std::map<std::string, std::string> Bundle(const std::string& models) {
  std::map<std::string, std::string> files;
  const ModelStore store(models, "ctr");
  const auto names = files::List(store.VersionDir(1));
  EXPECT_OK(names);
  if (!names.ok()) return files;
  for (const std::string& name : *names) {
    files[name] = *files::Read(files::Join(store.VersionDir(1), name));
  }
  return files;
}

class ResumeRunTest : public ::testing::Test {
 protected:
  void Log(int decisions) {
    ALog log;
    log.decisions = decisions;
    ASSERT_OK(log.Write(dir_ / "log"));
  }
  void Whole(const char* config) {
    ASSERT_OK_AND_ASSIGN(const auto report,
                         Train(dir_.path(), dir_ / "whole", config, 2, -1));
    ASSERT_EQ(report.verdict(), v1::TrainingReport::PUBLISHED)
        << report.DebugString();
  }
  void Again(const char* config) {
    ASSERT_OK(Train(dir_.path(), dir_ / "killed", config, 2, -1));
    ExpectTheSame();
  }
  void ExpectTheSame() {
    const auto whole = Bundle(dir_ / "whole"), again = Bundle(dir_ / "killed");
    ASSERT_GE(whole.size(), 4);
    ASSERT_EQ(again.size(), whole.size());
    for (const auto& [name, bytes] : whole) {
      EXPECT_TRUE(again.at(name) == bytes) << name;
    }
    EXPECT_FALSE(files::Exists(checkpoint_));
  }
  TempDir dir_;
  const std::string checkpoint_ = dir_ / "killed/ctr/.checkpoint";
};

TEST_F(ResumeRunTest, KilledInAnyPassItPublishesTheSameBytes) {
  Log(1000);
  for (const char* config : {kLogistic, kEmbedding}) {
    Whole(config);
    for (int pass = 1; KilledAfter(dir_.path(), config, pass); ++pass) {
      ASSERT_LT(pass, 10);
      EXPECT_TRUE(files::Exists(checkpoint_));
      Again(config);
      ASSERT_OK(files::RemoveAll(dir_ / "killed"));
    }
    ASSERT_OK(files::RemoveAll(dir_ / "killed"));
    ASSERT_OK(files::RemoveAll(dir_ / "whole"));
  }
}

// Two blocks a pass.
TEST_F(ResumeRunTest, KilledWithinPassesAgainAndAgainItPublishesTheSameBytes) {
  Log(90'000);
  Whole(kLogistic);
  int kills = 0;
  // Each learns one block more than the one before, the last one none.
  while (KilledAfter(dir_.path(), kLogistic, 1)) ASSERT_LT(++kills, 10);
  EXPECT_EQ(kills, 6);
  ExpectTheSame();
}

TEST_F(ResumeRunTest, ACheckpointOfAnotherConfigurationIsNotUsed) {
  Log(1000);
  ASSERT_TRUE(KilledAfter(dir_.path(), kEmbedding, 2));
  Whole(kLogistic);
  Again(kLogistic);
}

}  // namespace
}  // namespace adrank
