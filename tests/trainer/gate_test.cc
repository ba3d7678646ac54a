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

TEST(Gate, EveryFailingBoundIsNamed) {
  v1::TrainingReport report = AgainstLive(0.5, 0.3, 0.5);
  report.mutable_candidate()->set_clicks(0);
  report.mutable_candidate()->set_calibration_ratio(2);
  EXPECT_THAT(Decide(AGate(), report).reasons, SizeIs(4));
}

}  // namespace
}  // namespace adrank
