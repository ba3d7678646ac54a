#include "server/budget/pacing_day.h"

#include <algorithm>

namespace adrank {

PacingDay MakePacingDay(const CampaignDay& day, const absl::TimeZone& zone) {
  PacingDay out;
  out.day = day;
  for (int64_t t = day.start_ms; t < day.end_ms; t += kQuarterMs) {
    // Its middle: changes of the clock fall on quarters, or inside none that
    // matters.
    const int64_t middle = std::min(t + kQuarterMs / 2, day.end_ms - 1);
    const absl::CivilSecond local =
        absl::ToCivilSecond(absl::FromUnixMillis(middle), zone);
    out.quarters.push_back(
        static_cast<uint8_t>(local.hour() * 4 + local.minute() / 15));
  }
  return out;
}

}  // namespace adrank
