// What a failing disk, a killed process and damaged files do to the log.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <set>

#include "base/files.h"
#include "base/rng.h"
#include "rocksdb/db.h"
#include "storage/event_log.h"
#include "tests/storage/faulty_env.h"
#include "tests/storage/log_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AClick;
using ::adrank::testing::ADecision;
using ::adrank::testing::AFaultyEnv;
using ::adrank::testing::AnImpression;
using ::adrank::testing::Append;
using ::adrank::testing::Codes;
using ::adrank::testing::Faults;
using ::adrank::testing::IdAt;
using ::adrank::testing::kStartMs;
using ::adrank::testing::LogConfig;
using ::adrank::testing::ReadAll;
using ::adrank::testing::StartTime;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using v1::EventResult;

class FailingDiskTest
    : public ::testing::TestWithParam<std::atomic<bool> Faults::*> {
 protected:
  std::atomic<bool>& fault() { return faults_.*GetParam(); }
  TempDir dir_;
  SimulatedClock clock_{StartTime()};
  Faults faults_;
  std::unique_ptr<rocksdb::Env> env_ = AFaultyEnv(&faults_);
};

INSTANTIATE_TEST_SUITE_P(Faults, FailingDiskTest,
                         ::testing::Values(&Faults::writes, &Faults::syncs,
                                           &Faults::full));

TEST_P(FailingDiskTest, RefusesWithTheReasonThenResumesAndLosesNothing) {
  std::set<std::string> acknowledged;
  uint32_t next = 0;
  uint64_t refused = 0;
  ASSERT_OK_AND_ASSIGN(
      auto log, EventLog::Open(LogConfig(dir_.path()), &clock_, env_.get()));
  const auto report = [&] {
    const DecisionId id = IdAt(kStartMs, next++);
    Append(log.get(), id, {1});
    const auto results = log->AppendEventsAndWait({AnImpression(id)});
    if (results[0].code() == EventResult::CODE_UNAVAILABLE) {
      EXPECT_NE(results[0].message(), "");
      ++refused;
      return results[0].message();
    }
    EXPECT_THAT(results[0].code(), AnyOf(EventResult::CODE_ACCEPTED,
                                         EventResult::CODE_UNKNOWN_DECISION));
    acknowledged.insert(id.ToHex());
    return std::string();
  };
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 20; ++i) EXPECT_EQ(report(), "");
    fault() = true;
    EXPECT_THAT(report(), AnyOf(HasSubstr("injected"), HasSubstr("No space")));
    for (int i = 0; i < 5; ++i) EXPECT_NE(report(), "");
    // Long enough for the log to try, in vain, to open RocksDB anew.
    absl::SleepFor(absl::Milliseconds(250));
    EXPECT_NE(report(), "");
    LogBatch batch;
    batch.events.push_back(AnImpression(IdAt(kStartMs + 9)));
    EXPECT_THAT(log->Write(batch),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
    EXPECT_THAT(log->Flush(),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
    fault() = false;
    const absl::Time limit = absl::Now() + absl::Seconds(8);
    while (report() != "" && absl::Now() < limit) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_EQ(report(), "") << "round " << round;
  }
  ASSERT_OK(log->Flush());
  EXPECT_GE(log->Stats().dropped_decisions, 20u);
  EXPECT_LE(log->Stats().dropped_decisions, refused);
  log.reset();
  ASSERT_OK_AND_ASSIGN(log, EventLog::Open(LogConfig(dir_.path()), &clock_));
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir_.path()));
  for (const std::string& id : acknowledged) {
    ASSERT_EQ(seen.count(id), 1u) << id;
    EXPECT_EQ(seen.at(id).events.size(), 1u) << id;
  }
  // A refused event may be there; reporting it again is harmless.
  EXPECT_EQ(Codes(log->AppendEventsAndWait(
                {AnImpression(*DecisionId::FromHex(*acknowledged.begin()))})),
            std::vector<EventResult::Code>{EventResult::CODE_DUPLICATE});
}

TEST_P(FailingDiskTest, FailureWhileOpeningIsAnError) {
  fault() = true;
  const auto log = EventLog::Open(LogConfig(dir_.path()), &clock_, env_.get());
  EXPECT_THAT(log,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(dir_.path())));
}

// ---- kill -9 ----

struct Acknowledgement {
  uint32_t sequence;
};

// Appends until killed; writes the sequence of each acknowledged event.
[[noreturn]] void AppendForEver(const std::string& dir, uint32_t first,
                                int pipe) {
  auto log = EventLog::Open(LogConfig(dir), Clock::Real());
  if (!log.ok()) _exit(3);
  for (uint32_t n = first;; ++n) {
    const DecisionId id = IdAt(kStartMs + n / 10, n);
    Append(log->get(), id, {static_cast<int>(n % 30)});
    (*log)->AppendEvents(
        {AnImpression(id), AClick(id), AClick(id)},
        [n, pipe](std::vector<EventResult> results) {
          if (results[0].code() != EventResult::CODE_ACCEPTED ||
              results[1].code() != EventResult::CODE_ACCEPTED ||
              results[2].code() != EventResult::CODE_DUPLICATE) {
            _exit(4);
          }
          const Acknowledgement ack{n};
          if (write(pipe, &ack, sizeof(ack)) != sizeof(ack)) _exit(5);
        });
    if (n % 10 == 0) absl::SleepFor(absl::Milliseconds(1));
  }
}

TEST(KillNine, EveryAcknowledgedEventIsThereOnce) {
  TempDir dir;
  Rng rng(static_cast<uint64_t>(getpid()));
  std::set<uint32_t> acknowledged;
  for (int round = 0; round < 20; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(ends[0]);
      AppendForEver(dir.path(), 1'000'000 * round, ends[1]);
    }
    close(ends[1]);
    // Killed at a random moment of its life, opening included.
    const absl::Time end =
        absl::Now() + absl::Milliseconds(10 + rng.Below(250));
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    const auto drain = [&] {
      Acknowledgement ack;
      ssize_t n;
      while ((n = read(ends[0], &ack, sizeof(ack))) == sizeof(ack)) {
        acknowledged.insert(ack.sequence);
      }
      return n;
    };
    while (absl::Now() < end) {
      drain();
      absl::SleepFor(absl::Milliseconds(1));
    }
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    while (drain() > 0) {
    }
    close(ends[0]);
  }
  ASSERT_GT(acknowledged.size(), 100u);
  const auto log = EventLog::Open(LogConfig(dir.path()), Clock::Real());
  ASSERT_OK(log);
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir.path()));
  uint64_t decisions = 0, events = 0;
  for (const auto& [id, entry] : seen) {
    decisions += !entry.decision.empty();
    events += entry.events.size();
    for (const auto& [key, value] : entry.events) {
      EXPECT_EQ(value.second, key.second == v1::EVENT_TYPE_CLICK ? 1u : 0u);
    }
  }
  for (uint32_t n : acknowledged) {
    const auto it = seen.find(IdAt(kStartMs + n / 10, n).ToHex());
    ASSERT_NE(it, seen.end()) << n;
    EXPECT_NE(it->second.decision, "") << n;
    EXPECT_EQ(it->second.events.size(), 2u) << n;
  }
  // The counters were written with what they count.
  EXPECT_EQ((*log)->Stats().decisions, decisions);
  EXPECT_EQ((*log)->Stats().events, events);
}

// ---- damaged and foreign files ----

class DamageTest : public ::testing::Test {
 protected:
  // Closes the log with `n` decisions, in files when `flushed`.
  void Fill(uint32_t n, bool flushed) {
    v1::StorageConfig config = LogConfig(dir_.path());
    config.set_retention_days(1);
    SimulatedClock clock(StartTime() + absl::Hours(36));
    auto log = EventLog::Open(config, &clock);
    ASSERT_OK(log);
    if (flushed) Append(log->get(), IdAt(1), {0});
    for (uint32_t i = 0; i < n; ++i) {
      const DecisionId id = IdAt(kStartMs + 86'400'000, i);
      Append(log->get(), id, {static_cast<int>(i % 10)});
      (*log)->AppendEvents({AnImpression(id)}, [](auto) {});
      // Many write batches, of which a torn file loses only the last.
      if (i % 50 == 9) {
        ASSERT_OK((*log)->Flush());
      }
    }
    ASSERT_OK((*log)->Flush());
    // Dropping the old decision compacts the rest into files.
    if (flushed) {
      ASSERT_OK((*log)->ApplyRetention());
    }
  }
  absl::Status OpenStatus() {
    return EventLog::Open(LogConfig(dir_.path()), &clock_).status();
  }
  // The largest file of the kind.
  std::string File(const std::string& suffix) {
    std::string largest;
    uintmax_t size = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(dir_ / "log")) {
      const std::string name = entry.path().string();
      if (name.size() < suffix.size() || entry.file_size() < size ||
          name.substr(name.size() - suffix.size()) != suffix) {
        continue;
      }
      largest = name;
      size = entry.file_size();
    }
    return largest;
  }
  void FlipByte(const std::string& path, size_t position) {
    std::string bytes = *files::Read(path);
    ASSERT_LT(position, bytes.size());
    bytes[position] = static_cast<char>(bytes[position] ^ 0x40);
    ASSERT_OK(files::Write(path, bytes));
  }
  TempDir dir_;
  SimulatedClock clock_{StartTime()};
};

TEST_F(DamageTest, TornEndOfTheWriteAheadLogGivesAPrefix) {
  Fill(200, false);
  const std::string wal = File(".log");
  const std::string bytes = *files::Read(wal);
  size_t previous = 201;
  for (size_t cut : {1ul, 100ul, bytes.size() / 3}) {
    ASSERT_OK(files::Write(wal, bytes.substr(0, bytes.size() - cut)));
    // Read first without a writer, which leaves the files as they are.
    ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir_.path()));
    EXPECT_LT(seen.size(), previous);
    EXPECT_GT(seen.size(), 0u);
    uint32_t next = 0;
    for (const auto& [id, entry] : seen) {
      EXPECT_EQ(DecisionId::FromHex(id)->sequence, next++);
      EXPECT_NE(entry.decision, "");
    }
    previous = seen.size() + 1;
  }
  ASSERT_OK_AND_ASSIGN(auto log,
                       EventLog::Open(LogConfig(dir_.path()), &clock_));
  EXPECT_EQ(log->Stats().decisions, previous - 1);
}

TEST_F(DamageTest, FlippedByteInsideTheWriteAheadLogIsDataLoss) {
  Fill(200, false);
  const std::string wal = File(".log");
  FlipByte(wal, files::Read(wal)->size() / 2);
  EXPECT_THAT(OpenStatus(),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr(dir_ / "log"), HasSubstr("damaged"))));
}

TEST_F(DamageTest, FlippedByteInATableIsDataLossOnRead) {
  Fill(800, true);
  const std::string table = File(".sst");
  ASSERT_NE(table, "");
  const std::string good = *files::Read(table);
  ASSERT_OK_AND_ASSIGN(const auto whole, ReadAll(dir_.path()));
  ASSERT_EQ(whole.size(), 800u);
  for (const double part : {0.01, 0.3, 0.6}) {
    FlipByte(table, static_cast<size_t>(part * good.size()));
    const auto seen = ReadAll(dir_.path());
    EXPECT_THAT(seen,
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(dir_ / "log")))
        << part;
    ASSERT_OK(files::Write(table, good));
  }
}

TEST_F(DamageTest, MissingTableOrManifestIsDataLoss) {
  Fill(800, true);
  const std::string table = File(".sst");
  std::filesystem::rename(table, table + ".away");
  EXPECT_THAT(OpenStatus(),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr(dir_ / "log"), HasSubstr("damaged"))));
  std::filesystem::rename(table + ".away", table);
  FlipByte(dir_ / "log/CURRENT", 3);
  EXPECT_THAT(OpenStatus(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(dir_ / "log")));
  ASSERT_OK(files::RemoveAll(dir_ / "log/CURRENT"));
  EXPECT_THAT(OpenStatus(), StatusIs(absl::StatusCode::kDataLoss,
                                     HasSubstr("CURRENT is missing")));
}

TEST_F(DamageTest, SecondOpenerIsToldWhoHasIt) {
  ASSERT_OK_AND_ASSIGN(const auto log,
                       EventLog::Open(LogConfig(dir_.path()), &clock_));
  EXPECT_THAT(OpenStatus(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     AllOf(HasSubstr(dir_ / "log"),
                                           HasSubstr("is open for writing"),
                                           HasSubstr("LOCK"))));
  // Another process hears the same.
  const pid_t child = fork();
  if (child == 0) {
    _exit(OpenStatus().code() == absl::StatusCode::kFailedPrecondition ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  Append(log.get(), IdAt(kStartMs), {1});
  EXPECT_OK(log->Flush());
}

TEST_F(DamageTest, ReaderSaysThatTablesMayBeMissing) {
  Fill(100, /*flushed=*/true);
  ASSERT_TRUE(OpenStatus().ok());  // which writes all to tables
  for (std::string sst; !(sst = File(".sst")).empty();) {
    ASSERT_TRUE(std::filesystem::remove(sst));
  }
  ASSERT_OK(files::Write(dir_ / "log/999999.sst", ""));
  EXPECT_THAT(EventLogReader::Open(dir_.path()).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("files of it are missing")));
}

TEST_F(DamageTest, SomethingElseInTheDirectoryIsLeftAlone) {
  ASSERT_OK(files::MakeDirectories(dir_ / "log"));
  ASSERT_OK(files::Write(dir_ / "log/holiday.jpg", "x"));
  EXPECT_THAT(OpenStatus(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     AllOf(HasSubstr("not an adrank event log"),
                                           HasSubstr("holiday.jpg"))));
  EXPECT_EQ(files::List(dir_ / "log")->size(), 1u);
}

TEST_F(DamageTest, SomeoneElsesRocksDbIsLeftAlone) {
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, dir_ / "log", &db).ok());
  ASSERT_TRUE(db->Put({}, "their", "data").ok());
  delete db;
  EXPECT_THAT(OpenStatus(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     AllOf(HasSubstr("not an adrank event log"),
                                           HasSubstr("no format marker"))));
  std::vector<std::string> families;
  ASSERT_TRUE(
      rocksdb::DB::ListColumnFamilies(options, dir_ / "log", &families).ok());
  EXPECT_THAT(families, ElementsAre("default"));
}

TEST_F(DamageTest, LogOfAFutureFormatIsRefusedByWriterAndReader) {
  Fill(3, false);
  {
    rocksdb::Options options;
    std::vector<std::string> names;
    ASSERT_TRUE(
        rocksdb::DB::ListColumnFamilies(options, dir_ / "log", &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) families.emplace_back(name, options);
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(
        rocksdb::DB::Open(options, dir_ / "log", families, &handles, &db).ok());
    ASSERT_TRUE(db->Put({}, "format", "adrank event log 2").ok());
    for (auto* handle : handles) db->DestroyColumnFamilyHandle(handle);
    delete db;
  }
  const auto refused =
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("has format 2"), HasSubstr("newer version")));
  EXPECT_THAT(OpenStatus(), refused);
  EXPECT_THAT(EventLogReader::Open(dir_.path()), refused);
}

TEST_F(DamageTest, CrashWhileTheLogWasMadeIsNoObstacle) {
  ASSERT_OK(files::MakeDirectories(dir_ / "log"));
  for (const char* name : {"LOCK", "LOG", "IDENTITY", "MANIFEST-000001"}) {
    ASSERT_OK(files::Write(dir_ / (std::string("log/") + name), ""));
  }
  EXPECT_OK(OpenStatus());
}

}  // namespace
}  // namespace adrank
