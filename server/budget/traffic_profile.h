// The forecast of a campaign's eligible traffic over its day, learnt from the
// days before. Pure functions of the message that is stored.
//
// The profile is an exponentially weighted mean of each quarter hour of the
// local clock. One observation moves a quarter to at most 4 times and at least
// a quarter of what it was, so that a spike or an hour without traffic leaves
// little behind. Quarters never observed are like the mean of those that were;
// before anything is known all are alike.
#ifndef ADRANK_SERVER_BUDGET_TRAFFIC_PROFILE_H_
#define ADRANK_SERVER_BUDGET_TRAFFIC_PROFILE_H_

#include <cstdint>

#include "proto/pacing.pb.h"
#include "server/budget/pacing_day.h"

namespace adrank {

// `eligible` requests came in [from_ms, to_ms), a part of `day` shorter than a
// quarter hour. Calls come in the order of time; a clock that was put back
// makes a quarter too long, and such a quarter is not learnt from.
void ObserveTraffic(const PacingDay& day, int64_t from_ms, int64_t to_ms,
                    uint64_t eligible, v1::TrafficProfile* profile);

// Drops the quarter being observed: what comes next does not continue it.
void ForgetOpenQuarter(v1::TrafficProfile* profile);

// Traffic to expect in [from_ms, to_ms) of `day`: requests, or an arbitrary
// unit before anything is known. > 0 unless the interval is empty.
double ForecastTraffic(const v1::TrafficProfile& profile, const PacingDay& day,
                       int64_t from_ms, int64_t to_ms);

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_TRAFFIC_PROFILE_H_
