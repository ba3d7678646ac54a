#include "trainer/training_run.h"

#include <cstring>
#include <filesystem>
#include <map>

#include "base/files.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
#include "storage/event_log_reader.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/a_log.h"
#include "trainer/config.h"
#include "trainer/expiry.h"
#include "trainer/report.h"

namespace adrank {
namespace {

using ::adrank::testing::AConfig;
using ::adrank::testing::ALog;
using ::adrank::testing::kDayMs;
using ::adrank::testing::kFirstDayMs;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Report = v1::TrainingReport;

absl::StatusOr<Report> Train(const v1::TrainerConfig& config) {
  ASSIGN_OR_RETURN(const v1::TrainerConfig resolved, ResolveConfig(config));
  StepProgress progress(Clock::Real(), false, -1);
  return RunTraining(resolved, &progress);
}

std::shared_ptr<const ModelBundle> Live(const v1::TrainerConfig& config) {
  const ModelStore store(config.model_dir(), "ctr");
  auto bundle = ModelBundle::Load(store.VersionDir(*store.Published()));
  EXPECT_OK(bundle);
  return *bundle;
}

// Every file below `dir`, by name.
std::map<std::string, std::string> AllFiles(const std::string& dir) {
  std::map<std::string, std::string> found;
  for (const auto& e : std::filesystem::recursive_directory_iterator(dir)) {
    if (e.is_regular_file()) {
      found[std::filesystem::relative(e.path(), dir).string()] =
          *files::Read(e.path().string());
    }
  }
  return found;
}

class TrainingRunTest : public ::testing::Test {
 protected:
  v1::TrainerConfig Config() { return AConfig(dir_ / "log", dir_ / "models"); }
  // The day's number as the config writes it.
  static std::string Day(double day) {
    return absl::StrCat(kFirstDayMs + static_cast<int64_t>(day * kDayMs));
  }
  // Trains on `days` days from `first`, then .3 of a day each to calibrate and
  // evaluate.
  v1::TrainerConfig OnDays(double first, double days) {
    v1::TrainerConfig config = Config();
    config.mutable_data()->set_train_begin(Day(first));
    config.mutable_data()->set_train_end(Day(first + days));
    config.mutable_data()->set_calibration_end(Day(first + days + 0.3));
    config.mutable_data()->set_evaluation_end(Day(first + days + 0.6));
    return config;
  }
  TempDir dir_;
};

TEST_F(TrainingRunTest, PublishesAModelThatBeatsChanceAndSaysHowItCame) {
  ALog log;
  log.seen = 0.9;
  ASSERT_OK(log.Write(dir_ / "log"));
  v1::TrainerConfig config = Config();
  config.mutable_evaluation()->add_slices("device");
  config.mutable_evaluation()->add_slices("ad.advertiser_id");
  config.mutable_evaluation()->set_min_slice_examples(250);
  ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
  EXPECT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_EQ(report.version(), 1);
  EXPECT_FALSE(report.has_incumbent());
  EXPECT_GT(report.candidate().auc(), 0.68);
  EXPECT_LT(report.candidate().normalized_entropy(), 0.95);
  EXPECT_EQ(report.join().decisions(), 2000u);
  EXPECT_EQ(report.join().served_ads(), 8000u);
  EXPECT_EQ(report.join().examples() + report.join().unseen_ads(), 8000u);
  EXPECT_EQ(report.training_examples() + report.calibration_examples() +
                report.candidate().examples(),
            report.join().examples());
  EXPECT_NEAR(static_cast<double>(report.candidate().examples()),
              0.2 * static_cast<double>(report.join().examples()), 8);
  EXPECT_EQ(report.progressive_size(), 2);
  uint64_t sliced = 0;
  for (const v1::Slice& slice : report.slices()) {
    if (slice.name() != "device") continue;
    sliced += slice.candidate().examples();
    EXPECT_THAT(slice.value(), HasSubstr("d"));
  }
  EXPECT_EQ(sliced, report.candidate().examples());
  EXPECT_EQ(report.slices(report.slices_size() - 1).value(), "other");
  EXPECT_THAT(ReportText(report, absl::UTCTimeZone()),
              HasSubstr("PUBLISHED version 1"));
  const auto bundle = Live(config);
  EXPECT_EQ(bundle->manifest().version(), 1);
  EXPECT_EQ(bundle->manifest().examples(), report.training_examples());
  EXPECT_GT(bundle->manifest().feature_spec().fields(2).boundaries_size(), 5);
  // Every example has a device; the position is always known.
  EXPECT_EQ(bundle->manifest().field_coverage(0), 1.0f);
}

TEST_F(TrainingRunTest, EvaluateOnlyMeasuresTheLiveModelAndChangesNothing) {
  ALog log;
  ASSERT_OK(log.Write(dir_ / "log"));
  v1::TrainerConfig config = OnDays(0, 0.4);
  config.mutable_evaluation()->add_slices("device");
  v1::TrainerConfig only = config;
  only.set_evaluate_only(true);
  ASSERT_OK_AND_ASSIGN(const Report nothing, Train(only));
  EXPECT_EQ(nothing.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(nothing.reasons(), ElementsAre(HasSubstr("no version is live")));

  ASSERT_OK_AND_ASSIGN(const Report trained, Train(config));
  ASSERT_EQ(trained.verdict(), Report::PUBLISHED) << trained.DebugString();
  const auto files = AllFiles(dir_ / "models");
  // Windows, spec and learner of the config have no say but for the evaluation.
  only.mutable_data()->set_train_begin("");
  only.mutable_logistic()->set_passes(7);
  only.mutable_feature_spec()->mutable_fields(0)->set_min_count(99);
  ASSERT_OK_AND_ASSIGN(const Report report, Train(only));
  EXPECT_EQ(report.verdict(), Report::EVALUATED) << report.DebugString();
  EXPECT_EQ(report.candidate().SerializeAsString(),
            trained.candidate().SerializeAsString());
  EXPECT_EQ(report.slices_size(), trained.slices_size());
  EXPECT_FALSE(report.has_incumbent());
  EXPECT_EQ(report.training_examples(), 0u);
  EXPECT_THAT(ReportText(report, absl::UTCTimeZone()),
              HasSubstr("EVALUATED version 1, which stays live"));
  EXPECT_EQ(AllFiles(dir_ / "models"), files);
}

TEST_F(TrainingRunTest, SameLogConfigAndSeedGiveTheSameBytesForAnyThreads) {
  ALog log;
  log.decisions = 1500;
  ASSERT_OK(log.Write(dir_ / "log"));
  std::map<std::string, std::string> first;
  for (uint32_t threads : {1, 2, 5}) {
    v1::TrainerConfig config = Config();
    config.set_model_dir(dir_ / absl::StrCat("models", threads));
    config.set_threads(threads);
    config.mutable_data()->set_negative_keep_rate(0.7);
    config.mutable_logistic()->set_shuffle(true);
    config.mutable_logistic()->set_out_of_vocabulary(v1::OOV_ROW);
    config.mutable_evaluation()->add_slices("position");
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
    const auto files = AllFiles(config.model_dir());
    ASSERT_THAT(files, Contains(::testing::Key("ctr/1/report.json")));
    ASSERT_THAT(files, Contains(::testing::Key("ctr/1/optimizer.bin")));
    if (first.empty()) first = files;
    ASSERT_EQ(files.size(), first.size());
    for (const auto& [name, bytes] : first) {
      EXPECT_TRUE(files.at(name) == bytes) << name << " with " << threads;
    }
  }
}

TEST_F(TrainingRunTest, AnotherSeedGivesOtherBytes) {
  ALog log;
  log.decisions = 800;
  ASSERT_OK(log.Write(dir_ / "log"));
  std::vector<std::string> weights;
  for (uint64_t seed : {1, 2}) {
    v1::TrainerConfig config = Config();
    config.set_model_dir(dir_ / absl::StrCat("models", seed));
    config.set_seed(seed);
    config.mutable_data()->set_negative_keep_rate(0.5);
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
    weights.push_back(AllFiles(config.model_dir())["ctr/1/weights.bin"]);
  }
  EXPECT_NE(weights[0], weights[1]);
}

TEST_F(TrainingRunTest, AnyoneCanRecomputeThePredictionsFromLogAndBundle) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  const v1::TrainerConfig config = Config();
  ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
  const auto bundle = Live(config);
  ASSERT_OK_AND_ASSIGN(const auto reader,
                       EventLogReader::Open(config.data_dir()));
  auto cursor =
      reader->Join(report.calibration_end_ms(), report.evaluation_end_ms());
  double sum = 0;
  uint64_t rows = 0;
  for (; cursor->Valid(); cursor->Next()) {
    v1::Decision decision;
    ASSERT_TRUE(cursor->record().Parse(&decision));
    for (const v1::ServedAd& served : decision.ads()) {
      ASSERT_OK_AND_ASSIGN(const v1::AdSnapshot ad,
                           reader->GetSnapshot(served.ad_hash()));
      const v1::AdSnapshot* const ads[] = {&ad};
      RequestFeatures features;
      bundle->extractor().Extract(decision.context(), "top", ads,
                                  {served.position_in_placement()}, &features);
      PredictScratch scratch;
      float logit, pctr;
      bundle->Predict(features, &scratch, absl::MakeSpan(&logit, 1),
                      absl::MakeSpan(&pctr, 1));
      sum += pctr;
      ++rows;
    }
  }
  EXPECT_EQ(rows, report.candidate().examples());
  EXPECT_NEAR(sum / static_cast<double>(rows), report.candidate().mean_pctr(),
              1e-12);
}

TEST_F(TrainingRunTest, AWarmStartContinuesTheLiveModel) {
  for (int day : {0, 1, 2}) {
    ALog log;
    log.seed = static_cast<uint64_t>(day);
    log.begin_ms += day * kDayMs;
    log.first_ad = day;  // a new ad each day
    ASSERT_OK(log.Write(dir_ / "log"));
  }
  ASSERT_OK_AND_ASSIGN(const Report first, Train(OnDays(0, 1)));
  ASSERT_EQ(first.verdict(), Report::PUBLISHED) << first.DebugString();
  const auto old = Live(Config());
  v1::TrainerConfig config = OnDays(1, 1);
  config.set_warm_start(true);
  config.mutable_logistic()->set_min_count(3);  // may change
  ASSERT_OK_AND_ASSIGN(const Report warm, Train(config));
  ASSERT_EQ(warm.verdict(), Report::PUBLISHED) << warm.DebugString();
  EXPECT_EQ(warm.version(), 2);
  EXPECT_EQ(warm.parent_version(), 1);
  EXPECT_EQ(warm.incumbent().examples(), warm.candidate().examples());
  EXPECT_NE(warm.delta_ne().low(), warm.delta_ne().high());
  // Yesterday's knowledge shows before today's first example.
  EXPECT_LT(warm.progressive(0).normalized_entropy(),
            first.progressive(0).normalized_entropy());
  const auto live = Live(Config());
  EXPECT_EQ(live->manifest().parent_version(), 1);
  const auto old_ids = old->vocabulary().Ids();
  auto ids = live->vocabulary().Ids();
  EXPECT_GT(ids.size(), old_ids.size());
  ids.resize(old_ids.size());
  EXPECT_EQ(ids, old_ids);
  EXPECT_EQ(live->manifest().feature_spec().fields(2).boundaries_size(),
            old->manifest().feature_spec().fields(2).boundaries_size());
}

TEST_F(TrainingRunTest, AWarmStartWithOtherFeaturesStartsColdAndSaysSo) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  ASSERT_OK(Train(Config()));
  v1::TrainerConfig config = Config();
  config.set_warm_start(true);
  config.mutable_feature_spec()->mutable_fields(0)->set_max_values(3);
  ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
  EXPECT_EQ(report.parent_version(), 0);
  EXPECT_THAT(report.notes(), Contains(HasSubstr("cold start: the feature "
                                                 "spec is not")));
}

TEST_F(TrainingRunTest, TheGateKeepsTheLiveModelFromAWorseOne) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  ASSERT_OK(Train(Config()));
  const auto before = AllFiles(dir_ / "models");
  v1::TrainerConfig worse = Config();
  worse.clear_feature_spec();
  worse.mutable_feature_spec()->add_fields()->set_name("device");
  ASSERT_OK_AND_ASSIGN(const Report report, Train(worse));
  EXPECT_EQ(report.verdict(), Report::KEPT);
  EXPECT_EQ(report.version(), 0);
  EXPECT_EQ(report.incumbent_version(), 1);
  EXPECT_THAT(report.reasons(), Contains(HasSubstr("gate.max_ne_increase")));
  EXPECT_GT(report.delta_ne().estimate(), 0);
  EXPECT_LT(report.delta_auc().high(), 0);
  EXPECT_EQ(AllFiles(dir_ / "models"), before);
}

TEST_F(TrainingRunTest, ALogWithoutClicksIsExplainedAndPublishesNothing) {
  ALog log;
  log.decisions = 100;
  log.clicks = false;
  ASSERT_OK(log.Write(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(Config()));
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("and no click")));
  EXPECT_THAT(ModelStore(dir_ / "models", "ctr").Published(),
              StatusIs(absl::StatusCode::kNotFound, ::testing::_));
}

TEST_F(TrainingRunTest, ALogOfClicksOnlyIsExplained) {
  ALog log;
  log.decisions = 100;
  log.always_click = true;
  ASSERT_OK(log.Write(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(Config()));
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("examples are clicks")));
}

TEST_F(TrainingRunTest, AnEmptyLogIsExplained) {
  ALog log;
  log.decisions = 0;
  ASSERT_OK(log.Write(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(Config()));
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("is empty")));
}

TEST_F(TrainingRunTest, WithoutImpressionsServedIsSeenIsSuggestedAndHelps) {
  ALog log;
  log.decisions = 300;
  log.seen = 0;
  ASSERT_OK(log.Write(dir_ / "log"));
  v1::TrainerConfig config = Config();
  ASSERT_OK_AND_ASSIGN(Report report, Train(config));
  EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("data.served_is_seen")));
  config.mutable_data()->set_served_is_seen(true);
  ASSERT_OK_AND_ASSIGN(report, Train(config));
  EXPECT_THAT(report.reasons(), ElementsAre(HasSubstr("and no click")));
}

TEST_F(TrainingRunTest, AdsWithoutSnapshotAreCountedAndNoExamples) {
  ALog log;
  log.snapshots = 30;
  ASSERT_OK(log.Write(dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(Config()));
  ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_NEAR(static_cast<double>(report.join().missing_snapshots()), 2000,
              200);
  EXPECT_EQ(report.join().missing_snapshots() + report.join().examples(),
            8000u);
  EXPECT_EQ(report.training_examples() + report.calibration_examples() +
                report.candidate().examples(),
            report.join().examples());
}

TEST_F(TrainingRunTest, AWindowWithoutRowsIsNamedWithTheLogsRange) {
  ALog log;
  log.decisions = 100;
  ASSERT_OK(log.Write(dir_ / "log"));
  for (const auto& [name, config] : {std::pair("training", OnDays(3, 1)),
                                     std::pair("training", OnDays(-9, 2)),
                                     std::pair("calibration", OnDays(0, 1)),
                                     std::pair("evaluation", OnDays(0, 0.8))}) {
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    EXPECT_EQ(report.verdict(), Report::NOTHING_TO_TRAIN);
    EXPECT_THAT(report.reasons(),
                ElementsAre(::testing::AllOf(
                    HasSubstr(absl::StrCat("the ", name, " window")),
                    HasSubstr("the log reaches from 2026-01-05 00:00"))));
  }
}

TEST_F(TrainingRunTest, AMissingOrDamagedLogIsAnErrorWithItsPath) {
  EXPECT_THAT(Train(Config()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir_ / "log")));
  ALog log;
  log.decisions = 50;
  ASSERT_OK(log.Write(dir_ / "log"));
  int damaged = 0;
  for (const auto& e :
       std::filesystem::recursive_directory_iterator(dir_ / "log")) {
    if (e.path().filename() == "CURRENT") {
      ASSERT_OK(files::Write(e.path().string(), "damage"));
      ++damaged;
    }
  }
  ASSERT_GT(damaged, 0);
  const auto report = Train(Config());
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(std::string(report.status().message()), HasSubstr(dir_ / "log"));
  EXPECT_FALSE(files::Exists(dir_ / "models/ctr/published"));
}

TEST_F(TrainingRunTest, DownSampledNegativesAreCorrectedWithoutCalibration) {
  ALog log;
  log.decisions = 4000;
  ASSERT_OK(log.Write(dir_ / "log"));
  v1::TrainerConfig config = Config();
  config.mutable_data()->set_negative_keep_rate(0.25);
  config.mutable_calibration()->set_method(v1::CalibrationConfig::NONE);
  ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
  ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_LT(report.training_examples(), 9000u);  // of 12800
  EXPECT_NEAR(report.candidate().calibration_ratio(), 1, 0.08);
  EXPECT_NEAR(Live(config)->manifest().base_rate(), report.candidate().ctr(),
              0.03);
}

TEST_F(TrainingRunTest, UnknownIdsUseATrainedRowOnlyIfAskedTo) {
  ALog log;
  log.decisions = 3000;
  ASSERT_OK(log.Write(dir_ / "log"));
  v1::TrainerConfig config = Config();
  config.mutable_logistic()->set_oov_rate(0.05);
  for (bool oov : {false, true}) {
    config.set_model_dir(dir_ / absl::StrCat("models", oov));
    config.mutable_logistic()->set_out_of_vocabulary(oov ? v1::OOV_ROW
                                                         : v1::OOV_DROP);
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
    const auto bundle = Live(config);
    const uint16_t kAdField = 3;
    const uint32_t row = bundle->vocabulary().Row(kAdField, 12345);
    if (oov) {
      ASSERT_NE(row, kNoRow);
      EXPECT_NE(bundle->logistic()->weight(row), 0);
    } else {
      EXPECT_EQ(row, kNoRow);
    }
  }
}

TEST_F(TrainingRunTest, TheFilterChangesNothingButMemory) {
  for (int day : {0, 1}) {
    ALog log;
    log.seed = static_cast<uint64_t>(day);
    log.begin_ms += day * kDayMs;
    log.decisions = 1500;
    log.edit = [&](v1::Decision* decision, const auto&) {
      // Every third user comes once.
      v1::Context* context = decision->mutable_context();
      if (context->time_ms() / 57600 % 3 == 0) {
        context->set_user_id(absl::StrCat("once", context->time_ms()));
      }
    };
    ASSERT_OK(log.Write(dir_ / "log"));
  }
  std::map<std::string, std::string> first;
  uint64_t all_ids = 0;
  for (const uint64_t filter_bytes : {0, 8, 1 << 20}) {
    v1::TrainerConfig config = OnDays(0, 1);
    config.set_model_dir(dir_ / absl::StrCat("models", filter_bytes));
    config.set_threads(filter_bytes == 8 ? 5 : 2);
    config.set_warm_start(true);
    config.mutable_data()->set_negative_keep_rate(0.8);
    config.mutable_logistic()->set_min_count(5);  // above 4 ads a decision
    config.mutable_logistic()->set_out_of_vocabulary(v1::OOV_ROW);
    config.mutable_logistic()->set_oov_rate(0.05);
    config.mutable_logistic()->set_shuffle(true);
    config.mutable_vocabulary()->set_filter_bytes(filter_bytes);
    ASSERT_OK_AND_ASSIGN(const Report cold, Train(config));
    ASSERT_EQ(cold.verdict(), Report::PUBLISHED) << cold.DebugString();
    *config.mutable_data() = OnDays(1, 0.3).data();
    ASSERT_OK_AND_ASSIGN(const Report warm, Train(config));
    ASSERT_EQ(warm.verdict(), Report::PUBLISHED) << warm.DebugString();
    ASSERT_EQ(warm.parent_version(), 1);
    EXPECT_EQ(cold.memory().filter_bytes(), filter_bytes);
    const uint64_t interned = cold.memory().interned_ids();
    if (filter_bytes == 0) all_ids = interned;
    if (filter_bytes == 8) {
      EXPECT_EQ(interned, all_ids);  // it lets all pass
    }
    if (filter_bytes > 8) {
      EXPECT_EQ(interned, cold.new_ids());
      EXPECT_LT(interned, all_ids - 300);
    }
    const auto files = AllFiles(config.model_dir());
    ASSERT_THAT(files, Contains(::testing::Key("ctr/2/seen.bin")));
    if (first.empty()) first = files;
    ASSERT_EQ(files.size(), first.size());
    for (const auto& [name, bytes] : first) {
      EXPECT_TRUE(files.at(name) == bytes) << name << " with " << filter_bytes;
    }
  }
}

// id -> weight and optimizer state (FtrlLearner::Save).
struct RowState {
  float weight, z, n;
  friend bool operator==(const RowState&, const RowState&) = default;
};
std::map<uint64_t, RowState> LiveRows(const v1::TrainerConfig& config) {
  const auto live = Live(config);
  const ModelStore store(config.model_dir(), "ctr");
  const std::string state =
      *files::Read(store.VersionDir(*store.Published()) + "/optimizer.bin");
  std::map<uint64_t, RowState> rows;
  const std::vector<uint64_t> ids = live->vocabulary().Ids();
  for (uint32_t row = 0; row < ids.size(); ++row) {
    RowState& r = rows[ids[row]];
    r.weight = live->logistic()->weight(row);
    memcpy(&r.z, state.data() + 48 + 8 * row, 8);
  }
  return rows;
}

TEST_F(TrainingRunTest, NightsOfNewAdsForgetTheOldOnesAndKeepTheRest) {
  constexpr uint32_t kAfterDays = 2;
  std::map<uint64_t, RowState> before;
  std::map<uint64_t, uint16_t> days_before;
  size_t largest = 0;
  for (int night = 0; night < 6; ++night) {
    ALog log;
    log.seed = static_cast<uint64_t>(night) + 1;
    log.begin_ms += night * kDayMs;
    log.decisions = 800;
    log.first_ad = 25 * night;  // 25 of 40 ads go, 25 come
    log.edit = [&](v1::Decision* decision, const auto&) {
      decision->mutable_context()->set_user_id(
          absl::StrCat(decision->context().user_id(), "n", night));
    };
    ASSERT_OK(log.Write(dir_ / "log"));
    v1::TrainerConfig config = OnDays(night, 0.4);
    config.set_warm_start(true);
    config.mutable_vocabulary()->set_expire_after_days(kAfterDays);
    config.mutable_vocabulary()->set_filter_bytes(1 << 16);
    config.mutable_logistic()->set_out_of_vocabulary(v1::OOV_ROW);
    config.mutable_gate()->set_max_ne(10);
    config.mutable_gate()->set_max_ne_increase(10);
    config.mutable_gate()->set_min_calibration(0.01);
    config.mutable_gate()->set_max_calibration(100);
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
    const auto now = LiveRows(config);
    const auto live = Live(config);
    const ModelStore store(config.model_dir(), "ctr");
    ASSERT_OK_AND_ASSIGN(const auto seen,
                         ReadSeen(store.VersionDir(*store.Published()), *live));
    const auto today =
        static_cast<uint16_t>(DayOf(live->manifest().last_example_ms()));
    const auto ids = live->vocabulary().Ids();
    std::map<uint64_t, uint16_t> days;
    size_t untouched = 0;
    for (size_t row = 0; row < ids.size(); ++row) {
      days[ids[row]] = seen[row];
      ASSERT_GT(seen[row] + kAfterDays, today);
      if (seen[row] < today) {  // not seen tonight: bit for bit as it was
        ++untouched;
        ASSERT_EQ(days_before.at(ids[row]), seen[row]);
        ASSERT_TRUE(now.at(ids[row]) == before.at(ids[row]));
      }
    }
    size_t expired = 0;
    for (const auto& [id, day] : days_before) {
      if (now.count(id) > 0) continue;
      ++expired;
      ASSERT_LE(day + kAfterDays, today);
    }
    EXPECT_EQ(report.expired_ids(), expired);
    EXPECT_EQ(report.new_ids(), now.size() - (before.size() - expired));
    if (night == 1) {
      EXPECT_GT(untouched, 100);
    }
    if (night > 1) {
      EXPECT_GT(expired, 100);
      EXPECT_LE(now.size(), largest * 11 / 10);  // bounded
    }
    if (night <= 1) largest = std::max(largest, now.size());
    before = now;
    days_before = days;
  }
}

TEST_F(TrainingRunTest, MemoryIsReportedAndBounded) {
  ALog log;
  log.decisions = 3000;
  ASSERT_OK(log.Write(dir_ / "log"));
  v1::TrainerConfig config = Config();
  config.set_max_memory_bytes(64 << 20);
  ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
  ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  const v1::MemoryReport& memory = report.memory();
  EXPECT_EQ(memory.budget_bytes(), 64 << 20);
  EXPECT_GT(memory.id_table_bytes(), 0);
  EXPECT_GT(memory.example_memory_bytes(), 0);
  EXPECT_EQ(memory.example_disk_bytes(), 0);
  EXPECT_GT(memory.model_bytes(), 0);
  EXPECT_GT(memory.evaluation_bytes(), 0);
  for (const char* step : {"extract", "pack", "learn", "score", "publish"}) {
    ASSERT_EQ(memory.peak_resident_bytes().count(step), 1) << step;
    EXPECT_GT(memory.peak_resident_bytes().at(step), 1 << 20);
  }
  EXPECT_THAT(ReportText(report, absl::UTCTimeZone()),
              HasSubstr("memory: at most "));
  config.mutable_vocabulary()->set_filter_bytes(1 << 20);
  EXPECT_THAT(Train(config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("below 67108864 + vocabulary.filter_bytes")));
}

// Serves day 1 by the live bundle: logs its version and fingerprints as a
// server would, `wrong` of them changed.
absl::Status LogServedDay(const ModelBundle& bundle, int wrong,
                          const std::string& dir) {
  ALog log;
  log.seed = 9;
  log.begin_ms = kFirstDayMs + kDayMs;
  log.edit = [&](v1::Decision* decision,
                 const std::vector<v1::AdSnapshot>& ads) {
    decision->set_model_version(bundle.manifest().version());
    std::vector<const v1::AdSnapshot*> pointers;
    for (const auto& ad : ads) pointers.push_back(&ad);
    RequestFeatures features;
    bundle.extractor().Extract(decision->context(), "top", pointers, {},
                               &features);
    for (int i = 0; i < decision->ads_size(); ++i) {
      decision->mutable_ads(i)->set_feature_fingerprint(
          FeatureExtractor::Fingerprint(features, static_cast<size_t>(i)) ^
          (wrong-- > 0 ? 4 : 0));
    }
  };
  return log.Write(dir);
}

TEST_F(TrainingRunTest, ServedFeatureRowsAreComparedWithRecomputedOnes) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  ASSERT_OK(Train(Config()));
  ASSERT_OK(LogServedDay(*Live(Config()), 0, dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(OnDays(0.5, 0.5)));
  EXPECT_EQ(report.fingerprints_checked(), report.candidate().examples());
  EXPECT_GT(report.fingerprints_checked(), 1000u);
  EXPECT_EQ(report.fingerprints_differing(), 0u);
}

TEST_F(TrainingRunTest, DriftBetweenTrainingAndServingIsCountedAndNoted) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  ASSERT_OK(Train(Config()));
  ASSERT_OK(LogServedDay(*Live(Config()), 100000, dir_ / "log"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(OnDays(0.5, 0.5)));
  EXPECT_EQ(report.fingerprints_differing(), report.fingerprints_checked());
  EXPECT_THAT(report.notes(), Contains(HasSubstr("have drifted apart")));
}

}  // namespace
}  // namespace adrank
