// A campaign's day as pacing sees it: which quarter hour of the local clock
// each quarter of the day is. A day of 23 hours lacks four of them, one of 25
// has four twice.
#ifndef ADRANK_SERVER_BUDGET_PACING_DAY_H_
#define ADRANK_SERVER_BUDGET_PACING_DAY_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "server/budget/campaign_day.h"

namespace adrank {

inline constexpr int64_t kQuarterMs = 15 * 60 * 1000;
inline constexpr int kQuartersOfClock = 96;

struct PacingDay {
  CampaignDay day;
  // Of [start + k, start + k + 1) quarter hours: 0 is 00:00 to 00:15 of the
  // wall clock. The last may be cut short by the day's end.
  std::vector<uint8_t> quarters;

  // REQUIRES: day.start_ms <= time_ms < day.end_ms.
  uint8_t QuarterAt(int64_t time_ms) const {
    return quarters[static_cast<size_t>((time_ms - day.start_ms) / kQuarterMs)];
  }
};

// REQUIRES: `day` is one of `zone` and not empty.
PacingDay MakePacingDay(const CampaignDay& day, const absl::TimeZone& zone);

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_PACING_DAY_H_
