#include "storage/event_log.h"

#include <algorithm>
#include <thread>

#include "base/files.h"
#include "base/rng.h"
#include "tests/storage/log_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AClick;
using ::adrank::testing::ADecision;
using ::adrank::testing::AnEvent;
using ::adrank::testing::AnImpression;
using ::adrank::testing::Append;
using ::adrank::testing::Codes;
using ::adrank::testing::IdAt;
using ::adrank::testing::kStartMs;
using ::adrank::testing::LogConfig;
using ::adrank::testing::LogModel;
using ::adrank::testing::ReadAll;
using ::adrank::testing::StartTime;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using v1::EventResult;
using v1::StorageConfig;

class EventLogTest
    : public ::testing::TestWithParam<StorageConfig::Durability> {
 protected:
  std::unique_ptr<EventLog> Open() {
    auto log = EventLog::Open(LogConfig(dir_.path(), GetParam()), &clock_);
    EXPECT_OK(log);
    return log.ok() ? *std::move(log) : nullptr;
  }
  TempDir dir_;
  SimulatedClock clock_{StartTime()};
};

INSTANTIATE_TEST_SUITE_P(Durabilities, EventLogTest,
                         ::testing::Values(StorageConfig::SYNC_EACH,
                                           StorageConfig::GROUP_COMMIT,
                                           StorageConfig::ASYNC));

TEST_P(EventLogTest, JoinsDecisionsWithTheirEventsAfterReopening) {
  LogModel model;
  {
    std::unique_ptr<EventLog> log = Open();
    const DecisionId id = IdAt(kStartMs);
    ASSERT_TRUE(Append(log.get(), id, {1, 2}));
    model.Decide(ADecision(id, {1, 2}));
    std::vector<v1::Event> events = {AnImpression(id, 1), AnImpression(id, 2),
                                     AClick(id, 2), AClick(id, 2)};
    for (const v1::Event& event : events) model.Report(event);
    EXPECT_THAT(
        Codes(log->AppendEventsAndWait(events)),
        ElementsAre(EventResult::CODE_ACCEPTED, EventResult::CODE_ACCEPTED,
                    EventResult::CODE_ACCEPTED, EventResult::CODE_DUPLICATE));
    EXPECT_THAT(Codes(log->AppendEventsAndWait({AnImpression(id, 1)})),
                ElementsAre(EventResult::CODE_DUPLICATE));
    model.Report(AnImpression(id, 1));
    ASSERT_OK_AND_ASSIGN(const v1::Decision read, log->GetDecision(id));
    EXPECT_EQ(read.SerializeAsString(),
              ADecision(id, {1, 2}).SerializeAsString());
    EXPECT_THAT(log->GetDecision(IdAt(kStartMs, 5)),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("decision")));
  }
  std::unique_ptr<EventLog> log = Open();
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir_.path()));
  EXPECT_EQ(seen, model.entries);
  const EventLogStats stats = log->Stats();
  EXPECT_EQ(stats.decisions, 1u);
  EXPECT_EQ(stats.events, 3u);
  EXPECT_EQ(stats.duplicate_events, 2u);
  EXPECT_EQ(stats.snapshots, 2u);
  EXPECT_EQ(stats.unknown_decisions, 0u);
  EXPECT_EQ(stats.pending, 0u);
  EXPECT_GT(stats.commits, 0u);
  EXPECT_GT(stats.disk_bytes, 0u);
}

TEST_P(EventLogTest, RandomOperationsGiveWhatTheModelHolds) {
  LogModel model;
  Rng rng(static_cast<uint64_t>(GetParam()));
  std::unique_ptr<EventLog> log = Open();
  const int steps = GetParam() == StorageConfig::SYNC_EACH ? 200 : 700;
  for (int i = 0; i < steps; ++i) {
    // Few ids, so that all meet again and again, in no order.
    const DecisionId id = IdAt(kStartMs + rng.Below(40) * 1000, rng.Below(3));
    const std::vector<int> ads = {static_cast<int>(rng.Below(20)),
                                  static_cast<int>(rng.Below(20))};
    const uint64_t kind = rng.Below(100);
    if (kind < 20) {
      ASSERT_TRUE(Append(log.get(), id, ads));
      model.Decide(ADecision(id, ads));
    } else if (kind < 80) {
      std::vector<v1::Event> events;
      std::vector<EventResult::Code> expected;
      for (uint64_t n = rng.Below(4) + 1; n > 0; --n) {
        events.push_back(AnEvent(id, 1 + rng.Below(2),
                                 rng.Bernoulli(0.5) ? v1::EVENT_TYPE_IMPRESSION
                                                    : v1::EVENT_TYPE_CLICK,
                                 kStartMs + rng.Below(1000)));
        expected.push_back(model.Report(events.back()));
      }
      ASSERT_EQ(Codes(log->AppendEventsAndWait(events)), expected);
    } else if (kind < 98) {
      LogBatch batch;
      for (uint64_t n = rng.Below(5); n > 0; --n) {
        const DecisionId other = IdAt(kStartMs + rng.Below(40) * 1000);
        batch.decisions.push_back({other, ADecision(other, ads)});
        model.Decide(batch.decisions.back().decision);
      }
      batch.events.push_back(AnImpression(id, 1));
      model.Report(batch.events.back());
      // Decisions of the queue come before: as the model has it.
      ASSERT_OK(log->Flush());
      ASSERT_OK(log->Write(batch));
    } else {
      log.reset();
      log = Open();
    }
  }
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir_.path()));
  EXPECT_EQ(seen, model.entries);
  EXPECT_EQ(log->Stats().decisions, model.Decisions());
  EXPECT_EQ(log->Stats().events, model.Events());
  EXPECT_EQ(log->Stats().duplicate_events, model.duplicates);
}

// Property E1 of the join: any permutation and duplication of a set of events
// gives the same joined state.
TEST(EventLog, AnyOrderAndRepetitionOfEventsGivesTheSameJoin) {
  std::vector<v1::Event> set;
  std::vector<DecisionId> ids;
  for (uint32_t i = 0; i < 12; ++i) {
    const DecisionId id = IdAt(kStartMs + i / 3, i);
    ids.push_back(id);
    set.push_back(AnImpression(id, 1));
    set.push_back(AnImpression(id, 2));
    if (i % 2 == 0) set.push_back(AClick(id, 1 + i % 2));
  }
  ids.resize(9);  // the others stay orphans
  const SimulatedClock clock(StartTime());
  std::map<std::string, LogModel::Entry> first;
  Rng rng(11);
  for (int round = 0; round < 8; ++round) {
    std::vector<v1::Event> events = set;
    // Round 0 is the set itself, the others repeat some of it.
    for (size_t i = 0; round > 0 && i < set.size(); ++i) {
      events.push_back(set[rng.Below(set.size())]);
    }
    for (size_t i = events.size(); i > 1; --i) {
      std::swap(events[i - 1], events[rng.Below(i)]);
    }
    TempDir dir;
    ASSERT_OK_AND_ASSIGN(auto log,
                         EventLog::Open(LogConfig(dir.path()), &clock));
    size_t decided = 0;
    for (size_t i = 0; i < events.size();) {
      if (decided < ids.size() && rng.Bernoulli(0.3)) {
        ASSERT_TRUE(Append(log.get(), ids[decided++], {1, 2}));
      }
      const size_t n = std::min<size_t>(1 + rng.Below(5), events.size() - i);
      log->AppendEventsAndWait({events.begin() + i, events.begin() + i + n});
      i += n;
    }
    while (decided < ids.size()) {
      ASSERT_TRUE(Append(log.get(), ids[decided++], {1, 2}));
    }
    ASSERT_OK(log->Flush());
    EXPECT_EQ(log->Stats().duplicate_events, events.size() - set.size());
    ASSERT_OK_AND_ASSIGN(auto seen, ReadAll(dir.path()));
    for (auto& [id, entry] : seen) {
      for (auto& [key, value] : entry.events) value.second = 0;
    }
    if (round == 0) first = seen;
    EXPECT_EQ(seen, first);
  }
  EXPECT_EQ(first.size(), 12u);
}

TEST(EventLog, UnknownDecisionIsJoinedOnceItArrives) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  const DecisionId id = IdAt(kStartMs);
  const std::vector<EventResult> results =
      log->AppendEventsAndWait({AClick(id), AClick(id)});
  EXPECT_THAT(Codes(results), ElementsAre(EventResult::CODE_UNKNOWN_DECISION,
                                          EventResult::CODE_DUPLICATE));
  EXPECT_THAT(results[0].message(), HasSubstr(id.ToHex()));
  EXPECT_EQ(log->Stats().unknown_decisions, 1u);
  ASSERT_OK_AND_ASSIGN(auto seen, ReadAll(dir.path()));
  EXPECT_EQ(seen[id.ToHex()].decision, "");
  ASSERT_TRUE(Append(log.get(), id, {1}));
  ASSERT_OK(log->Flush());
  ASSERT_OK_AND_ASSIGN(seen, ReadAll(dir.path()));
  EXPECT_EQ(seen[id.ToHex()].decision, ADecision(id, {1}).SerializeAsString());
  EXPECT_EQ(seen[id.ToHex()].events.size(), 1u);
}

TEST(EventLog, DecisionWaitingInTheQueueIsKnown) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  StorageConfig config = LogConfig(dir.path());
  config.set_group_commit_ms(50);
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(config, &clock));
  ASSERT_TRUE(Append(log.get(), IdAt(kStartMs), {1}));
  EXPECT_THAT(Codes(log->AppendEventsAndWait({AnImpression(IdAt(kStartMs))})),
              ElementsAre(EventResult::CODE_ACCEPTED));
  EXPECT_EQ(log->Stats().commits, 1u);
}

TEST(EventLog, InvalidEventsAreRefusedWithTheField) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  const DecisionId id = IdAt(kStartMs);
  std::vector<v1::Event> events(8, AnImpression(id));
  events[0].set_decision_id("xyz");
  events[1].set_position(0);
  events[2].set_position(256);
  events[3].set_type(v1::EVENT_TYPE_UNSPECIFIED);
  events[4].set_time_ms(-1);
  events[5].set_time_ms(kStartMs * 1000);  // microseconds
  events[6].set_type(static_cast<v1::EventType>(7));
  const std::vector<EventResult> results = log->AppendEventsAndWait(events);
  const std::vector<std::string> reasons = {
      "decision_id \"xyz\"",     "position 0 not in [1, 255]",
      "position 256 not in",     "type 0 is neither",
      "time_ms -1 is not",       "time_ms 1800000000000000 is not",
      "type 7 is neither IMPRES"};
  for (size_t i = 0; i < reasons.size(); ++i) {
    EXPECT_EQ(results[i].code(), EventResult::CODE_INVALID);
    EXPECT_THAT(results[i].message(), HasSubstr(reasons[i]));
    EXPECT_THAT(
        log->Write(LogBatch{{}, {}, {events[i]}}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(reasons[i])));
  }
  EXPECT_EQ(results[7].code(), EventResult::CODE_UNKNOWN_DECISION);
  EXPECT_EQ(log->Stats().events, 1u);
  EXPECT_TRUE(log->AppendEventsAndWait({}).empty());
}

TEST(EventLog, TimeZeroIsTheClock) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  const DecisionId id = IdAt(kStartMs - 7);
  log->AppendEventsAndWait({AnEvent(id, 1, v1::EVENT_TYPE_CLICK, 0)});
  ASSERT_OK_AND_ASSIGN(const auto seen, ReadAll(dir.path()));
  EXPECT_EQ(seen.begin()->second.events.begin()->second.first, kStartMs);
}

TEST(EventLog, TooManyAdsAreRefusedAndCounted) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  const DecisionId id = IdAt(kStartMs);
  EXPECT_FALSE(
      log->AppendDecision(id, ADecision(id, std::vector<int>(256, 1)), {}));
  EXPECT_TRUE(
      log->AppendDecision(id, ADecision(id, std::vector<int>(255, 1)), {}));
  ASSERT_OK(log->Flush());
  EXPECT_EQ(log->Stats().dropped_decisions, 1u);
  EXPECT_EQ(log->Stats().decisions, 1u);
  LogBatch batch;
  batch.decisions.push_back({id, ADecision(id, std::vector<int>(256, 1))});
  EXPECT_THAT(log->Write(batch), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("has 256 ads")));
}

TEST(EventLog, FullQueueRefusesAndCounts) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  StorageConfig config = LogConfig(dir.path());
  config.set_group_commit_ms(1000);
  config.set_max_pending_appends(10);
  {
    ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(config, &clock));
    int accepted = 0;
    for (uint32_t i = 0; i < 15; ++i) {
      accepted += Append(log.get(), IdAt(kStartMs, i), {1});
    }
    EXPECT_EQ(accepted, 10);
    EXPECT_EQ(log->Stats().pending, 10u);
    const auto results = log->AppendEventsAndWait({AClick(IdAt(kStartMs))});
    EXPECT_THAT(Codes(results), ElementsAre(EventResult::CODE_UNAVAILABLE));
    EXPECT_THAT(results[0].message(), HasSubstr("queue is full: 10 appends"));
  }
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(config, &clock));
  EXPECT_EQ(log->Stats().decisions, 10u);
  EXPECT_EQ(log->Stats().dropped_decisions, 5u);
}

TEST(EventLog, WriteIsAtomicAndIdempotent) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  LogBatch batch;
  batch.ads.push_back(EncodeAd(adrank::testing::AnAd(1)));
  LogModel model;
  for (uint32_t i = 0; i < 100; ++i) {
    const DecisionId id = IdAt(kStartMs + 50 - i / 2, i);  // against the order
    batch.decisions.push_back({id, ADecision(id, {1})});
    batch.events.push_back(AnImpression(id));
    model.Decide(batch.decisions.back().decision);
    model.Report(batch.events.back());
  }
  for (int i = 0; i < 3; ++i) ASSERT_OK(log->Write(batch));
  EXPECT_EQ(log->Stats().decisions, 100u);
  EXPECT_EQ(log->Stats().events, 100u);
  EXPECT_EQ(log->Stats().duplicate_events, 200u);
  EXPECT_EQ(log->Stats().snapshots, 1u);
  EXPECT_EQ(log->Stats().unknown_decisions, 0u);
  LogBatch bad = batch;
  bad.decisions[0].id = IdAt(kStartMs + 500);
  bad.events.back().set_position(0);
  EXPECT_THAT(log->Write(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                        AllOf(HasSubstr("event of decision"),
                                              HasSubstr("position 0"))));
  ASSERT_OK_AND_ASSIGN(auto seen, ReadAll(dir.path()));
  for (auto& [id, entry] : seen) {
    for (auto& [key, value] : entry.events) value.second = 0;
  }
  EXPECT_EQ(seen, model.entries);
}

TEST(EventLog, ManyThreadsAppendAtOnce) {
  TempDir dir;
  const SimulatedClock clock(StartTime());
  ASSERT_OK_AND_ASSIGN(auto log, EventLog::Open(LogConfig(dir.path()), &clock));
  std::vector<std::thread> threads;
  std::atomic<int> accepted{0};
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < 200; ++i) {
        const DecisionId id = IdAt(kStartMs + i, t);
        Append(log.get(), id, {static_cast<int>(i % 10)});
        // All threads report the impressions of thread 0.
        log->AppendEvents({AnImpression(id), AnImpression(IdAt(kStartMs + i))},
                          [&](std::vector<EventResult> results) {
                            for (const EventResult& r : results) {
                              accepted +=
                                  r.code() != EventResult::CODE_DUPLICATE;
                            }
                          });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(log->Flush());
  EXPECT_EQ(accepted, 800);
  EXPECT_EQ(log->Stats().decisions, 800u);
  EXPECT_EQ(log->Stats().events, 800u);
  EXPECT_EQ(log->Stats().duplicate_events, 800u);
  EXPECT_EQ(log->Stats().snapshots, 10u);
}

TEST(EventLog, ConfigOutOfRangeIsRefused) {
  const SimulatedClock clock(StartTime());
  StorageConfig config;
  EXPECT_THAT(EventLog::Open(config, &clock),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("data_dir is required")));
  config.set_data_dir("/nowhere");
  config.set_group_commit_ms(1001);
  EXPECT_THAT(EventLog::Open(config, &clock),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("group_commit_ms 1001")));
  config.set_group_commit_ms(0);
  config.set_node_id(65536);
  EXPECT_THAT(
      EventLog::Open(config, &clock),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("node_id 65536")));
}

TEST(EncodeAd, SameContentSameHash) {
  const EncodedAd a = EncodeAd(adrank::testing::AnAd(1));
  EXPECT_EQ(a.hash.size(), 16u);
  EXPECT_EQ(a.hash, EncodeAd(adrank::testing::AnAd(1)).hash);
  EXPECT_NE(a.hash, EncodeAd(adrank::testing::AnAd(2)).hash);
}

}  // namespace
}  // namespace adrank
