#include "server/budget/campaign_day.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"

namespace adrank {
namespace {

constexpr absl::CivilDay kEpoch(1970, 1, 1);

// FromCivil takes the earlier of two midnights, and for one that is skipped the
// moment of the change.
int64_t StartMs(int32_t day, const absl::TimeZone& zone) {
  return absl::ToUnixMillis(absl::FromCivil(kEpoch + day, zone));
}

}  // namespace

CampaignDay DayNumbered(int32_t day, const absl::TimeZone& zone) {
  return {day, StartMs(day, zone), StartMs(day + 1, zone)};
}

CampaignDay DayOf(int64_t time_ms, const absl::TimeZone& zone) {
  const absl::CivilDay date =
      absl::ToCivilDay(absl::FromUnixMillis(time_ms), zone);
  CampaignDay day = DayNumbered(static_cast<int32_t>(date - kEpoch), zone);
  // Clocks that are put back over midnight show the old date again.
  while (time_ms >= day.end_ms) day = DayNumbered(day.day + 1, zone);
  while (time_ms < day.start_ms) day = DayNumbered(day.day - 1, zone);
  return day;
}

absl::StatusOr<absl::TimeZone> FindTimeZone(absl::string_view name) {
  if (name.empty()) return absl::UTCTimeZone();
  absl::TimeZone zone;
  if (absl::LoadTimeZone(name, &zone)) return zone;
  return absl::InvalidArgumentError(
      absl::StrCat("time zone \"", name, "\" is not known"));
}

}  // namespace adrank
