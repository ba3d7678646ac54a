#include "server/budget/pacer.h"

#include <algorithm>
#include <cmath>

#include "server/budget/traffic_profile.h"

namespace adrank {
namespace {

constexpr int64_t kMinuteMs = 60'000;
// A longer silence is no interval to steer by.
constexpr int64_t kLongestMs = kQuarterMs;

// A campaign that nothing is known of begins at 30 % of its bid.
const double kFirstLogShare = std::log(0.3);
// Participation reaches 4e-5 at the reserve: a budget of one click a day in a
// market of a million requests a day.
constexpr double kLeastParticipation = -10;
// Without reserves, bids fall to 1 %, then requests are left out.
constexpr double kLeastReserveShare = 0.01;

constexpr double kFirstGain = 0.3, kLeastGain = 0.05, kMostGain = 0.5;
constexpr double kGainGrows = 1.2, kGainShrinks = 0.7;
constexpr double kMostUp = 0.5, kMostDown = 1.5;
// Errors smaller than this have no sign.
constexpr double kDeadBand = 0.02;
constexpr double kServedAdsFloor = 2;
// The budget is to be spent this long before the day ends.
constexpr int64_t kTailMs = 5 * kMinuteMs;

// Charges that a prior counts for.
constexpr double kPriorCharges = 10;
constexpr double kPriorDelaySeconds = 60;
// Charges that are remembered.
constexpr double kMemoryCharges = 400;
constexpr double kServedMemory = 1000;
// How fast the level of traffic against the forecast is believed to change, and
// a time that shows an outage where a minute has few requests.
constexpr double kLevelMemorySeconds = 7200, kWindowSeconds = 600;
constexpr double kChanceRequests = 3;
// Less than this part of the traffic says nothing about the bid.
constexpr double kOutage = 0.2;

double Clamped(double x, double low, double high, double otherwise) {
  return std::isfinite(x) ? std::clamp(x, low, high) : otherwise;
}

double Decay(double seconds, double scale) {
  return std::exp(-seconds / scale);
}

}  // namespace

Pacer::Pacer(const v1::PacerState& state) : state_(state) {
  for (double x :
       {state_.log_share(), state_.gain(), state_.log_share_sum(),
        state_.log_share_weight(), state_.in_flight_micros(),
        state_.served_micros(), state_.served_ads(), state_.due_micros(),
        state_.charged_micros(), state_.charges(), state_.delay_seconds(),
        state_.delayed_charges(), state_.traffic_seen(),
        state_.traffic_forecast(), state_.window_seen(),
        state_.window_expected(), state_.surge(), state_.surge_before(),
        state_.reserve_share()}) {
    if (!std::isfinite(x)) {
      state_ = v1::PacerState();
      break;
    }
  }
  if (state_.updated_ms() == 0) state_.set_log_share(kFirstLogShare);
  state_.set_log_share(std::clamp(state_.log_share(), -20.0, 0.0));
}

double Pacer::MeanServedMicros() const {
  return state_.served_ads() > 0 ? state_.served_micros() / state_.served_ads()
                                 : 0;
}

double Pacer::Calibration() const {
  if (!(state_.charges() > 0 && state_.charged_micros() > 0)) return 1;
  const double prior =
      kPriorCharges * state_.charged_micros() / state_.charges();
  return std::clamp(
      (state_.charged_micros() + prior) / (state_.due_micros() + prior), 0.2,
      5.0);
}

void Pacer::LearnCosts(const PacerReading& r, double seconds) {
  // What is in flight lands with the mean delay of charges.
  const double delay =
      (kPriorCharges * kPriorDelaySeconds + state_.delay_seconds()) /
      (kPriorCharges + state_.delayed_charges());
  const double before = state_.in_flight_micros() + r.served_micros;
  // Half of the interval for what was served during it.
  const double after =
      std::min(state_.in_flight_micros() * Decay(seconds, delay) +
                   r.served_micros * Decay(seconds / 2, delay),
               static_cast<double>(std::max<int64_t>(r.outstanding_micros, 0)));
  state_.set_in_flight_micros(after);
  state_.set_due_micros(state_.due_micros() + std::max(0.0, before - after));
  state_.set_served_micros(state_.served_micros() + r.served_micros);
  state_.set_served_ads(state_.served_ads() +
                        static_cast<double>(r.served_ads));
  if (state_.served_ads() > kServedMemory) {
    state_.set_served_ads(state_.served_ads() / 2);
    state_.set_served_micros(state_.served_micros() / 2);
  }
  state_.set_charged_micros(
      state_.charged_micros() +
      static_cast<double>(std::max<int64_t>(0, r.charged_micros)));
  state_.set_charges(state_.charges() + static_cast<double>(r.charges));
  state_.set_delayed_charges(state_.delayed_charges() +
                             static_cast<double>(r.charge_delays));
  state_.set_delay_seconds(state_.delay_seconds() +
                           std::max(0.0, r.charge_delay_seconds));
  if (state_.charges() > kMemoryCharges) {
    state_.set_charges(state_.charges() / 2);
    state_.set_charged_micros(state_.charged_micros() / 2);
    state_.set_due_micros(state_.due_micros() / 2);
  }
  if (state_.delayed_charges() > kMemoryCharges) {
    state_.set_delayed_charges(state_.delayed_charges() / 2);
    state_.set_delay_seconds(state_.delay_seconds() / 2);
  }
  if (r.reserve_shares > 0) {
    const double mean = Clamped(
        r.reserve_share_sum / static_cast<double>(r.reserve_shares), 0, 1, 0);
    const double weight =
        state_.reserve_share() > 0 ? 1 - Decay(seconds, 600) : 1;
    state_.set_reserve_share(state_.reserve_share() +
                             weight * (mean - state_.reserve_share()));
  }
}

double Pacer::TrafficShare(const PacerReading& r, double forecast,
                           double seconds) {
  const double seen = static_cast<double>(r.eligible);
  const double slow = Decay(seconds, kLevelMemorySeconds);
  state_.set_traffic_forecast(state_.traffic_forecast() * slow + forecast);
  const double level_before = state_.traffic_seen() * slow;
  const auto expect = [&](double all_seen) {
    return forecast * all_seen / state_.traffic_forecast();
  };
  // A surge counts as twice what was expected: it is not the new level at once.
  const double usual = level_before > 0 ? 2 * expect(level_before) : seen;
  state_.set_traffic_seen(level_before +
                          std::min(seen, usual + kChanceRequests));
  const double expected = expect(state_.traffic_seen());
  const double fast = Decay(seconds, kWindowSeconds);
  state_.set_window_seen(state_.window_seen() * fast + seen);
  state_.set_window_expected(state_.window_expected() * fast + expected);
  // Less than half of what was expected, beyond what chance does to few.
  const auto part = [](double came, double due) {
    return due > 0 ? (2 * came + kChanceRequests) / due : 1;
  };
  // More than twice of it: as many requests are left out as are too many, and
  // what was served counts as if that had been done already.
  state_.set_surge_before(state_.surge() > 0 ? state_.surge() : 1);
  state_.set_surge(seen > 2 * expected + kChanceRequests ? expected / seen : 1);
  const double share =
      std::min({1.0, part(seen, expected),
                part(state_.window_seen(), state_.window_expected())});
  return share < kOutage ? 0 : share;
}

void Pacer::BeginDay(const PacingDay& day) {
  // The share at the end of a day is that of a budget nearly gone, or of a rush
  // to spend it; the day's mean is the better beginning.
  if (state_.log_share_weight() > 0) {
    state_.set_log_share(state_.log_share_sum() / state_.log_share_weight());
  }
  state_.set_log_share_sum(0);
  state_.set_log_share_weight(0);
  state_.set_day_start_ms(day.day.start_ms);
  state_.set_last_sign(0);
}

Pacer::Plan Pacer::MakePlan(const PacingDay& day, const PacerTerms& terms,
                            const PacerReading& r) {
  Plan plan;
  plan.begin_ms = day.day.start_ms;
  plan.end_ms = day.day.end_ms;
  if (terms.start_ms > plan.begin_ms && terms.start_ms < plan.end_ms) {
    plan.begin_ms = terms.start_ms;
  }
  if (terms.end_ms > plan.begin_ms && terms.end_ms < plan.end_ms) {
    plan.end_ms = terms.end_ms;
  }
  const int64_t length = plan.end_ms - plan.begin_ms;
  plan.goal_ms = plan.end_ms - std::min(kTailMs, length / 10);
  plan.budget_micros = terms.daily_micros;
  if (terms.total_micros > 0) {
    const int64_t before = r.spent_micros - r.spent_today_micros;
    double left =
        static_cast<double>(std::max<int64_t>(0, terms.total_micros - before));
    // Even over the days to the end; with no end it is nobody's to spread.
    if (terms.end_ms > plan.end_ms) {
      left *= static_cast<double>(length) /
              static_cast<double>(terms.end_ms - plan.begin_ms);
    }
    const bool bounds = terms.end_ms > 0 || terms.daily_micros > 0;
    const int64_t share = static_cast<int64_t>(left);
    if (bounds && (terms.daily_micros == 0 || share < terms.daily_micros)) {
      plan.budget_micros = std::max<int64_t>(share, 1);
    }
  }
  return plan;
}

void Pacer::Step(const PacingDay& day, const Plan& plan, int64_t from_ms,
                 const PacerReading& r, double traffic) {
  const double rate = Calibration();
  const double spent = rate * r.served_micros;
  const double served = spent * state_.surge() / state_.surge_before();
  // As it was at the beginning of the interval.
  const double left = std::max(
      0.0, static_cast<double>(plan.budget_micros - r.spent_today_micros) -
               rate * state_.in_flight_micros() + spent);
  const double now = ForecastTraffic(state_.traffic(), day, from_ms, r.now_ms);
  const double rest =
      ForecastTraffic(state_.traffic(), day, from_ms, plan.goal_ms);
  const double part = rest > now ? now / rest : 1;
  const double full_target = left * part;
  const double target = traffic * full_target;
  const double floor = 1e-6 * static_cast<double>(plan.budget_micros) + 1e-3;
  const double scale = std::max(
      {full_target, kServedAdsFloor * rate * MeanServedMicros(), floor});
  const double error = (target - served) / scale;

  const int sign = error > kDeadBand ? 1 : error < -kDeadBand ? -1 : 0;
  double gain = state_.gain() > 0 ? state_.gain() : kFirstGain;
  if (sign != 0 && state_.last_sign() != 0) {
    gain *= sign == state_.last_sign() ? kGainGrows : kGainShrinks;
  }
  if (sign != 0) state_.set_last_sign(sign);
  gain = std::clamp(gain, kLeastGain, kMostGain);
  state_.set_gain(gain);

  const double least =
      std::log(std::max(state_.reserve_share(), kLeastReserveShare)) +
      kLeastParticipation;
  const double step = std::clamp(gain * error, -kMostDown, kMostUp);
  state_.set_log_share(std::clamp(state_.log_share() + step, least, 0.0));
  if (traffic > 0.5 && r.now_ms <= plan.goal_ms) {
    state_.set_log_share_sum(state_.log_share_sum() + now * state_.log_share());
    state_.set_log_share_weight(state_.log_share_weight() + now);
  }
}

int64_t Pacer::TargetMicros(const PacingDay& day, const Plan& plan,
                            int64_t now_ms) const {
  const double all =
      ForecastTraffic(state_.traffic(), day, plan.begin_ms, plan.goal_ms);
  const double past = ForecastTraffic(state_.traffic(), day, plan.begin_ms,
                                      std::min(now_ms, plan.goal_ms));
  return static_cast<int64_t>(static_cast<double>(plan.budget_micros) *
                              (all > past ? past / all : 1));
}

PacerOutput Pacer::Pace(const PacerTerms& terms) const {
  PacerOutput out;
  const bool spread =
      terms.daily_micros > 0 || (terms.total_micros > 0 && terms.end_ms > 0);
  if (!spread || terms.delivery == v1::Budget::ACCELERATED) return out;
  const double share = std::exp(state_.log_share());
  const double least =
      std::clamp(state_.reserve_share() * 1.02, kLeastReserveShare, 1.0);
  const double surge = state_.surge() > 0 ? state_.surge() : 1;
  out.multiplier = static_cast<float>(std::max(share, least));
  out.participation = static_cast<float>(std::min(1.0, share / least) * surge);
  return out;
}

PacerOutput Pacer::Update(const PacingDay& day, const PacerTerms& terms,
                          const PacerReading& r) {
  if (state_.day_start_ms() != day.day.start_ms) BeginDay(day);
  const int64_t last = state_.updated_ms();
  const int64_t length = r.now_ms - last;
  const bool steady = last != 0 && length > 0 && length <= kLongestMs;
  state_.set_updated_ms(r.now_ms);
  const double seconds = steady ? static_cast<double>(length) / 1000 : 0;
  LearnCosts(r, seconds);
  const Plan plan = MakePlan(day, terms, r);
  if (!steady) {
    ForgetOpenQuarter(state_.mutable_traffic());
    state_.set_surge(1);
  } else {
    const int64_t from = std::max(last, day.day.start_ms);
    const double forecast =
        ForecastTraffic(state_.traffic(), day, from, r.now_ms);
    const double traffic = TrafficShare(r, forecast, seconds);
    if (from < r.now_ms) {
      ObserveTraffic(day, from, r.now_ms, r.eligible, state_.mutable_traffic());
    }
    if (plan.budget_micros > 0 && !r.closed && r.now_ms > plan.begin_ms &&
        from < plan.end_ms) {
      Step(day, plan, std::max(from, plan.begin_ms), r, traffic);
    }
  }
  PacerOutput out = Pace(terms);
  out.budget_micros = plan.budget_micros;
  out.target_micros = terms.delivery == v1::Budget::ACCELERATED
                          ? plan.budget_micros
                          : TargetMicros(day, plan, r.now_ms);
  return out;
}

}  // namespace adrank
