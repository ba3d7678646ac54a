#include "trainer/label_joiner.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

constexpr int64_t kServed = 1'700'000'000'000;

// A decision with its events, as a cursor would show them.
struct ARecord {
  v1::Decision decision;
  std::vector<JoinedEvent> events;
  bool has_decision = true;

  ARecord& Ads(std::vector<uint32_t> positions) {
    for (uint32_t p : positions) decision.add_ads()->set_position(p);
    return *this;
  }
  ARecord& Impression(uint8_t position, int64_t after_ms = 0) {
    events.push_back({position, v1::EVENT_TYPE_IMPRESSION, kServed + after_ms});
    return *this;
  }
  ARecord& Click(uint8_t position, int64_t after_ms) {
    events.push_back({position, v1::EVENT_TYPE_CLICK, kServed + after_ms});
    return *this;
  }
};

struct Joined {
  v1::JoinCounts counts;
  std::vector<LabelledAd> examples;
};

Joined Join(const ARecord& r, const LabelOptions& options = {}) {
  JoinedRecord record;
  record.id.ms = kServed;
  record.events = r.events;
  Joined joined;
  joined.examples.push_back({});  // must be cleared
  JoinLabels(record, r.has_decision ? &r.decision : nullptr, options,
             &joined.counts, &joined.examples);
  return joined;
}

TEST(LabelJoiner, ClickInsideTheWindowIsPositive) {
  const Joined j =
      Join(ARecord().Ads({1, 2}).Impression(1).Impression(2).Click(2, 5000));
  ASSERT_EQ(j.examples.size(), 2u);
  EXPECT_FALSE(j.examples[0].clicked);
  EXPECT_TRUE(j.examples[1].clicked);
  EXPECT_EQ(j.counts.joined_clicks(), 1u);
}

TEST(LabelJoiner, ClickAfterTheWindowStaysNegative) {
  LabelOptions options;
  options.attribution_window_ms = 1000;
  for (const auto& [lag, clicked] :
       std::map<int64_t, bool>{{999, true}, {1000, true}, {1001, false}}) {
    const Joined j =
        Join(ARecord().Ads({1}).Impression(1, 50).Click(1, 50 + lag), options);
    ASSERT_EQ(j.examples.size(), 1u);
    EXPECT_EQ(j.examples[0].clicked, clicked) << lag;
    EXPECT_EQ(j.counts.late_clicks(), clicked ? 0u : 1u) << lag;
  }
}

TEST(LabelJoiner, ClickBeforeItsImpressionCountsAsInside) {
  const Joined j = Join(ARecord().Ads({1}).Impression(1, 900).Click(1, 100));
  EXPECT_TRUE(j.examples[0].clicked);
}

TEST(LabelJoiner, UnseenAdsAreNoExamplesUnlessServedIsSeen) {
  const ARecord record = ARecord().Ads({1, 2}).Click(2, 10);
  const Joined strict = Join(record);
  EXPECT_TRUE(strict.examples.empty());
  EXPECT_EQ(strict.counts.unseen_ads(), 2u);
  EXPECT_EQ(strict.counts.clicks_without_impression(), 1u);
  LabelOptions options;
  options.served_is_seen = true;
  const Joined seen = Join(record, options);
  ASSERT_EQ(seen.examples.size(), 2u);
  EXPECT_TRUE(seen.examples[1].clicked);
  EXPECT_EQ(seen.counts.joined_clicks(), 1u);
}

TEST(LabelJoiner, TestTrafficIsNeverAnExample) {
  ARecord record = ARecord().Ads({1, 2}).Impression(1).Click(1, 10);
  record.decision.set_test(true);
  const Joined j = Join(record);
  EXPECT_TRUE(j.examples.empty());
  EXPECT_EQ(j.counts.test_decisions(), 1u);
  EXPECT_EQ(j.counts.test_ads(), 2u);
  EXPECT_EQ(j.counts.test_impressions(), 1u);
  EXPECT_EQ(j.counts.test_clicks(), 1u);
}

TEST(LabelJoiner, EventsWithoutDecisionOrPositionAreOrphans) {
  ARecord record = ARecord().Impression(1).Click(1, 10);
  record.has_decision = false;
  const Joined none = Join(record);
  EXPECT_EQ(none.counts.orphan_impressions(), 1u);
  EXPECT_EQ(none.counts.orphan_clicks(), 1u);
  EXPECT_EQ(none.counts.decisions(), 0u);
  const Joined other =
      Join(ARecord().Ads({1}).Impression(1).Impression(7).Click(9, 1));
  EXPECT_EQ(other.counts.orphan_impressions(), 1u);
  EXPECT_EQ(other.counts.orphan_clicks(), 1u);
  EXPECT_EQ(other.examples.size(), 1u);
}

// What the comment of JoinCounts says, event by event and ad by ad, slowly.
Joined Oracle(const ARecord& r, const LabelOptions& options) {
  Joined j;
  v1::JoinCounts& c = j.counts;
  const auto find = [&](uint32_t position, v1::EventType type) {
    for (const JoinedEvent& e : r.events) {
      if (e.position == position && e.type == type) return &e;
    }
    return static_cast<const JoinedEvent*>(nullptr);
  };
  const auto is_first = [&](int i) {
    for (int k = 0; k < i; ++k) {
      if (r.decision.ads(k).position() == r.decision.ads(i).position()) {
        return false;
      }
    }
    return true;
  };
  std::map<std::string, uint64_t> n;
  for (const JoinedEvent& e : r.events) {
    const bool impression = e.type == v1::EVENT_TYPE_IMPRESSION;
    const std::string kind = impression ? "impression" : "click";
    ++n["all " + kind];
    n["duplicates"] += e.duplicates;
    bool known = false;
    for (const auto& ad : r.decision.ads()) {
      known |= r.has_decision && ad.position() == e.position;
    }
    if (!known) {
      ++n["orphan " + kind];
      continue;
    }
    if (r.decision.test()) {
      ++n["test " + kind];
      continue;
    }
    n["skewed"] +=
        e.time_ms < kServed - 300'000 ||
        e.time_ms > kServed + options.attribution_window_ms + 86'400'000;
    if (impression) {
      ++n["joined impression"];
    } else {
      const JoinedEvent* seen = find(e.position, v1::EVENT_TYPE_IMPRESSION);
      if (seen == nullptr && !options.served_is_seen) {
        ++n["unseen click"];
      } else {
        const int64_t since = seen != nullptr ? seen->time_ms : kServed;
        ++n[e.time_ms - since <= options.attribution_window_ms ? "joined click"
                                                               : "late click"];
      }
    }
  }
  for (int i = 0; r.has_decision && i < r.decision.ads_size(); ++i) {
    const uint32_t p = r.decision.ads(i).position();
    if (r.decision.test()) {
      ++n["test ad"];
      continue;
    }
    const JoinedEvent* seen =
        is_first(i) ? find(p, v1::EVENT_TYPE_IMPRESSION) : nullptr;
    const JoinedEvent* click =
        is_first(i) ? find(p, v1::EVENT_TYPE_CLICK) : nullptr;
    if (seen == nullptr && !options.served_is_seen) {
      ++n["unseen ad"];
      continue;
    }
    const int64_t since = seen != nullptr ? seen->time_ms : kServed;
    j.examples.push_back(
        {static_cast<uint32_t>(i),
         click != nullptr &&
             click->time_ms - since <= options.attribution_window_ms});
  }
  c.set_decisions(r.has_decision);
  c.set_served_ads(r.has_decision ? r.decision.ads_size() : 0);
  c.set_test_decisions(r.has_decision && r.decision.test());
  c.set_impressions(n["all impression"]);
  c.set_clicks(n["all click"]);
  c.set_joined_clicks(n["joined click"]);
  c.set_late_clicks(n["late click"]);
  c.set_clicks_without_impression(n["unseen click"]);
  c.set_orphan_impressions(n["orphan impression"]);
  c.set_orphan_clicks(n["orphan click"]);
  c.set_duplicate_events(n["duplicates"]);
  c.set_examples(j.examples.size());
  c.set_unseen_ads(n["unseen ad"]);
  c.set_joined_impressions(n["joined impression"]);
  c.set_test_ads(n["test ad"]);
  c.set_test_impressions(n["test impression"]);
  c.set_test_clicks(n["test click"]);
  c.set_skewed_events(n["skewed"]);
  return j;
}

ARecord RandomRecord(Rng* rng) {
  ARecord r;
  r.has_decision = rng->Bernoulli(0.9);
  r.decision.set_test(rng->Bernoulli(0.1));
  for (uint64_t i = rng->Below(5); r.has_decision && i > 0; --i) {
    // Repeated positions, 0 and positions beyond u8 happen too.
    r.decision.add_ads()->set_position(
        rng->Bernoulli(0.05) ? 256 + rng->Below(3) : rng->Below(6));
  }
  std::map<std::pair<int, int>, JoinedEvent> events;
  for (uint64_t i = rng->Below(9); i > 0; --i) {
    JoinedEvent e;
    e.position = static_cast<uint8_t>(rng->Below(7));
    e.type =
        rng->Bernoulli(0.5) ? v1::EVENT_TYPE_IMPRESSION : v1::EVENT_TYPE_CLICK;
    e.time_ms = kServed + (static_cast<int64_t>(rng->Below(4000)) - 500) *
                              (rng->Bernoulli(0.1) ? 30'000 : 1);
    e.duplicates = static_cast<uint32_t>(rng->Below(3));
    events[{e.position, e.type}] = e;
  }
  for (const auto& [key, e] : events) r.events.push_back(e);
  return r;
}

TEST(LabelJoiner, EqualsTheOracleOnRandomEventsAndTheCountsAddUp) {
  Rng rng(11);
  v1::JoinCounts sum, oracle_sum;
  for (int round = 0; round < 20000; ++round) {
    const ARecord record = RandomRecord(&rng);
    LabelOptions options;
    options.attribution_window_ms = static_cast<int64_t>(rng.Below(3000));
    options.served_is_seen = rng.Bernoulli(0.3);
    const Joined got = Join(record, options);
    const Joined want = Oracle(record, options);
    ASSERT_EQ(got.counts.DebugString(), want.counts.DebugString()) << round;
    ASSERT_EQ(got.examples.size(), want.examples.size());
    for (size_t i = 0; i < want.examples.size(); ++i) {
      ASSERT_EQ(got.examples[i].ad, want.examples[i].ad);
      ASSERT_EQ(got.examples[i].clicked, want.examples[i].clicked);
    }
    AddCounts(got.counts, &sum);
  }
  EXPECT_EQ(sum.served_ads(), sum.examples() + sum.missing_snapshots() +
                                  sum.unseen_ads() + sum.test_ads());
  EXPECT_EQ(sum.impressions(), sum.joined_impressions() +
                                   sum.orphan_impressions() +
                                   sum.test_impressions());
  EXPECT_EQ(sum.clicks(), sum.joined_clicks() + sum.late_clicks() +
                              sum.clicks_without_impression() +
                              sum.orphan_clicks() + sum.test_clicks());
  EXPECT_GT(sum.late_clicks(), 0u);
}

}  // namespace
}  // namespace adrank
