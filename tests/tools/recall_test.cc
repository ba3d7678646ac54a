#include "tools/recall.h"

#include "gmock/gmock.h"

namespace adrank {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(RecallText, HasALineASourceAndWhatWasLeftOut) {
  v1::RecallReport report;
  report.set_decisions(5);
  report.set_placements(3);
  v1::RecallReport::Limit* limit = report.add_limits();
  limit->set_max_candidates(10);
  v1::RecallReport::Source* source = limit->add_sources();
  source->set_winners(3);
  source->set_inside(1);
  source->set_recall(1.0 / 3);
  EXPECT_THAT(RecallText(report), HasSubstr("0.3333"));
  EXPECT_THAT(RecallText(report), HasSubstr("3 placements compared"));
  EXPECT_THAT(RecallText(report), Not(HasSubstr("limits.max_candidates")));
  report.set_truncated(2);
  EXPECT_THAT(RecallText(report), HasSubstr("2 decisions have more matches"));
}

}  // namespace
}  // namespace adrank
