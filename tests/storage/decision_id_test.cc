#include "storage/decision_id.h"

#include <set>

#include "storage/log_format.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kMs = 1'800'000'000'000;

TEST(DecisionId, HexAndBytesAreInversesAndSortByTime) {
  const DecisionId id{0x0123456789ab, 0xcdef, 0x01020304};
  EXPECT_EQ(id.ToHex(), "0123456789abcdef01020304");
  ASSERT_OK_AND_ASSIGN(const DecisionId parsed,
                       DecisionId::FromHex(id.ToHex()));
  EXPECT_EQ(parsed, id);
  const DecisionId order[] = {{0, 0, 0},
                              {0, 0, 1},
                              {0, 1, 0},
                              {1, 0, 0},
                              {255, 9, 9},
                              {256, 0, 0},
                              {(1ull << 48) - 1, 0xffff, 0xffffffff}};
  for (size_t i = 0; i + 1 < std::size(order); ++i) {
    std::string a, b;
    order[i].AppendTo(&a);
    order[i + 1].AppendTo(&b);
    EXPECT_LT(a, b);
    EXPECT_LT(order[i], order[i + 1]);
    EXPECT_EQ(DecisionId::FromBytes(a), order[i]);
  }
}

TEST(DecisionId, RefusesWhatToHexDoesNotGive) {
  for (const char* bad :
       {"", "0123456789abcdef0102030", "0123456789abcdef010203041",
        "0123456789ABCDEF01020304", "0123456789abcdef0102030g",
        " 123456789abcdef01020304"}) {
    EXPECT_THAT(DecisionId::FromHex(bad),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("is not 24 lower-case hex digits")))
        << bad;
  }
}

TEST(DecisionIdGenerator, NeverGoesBackThoughTheClockDoes) {
  SimulatedClock clock(absl::FromUnixMillis(kMs));
  DecisionIdGenerator generator(&clock, 3, 0xfffffffe);
  std::set<DecisionId> seen;
  DecisionId last;
  for (int i = 0; i < 1000; ++i) {
    if (i % 10 == 3) clock.Advance(absl::Seconds(2));
    if (i % 10 == 7) clock.Advance(-absl::Seconds(3));
    const DecisionId id = generator.Next();
    EXPECT_GT(id, last) << i;
    EXPECT_EQ(id.node, 3);
    EXPECT_TRUE(seen.insert(id).second);
    last = id;
  }
}

// Every id had the wrong time until the next start.
TEST(DecisionIdGenerator, FollowsAClockThatWasYearsAheadForAMoment) {
  SimulatedClock clock(absl::FromUnixMillis(kMs));
  DecisionIdGenerator generator(&clock, 3, 7);
  std::set<DecisionId> seen = {generator.Next()};
  for (const auto jump : {absl::Hours(24 * 3650), absl::Hours(1)}) {
    for (int i = 0; i < 100; ++i) {
      clock.Advance(jump);
      EXPECT_EQ(generator.Next().ms, static_cast<uint64_t>(clock.NowMs()));
      clock.Advance(-jump);
      const DecisionId id = generator.Next();
      EXPECT_EQ(id.ms, kMs);
      EXPECT_TRUE(seen.insert(id).second);
    }
  }
}

TEST(DecisionIdGenerator, SequenceWrapsIntoTheNextMillisecond) {
  SimulatedClock clock(absl::FromUnixMillis(kMs));
  DecisionIdGenerator generator(&clock, 1, 0xffffffff);
  EXPECT_EQ(generator.Next(), (DecisionId{kMs, 1, 0xffffffff}));
  EXPECT_EQ(generator.Next(), (DecisionId{kMs + 1, 1, 0}));
}

TEST(DecisionIdGenerator, ClockBeforeTheEpochIsZero) {
  SimulatedClock clock(absl::FromUnixMillis(-5));
  DecisionIdGenerator generator(&clock, 1, 0);
  EXPECT_EQ(generator.Next().ms, 0u);
}

TEST(LogFormat, StoredDecisionLacksOnlyItsId) {
  for (const bool with_id : {true, false}) {
    for (int ads : {0, 1, 255}) {
      const DecisionId id{kMs, 1, 7};
      v1::Decision decision;
      if (with_id) decision.set_decision_id(id.ToHex());
      decision.set_request_id("r");
      for (int i = 0; i < ads; ++i) decision.add_ads()->set_position(i + 1);
      std::string value = "before";
      log_format::AppendDecisionValue(decision, &value);
      value.erase(0, 6);
      EXPECT_EQ(static_cast<uint8_t>(value[0]), ads);
      v1::Decision bare;
      ASSERT_TRUE(bare.ParseFromString(value.substr(1)));
      EXPECT_EQ(bare.decision_id(), "");
      v1::Decision read;
      ASSERT_TRUE(log_format::ParseDecisionValue(id, value, &read));
      decision.set_decision_id(id.ToHex());
      EXPECT_EQ(read.SerializeAsString(), decision.SerializeAsString());
    }
  }
}

TEST(LogFormat, CountersOfAnOlderVersionAreReadAsZero) {
  log_format::Counters counters;
  counters.decisions = 3;
  counters.commits = 9;
  const std::string bytes = counters.Encode();
  EXPECT_EQ(log_format::Counters::Decode(bytes).commits, 9u);
  EXPECT_EQ(log_format::Counters::Decode(bytes.substr(0, 8)).decisions, 3u);
  EXPECT_EQ(log_format::Counters::Decode(bytes.substr(0, 8)).commits, 0u);
}

}  // namespace
}  // namespace adrank
