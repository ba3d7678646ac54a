#include "server/metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

using ::testing::HasSubstr;

// A full disk drops decisions after the queue took them: only the log knows.
TEST(Metrics, DroppedDecisionsAreTheLogs) {
  Metrics metrics;
  EventLogStats stats;
  stats.dropped_decisions = 3;
  metrics.EventLogStats(stats);
  metrics.EventLogStats(stats);
  EXPECT_THAT(metrics.Text(), HasSubstr("adrank_decisions_dropped_total 3\n"));
  stats.dropped_decisions = 5;
  metrics.EventLogStats(stats);
  EXPECT_THAT(metrics.Text(), HasSubstr("adrank_decisions_dropped_total 5\n"));
}

}  // namespace
}  // namespace adrank
