#include "tools/explanation_text.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

namespace adrank {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::AdExplanation With(int features) {
  v1::AdExplanation ad;
  ad.set_base_logit(-3.25f);
  ad.set_logit(-2.5f);
  ad.set_method("integrated gradients");
  ad.set_completeness_gap(-0.002f);
  for (int i = 0; i < features; ++i) {
    v1::FeatureContribution* c = ad.add_contributions();
    c->set_feature(absl::StrCat("f=", i));
    c->set_contribution(i % 2 == 0 ? 0.5f : -0.25f);
  }
  return ad;
}

TEST(ContributionsText, EachFeatureHasALineWithItsOdds) {
  v1::AdExplanation ad = With(0);
  v1::FeatureContribution* c = ad.add_contributions();
  c->set_feature("city=Berlin");
  c->set_contribution(0.42f);
  c = ad.add_contributions();
  c->set_feature("city=K\u00f6ln");  // one column less than bytes
  c->set_contribution(-0.1f);
  EXPECT_EQ(ContributionsText(ad),
            "  city=Berlin  +0.42  (x1.52 odds)\n"
            "  city=K\u00f6ln    -0.10  (x0.90 odds)\n"
            "  without features -3.2500, logit -2.5000 (integrated gradients, "
            "gap -2.0e-03)\n");
}

TEST(ContributionsText, TheSmallestAreSummedUp) {
  const std::string text = ContributionsText(With(20));
  EXPECT_THAT(text, HasSubstr("  f=14                  +0.50  (x1.65 odds)\n"));
  EXPECT_THAT(text, Not(HasSubstr("f=15")));
  // 15, 17 and 19 of -0.25, 16 and 18 of 0.5.
  EXPECT_THAT(text, HasSubstr("  the other 5 features  +0.25  (x1.28 odds)\n"));
}

TEST(ContributionsText, OneLeftOverIsNamed) {
  const std::string text = ContributionsText(With(kExplainedFeatures + 1));
  EXPECT_THAT(text, HasSubstr("f=15"));
  EXPECT_THAT(text, Not(HasSubstr("other")));
}

TEST(StageText, GapsAreInTheStagesUnit) {
  v1::AdExplanation ad;
  EXPECT_EQ(StageText(ad), "");
  ad.set_stage(v1::RANKING_STAGE_RANK);
  ad.set_needed(1370000);
  ad.set_had(1120001);
  EXPECT_EQ(StageText(ad),
            "  stopped at rank: needed bid 1.37, had bid 1.120001\n");
  ad.set_stage(v1::RANKING_STAGE_CAP);
  ad.set_needed(3);
  ad.set_had(3);
  EXPECT_EQ(StageText(ad), "  stopped at cap: needed 3, had 3\n");
  ad.set_needed(0);
  ad.set_had(0);
  EXPECT_EQ(StageText(ad), "  stopped at cap\n");
  ad.set_served(true);
  EXPECT_EQ(StageText(ad), "");
}

TEST(ScoreText, NamesTheFactorsThatAreNotOne) {
  v1::AdExplanation ad;
  ad.set_pctr(0.012f);
  ad.set_bid_micros(1120000);
  ad.set_score(10752);
  ad.set_quality(1);
  ad.set_pacing_multiplier(0.8f);
  EXPECT_EQ(ScoreText(ad),
            "  pctr 0.01200 x bid 1.12 x pacing 0.8: score 0.010752\n");
  ad.set_price_micros(900000);
  ad.set_price_reason("reserve 900000");
  ad.add_matched_attributes("country=DE");
  EXPECT_EQ(ScoreText(ad),
            "  pctr 0.01200 x bid 1.12 x pacing 0.8: score 0.010752, price "
            "0.90: reserve 900000\n  matched country=DE\n");
}

}  // namespace
}  // namespace adrank
