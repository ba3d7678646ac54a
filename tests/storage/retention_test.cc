#include <thread>

#include "base/rng.h"
#include "storage/event_log.h"
#include "tests/storage/log_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AClick;
using ::adrank::testing::ADecision;
using ::adrank::testing::AnAd;
using ::adrank::testing::AnImpression;
using ::adrank::testing::Append;
using ::adrank::testing::Encoded;
using ::adrank::testing::IdAt;
using ::adrank::testing::kDayMs;
using ::adrank::testing::kStartMs;
using ::adrank::testing::LogConfig;
using ::adrank::testing::ReadAll;
using ::adrank::testing::StartTime;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

class RetentionTest : public ::testing::Test {
 protected:
  RetentionTest() {
    v1::StorageConfig config = LogConfig(dir_.path());
    config.set_retention_days(2);
    auto log = EventLog::Open(config, &clock_);
    EXPECT_OK(log);
    log_ = *std::move(log);
  }
  TempDir dir_;
  SimulatedClock clock_{StartTime()};
  std::unique_ptr<EventLog> log_;
};

// Text that does not compress.
std::string Noise(uint64_t seed, size_t bytes) {
  std::string text;
  Rng rng(seed);
  while (text.size() < bytes) text += static_cast<char>('0' + rng.Below(64));
  return text;
}

TEST_F(RetentionTest, OldDaysGoAndTheirSpaceIsFreed) {
  for (uint32_t day = 0; day < 4; ++day) {
    LogBatch batch;
    for (uint32_t i = 0; i < 1500; ++i) {
      const DecisionId id = IdAt(kStartMs + day * kDayMs + i, i);
      v1::Decision decision = ADecision(id, {static_cast<int>(day)});
      decision.mutable_context()->set_query(Noise(day * 1500 + i, 2000));
      batch.decisions.push_back({id, decision});
      batch.events.push_back(AnImpression(id));
    }
    batch.ads.push_back(EncodeAd(AnAd(static_cast<int>(day))));
    ASSERT_OK(log_->Write(batch));
  }
  const EventLogStats before = log_->Stats();
  EXPECT_EQ(before.decisions, 6000u);
  EXPECT_GT(before.disk_bytes, 6000u * 1200);
  // Half a day into day 3: days 0 and the first half of day 1 (all its records)
  // are older than two days.
  clock_.Set(absl::FromUnixMillis(kStartMs + 3 * kDayMs + kDayMs / 2));
  ASSERT_OK(log_->ApplyRetention());
  const EventLogStats after = log_->Stats();
  EXPECT_EQ(after.decisions, 3000u);
  EXPECT_EQ(after.events, 3000u);
  EXPECT_EQ(after.snapshots, 2u);
  EXPECT_LT(after.disk_bytes, before.disk_bytes * 7 / 10) << before.disk_bytes;
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir_.path()));
  EXPECT_EQ(seen.size(), 3000u);
  EXPECT_EQ(seen.begin()->first, IdAt(kStartMs + 2 * kDayMs).ToHex());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir_.path()));
  EXPECT_OK(reader->GetSnapshot(EncodeAd(AnAd(2)).hash));
  EXPECT_THAT(reader->GetSnapshot(EncodeAd(AnAd(1)).hash),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("snapshot")));
}

TEST_F(RetentionTest, TheBoundaryIsExact) {
  const int64_t end = kStartMs - 2 * kDayMs;
  for (int64_t ms : {end - 1, end, end + 1}) {
    Append(log_.get(), IdAt(ms), {1});
    log_->AppendEventsAndWait({AClick(IdAt(ms))});
  }
  ASSERT_OK(log_->ApplyRetention());
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir_.path()));
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen.begin()->first, IdAt(end).ToHex());
  ASSERT_OK(log_->ApplyRetention());  // nothing more to do
  EXPECT_EQ(log_->Stats().decisions, 2u);
}

TEST_F(RetentionTest, DroppedSnapshotIsStoredAgainWhenServedAgain) {
  Append(log_.get(), IdAt(kStartMs), {7});
  ASSERT_OK(log_->Flush());
  clock_.Advance(absl::Hours(72));
  ASSERT_OK(log_->ApplyRetention());
  EXPECT_EQ(log_->Stats().snapshots, 0u);
  Append(log_.get(), IdAt(kStartMs + 3 * kDayMs), {7});
  ASSERT_OK(log_->Flush());
  EXPECT_EQ(log_->Stats().snapshots, 1u);
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir_.path()));
  EXPECT_OK(reader->GetSnapshot(EncodeAd(AnAd(7)).hash));
}

TEST_F(RetentionTest, AppendsDuringASweepKeepTheirSnapshots) {
  std::atomic<bool> stop{false};
  std::atomic<uint32_t> appended{0};
  std::thread writer([&] {
    while (!stop) {
      const uint32_t n = appended;
      // Ads go out of use and come back.
      const int ad = static_cast<int>((n / 50) % 10);
      const DecisionId id{static_cast<uint64_t>(clock_.NowMs()), 1, n};
      if (n % 2 == 0) {
        log_->AppendDecision(id, ADecision(id, {ad}), {Encoded(ad)});
      } else {
        LogBatch batch;
        batch.decisions.push_back({id, ADecision(id, {ad})});
        batch.ads.push_back(*Encoded(ad));
        EXPECT_OK(log_->Write(batch));
      }
      ++appended;
    }
  });
  for (int i = 0; i < 12; ++i) {
    absl::SleepFor(absl::Milliseconds(40));
    clock_.Advance(absl::Hours(49));
    EXPECT_OK(log_->ApplyRetention());
  }
  stop = true;
  writer.join();
  ASSERT_OK(log_->Flush());
  ASSERT_OK_AND_ASSIGN(auto reader, EventLogReader::Open(dir_.path()));
  size_t decisions = 0;
  for (auto cursor = reader->Join(0, INT64_MAX); cursor->Valid();
       cursor->Next()) {
    v1::Decision decision;
    ASSERT_TRUE(cursor->record().Parse(&decision));
    EXPECT_OK(reader->GetSnapshot(decision.ads(0).ad_hash()));
    ++decisions;
  }
  EXPECT_GT(decisions, 0u);
  EXPECT_EQ(log_->Stats().decisions, decisions);
}

TEST(Retention, ZeroDaysKeepsEverything) {
  TempDir dir;
  SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  Append(log.get(), IdAt(1), {1});
  ASSERT_OK(log->Flush());
  ASSERT_OK(log->ApplyRetention());
  EXPECT_EQ(log->Stats().decisions, 1u);
}

}  // namespace
}  // namespace adrank
