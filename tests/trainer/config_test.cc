#include "trainer/config.h"

#include "base/files.h"
#include "base/textproto.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kGood[] =
    "data_dir: \"/d\"\n"
    "model_dir: \"/m\"\n"
    "feature_spec { fields { name: \"device\" } }\n";

absl::StatusOr<v1::TrainerConfig> Resolve(absl::string_view more) {
  v1::TrainerConfig config, change;
  RETURN_IF_ERROR(ParseTextProto(kGood, "test", &config));
  RETURN_IF_ERROR(ParseTextProto(more, "test", &change));
  config.MergeFrom(change);
  return ResolveConfig(config);
}

TEST(Config, EveryDefaultIsWrittenOut) {
  ASSERT_OK_AND_ASSIGN(const v1::TrainerConfig c, Resolve(""));
  EXPECT_EQ(c.model_name(), "ctr");
  EXPECT_GE(c.threads(), 1u);
  EXPECT_EQ(c.data().attribution_window_s(), 86400u);
  EXPECT_EQ(c.data().calibration_share(), 0.1);
  EXPECT_EQ(c.data().evaluation_share(), 0.1);
  EXPECT_EQ(c.data().negative_keep_rate(), 1);
  EXPECT_EQ(c.logistic().alpha(), 0.05);
  EXPECT_EQ(c.logistic().beta(), 1);
  EXPECT_EQ(c.logistic().passes(), 1u);
  EXPECT_EQ(c.logistic().min_count(), 2u);
  EXPECT_EQ(c.logistic().out_of_vocabulary(), v1::OOV_DROP);
  EXPECT_EQ(c.logistic().oov_rate(), 0.005);
  EXPECT_EQ(c.calibration().method(), v1::CalibrationConfig::PLATT);
  EXPECT_EQ(c.calibration().bins(), 200u);
  EXPECT_EQ(c.evaluation().group_by(), "user_id");
  EXPECT_EQ(c.evaluation().min_slice_examples(), 1000u);
  EXPECT_EQ(c.evaluation().bootstrap_replicates(), 200u);
  EXPECT_EQ(c.gate().min_examples(), 1000u);
  EXPECT_EQ(c.gate().min_clicks(), 50u);
  EXPECT_EQ(c.gate().max_ne_increase(), 0.001);
  EXPECT_EQ(c.gate().min_calibration(), 0.9);
  EXPECT_EQ(c.gate().max_calibration(), 1.1);
  EXPECT_EQ(c.gate().max_ne(), 1);
  EXPECT_EQ(c.data().attribution_quantile(), 0);
  EXPECT_EQ(c.calibration().slice_prior(), 1000);
  EXPECT_EQ(c.gate().min_auc(), 0.5);
  EXPECT_EQ(c.gate().max_auc(), 0.999);
  EXPECT_EQ(c.gate().max_auc_increase(), 0.2);
  EXPECT_EQ(c.gate().max_auc_decrease(), 0.1);
  EXPECT_EQ(c.gate().max_ctr_change(), 5);
  EXPECT_EQ(c.gate().max_coverage_decrease(), 0.3);
  EXPECT_EQ(c.gate().max_oov_increase(), 0.3);
  EXPECT_EQ(c.gate().max_psi(), 0);
  EXPECT_EQ(c.gate().max_logit(), 30);
  EXPECT_EQ(c.gate().max_score_micros(), 0);
  EXPECT_EQ(c.gate().max_golden_change(), 0);
  EXPECT_EQ(c.gate().max_skewed_events(), 0.05);
  // Resolving again changes nothing.
  ASSERT_OK_AND_ASSIGN(const v1::TrainerConfig again, ResolveConfig(c));
  EXPECT_EQ(again.DebugString(), c.DebugString());
}

TEST(Config, ValuesOutOfRangeNameTheirField) {
  const auto refused = [](const char* more, const char* field) {
    EXPECT_THAT(Resolve(more),
                StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(field)))
        << more;
  };
  refused("model_name: \"a/b\"", "model_name: ");
  refused("threads: 5000", "threads: 5000 is not in [1, 1024]");
  refused("data { calibration_share: 0.7 }", "data.calibration_share: 0.7");
  refused("data { evaluation_share: -0.1 }", "data.evaluation_share: -0.1");
  refused("data { evaluation_share: nan }", "data.evaluation_share: nan");
  refused("data { negative_keep_rate: 1.5 }", "data.negative_keep_rate: 1.5");
  refused("data { train_end: \"2026-02-01\" }", "data.calibration_end: ");
  refused("data { train_begin: \"tomorrow\" }", "data.train_begin: ");
  refused("logistic { alpha: -1 }", "logistic.alpha: -1");
  refused("logistic { l1: inf }", "logistic.l1: inf");
  refused("logistic { oov_rate: 0.5 }", "logistic.oov_rate: 0.5 is not in (0,");
  refused("logistic { out_of_vocabulary: 9 }", "logistic.out_of_vocabulary: ");
  refused("calibration { bins: 1 }", "calibration.bins: 1");
  refused("evaluation { group_by: \"ad\" }", "evaluation.group_by: \"ad\"");
  refused("evaluation { bootstrap_replicates: 3 }",
          "evaluation.bootstrap_replicates: 3");
  refused("evaluation { slices: \"age\" }", "evaluation.slices: \"age\" is");
  refused("evaluation { slices: \"device\" slices: \"device\" }",
          "evaluation.slices: \"device\" occurs twice");
  refused("gate { max_calibration: 0.5 }", "gate.max_calibration: 0.5");
  refused("gate { min_calibration: -1 }", "gate.min_calibration: -1");
  refused("gate { max_psi: -1 }", "gate.max_psi: -1");
  refused("gate { max_logit: nan }", "gate.max_logit: nan");
  refused("data { attribution_quantile: 1 }", "data.attribution_quantile: 1");
  refused("data { attribution_quantile: nan }", "data.attribution_quantile: ");
  refused("calibration { slice_prior: -1 }", "calibration.slice_prior: -1");
  refused("calibration { slice_field: \"age\" }",
          "calibration.slice_field: \"age\" is no field");
  refused("calibration { method: NONE slice_field: \"device\" }",
          "calibration.slice_field: needs a method");
  refused(
      "feature_spec { fields { name: \"depth\" kind: LOG1P } } "
      "calibration { slice_field: \"depth\" }",
      "calibration.slice_field: \"depth\" is a number");
}

TEST(Config, SpecErrorsComeFromTheExtractor) {
  const auto refused = [](const char* more, const char* reason) {
    EXPECT_THAT(Resolve(more),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(StartsWith("feature_spec"), HasSubstr(reason))));
  };
  refused("feature_spec { fields { name: \"device\" } }", "device");
  refused("feature_spec { crosses { name: \"x\" of: \"device\" of: \"no\" } }",
          "unknown field \"no\"");
  refused("feature_spec { time_zone: \"Nowhere/City\" }", "Nowhere/City");
  v1::TrainerConfig empty;
  empty.set_data_dir("/d");
  empty.set_model_dir("/m");
  EXPECT_THAT(ResolveConfig(empty),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "feature_spec: declares no fields"));
}

TEST(Config, ATypoIsReportedWithFileLineAndColumn) {
  adrank::testing::TempDir dir;
  const std::string path = dir / "trainer.textproto";
  ASSERT_OK(files::Write(path, absl::StrCat(kGood, "logistic { alhpa: 1 }\n")));
  EXPECT_THAT(LoadConfig(path),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith(absl::StrCat(path, ":4:"))));
  ASSERT_OK(files::Write(path, absl::StrCat(kGood, "logistic { alpha: -1 }")));
  EXPECT_THAT(LoadConfig(path),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith(absl::StrCat(path, ": logistic.alpha"))));
  EXPECT_FALSE(LoadConfig(dir / "none").ok());
}

}  // namespace
}  // namespace adrank
