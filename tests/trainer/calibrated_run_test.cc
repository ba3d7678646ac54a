// Runs whose calibrator or windows depend on what the log shows.
#include <cmath>
#include <string>

#include "model/model_bundle.h"
#include "model/model_store.h"
#include "storage/event_log_reader.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/a_log.h"
#include "trainer/config.h"
#include "trainer/report.h"
#include "trainer/training_run.h"

namespace adrank {
namespace {

using ::adrank::testing::AConfig;
using ::adrank::testing::ALog;
using ::adrank::testing::kDayMs;
using ::adrank::testing::kFirstDayMs;
using ::adrank::testing::TempDir;
using ::testing::Contains;
using ::testing::HasSubstr;
using Report = v1::TrainingReport;

class CalibratedRunTest : public ::testing::Test {
 protected:
  CalibratedRunTest() : config_(AConfig(dir_ / "log", dir_ / "models")) {}

  Report Train() {
    auto resolved = ResolveConfig(config_);
    EXPECT_OK(resolved);
    StepProgress progress(Clock::Real(), false, -1);
    auto report = RunTraining(*resolved, &progress);
    EXPECT_OK(report);
    return report.ok() ? *std::move(report) : Report();
  }
  std::shared_ptr<const ModelBundle> Live() {
    const ModelStore store(config_.model_dir(), "ctr");
    auto bundle = ModelBundle::Load(store.VersionDir(*store.Published()));
    EXPECT_OK(bundle);
    return *bundle;
  }
  // Largest |calibration ratio - 1| of a device in the report.
  static double WorstDevice(const Report& report) {
    double worst = 0;
    for (const v1::Slice& slice : report.slices()) {
      if (slice.name() != "device") continue;
      worst =
          std::max(worst, std::fabs(slice.candidate().calibration_ratio() - 1));
    }
    return worst;
  }

  TempDir dir_;
  v1::TrainerConfig config_;
};

TEST_F(CalibratedRunTest, ABiasOfEachDeviceIsFittedPublishedAndApplied) {
  ALog log;
  log.decisions = 16000;
  ASSERT_OK(log.Write(dir_ / "log"));
  // A model that is blind for the device: it has no id in the vocabulary.
  config_.mutable_feature_spec()->mutable_fields(0)->set_min_count(1 << 30);
  config_.mutable_feature_spec()->mutable_crosses(0)->set_min_count(1 << 30);
  config_.mutable_evaluation()->add_slices("device");
  const Report blind = Train();
  ASSERT_EQ(blind.verdict(), Report::PUBLISHED) << blind.DebugString();
  EXPECT_GT(WorstDevice(blind), 0.25);

  config_.set_model_dir(dir_ / "sliced");
  v1::CalibrationConfig* calibration = config_.mutable_calibration();
  calibration->set_method(v1::CalibrationConfig::TEMPERATURE_ISOTONIC);
  calibration->set_slice_field("device");
  calibration->set_slice_prior(20);
  const Report report = Train();
  ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_THAT(report.notes(), Contains(HasSubstr("4 values of device with")));
  EXPECT_LT(WorstDevice(report), 0.15);
  EXPECT_LT(report.candidate().normalized_entropy(),
            blind.candidate().normalized_entropy());

  const auto bundle = Live();
  const v1::Calibrator::SliceBias& slices =
      bundle->manifest().calibrator().slice_bias();
  EXPECT_EQ(slices.field(), "device");
  ASSERT_EQ(slices.id_size(), 4);
  // The planted effects, but for the mean that Platt's intercept takes.
  std::vector<double> planted, found;
  for (uint64_t device = 0; device < 4; ++device) {
    v1::Context context;
    v1::Attribute* attribute = context.add_attributes();
    attribute->set_name("device");
    attribute->add_text(absl::StrCat("d", device));
    FeatureBatch row;
    bundle->extractor().ExtractContext(context, "top", &row);
    for (int k = 0; k < 4; ++k) {
      if (slices.id(k) == row.ids[0]) found.push_back(slices.bias(k));
    }
    planted.push_back(ALog::Effect("device", device, 0.7));
  }
  ASSERT_EQ(found.size(), 4u);
  for (int a = 0; a < 4; ++a) {
    for (int b = 0; b < a; ++b) {
      EXPECT_NEAR(found[a] - found[b], planted[a] - planted[b], 0.3);
    }
  }

  // Live, the same numbers come out of the bundle alone.
  config_.set_evaluate_only(true);
  const Report live = Train();
  EXPECT_EQ(live.candidate().SerializeAsString(),
            report.candidate().SerializeAsString());
}

TEST_F(CalibratedRunTest, DecisionsWhoseClicksMayStillComeAreLeftOut) {
  ALog log;
  log.decisions = 6000;
  log.click_delay_ms = kDayMs / 50.0;
  log.end_ms = kFirstDayMs + kDayMs;  // later clicks are not in the log
  ASSERT_OK(log.Write(dir_ / "log"));
  config_.mutable_data()->set_attribution_window_s(86400 / 4);
  const Report raw = Train();
  ASSERT_EQ(raw.verdict(), Report::PUBLISHED) << raw.DebugString();
  EXPECT_FALSE(raw.has_click_delay());

  config_.set_model_dir(dir_ / "ripe");
  config_.mutable_data()->set_attribution_quantile(0.99);
  const Report report = Train();
  ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  const double cut_days = -std::log(0.01) / 50;
  EXPECT_NEAR(report.click_delay().quantile_s(), 86400 * cut_days, 700);
  EXPECT_EQ(report.evaluation_end_ms(), report.click_delay().ripe_end_ms());
  EXPECT_LT(report.evaluation_end_ms(), raw.evaluation_end_ms());
  EXPECT_THAT(ReportText(report, absl::UTCTimeZone()),
              HasSubstr("0.99 of them within"));
  // The newest labels were falsely negative: the click rate was too low.
  EXPECT_GT(report.candidate().ctr(), 1.05 * raw.candidate().ctr());
  EXPECT_NEAR(report.candidate().ctr() / report.training_ctr(), 1, 0.1);
}

TEST_F(CalibratedRunTest, TheReliabilityTableHoldsTheWholeEvaluationWindow) {
  ALog log;
  ASSERT_OK(log.Write(dir_ / "log"));
  const Report report = Train();
  ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
  EXPECT_EQ(report.reliability_size(), 20);
  uint64_t examples = 0, clicks = 0;
  for (const v1::ReliabilityBin& bin : report.reliability()) {
    examples += bin.examples();
    clicks += bin.clicks();
  }
  EXPECT_EQ(examples, report.candidate().examples());
  EXPECT_EQ(clicks, report.candidate().clicks());
  EXPECT_LT(report.calibration_interval().low(),
            report.candidate().calibration_ratio());
  EXPECT_GT(report.calibration_interval().high(),
            report.candidate().calibration_ratio());
  EXPECT_GT(report.candidate().pr_auc(), report.candidate().ctr());
}

TEST_F(CalibratedRunTest, ShareOfUnknownValuesIsKeptForTheNextVersion) {
  ALog log;
  ASSERT_OK(log.Write(dir_ / "log"));
  const Report first = Train();
  ASSERT_EQ(first.verdict(), Report::PUBLISHED) << first.DebugString();
  const auto bundle = Live();
  ASSERT_EQ(bundle->manifest().field_oov_size(), first.drift_size());
  const Report second = Train();
  for (int f = 0; f < first.drift_size(); ++f) {
    EXPECT_EQ(second.drift(f).field(), bundle->extractor().field_names()[f]);
    EXPECT_FLOAT_EQ(static_cast<float>(second.drift(f).live_oov()),
                    static_cast<float>(first.drift(f).oov()));
    EXPECT_TRUE(std::isnan(first.drift(f).live_oov()));
    EXPECT_EQ(first.drift(f).evaluation_coverage(), 1);
    EXPECT_EQ(second.drift(f).live_coverage(), 1);
  }
  // Four devices are all known, some of the users are not yet.
  EXPECT_EQ(first.drift(0).oov(), 0);
}

}  // namespace
}  // namespace adrank
