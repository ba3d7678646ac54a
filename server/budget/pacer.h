// Pacing: how much of its bid a campaign offers now, so that its budget lasts
// over the day and follows the traffic it may have. A pure controller of one
// campaign: no clock, no files, no threads, and nothing of other campaigns.
#ifndef ADRANK_SERVER_BUDGET_PACER_H_
#define ADRANK_SERVER_BUDGET_PACER_H_

#include <cstdint>

#include "proto/catalog.pb.h"
#include "proto/pacing.pb.h"
#include "server/budget/pacing_day.h"

namespace adrank {

// What the ledger and the counters say of a campaign. Money in micros.
struct PacerReading {
  int64_t now_ms = 0;
  // Charged on this day of the campaign, and ever.
  int64_t spent_today_micros = 0;
  int64_t spent_micros = 0;
  // Expected cost of what was served and may still be charged, an upper bound.
  int64_t outstanding_micros = 0;
  // Nothing is left, or most of what it won since the last reading was refused
  // for want of budget: the bid is not what spend depends on.
  bool closed = false;

  // Since the last reading.
  // Requests that one of its ads might have answered, whatever the budget said.
  uint64_t eligible = 0;
  uint64_t served_ads = 0;
  double served_micros = 0;  // their expected cost: pctr x price of a click
  uint64_t charges = 0;      // clicks or impressions that were charged
  int64_t charged_micros = 0;
  // Of charges whose time from answer to charge is known: number and sum.
  uint64_t charge_delays = 0;
  double charge_delay_seconds = 0;
  // Of its best ad, over eligible requests: sum and number of reserve price /
  // bid, both for the same event. 0, 0: unknown.
  double reserve_share_sum = 0;
  uint64_t reserve_shares = 0;
};

// What the catalogue says.
struct PacerTerms {
  v1::Budget::Delivery delivery = v1::Budget::EVEN;
  int64_t daily_micros = 0;  // 0: unlimited
  int64_t total_micros = 0;  // 0: unlimited
  int64_t start_ms = 0;      // 0: open
  int64_t end_ms = 0;
};

struct PacerOutput {
  // What bids are multiplied by, in (0, 1].
  float multiplier = 1;
  // Share of requests to take part in, in (0, 1]; below 1 only where a lower
  // multiplier would fall under the reserve.
  float participation = 1;
  // What may be spent on this day, and should have been by now; 0, 0 without a
  // budget.
  int64_t budget_micros = 0;
  int64_t target_micros = 0;
};

// Keeps the rate of expected cost at what the forecast of eligible traffic asks
// for: of what is left of the budget, the share
//
//   forecast(interval) / forecast(rest of the day)
//
// so that whatever was missed or spent too fast is spread over the rest of the
// day, and clicks charged correct what was expected of them. The multiplier
// moves by multiplicative steps (dual mirror descent, Balseiro & Gur 2019):
//
//   log share += clip(gain x (target - actual) / max(target, 2 served ads))
//
// The second term of the maximum keeps a budget of few clicks, whose interval
// holds a part of one served ad, from being steered by single ads; without a
// floor the ratio is unbounded, and one ad blacks the rest of a quiet night
// out. Two changes to the plain rule: gain grows while errors keep their sign
// and shrinks when they alternate (as in Rprop, Riedmiller & Braun 1993), for
// the answer of spend to a bid is flat in one market and steep in another; and
// the target shrinks with the traffic when less than half of what is expected
// comes, so that an hour without traffic does not wind the share up.
//
// share >= reserve share: multiplier = share, participation = 1. Below it:
// multiplier = reserve share, participation = share / reserve share.
class Pacer {
 public:
  Pacer() : Pacer(v1::PacerState()) {}
  // Continues where State() was taken. A state that is not finite is as none.
  explicit Pacer(const v1::PacerState& state);

  // A step. `day` is the campaign's that holds reading.now_ms. Intervals of
  // about a minute; after one of no or negative length, or of more than a
  // quarter hour (the process stood still, the clock jumped), the readings are
  // taken note of and the share stays.
  PacerOutput Update(const PacingDay& day, const PacerTerms& terms,
                     const PacerReading& reading);

  // The pace of the state as it is, before an update: without budget_micros and
  // target_micros.
  PacerOutput Pace(const PacerTerms& terms) const;

  const v1::PacerState& State() const { return state_; }

 private:
  // The part of the day that the campaign serves in, and what it may spend.
  struct Plan {
    int64_t begin_ms = 0;
    int64_t end_ms = 0;
    // By when to have spent, some minutes before the end.
    int64_t goal_ms = 0;
    int64_t budget_micros = 0;
  };
  static Plan MakePlan(const PacingDay& day, const PacerTerms& terms,
                       const PacerReading& reading);

  void LearnCosts(const PacerReading& reading, double seconds);
  // The part of the interval's traffic that came, in [0, 1], of a forecast.
  double TrafficShare(const PacerReading& reading, double forecast,
                      double seconds);
  void BeginDay(const PacingDay& day);
  void Step(const PacingDay& day, const Plan& plan, int64_t from_ms,
            const PacerReading& reading, double traffic);
  double MeanServedMicros() const;
  // Charged per expected micro: 1 for a calibrated model.
  double Calibration() const;
  int64_t TargetMicros(const PacingDay& day, const Plan& plan,
                       int64_t now_ms) const;

  v1::PacerState state_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_PACER_H_
