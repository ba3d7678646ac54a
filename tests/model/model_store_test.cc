#include "model/model_store.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/rng.h"
#include "tests/model/a_bundle.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AContents;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Runs `body` in a child process; its exit status as waitpid gives it.
int InChild(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

void ExpectLoads(const ModelStore& store, int64_t version) {
  EXPECT_THAT(store.Published(), StatusIs(absl::StatusCode::kOk, ""));
  EXPECT_EQ(*store.Published(), version);
  auto bundle = ModelBundle::Load(store.VersionDir(version));
  ASSERT_OK(bundle);
  EXPECT_EQ((*bundle)->manifest().version(), version);
}

std::vector<std::string> Leftovers(const std::string& dir) {
  std::vector<std::string> found;
  const auto names = files::List(dir);
  for (const std::string& name : *names) {
    if (name.find("tmp") != std::string::npos) found.push_back(name);
  }
  return found;
}

TEST(ModelStore, NothingThereIsEmptyAndNotPublished) {
  TempDir root;
  const ModelStore store(root / "models", "ctr");
  ASSERT_OK_AND_ASSIGN(const auto versions, store.Versions());
  EXPECT_TRUE(versions.empty());
  EXPECT_EQ(*store.NextVersion(), 1);
  EXPECT_THAT(store.Published(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"ctr\"")));
}

TEST(ModelStore, PublishesOneVersionAfterAnother) {
  TempDir root;
  const ModelStore store(root / "deep/models", "ctr");
  for (int64_t version : {1, 2, 7}) {
    ASSERT_OK(store.Publish(AContents(version)));
    ExpectLoads(store, version);
    EXPECT_EQ(*store.NextVersion(), version + 1);
  }
  ASSERT_OK_AND_ASSIGN(const auto versions, store.Versions());
  EXPECT_THAT(versions, ElementsAre(1, 2, 7));
  EXPECT_THAT(Leftovers(root / "deep/models/ctr"), ElementsAre());
  EXPECT_EQ(*files::Read(root / "deep/models/ctr/published"), "7\n");
}

TEST(ModelStore, VersionsSortAsNumbersAndIgnoreOtherNames) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  for (const char* name : {"10", "9", "x", "07", "+3", "-1", "0", ".tmp-4",
                           "99999999999999999999"}) {
    ASSERT_OK(files::MakeDirectories(root / ("ctr/" + std::string(name))));
  }
  ASSERT_OK(files::Write(root / "ctr/11", "a file"));
  ASSERT_OK_AND_ASSIGN(const auto versions, store.Versions());
  EXPECT_THAT(versions, ElementsAre(9, 10));
}

TEST(ModelStore, RollsBackAndForth) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  ASSERT_OK(store.Publish(AContents(2)));
  ASSERT_OK(store.SetPublished(1));
  ExpectLoads(store, 1);
  EXPECT_EQ(*store.NextVersion(), 3);
  ASSERT_OK(store.SetPublished(2));
  ExpectLoads(store, 2);
}

TEST(ModelStore, AMissingVersionCannotBePublished) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  for (int64_t version : {int64_t{0}, int64_t{-1}, int64_t{2}}) {
    EXPECT_THAT(store.SetPublished(version),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("no version")));
  }
  ExpectLoads(store, 1);
}

TEST(ModelStore, ADamagedPointerIsDataLoss) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  for (const char* text : {"", "1", "1\n\n", "01\n", "1 \n", "x\n", "0\n",
                           "-1\n", "99999999999999999999\n", "\n"}) {
    ASSERT_OK(files::Write(root / "ctr/published", text));
    EXPECT_THAT(store.Published(), StatusIs(absl::StatusCode::kDataLoss,
                                            HasSubstr("ctr/published")));
  }
}

TEST(ModelStore, RefusesAnExistingVersionAndAnotherModel) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  EXPECT_THAT(store.Publish(AContents(1)),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("ctr/1")));
  BundleContents other = AContents(2);
  other.manifest.set_model_name("cvr");
  EXPECT_THAT(store.Publish(other),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"cvr\""), HasSubstr("\"ctr\""))));
  EXPECT_THAT(
      store.Publish(AContents(0)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("version 0")));
  BundleContents bad = AContents(2);
  bad.weights[0] = INFINITY;
  EXPECT_THAT(store.Publish(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("weight[0] is inf")));
  ExpectLoads(store, 1);
  EXPECT_THAT(Leftovers(root / "ctr"), ElementsAre());
}

TEST(ModelStore, AModelNameCannotLeaveTheDirectory) {
  TempDir root;
  for (const char* name : {"", "..", "a/b", ".hidden"}) {
    const ModelStore store(root.path(), name);
    const auto bad =
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model name"));
    EXPECT_THAT(store.Versions(), bad);
    EXPECT_THAT(store.Published(), bad);
    EXPECT_THAT(store.NextVersion(), bad);
    EXPECT_THAT(store.SetPublished(1), bad);
    EXPECT_THAT(store.Publish(AContents(1)), bad);
  }
}

std::vector<std::string> StepsOfAPublish() {
  TempDir root;
  std::vector<std::string> steps;
  EXPECT_OK(ModelStore(root.path(), "ctr")
                .Publish(AContents(1),
                         [&](const char* step) { steps.push_back(step); }));
  return steps;
}

TEST(ModelStore, StepsComeInTheDocumentedOrder) {
  EXPECT_THAT(
      StepsOfAPublish(),
      ElementsAre("lock", "sweep", "write", "vocabulary.bin", "weights.bin",
                  "golden.binpb", "optimizer.bin", "report.json",
                  "manifest.textproto", "checksums.sha256", "verify", "rename",
                  "sync", "pointer"));
}

// The first publish, and one over a live version.
TEST(ModelStore, DyingAtAnyStepLeavesAWholeVersionLive) {
  for (const std::string& death : StepsOfAPublish()) {
    for (int64_t live : {0, 1}) {
      SCOPED_TRACE(death);
      TempDir root;
      const ModelStore store(root.path(), "ctr");
      if (live > 0) {
        ASSERT_OK(store.Publish(AContents(live)));
      }
      const BundleContents next = AContents(live + 1);
      const int status = InChild([&] {
        (void)store.Publish(next, [&](const char* step) {
          if (death == step) _exit(9);
        });
      });
      ASSERT_EQ(WEXITSTATUS(status), 9);
      if (live > 0) {
        ExpectLoads(store, live);
      } else {
        EXPECT_THAT(store.Published(),
                    StatusIs(absl::StatusCode::kNotFound, HasSubstr("ctr")));
      }
      ASSERT_OK_AND_ASSIGN(const auto versions, store.Versions());
      for (int64_t v : versions) {
        EXPECT_OK(ModelBundle::Load(store.VersionDir(v)));
      }
      ASSERT_OK_AND_ASSIGN(const int64_t version, store.NextVersion());
      ASSERT_OK(store.Publish(AContents(version)));
      ExpectLoads(store, version);
      EXPECT_THAT(Leftovers(root / "ctr"), ElementsAre());
    }
  }
}

// A death inside the atomic replacement of the pointer.
TEST(ModelStore, LeftoversOfAPointerWriteAreSwept) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  ASSERT_OK(files::Write(root / "ctr/published.tmp.123", "2"));
  ASSERT_OK(files::MakeDirectories(root / "ctr/.tmp-5/deep"));
  ExpectLoads(store, 1);
  ASSERT_OK(store.Publish(AContents(2)));
  ExpectLoads(store, 2);
  EXPECT_THAT(Leftovers(root / "ctr"), ElementsAre());
}

TEST(ModelStore, KilledAtRandomMomentsTheLiveVersionStaysWhole) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  Rng rng(1);
  int64_t last = 1;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      for (;;) {
        const auto next = store.NextVersion();
        if (!next.ok() || !store.Publish(AContents(*next)).ok()) _exit(1);
      }
    }
    usleep(static_cast<useconds_t>(rng.Below(20000)));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed to publish";
    ASSERT_OK_AND_ASSIGN(const int64_t live, store.Published());
    EXPECT_GE(live, last);
    ExpectLoads(store, live);
    last = live;
  }
  ASSERT_OK_AND_ASSIGN(const int64_t next, store.NextVersion());
  ASSERT_OK(store.Publish(AContents(next)));
  EXPECT_GT(next, 1);
  EXPECT_THAT(Leftovers(root / "ctr"), ElementsAre());
}

TEST(ModelStore, ASecondPublisherIsRefusedWhileOneWorks) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  absl::Status here;
  int elsewhere = -1;
  ASSERT_OK(store.Publish(AContents(2), [&](const char* step) {
    if (std::strcmp(step, "verify") != 0) return;
    here = ModelStore(root.path(), "ctr").Publish(AContents(3));
    elsewhere = InChild([&] {
      const absl::Status s = store.Publish(AContents(3));
      _exit(s.code() == absl::StatusCode::kUnavailable ? 0 : 1);
    });
    // Rolling back does not have to wait for a publisher.
    EXPECT_OK(store.SetPublished(1));
  }));
  EXPECT_THAT(here, StatusIs(absl::StatusCode::kUnavailable,
                             AllOf(HasSubstr("another process is publishing"),
                                   HasSubstr(root / "ctr/.publish.lock"))));
  EXPECT_EQ(elsewhere, 0);
  ExpectLoads(store, 2);
  ASSERT_OK(store.Publish(AContents(3)));
}

TEST(ModelStore, ReadersBesideAPublisherAlwaysSeeAWholeVersion) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  std::atomic<bool> done = false;
  std::atomic<int> reads = 0;
  std::thread reader([&] {
    while (!done) {
      const auto live = store.Published();
      ASSERT_OK(live);
      ASSERT_OK(ModelBundle::Load(store.VersionDir(*live)));
      ++reads;
    }
  });
  for (int64_t version = 2; version <= 30; ++version) {
    ASSERT_OK(store.Publish(AContents(version)));
    if (version % 3 == 0) {
      ASSERT_OK(store.SetPublished(version - 1));
    }
  }
  while (reads < 10) usleep(1000);
  done = true;
  reader.join();
}

TEST(ModelStore, PointersSetAtOnceDoNotDisturbEachOther) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  for (int64_t version : {1, 2, 3})
    ASSERT_OK(store.Publish(AContents(version)));
  std::vector<std::thread> threads;
  for (int64_t version : {1, 2, 3}) {
    threads.emplace_back([&store, version] {
      for (int i = 0; i < 20; ++i) EXPECT_OK(store.SetPublished(version));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_OK(ModelBundle::Load(store.VersionDir(*store.Published())));
  EXPECT_THAT(Leftovers(root / "ctr"), ElementsAre());
}

// A full disk, as far as a test can make one: writes fail beyond some bytes of
// a file, at every file of the bundle in turn and at the pointer.
TEST(ModelStore, AFullDiskLeavesTheLiveVersionAndSaysWhichFile) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  const auto publish_with_limit = [&](rlim_t bytes, const char* expected) {
    const BundleContents next = AContents(2);
    return InChild([&] {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit = {bytes, bytes};
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
      const absl::Status s = store.Publish(next);
      if (s.ok()) _exit(3);
      _exit(absl::StrContains(s.message(), expected) ? 0 : 4);
    });
  };
  EXPECT_EQ(publish_with_limit(100, "ctr/.tmp-2/vocabulary.bin"), 0);
  EXPECT_EQ(publish_with_limit(0, "ctr/.tmp-2/vocabulary.bin"), 0);
  EXPECT_EQ(publish_with_limit(400, "ctr/.tmp-2/"), 0);
  ExpectLoads(store, 1);
  EXPECT_THAT(Leftovers(root / "ctr"), ElementsAre());
  ASSERT_OK_AND_ASSIGN(const auto versions, store.Versions());
  EXPECT_THAT(versions, ElementsAre(1));
  ASSERT_OK(store.Publish(AContents(2)));
}

TEST(ModelStore, NoRoomForThePointerLeavesTheOldVersionLive) {
  TempDir root;
  const ModelStore store(root.path(), "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  const int status = InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    const absl::Status s = store.Publish(AContents(2), [](const char* step) {
      const rlimit limit = {0, 0};
      if (std::strcmp(step, "pointer") == 0) {
        setrlimit(RLIMIT_FSIZE, &limit);
      }
    });
    _exit(absl::StrContains(s.message(), "is whole but not published") ? 0 : 1);
  });
  EXPECT_EQ(status, 0);
  ExpectLoads(store, 1);
  EXPECT_EQ(*store.NextVersion(), 3);
  ASSERT_OK(store.SetPublished(2));
  ExpectLoads(store, 2);
}

TEST(ModelStore, ADirectoryThatCannotBeMadeIsNamed) {
  TempDir root;
  ASSERT_OK(files::Write(root / "file", "in the way"));
  EXPECT_THAT(
      ModelStore(root / "file", "ctr").Publish(AContents(1)),
      ::testing::ResultOf(
          [](const absl::Status& s) { return std::string(s.message()); },
          HasSubstr(root / "file")));
}

}  // namespace
}  // namespace adrank
