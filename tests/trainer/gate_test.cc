#include "trainer/gate.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::GateConfig AGate() {
  v1::GateConfig gate;
  gate.set_min_examples(1000);
  gate.set_min_clicks(50);
  gate.set_max_ne_increase(0.001);
  gate.set_min_calibration(0.9);
  gate.set_max_calibration(1.1);
  gate.set_max_ne(1);
  return gate;
}

v1::TrainingReport AReport() {
  v1::TrainingReport report;
  report.mutable_candidate()->set_examples(5000);
  report.mutable_candidate()->set_clicks(200);
  report.mutable_candidate()->set_normalized_entropy(0.9);
  report.mutable_candidate()->set_calibration_ratio(1.02);
  return report;
}

v1::TrainingReport AgainstLive(double ne, double low, double high) {
  v1::TrainingReport report = AReport();
  report.set_incumbent_version(7);
  report.mutable_incumbent()->set_normalized_entropy(ne);
  report.mutable_delta_ne()->set_low(low);
  report.mutable_delta_ne()->set_high(high);
  return report;
}

TEST(Gate, WithoutIncumbentOnlyTheAbsoluteBoundsCount) {
  const GateDecision d = Decide(AGate(), AReport());
  EXPECT_TRUE(d.publish);
  EXPECT_THAT(d.reasons, SizeIs(4));
}

TEST(Gate, EachAbsoluteBoundRefusesByItself) {
  v1::TrainingReport few = AReport();
  few.mutable_candidate()->set_examples(999);
  EXPECT_THAT(Decide(AGate(), few).reasons,
              ElementsAre(HasSubstr("only 999 examples; 1000 are needed")));
  v1::TrainingReport clicks = AReport();
  clicks.mutable_candidate()->set_clicks(3);
  EXPECT_THAT(Decide(AGate(), clicks).reasons,
              ElementsAre(HasSubstr("only 3 clicks")));
  for (double ne : {1.0, 1.2, std::nan("")}) {
    v1::TrainingReport bad = AReport();
    bad.mutable_candidate()->set_normalized_entropy(ne);
    EXPECT_THAT(Decide(AGate(), bad).reasons,
                ElementsAre(HasSubstr("gate.max_ne)")));
  }
  for (double ratio : {0.89, 1.11, std::nan("")}) {
    v1::TrainingReport bad = AReport();
    bad.mutable_candidate()->set_calibration_ratio(ratio);
    const GateDecision d = Decide(AGate(), bad);
    EXPECT_FALSE(d.publish);
    EXPECT_THAT(d.reasons, ElementsAre(HasSubstr("gate.min_calibration")));
  }
}

TEST(Gate, ABetterCandidateReplacesTheIncumbent) {
  const GateDecision d = Decide(AGate(), AgainstLive(0.92, -0.03, -0.01));
  EXPECT_TRUE(d.publish);
  EXPECT_THAT(d.reasons, SizeIs(6));
}

TEST(Gate, ANotSignificantIncreaseWithinTheToleranceIsPublished) {
  EXPECT_TRUE(Decide(AGate(), AgainstLive(0.8995, -0.01, 0.012)).publish);
}

TEST(Gate, AnIncreaseBeyondTheToleranceIsRefused) {
  const GateDecision d = Decide(AGate(), AgainstLive(0.89, -0.01, 0.03));
  EXPECT_FALSE(d.publish);
  EXPECT_THAT(d.reasons,
              ElementsAre(HasSubstr("0.89000 (live version 7) to 0.90000, by "
                                    "+1.124 %; more than the tolerated")));
}

TEST(Gate, ASmallButSignificantIncreaseIsRefused) {
  const GateDecision d = Decide(AGate(), AgainstLive(0.8995, 0.0001, 0.0009));
  EXPECT_THAT(d.reasons, ElementsAre(HasSubstr("wholly above 0")));
}

TEST(Gate, ALargeBundleIsRefused) {
  v1::GateConfig gate = AGate();
  gate.set_max_bundle_bytes(100);
  v1::TrainingReport report = AReport();
  report.set_bundle_bytes(101);
  EXPECT_THAT(Decide(gate, report).reasons,
              ElementsAre(HasSubstr("101 bytes, more than 100")));
  report.set_bundle_bytes(100);
  EXPECT_TRUE(Decide(gate, report).publish);
}

// A report that every bound of a resolved gate lets pass.
v1::TrainingReport AFullReport() {
  v1::TrainingReport report = AgainstLive(0.92, -0.03, -0.01);
  report.mutable_candidate()->set_auc(0.7);
  report.mutable_candidate()->mutable_auc_interval()->set_low(0.65);
  report.mutable_candidate()->set_ctr(0.04);
  report.set_training_ctr(0.05);
  report.mutable_delta_auc()->set_estimate(0.01);
  report.add_progressive()->set_auc(0.68);
  v1::FieldDrift* field = report.add_drift();
  field->set_field("device");
  field->set_training_coverage(0.9);
  field->set_evaluation_coverage(0.8);
  field->set_live_coverage(0.9);
  field->set_oov(0.2);
  field->set_live_oov(0.1);
  report.set_psi(0.05);
  report.set_largest_logit(6);
  report.mutable_golden()->set_candidates(10);
  report.mutable_golden()->set_score_micros(2);
  report.mutable_golden()->set_largest_change(0.1);
  report.mutable_join()->set_decisions(100);
  report.mutable_join()->set_impressions(90);
  report.mutable_join()->set_clicks(10);
  report.mutable_join()->set_skewed_events(1);
  return report;
}

v1::GateConfig AFullGate() {
  v1::GateConfig gate = AGate();
  gate.set_min_auc(0.5);
  gate.set_max_auc(0.999);
  gate.set_max_auc_increase(0.2);
  gate.set_max_auc_decrease(0.1);
  gate.set_max_ctr_change(3);
  gate.set_max_coverage_decrease(0.3);
  gate.set_max_oov_increase(0.3);
  gate.set_max_psi(0.25);
  gate.set_max_logit(30);
  gate.set_max_score_micros(10);
  gate.set_max_golden_change(0.2);
  gate.set_max_skewed_events(0.05);
  return gate;
}

TEST(Gate, EveryBoundThatHoldsHasItsSentence) {
  const GateDecision d = Decide(AFullGate(), AFullReport());
  EXPECT_TRUE(d.publish) << ::testing::PrintToString(d.reasons);
  EXPECT_THAT(d.reasons, SizeIs(6 + 12));
  // The time is another one each run.
  v1::TrainingReport slower = AFullReport();
  slower.mutable_golden()->set_score_micros(3);
  EXPECT_EQ(Decide(AFullGate(), slower).reasons, d.reasons);
}

TEST(Gate, EachBoundAgainstPoisonRefusesByItself) {
  const auto refused = [](auto change, const char* reason) {
    v1::TrainingReport report = AFullReport();
    change(&report);
    const GateDecision d = Decide(AFullGate(), report);
    EXPECT_FALSE(d.publish);
    EXPECT_THAT(d.reasons, ElementsAre(HasSubstr(reason)));
  };
  using Report = v1::TrainingReport;
  refused(
      [](Report* r) {
        r->mutable_candidate()->mutable_auc_interval()->set_low(0.7 -
                                                                1.96 * 0.21);
      },
      "AUC 0.70000 less its standard error 0.21000 is not above 0.50000 "
      "(gate.min_auc)");
  refused(
      [](Report* r) {
        r->mutable_candidate()->mutable_auc_interval()->set_low(std::nan(""));
      },
      "gate.min_auc");
  refused([](Report* r) { r->mutable_candidate()->set_auc(0.9995); },
          "(gate.max_auc)");
  refused([](Report* r) { r->mutable_delta_auc()->set_estimate(0.21); },
          "AUC changes by +0.21000 over the live version 7");
  refused([](Report* r) { r->mutable_progressive(0)->set_auc(0.85); },
          "(gate.max_auc_decrease)");
  refused([](Report* r) { r->set_training_ctr(0.13); }, "gate.max_ctr_change");
  refused([](Report* r) { r->set_training_ctr(0.01); }, "gate.max_ctr_change");
  refused([](Report* r) { r->mutable_drift(0)->set_evaluation_coverage(0.5); },
          "field \"device\": 50.0 % of the examples of the evaluation window "
          "have it, 90.0 % of those that the live model was trained on had");
  refused(
      [](Report* r) {
        r->mutable_drift(0)->set_live_coverage(std::nan(""));
        r->mutable_drift(0)->set_evaluation_coverage(0.5);
      },
      "90.0 % of those of the training window had");
  refused([](Report* r) { r->mutable_drift(0)->set_oov(0.5); },
          "50.0 % of its values in the evaluation window are unknown to the "
          "model, 10.0 % were for the live one");
  refused([](Report* r) { r->set_psi(0.3); }, "index of 0.3000 against");
  refused([](Report* r) { r->set_largest_logit(31); }, "gate.max_logit");
  refused([](Report* r) { r->set_non_finite_scores(1); },
          "1 of 5000 scores of the evaluation window are not finite");
  refused([](Report* r) { r->mutable_golden()->set_non_finite(2); },
          "2 of 10 answers to golden requests are not finite");
  refused([](Report* r) { r->mutable_golden()->set_score_micros(10.5); },
          "scoring takes 10.50 microseconds a candidate");
  refused([](Report* r) { r->mutable_golden()->set_largest_change(0.21); },
          "pctr changes by 0.21000");
  refused([](Report* r) { r->mutable_join()->set_skewed_events(6); },
          "6 of 100 events (6.0 %)");
  refused([](Report* r) { r->mutable_candidate()->set_clicks(5000); },
          "all 5000 examples of the evaluation window are clicks");
}

TEST(Gate, WithoutALiveModelNothingIsComparedWithIt) {
  v1::TrainingReport report = AFullReport();
  report.clear_incumbent();
  report.mutable_delta_auc()->set_estimate(0.9);
  report.set_psi(9);
  report.mutable_golden()->set_largest_change(0.9);
  report.mutable_drift(0)->set_live_oov(std::nan(""));
  report.mutable_drift(0)->set_oov(1);
  const GateDecision d = Decide(AFullGate(), report);
  EXPECT_TRUE(d.publish) << ::testing::PrintToString(d.reasons);
}

TEST(Gate, EveryFailingBoundIsNamed) {
  v1::TrainingReport report = AgainstLive(0.5, 0.3, 0.5);
  report.mutable_candidate()->set_clicks(0);
  report.mutable_candidate()->set_calibration_ratio(2);
  EXPECT_THAT(Decide(AGate(), report).reasons, SizeIs(4));
}

}  // namespace
}  // namespace adrank
