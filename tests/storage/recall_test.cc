#include "storage/recall.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

v1::RankResponse Answer(
    const std::vector<std::pair<std::string, v1::MatchType>>& winners) {
  v1::RankResponse response;
  for (const auto& [id, type] : winners) {
    v1::PlacementResult* p = response.add_placements();
    if (id.empty()) continue;
    p->add_ads()->set_ad_id(id);
    p->mutable_ads(0)->set_match_type(type);
  }
  return response;
}

constexpr auto kBroad = v1::MATCH_TYPE_BROAD;
constexpr auto kTargeting = v1::MATCH_TYPE_TARGETING;

TEST(Recall, CountsWinnersInsideEachLimitBySource) {
  const std::vector<uint32_t> limits = {10, 100};
  RecallCounter counter(limits);
  counter.Add(Answer({{"a", kBroad}, {"b", kTargeting}}),
              {Answer({{"x", kTargeting}, {"b", kTargeting}}),
               Answer({{"a", kBroad}, {"b", kTargeting}})});
  counter.Add(Answer({{"a", kBroad}}),
              {Answer({{"", kBroad}}), Answer({{"a", kBroad}})});
  counter.Add(Answer({{"", kBroad}}),
              {Answer({{"", kBroad}}), Answer({{"", kBroad}})});
  v1::RankResponse late = Answer({{"a", kBroad}});
  late.add_degraded(v1::DEGRADATION_DEADLINE);
  counter.Add(late, {late, late});
  v1::RankResponse chance = Answer({{"a", kBroad}});
  chance.mutable_placements(0)->mutable_ads(0)->set_explored(true);
  counter.Add(Answer({{"a", kBroad}}), {chance, Answer({{"a", kBroad}})});

  const v1::RecallReport report = counter.Report();
  EXPECT_EQ(report.decisions(), 5u);
  EXPECT_EQ(report.placements(), 3u);
  EXPECT_EQ(report.empty(), 1u);
  EXPECT_EQ(report.deadline(), 1u);
  EXPECT_EQ(report.explored(), 1u);
  ASSERT_EQ(report.limits_size(), 2);
  const auto& few = report.limits(0);
  ASSERT_EQ(few.sources_size(), 3);
  EXPECT_EQ(few.sources(0).match_type(), "");
  EXPECT_EQ(few.sources(0).winners(), 3u);
  EXPECT_EQ(few.sources(0).inside(), 1u);
  EXPECT_DOUBLE_EQ(few.sources(0).recall(), 1.0 / 3);
  EXPECT_EQ(few.sources(1).match_type(), "BROAD");
  EXPECT_EQ(few.sources(1).inside(), 0u);
  EXPECT_EQ(few.sources(2).match_type(), "TARGETING");
  EXPECT_EQ(few.sources(2).recall(), 1);
  EXPECT_EQ(report.limits(1).sources(0).recall(), 1);
}

TEST(Recall, NoDecisionIsNoRecallNotAnError) {
  const std::vector<uint32_t> limits = {10};
  const auto report = MeasureRecall(
      {}, limits,
      [](const v1::RankRequest&) -> absl::StatusOr<v1::RankResponse> {
        return absl::InternalError("not asked");
      });
  ASSERT_OK(report);
  EXPECT_EQ(report->decisions(), 0u);
  EXPECT_EQ(report->limits(0).sources(0).recall(), 0);
}

TEST(Recall, AsksAtTheDecisionsTimeWithoutAndWithTheLimit) {
  v1::Decision decision;
  decision.mutable_context()->set_time_ms(123);
  decision.mutable_context()->set_query("shoes");
  decision.add_placement_ids("top");
  decision.mutable_request()->set_max_candidates(7);
  decision.mutable_request()->add_query_embedding(1);
  std::vector<uint32_t> asked;
  const std::vector<uint32_t> limits = {5, 50};
  const auto report = MeasureRecall(
      {decision}, limits,
      [&](const v1::RankRequest& request) -> absl::StatusOr<v1::RankResponse> {
        EXPECT_EQ(request.context().time_ms(), 123);
        EXPECT_EQ(request.placements(0).id(), "top");
        EXPECT_EQ(request.query_embedding_size(), 1);
        asked.push_back(request.max_candidates());
        return Answer({{"a", kTargeting}});
      });
  ASSERT_OK(report);
  EXPECT_EQ(asked, (std::vector<uint32_t>{0, 5, 50}));
}

// A log in memory.
class FakeLog : public EventLogReader {
 public:
  explicit FakeLog(std::vector<v1::Decision> decisions)
      : decisions_(std::move(decisions)) {}
  std::unique_ptr<JoinCursor> Join(int64_t, int64_t) override {
    return std::make_unique<Cursor>(decisions_);
  }
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view) override {
    return absl::NotFoundError("");
  }
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId&) override {
    return absl::NotFoundError("");
  }
  absl::StatusOr<std::pair<int64_t, int64_t>> TimeRange() override {
    return std::pair<int64_t, int64_t>(0, 1);
  }

 private:
  class Cursor : public JoinCursor {
   public:
    explicit Cursor(const std::vector<v1::Decision>& all) : all_(all) { Set(); }
    bool Valid() const override { return at_ < all_.size(); }
    void Next() override {
      ++at_;
      Set();
    }
    const JoinedRecord& record() const override { return record_; }
    absl::Status status() const override { return absl::OkStatus(); }

   private:
    void Set() {
      if (!Valid()) return;
      bytes_ = all_[at_].SerializeAsString();
      record_.decision = bytes_;
    }
    const std::vector<v1::Decision>& all_;
    size_t at_ = 0;
    std::string bytes_;
    JoinedRecord record_;
  };
  std::vector<v1::Decision> decisions_;
};

TEST(Recall, TheSampleIsUniformAndLeavesOutTestTraffic) {
  std::vector<v1::Decision> all(50);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].set_request_id(absl::StrCat(i));
    all[i].set_test(i % 5 == 0);
    if (i % 5 == 1) all[i].mutable_request()->add_candidates()->set_ad_id("a");
  }
  FakeLog log(all);
  std::map<std::string, int> times;
  constexpr int kRounds = 3000;
  for (int seed = 0; seed < kRounds; ++seed) {
    const auto sample = SampleDecisions(&log, 0, 1, 10, seed);
    ASSERT_OK(sample);
    ASSERT_EQ(sample->size(), 10u);
    std::set<std::string> distinct;
    for (const v1::Decision& d : *sample) {
      distinct.insert(d.request_id());
      ++times[d.request_id()];
    }
    EXPECT_EQ(distinct.size(), 10u);
  }
  ASSERT_EQ(times.size(), 30u);  // 3 of 5
  // Binomial(3000, 1/3): five standard deviations are 129.
  for (const auto& [id, n] : times) EXPECT_NEAR(n, kRounds / 3, 129) << id;
}

}  // namespace
}  // namespace adrank
