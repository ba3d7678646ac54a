// Logs and configurations that must not become a model: each is refused, for a
// reason that a person understands.
#include <string>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
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
using ::adrank::testing::kDayMs;
using ::adrank::testing::kFirstDayMs;
using ::adrank::testing::TempDir;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Report = v1::TrainingReport;

constexpr int64_t kHourMs = 3'600'000;

void SetText(const char* name, const std::string& text, v1::Decision* to) {
  v1::Attribute* attribute = to->mutable_context()->add_attributes();
  attribute->set_name(name);
  attribute->add_text(text);
}

double DayOf(const v1::Decision& decision) {
  return static_cast<double>(decision.context().time_ms() - kFirstDayMs) /
         static_cast<double>(kDayMs);
}

class PoisonedTest : public ::testing::Test {
 protected:
  PoisonedTest() : config_(AConfig(dir_ / "log", dir_ / "models")) {}

  void Write(const ALog& log) { ASSERT_OK(log.Write(dir_ / "log")); }
  Report Train() {
    auto resolved = ResolveConfig(config_);
    EXPECT_OK(resolved);
    StepProgress progress(Clock::Real(), false, -1);
    auto report = RunTraining(*resolved, &progress);
    EXPECT_OK(report);
    return report.ok() ? *std::move(report) : Report();
  }
  // Trained up to `train_end`, calibrated for .2, evaluated for .4 days.
  void SetDays(double begin, double train_end) {
    const auto day = [](double d) {
      return absl::StrCat(kFirstDayMs + static_cast<int64_t>(d * kDayMs));
    };
    v1::DataConfig* data = config_.mutable_data();
    data->set_train_begin(day(begin));
    data->set_train_end(day(train_end));
    data->set_calibration_end(day(train_end + 0.2));
    data->set_evaluation_end(day(train_end + 0.6));
  }
  void AddField(const char* name) {
    config_.mutable_feature_spec()->add_fields()->set_name(name);
  }
  void PublishHonestly() {
    const Report report = Train();
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  }
  // Refused, with `reason` among the reasons, and what was live still is.
  void ExpectRefused(const char* reason) {
    const ModelStore store(dir_ / "models", "ctr");
    const auto before = store.Published();
    const Report report = Train();
    EXPECT_EQ(report.verdict(), Report::KEPT) << report.DebugString();
    EXPECT_THAT(report.reasons(), Contains(HasSubstr(reason)));
    EXPECT_EQ(store.Published().ok(), before.ok());
    if (before.ok()) EXPECT_EQ(*store.Published(), *before);
  }

  TempDir dir_;
  v1::TrainerConfig config_;
};

TEST_F(PoisonedTest, ALabelLeakIsTooGoodToBeTrue) {
  ALog log;
  log.ads_per_decision = 1;
  log.decisions = 4000;
  log.leak = [](v1::Decision* decision, const std::vector<bool>& clicked) {
    SetText("session_end", clicked[0] ? "ad" : "other", decision);
  };
  Write(log);
  PublishHonestly();
  AddField("session_end");
  ExpectRefused("(gate.max_auc): too good to be true");
}

TEST_F(PoisonedTest, AWeakerLabelLeakIsAJumpOverTheLiveModel) {
  ALog log;
  log.ads_per_decision = 1;
  log.decisions = 4000;
  Rng rng(3);
  log.leak = [&rng](v1::Decision* decision, const std::vector<bool>& clicked) {
    const bool wrong = rng.Bernoulli(0.03);
    SetText("session_end", clicked[0] != wrong ? "ad" : "other", decision);
  };
  Write(log);
  PublishHonestly();
  AddField("session_end");
  ExpectRefused("(gate.max_auc_increase): too good to be true");
}

TEST_F(PoisonedTest, ALabelLeakThatIsNotThereLaterIsRefused) {
  ALog log;
  log.ads_per_decision = 1;
  log.decisions = 4000;
  log.leak = [](v1::Decision* decision, const std::vector<bool>& clicked) {
    // Filled in by a job that has not run yet for the newest decisions.
    const bool known = DayOf(*decision) < 0.4;
    SetText("landing_page", known && clicked[0] ? "seen" : "none", decision);
  };
  Write(log);
  AddField("landing_page");
  SetDays(0, 0.4);
  ExpectRefused("(gate.max_auc_decrease): a feature may have known the label");
}

TEST_F(PoisonedTest, AFieldThatIsNotThereLaterIsRefused) {
  ALog log;
  log.edit = [](v1::Decision* decision, const std::vector<v1::AdSnapshot>&) {
    if (DayOf(*decision) < 0.4) SetText("browser", "b", decision);
  };
  Write(log);
  AddField("browser");
  SetDays(0, 0.4);
  ExpectRefused(
      "field \"browser\": 0.0 % of the examples of the evaluation window have "
      "it, 100.0 % of those of the training window had");
}

TEST_F(PoisonedTest, AFieldThatTheLiveModelKnewAndNobodySendsAnyMore) {
  ALog log;
  log.edit = [](v1::Decision* decision, const std::vector<v1::AdSnapshot>&) {
    if (DayOf(*decision) < 1) SetText("browser", "b", decision);
  };
  Write(log);
  AddField("browser");
  SetDays(0, 0.4);
  PublishHonestly();
  log.begin_ms += kDayMs;
  log.seed = 2;
  Write(log);
  SetDays(1, 1.4);
  ExpectRefused("100.0 % of those that the live model was trained on had");
}

TEST_F(PoisonedTest, IdsThatAreOthersEveryNightAreRefused) {
  // The hash of the device changes with the day: nothing learnt of it helps.
  ALog log;
  log.decisions = 3000;
  log.edit = [](v1::Decision* decision, const std::vector<v1::AdSnapshot>&) {
    SetText("hash",
            absl::StrCat(decision->context().user_id(),
                         DayOf(*decision) < 1.5 ? "" : "x"),
            decision);
  };
  Write(log);
  AddField("hash");
  SetDays(0, 0.4);
  PublishHonestly();
  log.begin_ms += kDayMs;
  log.seed = 2;
  Write(log);
  SetDays(1, 1.4);
  ExpectRefused(
      "field \"hash\": 100.0 % of its values in the evaluation window are "
      "unknown to the model");
}

TEST_F(PoisonedTest, ShuffledLabelsAreRefused) {
  ALog log;
  log.shuffled = true;
  Write(log);
  ExpectRefused("(gate.min_auc): the scores say nothing about the labels");
}

TEST_F(PoisonedTest, ShuffledLabelsOfOneNightDoNotReplaceTheLiveModel) {
  ALog log;
  Write(log);
  PublishHonestly();
  log.shuffled = true;
  log.begin_ms += kDayMs;
  Write(log);
  SetDays(1, 1.4);
  ExpectRefused("(gate.max_ne)");
}

// Chance alone lets a few look better than chance, by a hair.
TEST_F(PoisonedTest, ShuffledLabelsAreRefusedByMostSeeds) {
  int published = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    ALog log;
    log.seed = seed;
    log.shuffled = true;
    log.decisions = 1000;
    const std::string name = absl::StrCat("log", seed);
    ASSERT_OK(log.Write(dir_ / name));
    config_.set_data_dir(dir_ / name);
    config_.set_model_dir(dir_ / absl::StrCat("models", seed));
    published += Train().verdict() == Report::PUBLISHED;
  }
  EXPECT_LE(published, 2);
}

TEST_F(PoisonedTest, AnEmptyDayIsNamed) {
  ALog log;
  Write(log);
  log.begin_ms += 2 * kDayMs;
  Write(log);
  SetDays(1, 1.9);
  Report report = Train();
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(),
              ElementsAre(HasSubstr("the training window, 2026-01-06 00:00 to "
                                    "2026-01-06 21:36, has no decisions")));
  SetDays(0, 0.9);
  report = Train();
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(),
              ElementsAre(HasSubstr("the evaluation window")));
}

TEST_F(PoisonedTest, ADayOfClicksOnlyCannotBeEvaluatedOn) {
  ALog log;
  Write(log);
  log.always_click = true;
  log.begin_ms += kDayMs;
  Write(log);
  SetDays(0, 0.85);
  ExpectRefused(
      "examples of the evaluation window are clicks: impressions that were "
      "not clicked are missing");
}

TEST_F(PoisonedTest, ADayOfClicksOnlyCannotBeLearntFrom) {
  ALog log;
  log.always_click = true;
  Write(log);
  log.always_click = false;
  log.begin_ms += kDayMs;
  Write(log);
  SetDays(0, 0.95);
  const Report report = Train();
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("examples are clicks")));
}

TEST_F(PoisonedTest, MissingImpressionsOfSomeDaysShowInTheClickRate) {
  ALog log;
  log.base_logit = -2.5;
  log.decisions = 6000;
  log.always_click = true;
  Write(log);
  log.always_click = false;
  log.begin_ms += kDayMs;
  Write(log);
  SetDays(0.5, 1.2);
  ExpectRefused("(gate.max_ctr_change): clicks or impressions are missing");
}

TEST_F(PoisonedTest, ExplodingWeightsAreRefused) {
  ALog log;
  Write(log);
  config_.mutable_logistic()->set_alpha(100);
  config_.mutable_logistic()->set_passes(20);
  ExpectRefused("(gate.max_logit): weights have exploded");
}

TEST_F(PoisonedTest, AbsurdNumbersExplodeTheScores) {
  ALog log;
  log.edit = [](v1::Decision* decision, const std::vector<v1::AdSnapshot>&) {
    v1::Attribute* attribute = decision->mutable_context()->add_attributes();
    attribute->set_name("price");
    attribute->add_number(DayOf(*decision) < 0.7 ? 1 : 3e38);
    attribute = decision->mutable_context()->add_attributes();
    attribute->set_name("cost");
    attribute->add_number(DayOf(*decision) < 0.7 ? 2 : 3e38);
  };
  Write(log);
  for (const char* name : {"price", "cost"}) {
    AddField(name);
    config_.mutable_feature_spec()->mutable_fields()->rbegin()->set_kind(
        v1::Field::IDENTITY);
  }
  SetDays(0, 0.4);
  ExpectRefused("(gate.max_logit): weights have exploded");
}

TEST_F(PoisonedTest, ASpecOfAnotherLogLearnsNothing) {
  ALog log;
  Write(log);
  config_.clear_feature_spec();
  for (const char* name : {"colour", "shape", "weight"}) AddField(name);
  ExpectRefused("(gate.min_auc): the scores say nothing about the labels");
}

TEST_F(PoisonedTest, ALiveModelOfAnotherSpecIsNotContinuedAndNotLostToAWorse) {
  ALog log;
  Write(log);
  PublishHonestly();
  config_.set_warm_start(true);
  config_.clear_feature_spec();
  AddField("device");
  const Report report = Train();
  EXPECT_EQ(report.verdict(), Report::KEPT);
  EXPECT_EQ(report.parent_version(), 0);
  EXPECT_THAT(report.notes(),
              Contains(HasSubstr("the feature spec is not that of the live")));
  EXPECT_THAT(report.reasons(), Contains(HasSubstr("gate.max_ne_increase")));
}

TEST_F(PoisonedTest, EventsOfTheFutureAreAWrongClock) {
  ALog log;
  log.event_skew_ms = 30 * kDayMs;
  log.skewed_every = 5;
  Write(log);
  ExpectRefused("(gate.max_skewed_events 0.05): a clock is wrong");
}

TEST_F(PoisonedTest, EventsFromBeforeTheLogAreAWrongClock) {
  ALog log;
  log.event_skew_ms = -kFirstDayMs;  // 1970
  log.skewed_every = 5;
  Write(log);
  ExpectRefused("(20.0 %) are dated more than 5 minutes before");
}

TEST_F(PoisonedTest, AServerWhoseClockIsAheadIsAWrongClock) {
  // What a client reports of decisions dated a day too late.
  ALog log;
  log.event_skew_ms = -kDayMs;
  Write(log);
  ExpectRefused("(100.0 %) are dated more than 5 minutes before");
}

TEST_F(PoisonedTest, ClicksOfTheFutureAreNamedWhenNoneIsLeft) {
  ALog log;
  log.click_delay_ms = 1e12;
  Write(log);
  const Report report = Train();
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("a clock is wrong")));
}

TEST_F(PoisonedTest, AFewWrongClocksAreCountedAndTolerated) {
  ALog log;
  log.event_skew_ms = -kHourMs;
  log.skewed_every = 50;
  Write(log);
  const Report report = Train();
  EXPECT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_GT(report.join().skewed_events(), 160u);
}

TEST_F(PoisonedTest, BudgetsOfTimeAndSizeRefuseWhatIsTooLarge) {
  ALog log;
  Write(log);
  config_.mutable_gate()->set_max_score_micros(1e-6);
  ExpectRefused("microseconds a candidate, more than 1e-06");
  config_.mutable_gate()->set_max_score_micros(1e6);
  config_.mutable_gate()->set_max_bundle_bytes(100);
  ExpectRefused("(gate.max_bundle_bytes)");
  config_.mutable_gate()->set_max_bundle_bytes(0);
  const Report report = Train();
  EXPECT_EQ(report.verdict(), Report::PUBLISHED);
  EXPECT_GT(report.golden().score_micros(), 0);
  EXPECT_GE(report.golden().requests(), 16u);
}

TEST_F(PoisonedTest, AShiftOfTheScoresIsNotedAndRefusedWhenItIsBounded) {
  ALog log;
  Write(log);
  v1::FeatureSpec full = config_.feature_spec();
  config_.clear_feature_spec();
  AddField("device");
  PublishHonestly();
  *config_.mutable_feature_spec() = full;
  config_.mutable_gate()->set_max_psi(0.25);
  ExpectRefused("(gate.max_psi)");
  config_.mutable_gate()->set_max_psi(0);
  config_.mutable_gate()->set_max_golden_change(0.01);
  ExpectRefused("(gate.max_golden_change)");
  config_.mutable_gate()->set_max_golden_change(0);
  const Report report = Train();
  EXPECT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_GT(report.psi(), 0.25);
  EXPECT_GT(report.golden().largest_change(), 0.01);
  EXPECT_LT(report.golden().largest_change(), 1);
  EXPECT_THAT(report.notes(), Contains(HasSubstr("stability index")));
}

}  // namespace
}  // namespace adrank
