#include "server/nightly_recall.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/metrics.h"
#include "server/server.h"
#include "storage/event_log.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ABundle;
using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ParseText;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;
using ::testing::Not;

// Midnight of a Thursday.
const absl::Time kDay = absl::FromUnixSeconds(20000 * 86400);

// A server's log of some days, and what is served now.
class NightlyRecallTest : public ::testing::Test {
 protected:
  NightlyRecallTest() {
    config_ = ParseText<v1::ServerConfig>("limits { max_candidates: 5 }");
    config_.mutable_storage()->set_data_dir(dir_ / "data");
    auto log = EventLog::Open(config_.storage(), &clock_);
    EXPECT_OK(log);
    log_ = *std::move(log);
    pipeline_ = *RankingPipeline::Create(config_, &clock_);
    state_.SetBundle(ABundle());
    // ad0 bids least; even ads have category a, which Berlin likes.
    state_.SetIndex(AnIndex(ACatalogOf(20, 20, 1000, 10)));
  }

  std::unique_ptr<NightlyRecall> Create() {
    auto nightly = NightlyRecall::Create(config_, &state_, &clock_, [this] {
      return EventLogReader::Open(config_.storage().data_dir());
    });
    EXPECT_OK(nightly);
    return *std::move(nightly);
  }

  void Decide(absl::Time time, bool test = false) {
    clock_.Set(time);
    v1::RankRequest request;
    request.set_test(test);
    testing::AddText(request.mutable_context()->mutable_attributes(), "city",
                     "Berlin");
    const DecisionId id = {static_cast<uint64_t>(clock_.NowMs()), 1,
                           ++sequence_};
    RankTrace trace;
    RankOutcome outcome;
    ASSERT_OK(
        pipeline_->Rank(*state_.Current(), request, id, {}, &trace, &outcome));
    ASSERT_TRUE(log_->AppendDecision(id, outcome.decision, outcome.ads));
  }

  TempDir dir_;
  SimulatedClock clock_{kDay};
  v1::ServerConfig config_;
  ServingState state_;
  std::unique_ptr<EventLog> log_;
  std::unique_ptr<const RankingPipeline> pipeline_;
  uint32_t sequence_ = 0;
};

TEST_F(NightlyRecallTest, IsOfTheDayBeforeOnceADay) {
  Decide(kDay - absl::Seconds(1));
  for (int i = 0; i < 7; ++i) Decide(kDay + absl::Hours(i));
  Decide(kDay + absl::Hours(8), true);  // test traffic
  for (int i = 0; i < 3; ++i) Decide(kDay + absl::Hours(24 + i));
  ASSERT_OK(log_->Flush());
  clock_.Set(kDay + absl::Hours(24) - absl::Seconds(1));
  const auto nightly = Create();
  EXPECT_FALSE(nightly->Last().has_value());
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->day, kDay - absl::Hours(24));
  EXPECT_EQ(nightly->Last()->report.decisions(), 1u);
  clock_.Set(kDay + absl::Hours(24));
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->day, kDay);
  EXPECT_EQ(nightly->Last()->report.decisions(), 7u);
  // The same day again: what is logged now is not read.
  Decide(kDay + absl::Hours(23));
  ASSERT_OK(log_->Flush());
  clock_.Set(kDay + absl::Hours(47));
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->report.decisions(), 7u);
  // A server that starts anew measures the day again.
  const auto restarted = Create();
  ASSERT_OK(restarted->RunOnce());
  EXPECT_EQ(restarted->Last()->report.decisions(), 8u);
}

TEST_F(NightlyRecallTest, CountsWinnersBeyondTheLimit) {
  Decide(kDay);
  ASSERT_OK(log_->Flush());
  clock_.Set(kDay + absl::Hours(25));
  auto nightly = Create();
  ASSERT_OK(nightly->RunOnce());
  const v1::RecallReport report = nightly->Last()->report;
  ASSERT_EQ(report.limits_size(), 1);
  EXPECT_EQ(report.limits(0).max_candidates(), 5u);
  EXPECT_EQ(report.placements(), 1u);
  EXPECT_EQ(report.limits(0).sources(0).recall(), 1);
  // An ad of a much better pctr that bids little less than all others.
  v1::Catalog catalog = ACatalogOf(20, 20, 1000, 10);
  for (int i = 1; i < 20; ++i) {
    catalog.mutable_ads(i)->mutable_attributes(0)->set_text(0, "b");
  }
  state_.SetIndex(AnIndex(catalog));
  nightly = Create();
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->report.limits(0).sources(0).winners(), 1u);
  EXPECT_EQ(nightly->Last()->report.limits(0).sources(0).inside(), 0u);
  EXPECT_EQ(nightly->Last()->report.limits(0).sources(1).match_type(),
            "TARGETING");
  EXPECT_EQ(nightly->Last()->report.truncated(), 0u);
}

TEST_F(NightlyRecallTest, ADayWithoutDecisionsIsMeasuredOfNone) {
  Decide(kDay);
  ASSERT_OK(log_->Flush());
  const auto nightly = Create();
  Metrics metrics;
  clock_.Set(kDay + absl::Hours(24));
  ASSERT_OK(nightly->RunOnce());
  metrics.RecallMeasured(1, nightly->Last()->report);
  EXPECT_THAT(metrics.Text(),
              HasSubstr("adrank_trigger_recall_at_winner{source=\"all\"} 1"));
  EXPECT_THAT(metrics.Text(),
              HasSubstr("adrank_trigger_recall_winners{source=\"targeting\"} "
                        "1"));
  clock_.Set(kDay + absl::Hours(72));
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->day, kDay + absl::Hours(48));
  EXPECT_EQ(nightly->Last()->report.decisions(), 0u);
  metrics.RecallMeasured(2, nightly->Last()->report);
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("recall_at_winner{")));
  EXPECT_THAT(metrics.Text(),
              HasSubstr("adrank_trigger_recall_winners{source=\"all\"} 0"));
  EXPECT_THAT(metrics.Text(),
              HasSubstr("adrank_trigger_recall_day_timestamp_seconds 2"));
}

TEST_F(NightlyRecallTest, AClockThatGoesBackMeasuresTheDayItSays) {
  Decide(kDay);
  Decide(kDay + absl::Hours(24));
  Decide(kDay + absl::Hours(25));
  ASSERT_OK(log_->Flush());
  const auto nightly = Create();
  clock_.Set(kDay + absl::Hours(49));
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->report.decisions(), 2u);
  clock_.Set(kDay + absl::Hours(30));
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->report.decisions(), 1u);
}

TEST_F(NightlyRecallTest, TheSampleIsABound) {
  for (int i = 0; i < 50; ++i) Decide(kDay + absl::Minutes(i));
  ASSERT_OK(log_->Flush());
  clock_.Set(kDay + absl::Hours(24));
  config_.mutable_recall()->set_sample(8);
  const auto nightly = Create();
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->report.decisions(), 8u);
}

TEST_F(NightlyRecallTest, AnErrorIsTriedAgainAndAStoppedOneIsCancelled) {
  bool works = false;
  Decide(kDay);
  ASSERT_OK(log_->Flush());
  clock_.Set(kDay + absl::Hours(24));
  ASSERT_OK_AND_ASSIGN(
      const auto nightly,
      NightlyRecall::Create(
          config_, &state_, &clock_,
          [&]() -> absl::StatusOr<std::unique_ptr<EventLogReader>> {
            if (!works) return absl::NotFoundError("no log yet");
            return EventLogReader::Open(config_.storage().data_dir());
          }));
  EXPECT_THAT(nightly->RunOnce(),
              StatusIs(absl::StatusCode::kNotFound, "no log yet"));
  EXPECT_FALSE(nightly->Last().has_value());
  works = true;
  ASSERT_OK(nightly->RunOnce());
  EXPECT_EQ(nightly->Last()->report.decisions(), 1u);
  Decide(kDay + absl::Hours(24));
  ASSERT_OK(log_->Flush());
  clock_.Set(kDay + absl::Hours(48));
  nightly->Stop();
  EXPECT_THAT(nightly->RunOnce(),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("stops")));
  EXPECT_EQ(nightly->Last()->day, kDay);
}

TEST_F(NightlyRecallTest, ConfigurationIsChecked) {
  config_.mutable_recall()->set_disabled(true);
  EXPECT_EQ(Create(), nullptr);
  config_.mutable_recall()->set_sample(100001);
  EXPECT_THAT(
      NightlyRecall::Create(config_, &state_, &clock_, {}).status().message(),
      HasSubstr("recall.sample: 100001 not in [0, 100000]"));
  config_.mutable_recall()->set_sample(1);
  config_.mutable_recall()->set_max_candidates(1000001);
  EXPECT_THAT(
      NightlyRecall::Create(config_, &state_, &clock_, {}).status().message(),
      HasSubstr("recall.max_candidates: 1000001 not in [0, 1000000]"));
}

TEST_F(NightlyRecallTest, AServerIsNotStartedWithAWrongOne) {
  config_.mutable_model()->set_model_dir(dir_ / "models");
  EXPECT_OK(ValidateConfig(config_));
  config_.mutable_recall()->set_sample(100001);
  EXPECT_THAT(ValidateConfig(config_).message(), HasSubstr("recall.sample"));
}

}  // namespace
}  // namespace adrank
