#include "tools/generate.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/files.h"
#include "storage/catalog_store.h"
#include "storage/event_log.h"
#include "storage/event_log_reader.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tools/truth_report.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

v1::MarketConfig SmallConfig() {
  v1::MarketConfig config;
  config.set_seed(5);
  config.set_advertisers(10);
  config.set_users(1000);
  config.set_decisions_per_day(3000);
  return config;
}

const Market& SmallMarket() {
  static const Market* market = Market::Create(SmallConfig())->release();
  return *market;
}

GenerateOptions Days(const std::string& dir, int32_t first, int32_t days) {
  GenerateOptions options;
  options.data_dir = dir;
  options.first_day = first;
  options.days = days;
  return options;
}

// All decisions and events of a log, as text.
std::map<std::string, std::string> ReadAll(const std::string& dir) {
  std::map<std::string, std::string> all;
  const auto reader = EventLogReader::Open(dir).value();
  const auto cursor = reader->Join(0, int64_t{1} << 48);
  for (; cursor->Valid(); cursor->Next()) {
    const JoinedRecord& r = cursor->record();
    std::string& text = all[r.id.ToHex()];
    text = std::string(r.decision);
    for (const JoinedEvent& e : r.events) {
      absl::StrAppend(&text, "|", e.position, ",", e.type, ",", e.time_ms);
    }
  }
  EXPECT_OK(cursor->status());
  return all;
}

TEST(Generate, TheLogIsTheSameForAnyNumberOfThreadsAndAnyWayToTheLastDay) {
  TempDir at_once, day_by_day;
  GenerateOptions options = Days(at_once.path(), 0, 3);
  options.threads = 3;
  ASSERT_OK_AND_ASSIGN(const v1::GenerateReport report,
                       Generate(SmallMarket(), options, {}));
  EXPECT_EQ(report.decisions(), 9000);
  EXPECT_GT(report.events_per_second(), 0);
  uint64_t clicks = 0;
  for (int day : {0, 1, 1, 2}) {  // one of them twice
    ASSERT_OK_AND_ASSIGN(
        const v1::GenerateReport one,
        Generate(SmallMarket(), Days(day_by_day.path(), day, 1), {}));
    clicks += one.clicks();
  }
  EXPECT_GT(clicks, report.clicks());
  const auto all = ReadAll(at_once.path());
  EXPECT_EQ(all.size(), 9000);
  EXPECT_EQ(all, ReadAll(day_by_day.path()));
}

TEST(Generate, RepeatingDaysChangesNothing) {
  TempDir dir;
  ASSERT_OK(Generate(SmallMarket(), Days(dir.path(), 0, 2), {}));
  const auto before = ReadAll(dir.path());
  ASSERT_OK_AND_ASSIGN(const v1::GenerateReport again,
                       Generate(SmallMarket(), Days(dir.path(), 1, 1), {}));
  EXPECT_EQ(again.catalog_changes(), 0);
  EXPECT_EQ(ReadAll(dir.path()), before);
}

TEST(Generate, TheCatalogueGrowsByTheAdsOfEachDayAtTheirTime) {
  TempDir dir;
  GenerateOptions options = Days(dir.path(), 0, 1);
  options.catalog_only = true;
  ASSERT_OK_AND_ASSIGN(v1::GenerateReport report,
                       Generate(SmallMarket(), options, {}));
  EXPECT_FALSE(files::Exists(dir / "log"));
  const uint64_t first_day = report.catalog_changes();
  options.days = 31;
  ASSERT_OK_AND_ASSIGN(report, Generate(SmallMarket(), options, {}));
  EXPECT_GT(report.catalog_changes(), 10);
  ASSERT_OK_AND_ASSIGN(const auto store,
                       CatalogStore::Open(dir.path(), Clock::Real()));
  ASSERT_OK_AND_ASSIGN(const auto catalog, store->Load());
  const v1::Catalog& c = catalog.first;
  EXPECT_EQ(c.ads_size(), 240);
  EXPECT_EQ(c.advertisers_size() + c.campaigns_size() + c.ad_groups_size() +
                c.ads_size(),
            first_day + report.catalog_changes());
  v1::Catalog of_day = CatalogOfDay(SmallMarket(), 30);
  EXPECT_EQ(of_day.ads_size(), 240);
  EXPECT_LT(CatalogOfDay(SmallMarket(), 0).ads_size(), 240);
  for (uint32_t i = 0; i < 240; ++i) {
    v1::EntityKey key;
    key.set_type(v1::ENTITY_TYPE_AD);
    key.set_id(absl::StrCat("ad", i));
    ASSERT_OK_AND_ASSIGN(const auto history, store->History(key, 10));
    ASSERT_EQ(history.size(), 1);
    EXPECT_EQ(history[0].time_ms(),
              SmallMarket().first_day_ms() +
                  kDayMs * SmallMarket().catalog().ads()[i].appear_day);
  }
}

TEST(Generate, DataOfAnotherMarketIsLeftAlone) {
  TempDir dir;
  ASSERT_OK(Generate(SmallMarket(), Days(dir.path(), 0, 1), {}));
  const auto before = ReadAll(dir.path());
  v1::MarketConfig config = SmallConfig();
  config.set_base_ctr(0.1);
  ASSERT_OK_AND_ASSIGN(const auto other, Market::Create(config));
  EXPECT_THAT(Generate(*other, Days(dir.path(), 0, 1), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("base_ctr: 0.05 -> 0.1")));
  EXPECT_EQ(ReadAll(dir.path()), before);
  ASSERT_OK_AND_ASSIGN(const v1::MarketConfig stored, ReadMarket(dir.path()));
  EXPECT_OK(CheckSameMarket(stored, SmallMarket().config()));
}

TEST(Generate, BadOptionsAreNamedAndNothingIsWritten) {
  TempDir dir;
  const std::string data = dir / "data";
  EXPECT_THAT(
      Generate(SmallMarket(), Days(data, -1, 1), {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("start day -1")));
  EXPECT_THAT(
      Generate(SmallMarket(), Days(data, 0, 0), {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("days 0")));
  EXPECT_FALSE(files::Exists(data));
  EXPECT_THAT(ReadMarket(data),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(data)));
}

TEST(TruthReport, OfAGeneratedLogAgreesWithTheGenerator) {
  TempDir dir;
  ASSERT_OK_AND_ASSIGN(const v1::GenerateReport generated,
                       Generate(SmallMarket(), Days(dir.path(), 0, 4), {}));
  TruthReportOptions options;
  options.data_dir = dir.path();
  ASSERT_OK_AND_ASSIGN(const v1::TruthReport report,
                       MakeTruthReport(SmallMarket(), options, nullptr, {}));
  EXPECT_EQ(report.decisions(), 12000);
  EXPECT_EQ(report.impressions(), generated.impressions());
  EXPECT_EQ(report.clicks(), generated.clicks());
  EXPECT_EQ(report.first_day(), 0);
  EXPECT_EQ(report.last_day(), 3);
  EXPECT_NEAR(report.true_ctr() * static_cast<double>(report.impressions()),
              generated.expected_clicks(), 0.01);
  ASSERT_EQ(report.predictors_size(), 3);
  const v1::Predictor& truth = report.predictors(0);
  const v1::Predictor& main = report.predictors(1);
  const v1::Predictor& served = report.predictors(2);
  EXPECT_EQ(truth.name(), "truth");
  EXPECT_EQ(main.name(), "main_effects");
  EXPECT_EQ(served.name(), "served");
  EXPECT_NEAR(truth.calibration_to_truth(), 1, 1e-6);
  EXPECT_NEAR(main.calibration_to_truth(), 1, 1e-6);
  EXPECT_NEAR(truth.calibration_ratio(), 1, 0.1);
  EXPECT_LT(truth.expected_normalized_entropy(),
            main.expected_normalized_entropy());
  EXPECT_LT(main.expected_normalized_entropy(), 0.97);
  EXPECT_LT(main.expected_normalized_entropy(),
            served.expected_normalized_entropy());
  EXPECT_NEAR(truth.normalized_entropy(), truth.expected_normalized_entropy(),
              0.02);
  EXPECT_EQ(report.predictors_at_position_1(0).impressions(), 12000);
  const v1::Regret& regret = report.regret();
  EXPECT_EQ(regret.decisions(), 12000);
  EXPECT_NEAR(regret.served_clicks(), generated.expected_clicks(), 0.01);
  EXPECT_GT(regret.served_clicks(), regret.random_clicks());
  EXPECT_GT(regret.best_clicks(), regret.served_clicks());
  EXPECT_GT(regret.best_value_micros(), regret.served_value_micros());
  EXPECT_THAT(PrintTruthReport(report), HasSubstr("main_effects"));

  options.from_day = options.to_day = 2;
  options.regret_share = 0.25;
  ASSERT_OK_AND_ASSIGN(const v1::TruthReport day,
                       MakeTruthReport(SmallMarket(), options, nullptr, {}));
  EXPECT_EQ(day.decisions(), 3000);
  EXPECT_EQ(day.first_day(), 2);
  EXPECT_NEAR(static_cast<double>(day.regret().decisions()), 750, 120);
  options.from_day = options.to_day = 9;
  EXPECT_THAT(MakeTruthReport(SmallMarket(), options, nullptr, {}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no impression of this market")));
}

TEST(TruthReport, ForeignAndTestDecisionsAreLeftOutAndCounted) {
  TempDir dir;
  ASSERT_OK(Generate(SmallMarket(), Days(dir.path(), 0, 1), {}));
  {
    v1::StorageConfig storage;
    storage.set_data_dir(dir.path());
    ASSERT_OK_AND_ASSIGN(const auto log,
                         EventLog::Open(storage, Clock::Real()));
    v1::AdSnapshot foreign_ad;
    foreign_ad.set_ad_id("somebody's");
    LogBatch batch;
    batch.ads.push_back(EncodeAd(foreign_ad));
    v1::Decision decision;
    decision.mutable_context()->set_user_id("nobody");
    decision.add_placement_ids("search");
    const int64_t ms = SmallMarket().first_day_ms();
    decision.mutable_context()->set_time_ms(ms);
    batch.decisions.push_back({{uint64_t(ms), 9, 0}, decision});
    const Visit visit = SmallMarket().visits().OfDay(0, 0, 10);
    SmallMarket().ToContext(visit, decision.mutable_context());
    decision.set_placement_ids(0, SmallMarket().PlacementId(visit));
    v1::ServedAd* ad = decision.add_ads();
    ad->set_ad_hash(batch.ads[0].hash);
    ad->set_position(1);
    ad->set_position_in_placement(1);
    batch.decisions.push_back({{uint64_t(ms), 9, 1}, decision});
    decision.set_test(true);
    batch.decisions.push_back({{uint64_t(ms), 9, 2}, decision});
    ASSERT_OK(log->Write(batch));
  }
  TruthReportOptions options;
  options.data_dir = dir.path();
  ASSERT_OK_AND_ASSIGN(const v1::TruthReport report,
                       MakeTruthReport(SmallMarket(), options, nullptr, {}));
  EXPECT_EQ(report.foreign_decisions(), 1);
  EXPECT_EQ(report.foreign_ads(), 1);
  EXPECT_EQ(report.test_decisions(), 1);
  EXPECT_EQ(report.decisions(), 3001);
  EXPECT_THAT(PrintTruthReport(report),
              HasSubstr("left out: 1 foreign decisions"));
}

TEST(TruthReport, ABundlePredictsTheSameRows) {
  TempDir dir;
  ASSERT_OK(Generate(SmallMarket(), Days(dir.path(), 0, 1), {}));
  // Knows the base rate and that position 2 is worse than 1.
  BundleContents contents;
  contents.manifest.set_model_name("ctr");
  contents.manifest.set_version(4);
  contents.manifest.set_family("logistic");
  contents.manifest.set_base_rate(0.05);
  v1::Field* field = contents.manifest.mutable_feature_spec()->add_fields();
  field->set_name("position");
  field->set_source("position");
  ASSERT_OK_AND_ASSIGN(
      const auto extractor,
      FeatureExtractor::Create(contents.manifest.feature_spec()));
  RequestFeatures features;
  const v1::AdSnapshot ad;
  extractor->Extract({}, "", {&ad}, {2}, &features);
  ASSERT_EQ(features.crosses.ids.size(), 1);
  contents.ids = {features.crosses.ids[0]};
  contents.oov_rows = {kNoRow};
  contents.weights = {-0.4f};
  contents.bias = -3;
  contents.golden.emplace_back().add_ads()->set_ad_id("ad0");
  ASSERT_OK(WriteBundle(dir / "bundle", contents));
  ASSERT_OK_AND_ASSIGN(const auto bundle, ModelBundle::Load(dir / "bundle"));
  TruthReportOptions options;
  options.data_dir = dir.path();
  ASSERT_OK_AND_ASSIGN(
      const v1::TruthReport report,
      MakeTruthReport(SmallMarket(), options, bundle.get(), {}));
  ASSERT_EQ(report.predictors_size(), 4);
  EXPECT_EQ(report.predictors(3).name(), "model ctr v4");
  EXPECT_NEAR(report.predictors_at_position_1(3).mean_pctr(), Sigmoid(-3),
              1e-6);
  EXPECT_NEAR(report.predictors(3).mean_pctr(),
              (2 * Sigmoid(-3) + Sigmoid(-3.4)) / 3, 1e-4);
}

}  // namespace
}  // namespace adrank
