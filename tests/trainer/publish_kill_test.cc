// The trainer is killed while it publishes; the live bundle stays whole.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/rng.h"
#include "model/model_bundle.h"
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
constexpr char kDirVariable[] = "ADRANK_PUBLISH_KILL_TEST_DIR";
constexpr char kStepVariable[] = "ADRANK_PUBLISH_KILL_TEST_STEP";

absl::StatusOr<v1::TrainingReport> Train(
    const std::string& dir, const std::function<void(const char*)>& step) {
  v1::TrainerConfig config = AConfig(dir + "/log", dir + "/models");
  config.mutable_gate()->set_max_ne_increase(100);
  ASSIGN_OR_RETURN(config, ResolveConfig(config));
  StepProgress progress(Clock::Real(), false, -1);
  return RunTraining(config, &progress, step);
}

// Not a test of its own: the process that the others kill. Dies before its N-th
// step of publishing, if it has as many.
TEST(PublishKillChild, TrainsUntilItsStep) {
  const char* const dir = getenv(kDirVariable);
  if (dir == nullptr) GTEST_SKIP() << "runs in the other tests' children";
  int die_at = -1;
  ASSERT_TRUE(absl::SimpleAtoi(getenv(kStepVariable), &die_at));
  int step = 0;
  const auto report = Train(dir, [&](const char*) {
    if (step++ == die_at) kill(getpid(), SIGKILL);
  });
  ASSERT_OK(report);
  ASSERT_EQ(report->verdict(), v1::TrainingReport::PUBLISHED);
}

// Starts the child; -1: it never kills itself.
pid_t StartChild(const std::string& dir, int die_at) {
  const pid_t child = fork();
  if (child != 0) return child;
  setenv(kDirVariable, dir.c_str(), 1);
  setenv(kStepVariable, std::to_string(die_at).c_str(), 1);
  if (freopen("/dev/null", "w", stdout) == nullptr ||
      freopen("/dev/null", "w", stderr) == nullptr) {
    _exit(3);
  }
  execl("/proc/self/exe", "trainer_test", "--gtest_filter=PublishKillChild.*",
        nullptr);
  _exit(4);
}

// True when it ended well, false when it was killed.
bool Wait(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) {
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
    return false;
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return true;
}

class PublishKillTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ALog log;
    log.decisions = 400;
    ASSERT_OK(log.Write(dir_ / "log"));
    ASSERT_OK_AND_ASSIGN(const auto report, Train(dir_.path(), {}));
    ASSERT_EQ(report.verdict(), v1::TrainingReport::PUBLISHED)
        << report.DebugString();
  }
  // The published version, which must load, as must every other that is there.
  int64_t WholeAndServed() {
    const auto published = store_.Published();
    EXPECT_OK(published);
    const auto versions = store_.Versions();
    EXPECT_OK(versions);
    EXPECT_THAT(*versions, ::testing::Contains(*published));
    for (int64_t version : *versions) {
      EXPECT_OK(ModelBundle::Load(store_.VersionDir(version)));
    }
    return *published;
  }
  TempDir dir_;
  ModelStore store_{dir_ / "models", "ctr"};
};

TEST_F(PublishKillTest, AtEveryStepTheLiveBundleStaysWhole) {
  int64_t live = WholeAndServed();
  int step = 0;
  // Each child dies one step later than the one before, the last one not.
  while (!Wait(StartChild(dir_.path(), step))) {
    EXPECT_EQ(WholeAndServed(), live) << "killed at step " << step;
    ASSERT_LT(++step, 50);
  }
  EXPECT_GE(step, 10);
  EXPECT_GT(WholeAndServed(), live);
}

TEST_F(PublishKillTest, AtRandomMomentsTheLiveBundleStaysWhole) {
  Rng rng(3);
  int killed = 0;
  for (int round = 0; round < 5; ++round) {
    const int64_t live = WholeAndServed();
    const pid_t child = StartChild(dir_.path(), -1);
    usleep(static_cast<useconds_t>(20'000 + rng.Below(400'000)));
    kill(child, SIGKILL);
    killed += Wait(child) ? 0 : 1;
    EXPECT_GE(WholeAndServed(), live);
  }
  EXPECT_GT(killed, 0);
}

}  // namespace
}  // namespace adrank
