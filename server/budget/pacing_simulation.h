// Days of one campaign in a simulated second-price market, paced and charged by
// the code that serves: Pacer and CampaignAccount. What is wrong with pacing
// shows here: on quiet and busy days, when a clock jumps, when the model is
// off.
#ifndef ADRANK_SERVER_BUDGET_PACING_SIMULATION_H_
#define ADRANK_SERVER_BUDGET_PACING_SIMULATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proto/catalog.pb.h"

namespace adrank {

// What happens to traffic, clock and prices. The event is on day event_day of
// the simulation, counted from 0; the days before it are for learning.
struct PacingScenario {
  std::string name;
  std::string about;
  std::string time_zone = "UTC";
  // Date of day 0.
  int year = 2026, month = 6, day = 1;
  int days = 5;
  int event_day = 3;
  // The usual day: 1 + swing x a wave with its least at 04:00 of the wall
  // clock.
  double swing = 0.8;
  // Traffic is multiplied by `factor` in [from_hour, to_hour) of the event day.
  double factor = 1, from_hour = 0, to_hour = 0;
  // The server's clock is this far off in [jump_from_hour, jump_to_hour).
  double jump_hours = 0, jump_from_hour = 0, jump_to_hour = 0;
  // The best bid against the campaign's, as a share of it: lognormal.
  double rival_median = 0.5, rival_deviation = 0.5;
  // Reserve price as a share of the bid.
  double reserve = 0.05;
  // True click rate / pctr.
  double calibration = 1;
  v1::Budget::Delivery delivery = v1::Budget::EVEN;
  // Of spend from the target that is within the promise, from 30 clicks a day
  // on. A model that promises too much makes the ledger hold too much.
  double tolerance = 0.03;
};

// flat, diurnal, step, drop, spike, zero_hour, clock_forward, clock_back,
// dst_23h, dst_25h, reserve, steep, optimistic, pessimistic.
const std::vector<PacingScenario>& PacingScenarios();
// Null when there is none of that name.
const PacingScenario* FindPacingScenario(absl::string_view name);

struct SimulatedCampaign {
  // The daily budget in clicks at the full bid. Prices are lower, so that more
  // clicks fit.
  double clicks = 100;
  // Spend of an unpaced day without budget / budget.
  double abundance = 4;
  // BudgetConfig.reservation_seconds. What the ads of so long before midnight
  // may still cost is held then, and lost to the day.
  int64_t reservation_ms = 600'000;
  uint64_t seed = 1;
};

// A minute of the server's clock; money as a share of the daily budget.
struct SimulatedMinute {
  int day = 0;
  // Hours since the campaign day began.
  double hour = 0;
  double eligible = 0;
  double spent = 0;
  double target = 0;  // the pacer's
  double ideal = 0;   // by the usual traffic, which the pacer has to learn
  double multiplier = 1, participation = 1;
};

struct SimulatedDay {
  double budget_micros = 0, spent_micros = 0;
  // Unpaced, the rest of the day would have spent a fifth more than was left
  // for it, at any hour.
  bool traffic_allows = false;
  // Clicks served but not charged, since the budget was gone.
  uint64_t clicks = 0, unbilled_clicks = 0;
  // The longest time in which traffic came, budget was left and two dozen ads
  // were due, but none was served.
  double blackout_minutes = 0;
  // From the last minute in which anything could be served to the day's end.
  double dry_minutes = 0;
  // Of (spend - ideal), both ways beyond a band of 1 % of the budget or two
  // served ads.
  int sign_changes = 0;
  // The greatest |expected spend - ideal| / budget.
  double deviation = 0;

  double Share() const { return spent_micros / budget_micros; }
  // What is left is less than a click costs counts as spent.
  double ShareToAClick() const;
  double Overspend() const {
    return spent_micros > budget_micros ? Share() - 1 : 0;
  }
};

struct SimulatedRun {
  std::vector<SimulatedDay> days;
  std::vector<SimulatedMinute> minutes;  // when asked for
};

SimulatedRun SimulatePacing(const PacingScenario& scenario,
                            const SimulatedCampaign& campaign,
                            bool keep_minutes);

// Over the days of many campaigns but their first.
struct PacingSummary {
  int days = 0;  // all, first days too
  // Of days on which traffic allows: mean spend / target (see bench/pacing),
  // and each.
  double share = 0;
  std::vector<double> shares;
  double first_day_share = 0;
  double overspend = 0;         // the greatest, of all days
  double blackout_minutes = 0;  // the longest, of all days
  int sign_changes = 0;         // the most of a day that traffic allows
  std::vector<double> deviations;
  double unbilled_share = 0;  // of clicks
};

// `campaigns` of different abundance of traffic and fixed seeds. Below 30
// clicks a day, ShareToAClick.
PacingSummary SummarisePacing(const PacingScenario& scenario, double clicks,
                              int campaigns, int64_t reservation_ms);

// What of the promise does not hold, as sentences: spend within 3 % of the
// target (10 % below 30 clicks a day), no overspend, no blackout of more than
// 15 minutes, at most 12 sign changes a day.
std::vector<std::string> MissedPacingBars(const PacingScenario& scenario,
                                          double clicks,
                                          const PacingSummary& summary);

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_PACING_SIMULATION_H_
