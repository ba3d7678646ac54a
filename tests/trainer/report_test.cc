#include "trainer/report.h"

#include <cmath>

#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Report = v1::TrainingReport;

Report AReport(Report::Verdict verdict) {
  Report report;
  report.set_verdict(verdict);
  report.set_model_name("ctr");
  report.set_version(verdict == Report::PUBLISHED ? 4 : 0);
  report.set_incumbent_version(3);
  report.mutable_candidate()->set_auc(0.75);
  report.mutable_candidate()->set_normalized_entropy(0.8);
  return report;
}

TEST(MetricsText, CountersContinueAndTheLastSuccessStays) {
  const absl::Time monday = absl::FromUnixSeconds(1000);
  const absl::Time tuesday = absl::FromUnixSeconds(2000);
  const absl::Time wednesday = absl::FromUnixSeconds(3000);
  Report report = AReport(Report::PUBLISHED);
  std::string text = MetricsText("ctr", &report, "", monday);
  report = AReport(Report::KEPT);
  text = MetricsText("ctr", &report, text, tuesday);
  text = MetricsText("ctr", &report, text, tuesday);
  text = MetricsText("ctr", nullptr, text, wednesday);
  const auto has = [&](const char* sample) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat(sample, "\n")));
  };
  has("# TYPE adrank_publish_gate_total counter");
  has("adrank_publish_gate_total{model=\"ctr\",verdict=\"published\"} 1");
  has("adrank_publish_gate_total{model=\"ctr\",verdict=\"kept\"} 2");
  has("adrank_publish_gate_total{model=\"ctr\",verdict=\"failed\"} 1");
  has("adrank_publish_gate_total{model=\"ctr\",verdict=\"nothing_to_train\"} "
      "0");
  has("adrank_trainer_last_run_timestamp_seconds{model=\"ctr\"} 3000");
  has("adrank_trainer_last_success_timestamp_seconds{model=\"ctr\"} 1000");
  has("adrank_trainer_candidate_ne{model=\"ctr\"} 0.8");
  has("adrank_trainer_published_version{model=\"ctr\"} 3");
}

TEST(MetricsText, ValuesThatAreNoNumbersAreLeftOut) {
  Report report = AReport(Report::KEPT);
  report.mutable_candidate()->set_auc(std::nan(""));
  EXPECT_THAT(MetricsText("ctr", &report, "", absl::UnixEpoch()),
              Not(HasSubstr("adrank_trainer_candidate_auc{")));
}

TEST(MetricsText, DamageInThePreviousFileIsForgotten) {
  Report report = AReport(Report::PUBLISHED);
  EXPECT_EQ(MetricsText("ctr", &report, "\x01 x\n\n{} nan nan\nadrank",
                        absl::UnixEpoch()),
            MetricsText("ctr", &report, "", absl::UnixEpoch()));
}

TEST(ReportText, TheVerdictAndItsReasonsComeFirst) {
  Report report = AReport(Report::KEPT);
  report.add_reasons("NE is too high");
  report.mutable_incumbent()->set_auc(0.76);
  const std::string text = ReportText(report, absl::UTCTimeZone());
  EXPECT_EQ(text.find("model ctr: NOT PUBLISHED, version 3 stays live\n"
                      "  - NE is too high\n"),
            0u);
  EXPECT_THAT(text, HasSubstr("0.75000      0.76000"));
  EXPECT_THAT(ReportText(AReport(Report::PUBLISHED), absl::UTCTimeZone()),
              HasSubstr("PUBLISHED version 4"));
}

TEST(ReportText, ShowsCalibrationDriftAndDelay) {
  Report report = AReport(Report::PUBLISHED);
  v1::ReliabilityBin* bin = report.add_reliability();
  bin->set_examples(1234);
  bin->set_mean_pctr(0.5);
  bin->mutable_ctr()->set_estimate(0.25);
  bin->mutable_ctr()->set_low(0.2);
  bin->mutable_ctr()->set_high(0.3);
  for (int f = 0; f < 14; ++f) {
    v1::FieldDrift* field = report.add_drift();
    field->set_field(absl::StrCat("f", f));
    field->set_training_coverage(1);
    field->set_evaluation_coverage(f == 13 ? 0.25 : 1);
    field->set_live_coverage(std::nan(""));
    field->set_live_oov(std::nan(""));
  }
  report.mutable_join();
  report.mutable_click_delay()->set_clicks(77);
  report.mutable_click_delay()->set_quantile(0.99);
  report.mutable_click_delay()->set_quantile_s(91.5);
  const std::string text = ReportText(report, absl::UTCTimeZone());
  EXPECT_THAT(text, HasSubstr("part 1/1          1,234    0.50000    0.25000  "
                              "[0.20000, 0.30000]  high\n"));
  // The field that moved most comes first.
  EXPECT_LT(text.find("  f13  "), text.find("  f0  "));
  EXPECT_THAT(text, HasSubstr("(2 fields that moved less"));
  EXPECT_THAT(text, HasSubstr("click delay of 77 clicks"));
  EXPECT_THAT(text, HasSubstr("0.99 of them within 91.5 s"));
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != text.npos;
       begin = end + 1) {
    EXPECT_LE(end - begin, 80u) << text.substr(begin, end - begin);
  }
}

TEST(MetricsText, FieldsAreLabelsAndQuotesAreEscaped) {
  Report report = AReport(Report::KEPT);
  v1::FieldDrift* field = report.add_drift();
  field->set_field("a \"b\" \\ c");
  field->set_evaluation_coverage(0.5);
  field->set_oov(0.125);
  report.mutable_candidate()->set_pr_auc(0.4);
  const std::string text = MetricsText("ctr", &report, "", absl::UnixEpoch());
  EXPECT_THAT(text, HasSubstr("adrank_trainer_field_coverage{model=\"ctr\","
                              "field=\"a \\\"b\\\" \\\\ c\"} 0.5\n"));
  EXPECT_THAT(text, HasSubstr("} 0.125\n"));
  EXPECT_THAT(text,
              HasSubstr("adrank_trainer_candidate_pr_auc{model=\"ctr\"} 0.4"));
}

TEST(ReportJson, UsesTheNamesOfTheProto) {
  Report report = AReport(Report::PUBLISHED);
  report.mutable_candidate()->set_gauc(std::nan(""));
  ASSERT_OK_AND_ASSIGN(const std::string json, ReportJson(report));
  EXPECT_THAT(json, HasSubstr("\"model_name\": \"ctr\""));
  EXPECT_THAT(json, HasSubstr("\"verdict\": \"PUBLISHED\""));
  EXPECT_THAT(json, HasSubstr("\"gauc\": \"NaN\""));
}

}  // namespace
}  // namespace adrank
