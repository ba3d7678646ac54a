#include <atomic>
#include <filesystem>
#include <thread>

#include "base/rng.h"
#include "storage/event_log_reader.h"
#include "tests/storage/log_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AClick;
using ::adrank::testing::ADecision;
using ::adrank::testing::AnAd;
using ::adrank::testing::AnImpression;
using ::adrank::testing::Append;
using ::adrank::testing::IdAt;
using ::adrank::testing::kDayMs;
using ::adrank::testing::kStartMs;
using ::adrank::testing::LogConfig;
using ::adrank::testing::LogModel;
using ::adrank::testing::ReadAll;
using ::adrank::testing::StartTime;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

TEST(EventLogReader, NoLogIsNotFound) {
  TempDir dir;
  EXPECT_THAT(EventLogReader::Open(dir.path()),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("there is no event log in " + dir.path())));
}

TEST(EventLogReader, EmptyLog) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK(EventLog::Open(LogConfig(dir.path()), &clock));
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
  EXPECT_FALSE(reader->Join(0, kStartMs)->Valid());
  EXPECT_THAT(reader->TimeRange(), StatusIs(absl::StatusCode::kNotFound,
                                            HasSubstr("has no decisions")));
}

TEST(EventLogReader, LooksUpSnapshotsDecisionsAndTheTimeRange) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  Append(log.get(), IdAt(kStartMs), {3, 4});
  Append(log.get(), IdAt(kStartMs + 77), {3});
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
  ASSERT_OK_AND_ASSIGN(const auto range, reader->TimeRange());
  EXPECT_EQ(range, std::make_pair(kStartMs, kStartMs + 77));
  ASSERT_OK_AND_ASSIGN(const v1::AdSnapshot ad,
                       reader->GetSnapshot(EncodeAd(AnAd(4)).hash));
  EXPECT_EQ(ad.SerializeAsString(), AnAd(4).SerializeAsString());
  EXPECT_THAT(reader->GetSnapshot(EncodeAd(AnAd(5)).hash),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("snapshot")));
  ASSERT_OK_AND_ASSIGN(const v1::Decision decision,
                       reader->GetDecision(IdAt(kStartMs)));
  EXPECT_EQ(decision.ads_size(), 2);
  EXPECT_THAT(reader->GetDecision(IdAt(kStartMs + 1)),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("decision")));
}

TEST(EventLogReader, RangesAreHalfOpenAndCoverEachIdOnce) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  LogModel model;
  for (uint32_t i = 0; i < 60; ++i) {
    const DecisionId id = IdAt(kStartMs + i / 2, i);
    if (i % 3 != 0) {
      Append(log.get(), id, {1});
      model.Decide(ADecision(id, {1}));
    }
    if (i % 4 < 2) {
      log->AppendEventsAndWait({AnImpression(id), AClick(id)});
      model.Report(AnImpression(id));
      model.Report(AClick(id));
    }
  }
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
  std::map<std::string, LogModel::Entry> all;
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{INT64_MIN, kStartMs},
                                                {kStartMs, kStartMs},
                                                {kStartMs, kStartMs + 1},
                                                {kStartMs + 1, kStartMs + 13},
                                                {kStartMs + 13, kStartMs + 12},
                                                {kStartMs + 13, INT64_MAX}}) {
    ASSERT_OK_AND_ASSIGN(const auto part, ReadAll(reader.get(), begin, end));
    for (const auto& [id, entry] : part) {
      EXPECT_TRUE(all.emplace(id, entry).second) << id;
      const int64_t ms = DecisionId::FromHex(id)->ms;
      EXPECT_TRUE(begin <= ms && ms < end);
    }
  }
  EXPECT_EQ(all, model.entries);
}

TEST(EventLogReader, DecisionWithoutAnyFieldIsNotAnOrphan) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  log->AppendDecision(IdAt(kStartMs), v1::Decision(), {});
  log->AppendEventsAndWait({AnImpression(IdAt(kStartMs, 1))});
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
  auto cursor = reader->Join(0, INT64_MAX);
  v1::Decision decision;
  ASSERT_TRUE(cursor->Valid());
  EXPECT_TRUE(cursor->record().has_decision());
  EXPECT_TRUE(cursor->record().Parse(&decision));
  EXPECT_EQ(decision.decision_id(), IdAt(kStartMs).ToHex());
  cursor->Next();
  ASSERT_TRUE(cursor->Valid());
  EXPECT_FALSE(cursor->record().has_decision());
  EXPECT_FALSE(cursor->record().Parse(&decision));
}

TEST(EventLogReader, SeesTheLogAsItWasWhenOpened) {
  TempDir dir;
  SimulatedClock clock(StartTime());
  v1::StorageConfig config = LogConfig(dir.path());
  config.set_retention_days(1);
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(config, &clock));
  for (uint32_t i = 0; i < 500; ++i) {
    Append(log.get(), IdAt(kStartMs, i), {static_cast<int>(i)});
  }
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
  auto cursor = reader->Join(0, INT64_MAX);
  for (int i = 0; i < 10; ++i) cursor->Next();
  // All of it is deleted, and more is written, under the reader's feet.
  clock.Advance(absl::Hours(48));
  Append(log.get(), IdAt(kStartMs + 2 * kDayMs), {1});
  ASSERT_OK(log->Flush());
  ASSERT_OK(log->ApplyRetention());
  size_t rest = 0;
  for (; cursor->Valid(); cursor->Next()) ++rest;
  EXPECT_OK(cursor->status());
  EXPECT_EQ(rest, 490u);
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(reader.get()));
  EXPECT_EQ(seen.size(), 500u);
  EXPECT_OK(reader->GetSnapshot(EncodeAd(AnAd(499)).hash));
  ASSERT_OK_AND_ASSIGN(const auto now, ReadAll(dir.path()));
  EXPECT_EQ(now.size(), 1u);
}

// The writer flushes, compacts and drops ranges all the while. What was
// acknowledged before a reader opens is seen by it, whole and in order: each
// decision comes with an impression in one batch, so neither may lack the
// other.
TEST(EventLogReader, ViewBesideABusyWriterHasNoHoles) {
  TempDir dir;
  SimulatedClock clock(StartTime());
  v1::StorageConfig config = LogConfig(dir.path(), v1::StorageConfig::ASYNC);
  config.set_retention_days(1);
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(config, &clock));
  std::atomic<uint32_t> written{0};
  std::atomic<uint32_t> dropped{0};  // ids below may be gone
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Rng rng(5);
    std::string noise(30'000, ' ');
    for (uint32_t batch = 0; !stop; ++batch) {
      LogBatch records;
      for (uint32_t i = 0; i < 20; ++i) {
        const uint32_t n = batch * 20 + i;
        const DecisionId id = IdAt(kStartMs + n * 1000, n);
        v1::Decision decision = ADecision(id, {static_cast<int>(n % 50)});
        for (char& c : noise) c = static_cast<char>('a' + rng.Below(26));
        decision.mutable_context()->set_query(noise);
        records.decisions.push_back({id, decision});
        records.events.push_back(AnImpression(id));
      }
      ASSERT_OK(log->Write(records));
      written = (batch + 1) * 20;
      if (batch % 40 == 39) {
        // Everything but the last 400 ages out.
        const uint32_t keep = written - 400;
        clock.Set(absl::FromUnixMillis(kStartMs + keep * 1000 + kDayMs));
        dropped = keep;
        ASSERT_OK(log->ApplyRetention());
      }
    }
  });
  // Two seconds, and as many more as a slow machine needs to get anywhere.
  const absl::Time end = absl::Now() + absl::Seconds(2);
  const absl::Time give_up = end + absl::Seconds(60);
  int reads = 0;
  while (absl::Now() < end ||
         ((reads <= 2 || dropped == 0) && absl::Now() < give_up)) {
    const uint32_t before = written;
    ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
    const uint32_t after_dropped = dropped;
    uint32_t next = 0;
    auto cursor = reader->Join(0, INT64_MAX);
    for (; cursor->Valid(); cursor->Next()) {
      const JoinedRecord& record = cursor->record();
      if (record.id.sequence < after_dropped) continue;
      const uint32_t n = record.id.sequence;
      ASSERT_TRUE(next == 0 ? n <= after_dropped : n == next) << n;
      next = record.id.sequence + 1;
      ASSERT_TRUE(record.has_decision()) << record.id.sequence;
      ASSERT_EQ(record.events.size(), 1u) << record.id.sequence;
    }
    ASSERT_OK(cursor->status());
    ASSERT_GE(next, before);
    ++reads;
  }
  stop = true;
  writer.join();
  EXPECT_GT(reads, 2);
  EXPECT_GT(dropped, 0u);
}

TEST(EventLogReader, CursorsOfTwoThreadsShareAReader) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  for (uint32_t i = 0; i < 2000; ++i) {
    Append(log.get(), IdAt(kStartMs + i, i), {1});
  }
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
  size_t sizes[2] = {0, 0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      const auto part =
          ReadAll(reader.get(), kStartMs + 1000 * t, kStartMs + 1000 * (t + 1));
      ASSERT_OK(part);
      sizes[t] = part->size();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sizes[0], 1000u);
  EXPECT_EQ(sizes[1], 1000u);
}

TEST(EventLogReader, ItsScratchFilesGoWithIt) {
  TempDir dir;
  TempDir scratch;
  const SimulatedClock clock(StartTime());
  ASSERT_OK(EventLog::Open(LogConfig(dir.path()), &clock));
  setenv("TMPDIR", scratch.path().c_str(), 1);
  {
    ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir.path()));
    EXPECT_FALSE(std::filesystem::is_empty(scratch.path()));
  }
  unsetenv("TMPDIR");
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

}  // namespace
}  // namespace adrank
