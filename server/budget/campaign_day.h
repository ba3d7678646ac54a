// The days that daily budgets refer to: those of the campaign's own time zone,
// of 23 or 25 hours where the clocks are changed. Pure functions.
#ifndef ADRANK_SERVER_BUDGET_CAMPAIGN_DAY_H_
#define ADRANK_SERVER_BUDGET_CAMPAIGN_DAY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace adrank {

// The instants [start_ms, end_ms), unix milliseconds.
struct CampaignDay {
  // Days since 1970-01-01 of the local date.
  int32_t day = 0;
  int64_t start_ms = 0;
  int64_t end_ms = 0;

  friend bool operator==(const CampaignDay&, const CampaignDay&) = default;
};

// The day that `time_ms` lies in. Days of one zone cover time without gap or
// overlap, and their numbers rise with it: a day begins with the first instant
// of its date (the earliest if midnight comes twice, the moment of the change
// if it is skipped), also where clocks that are put back return to the evening
// before. A date that a zone left out is no day.
CampaignDay DayOf(int64_t time_ms, const absl::TimeZone& zone);

// The day of that number; of no length when the zone left the date out.
CampaignDay DayNumbered(int32_t day, const absl::TimeZone& zone);

// The zone of an IANA name; empty is UTC. InvalidArgument names one that the
// machine's time zone database lacks.
absl::StatusOr<absl::TimeZone> FindTimeZone(absl::string_view name);

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_CAMPAIGN_DAY_H_
