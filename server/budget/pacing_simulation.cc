#include "server/budget/pacing_simulation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <map>
#include <queue>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/rng.h"
#include "server/budget/account.h"
#include "server/budget/pacer.h"
#include "server/budget/pacing_day.h"

namespace adrank {
namespace {

constexpr int64_t kMinuteMs = 60'000;
constexpr double kHourMs = 3'600'000;
constexpr int64_t kBidMicros = 1'000'000;
constexpr double kMeanPctr = 0.04;
constexpr double kPctrDeviation = 0.5;  // of its logarithm
constexpr double kMeanClickDelayMs = 45'000;
// Ads due in a time that is called a blackout; none comes by chance with a
// probability of e^-24.
constexpr double kBlackoutAds = 24;

std::vector<PacingScenario> MakeScenarios() {
  std::vector<PacingScenario> all;
  const auto add = [&all](const char* name, const char* about) {
    all.emplace_back();
    all.back().name = name;
    all.back().about = about;
    return &all.back();
  };
  add("flat", "the same traffic all day")->swing = 0;
  add("diurnal", "nine times the traffic at 16:00 as at 04:00");
  auto* s = add("step", "twice the traffic from noon on");
  s->factor = 2, s->from_hour = 12, s->to_hour = 24;
  s = add("drop", "a third of the traffic from noon on");
  s->factor = 1.0 / 3, s->from_hour = 12, s->to_hour = 24;
  s = add("spike", "a hundred times the traffic for ten minutes");
  s->factor = 100, s->from_hour = 15, s->to_hour = 15 + 1.0 / 6;
  s = add("zero_hour", "no traffic from 13:00 to 14:00");
  s->factor = 0, s->from_hour = 13, s->to_hour = 14;
  s = add("clock_forward", "the clock an hour ahead from 10:00 to 16:00");
  s->jump_hours = 1, s->jump_from_hour = 10, s->jump_to_hour = 16;
  s = add("clock_back", "the clock an hour behind from 10:00 to 16:00");
  s->jump_hours = -1, s->jump_from_hour = 10, s->jump_to_hour = 16;
  s = add("dst_23h", "the day of 23 hours in Berlin");
  s->time_zone = "Europe/Berlin", s->month = 3, s->day = 26;
  s = add("dst_25h", "the day of 25 hours in Berlin");
  s->time_zone = "Europe/Berlin", s->month = 10, s->day = 22;
  s = add("reserve", "a reserve of 60 % of the bid: requests must be left out");
  s->reserve = 0.6;
  s = add("steep", "rivals that all bid alike");
  s->rival_deviation = 0.05;
  s = add("optimistic", "the model promises twice the clicks that come");
  s->calibration = 0.5, s->tolerance = 0.05;
  s = add("pessimistic", "the model promises half the clicks that come");
  s->calibration = 2;
  return all;
}

// The quantile of the normal distribution at (i + 1/2) / 4096, exponentiated:
// draws of lognormal values are a look-up.
class Lognormal {
 public:
  static constexpr int kBits = 12;
  Lognormal(double median, double deviation) {
    // Bisection on erfc; once per simulation.
    for (size_t i = 0; i < table_.size(); ++i) {
      const double p = (static_cast<double>(i) + 0.5) / (1 << kBits);
      double low = -6, high = 6;
      for (int k = 0; k < 40; ++k) {
        const double x = (low + high) / 2;
        (0.5 * std::erfc(-x / std::sqrt(2.0)) < p ? low : high) = x;
      }
      table_[i] = median * std::exp(deviation * low);
    }
  }
  double At(uint64_t bits) const { return table_[bits & ((1 << kBits) - 1)]; }
  const std::array<double, 1 << kBits>& values() const { return table_; }

 private:
  std::array<double, 1 << kBits> table_;
};

class Simulation {
 public:
  Simulation(const PacingScenario& scenario, const SimulatedCampaign& campaign,
             bool keep_minutes);
  SimulatedRun Run();

 private:
  struct Open {
    int64_t due_ms;  // true time: of the click, or of expiry
    int64_t served_ms;
    int32_t day;
    SlotCost cost;
    Hold hold;
    // What comes at due_ms: a click, an expiry, or a click after that.
    enum class What : uint8_t { kClick, kExpiry, kLateClick } what;
    bool operator<(const Open& o) const { return due_ms > o.due_ms; }
  };
  struct DayState {
    PacingDay day;
    // Usual traffic up to each minute, the last 1.
    std::vector<double> ideal;
    // Expected spend of each minute without pacing and budget / budget.
    std::vector<double> attainable;
    double expected_micros = 0;
    int sign = 0;
    // The run of silence.
    double due_ads = 0;
    int64_t silence_from = 0, last_open = 0;
    SimulatedDay result;
  };

  // Traffic of the wall clock, mean 1 over a day.
  double Usual(int64_t true_ms) const;
  double EventFactor(int64_t true_ms) const;
  int64_t ServerMs(int64_t true_ms) const;
  double EventHour(int64_t true_ms) const {
    return static_cast<double>(true_ms - event_day_.start_ms) / kHourMs;
  }
  uint64_t Poisson(double mean);
  DayState& StateOf(int32_t day);
  void Settle(int64_t true_ms);
  void Request(int64_t true_ms, int64_t server_ms, DayState* day);
  void Minute(int64_t true_ms);
  static bool TrafficAllows(const DayState& day);
  void Judge(DayState* day, int64_t now, uint64_t requests, uint64_t served,
             uint64_t refused);

  const PacingScenario& scenario_;
  const SimulatedCampaign& campaign_;
  const bool keep_minutes_;
  absl::TimeZone zone_;
  CampaignDay first_day_, event_day_, last_day_;
  Rng rng_;
  Lognormal rivals_, pctrs_;
  double requests_a_minute_ = 0;
  double mean_cost_ = 0;  // expected, of a served ad at the full bid
  int64_t budget_ = 0;

  BudgetPolicy policy_;
  CampaignAccount account_{&policy_};
  Pacer pacer_;
  PacerOutput pace_;
  PacerReading reading_;
  uint64_t refused_ = 0;
  std::priority_queue<Open> open_;
  std::map<int32_t, DayState> days_;
  SimulatedRun run_;
};

Simulation::Simulation(const PacingScenario& scenario,
                       const SimulatedCampaign& campaign, bool keep_minutes)
    : scenario_(scenario),
      campaign_(campaign),
      keep_minutes_(keep_minutes),
      rng_(campaign.seed),
      rivals_(scenario.rival_median, scenario.rival_deviation),
      pctrs_(kMeanPctr * std::exp(-kPctrDeviation * kPctrDeviation / 2),
             kPctrDeviation) {
  if (!absl::LoadTimeZone(scenario.time_zone, &zone_)) {
    zone_ = absl::UTCTimeZone();
  }
  const absl::CivilDay date(scenario.year, scenario.month, scenario.day);
  first_day_ = DayOf(absl::ToUnixMillis(absl::FromCivil(date, zone_)), zone_);
  event_day_ = DayNumbered(first_day_.day + scenario.event_day, zone_);
  last_day_ = DayNumbered(first_day_.day + scenario.days - 1, zone_);
  budget_ =
      std::max<int64_t>(1, static_cast<int64_t>(campaign.clicks * kBidMicros));
  double wins = 0, price = 0;
  for (const double rival : rivals_.values()) {
    if (rival >= 1) continue;
    wins += 1;
    price += std::max(rival, scenario.reserve);
  }
  const double cost = price / wins * kMeanPctr * kBidMicros;
  mean_cost_ = cost;
  requests_a_minute_ = campaign.abundance * static_cast<double>(budget_) /
                       (cost * scenario.calibration * wins /
                        static_cast<double>(rivals_.values().size())) /
                       1440;
  v1::Budget budget;
  budget.set_daily_micros(budget_);
  budget.set_delivery(scenario.delivery);
  policy_.reservation_ms = campaign.reservation_ms;
  account_.SetTerms(budget, zone_, first_day_.start_ms);
}

double Simulation::Usual(int64_t true_ms) const {
  const absl::CivilSecond local =
      absl::ToCivilSecond(absl::FromUnixMillis(true_ms), zone_);
  const double hour = local.hour() + local.minute() / 60.0;
  return 1 - scenario_.swing * std::cos((hour - 4) * 2 * M_PI / 24);
}

double Simulation::EventFactor(int64_t true_ms) const {
  const double hour = EventHour(true_ms);
  return hour >= scenario_.from_hour && hour < scenario_.to_hour
             ? scenario_.factor
             : 1;
}

int64_t Simulation::ServerMs(int64_t true_ms) const {
  const double hour = EventHour(true_ms);
  return hour >= scenario_.jump_from_hour && hour < scenario_.jump_to_hour
             ? true_ms + static_cast<int64_t>(scenario_.jump_hours * kHourMs)
             : true_ms;
}

uint64_t Simulation::Poisson(double mean) {
  if (mean > 200) {
    const double x = mean + std::sqrt(mean) * rng_.Normal();
    return static_cast<uint64_t>(std::max(0.0, std::round(x)));
  }
  uint64_t n = 0;
  for (double t = rng_.Exponential(); t < mean; t += rng_.Exponential()) ++n;
  return n;
}

Simulation::DayState& Simulation::StateOf(int32_t number) {
  const auto [it, added] = days_.try_emplace(number);
  DayState& state = it->second;
  if (!added) return state;
  const CampaignDay day = DayNumbered(number, zone_);
  state.day = MakePacingDay(day, zone_);
  double sum = 0;
  for (int64_t t = day.start_ms; t < day.end_ms; t += kMinuteMs) {
    sum += Usual(t);
    state.ideal.push_back(sum);
  }
  for (double& x : state.ideal) x /= sum;
  state.attainable.resize(state.ideal.size());
  state.silence_from = state.last_open = day.start_ms;
  state.result.budget_micros = static_cast<double>(budget_);
  return state;
}

// Clicks and expiries that are due.
void Simulation::Settle(int64_t true_ms) {
  while (!open_.empty() && open_.top().due_ms <= true_ms) {
    const Open o = open_.top();
    open_.pop();
    if (o.what == Open::What::kExpiry) {
      account_.GiveBack(o.day, o.cost, o.hold, true);
      continue;
    }
    SimulatedDay& day = StateOf(o.day).result;
    ++day.clicks;
    if (o.what == Open::What::kClick ? account_.Bill(o.day, o.cost, o.hold)
                                     : account_.BillLate(o.day, o.cost)) {
      day.spent_micros += static_cast<double>(o.cost.micros);
      ++reading_.charges;
      ++reading_.charge_delays;
      reading_.charged_micros += o.cost.micros;
      reading_.charge_delay_seconds +=
          static_cast<double>(o.due_ms - o.served_ms) / 1000;
    } else {
      ++day.unbilled_clicks;
    }
  }
}

void Simulation::Request(int64_t true_ms, int64_t server_ms, DayState* day) {
  Settle(true_ms);
  const uint64_t bits = rng_();
  const double rival = rivals_.At(bits);
  const double pctr = pctrs_.At(bits >> Lognormal::kBits);
  const double price = std::max(rival, scenario_.reserve);
  const double rate = std::min(1.0, pctr * scenario_.calibration);
  if (price < 1) {
    const size_t minute =
        static_cast<size_t>((server_ms - day->day.day.start_ms) / kMinuteMs);
    day->attainable[minute] +=
        price * rate * kBidMicros / day->result.budget_micros;
  }
  ++reading_.eligible;
  ++reading_.reserve_shares;
  reading_.reserve_share_sum += scenario_.reserve;
  if (price > pace_.multiplier || price >= 1 || rival == pace_.multiplier) {
    return;
  }
  if (pace_.participation < 1 && !rng_.Bernoulli(pace_.participation)) return;
  const int64_t micros = static_cast<int64_t>(std::ceil(price * kBidMicros));
  const SlotCost cost =
      SlotCost::Of(v1::BID_TYPE_CPC, micros, static_cast<float>(pctr));
  const Hold hold = account_.Take(day->day.day.day, cost);
  if (hold == Hold::kRefused) {
    ++refused_;
    return;
  }
  ++reading_.served_ads;
  reading_.served_micros += static_cast<double>(cost.mean);
  day->expected_micros +=
      static_cast<double>(cost.mean) * scenario_.calibration;
  const bool click = static_cast<double>(bits >> 24) * 0x1p-40 < rate;
  Open open{true_ms + policy_.reservation_ms,
            true_ms,
            day->day.day.day,
            cost,
            hold,
            Open::What::kExpiry};
  if (!click) return open_.push(open);
  const int64_t click_ms =
      true_ms + static_cast<int64_t>(kMeanClickDelayMs * rng_.Exponential());
  const bool in_time = click_ms < open.due_ms;
  if (!in_time) open_.push(open);
  open.due_ms = click_ms;
  open.what = in_time ? Open::What::kClick : Open::What::kLateClick;
  open_.push(open);
}

void Simulation::Judge(DayState* day, int64_t now, uint64_t requests,
                       uint64_t served, uint64_t refused) {
  const CampaignDay& d = day->day.day;
  const size_t minute = static_cast<size_t>((now - d.start_ms) / kMinuteMs);
  const double ideal = day->ideal[minute];
  const double part = ideal - (minute == 0 ? 0 : day->ideal[minute - 1]);
  const double budget = day->result.budget_micros;
  const double error = day->expected_micros / budget - ideal;
  const bool closed = account_.Closed() || (refused > 0 && served == 0);
  if (!closed) {
    day->last_open = now;
    day->result.deviation = std::max(day->result.deviation, std::abs(error));
  }
  const double band = std::max(0.01, 2 * mean_cost_ / budget);
  const int sign = error > band ? 1 : error < -band ? -1 : 0;
  if (sign != 0) {
    if (day->sign != 0 && sign != day->sign) ++day->result.sign_changes;
    day->sign = sign;
  }
  if (served > 0 || closed || requests == 0) {
    if (served > 0 || closed) {
      day->due_ads = 0;
      day->silence_from = now + kMinuteMs;
    }
    return;
  }
  const double left = std::max(0.0, budget - day->result.spent_micros);
  day->due_ads +=
      left * part / (1 - ideal + part) / mean_cost_ / scenario_.calibration;
  if (day->due_ads >= kBlackoutAds) {
    day->result.blackout_minutes = std::max(
        day->result.blackout_minutes,
        static_cast<double>(now + kMinuteMs - day->silence_from) / kMinuteMs);
  }
}

void Simulation::Minute(int64_t true_ms) {
  const int64_t server_ms = ServerMs(true_ms);
  account_.Roll(server_ms);
  DayState& day = StateOf(account_.DayNumber(server_ms));
  const uint64_t n =
      Poisson(requests_a_minute_ * Usual(true_ms) * EventFactor(true_ms));
  const uint64_t served_before = reading_.served_ads, refused_before = refused_;
  for (uint64_t i = 0; i < n; ++i) {
    const int64_t offset = static_cast<int64_t>(i * kMinuteMs / n);
    Request(true_ms + offset, server_ms + offset, &day);
  }
  Settle(true_ms + kMinuteMs);
  const uint64_t served = reading_.served_ads - served_before;
  const uint64_t refused = refused_ - refused_before;
  Judge(&day, server_ms, n, served, refused);

  const int64_t now = ServerMs(true_ms + kMinuteMs);
  account_.Roll(now);
  DayState& next = StateOf(account_.DayNumber(now));
  const CampaignAccount::Day today = account_.Today();
  reading_.now_ms = now;
  reading_.spent_today_micros = static_cast<int64_t>(today.book.spent);
  reading_.spent_micros = static_cast<int64_t>(account_.life().spent);
  reading_.outstanding_micros =
      static_cast<int64_t>(account_.life().mean + account_.life().full);
  reading_.closed = account_.Closed() || refused > served;
  PacerTerms terms;
  terms.daily_micros = budget_;
  terms.delivery = scenario_.delivery;
  pace_ = pacer_.Update(next.day, terms, reading_);
  reading_ = PacerReading();
  if (!keep_minutes_) return;
  SimulatedMinute m;
  const double budget = static_cast<double>(budget_);
  m.day = day.day.day.day - first_day_.day;
  m.hour = static_cast<double>(server_ms + kMinuteMs - day.day.day.start_ms) /
           kHourMs;
  m.eligible = static_cast<double>(n);
  m.spent = day.result.spent_micros / budget;
  // At midnight the pacer is in the next day.
  m.target =
      &next == &day ? static_cast<double>(pace_.target_micros) / budget : 1;
  m.ideal = day.ideal[static_cast<size_t>((server_ms - day.day.day.start_ms) /
                                          kMinuteMs)];
  m.multiplier = pace_.multiplier;
  m.participation = pace_.participation;
  run_.minutes.push_back(m);
}

// At every hour but the last ones the rest of the day holds a fifth more than
// was left for it.
bool Simulation::TrafficAllows(const DayState& day) {
  double rest = 0;
  bool allows = true;
  for (size_t m = day.ideal.size(); m-- > 0;) {
    rest += day.attainable[m];
    const double left = 1 - (m == 0 ? 0 : day.ideal[m - 1]);
    if (m % 60 == 0 && left > 0.1) allows &= rest >= 1.2 * left;
  }
  return allows;
}

SimulatedRun Simulation::Run() {
  for (int64_t t = first_day_.start_ms; t < last_day_.end_ms; t += kMinuteMs) {
    Minute(t);
  }
  Settle(last_day_.end_ms + policy_.billing_ms);
  for (auto& [number, state] : days_) {
    if (number > last_day_.day) continue;
    state.result.dry_minutes =
        static_cast<double>(state.day.day.end_ms - kMinuteMs -
                            state.last_open) /
        kMinuteMs;
    state.result.traffic_allows = TrafficAllows(state);
    run_.days.push_back(state.result);
  }
  return std::move(run_);
}

}  // namespace

const std::vector<PacingScenario>& PacingScenarios() {
  static const auto* const all =
      new std::vector<PacingScenario>(MakeScenarios());
  return *all;
}

const PacingScenario* FindPacingScenario(absl::string_view name) {
  for (const PacingScenario& s : PacingScenarios()) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

double SimulatedDay::ShareToAClick() const {
  const uint64_t charged = clicks - unbilled_clicks;
  if (charged == 0) return 0;
  const double price = spent_micros / static_cast<double>(charged);
  return budget_micros - spent_micros < price ? 1 : Share();
}

SimulatedRun SimulatePacing(const PacingScenario& scenario,
                            const SimulatedCampaign& campaign,
                            bool keep_minutes) {
  return Simulation(scenario, campaign, keep_minutes).Run();
}

PacingSummary SummarisePacing(const PacingScenario& scenario, double clicks,
                              int campaigns, int64_t reservation_ms) {
  PacingSummary out;
  double first = 0, shares = 0, all_clicks = 0, unbilled = 0;
  int firsts = 0;
  for (int k = 0; k < campaigns; ++k) {
    SimulatedCampaign campaign;
    campaign.clicks = clicks;
    // A budget of few clicks needs more traffic, for clicks come by chance.
    campaign.abundance =
        (1.5 + 10 / clicks) * (1 + 3.0 * ((k * 7) % campaigns) / campaigns);
    campaign.reservation_ms = reservation_ms;
    campaign.seed = static_cast<uint64_t>(k) + 1;
    const SimulatedRun run = SimulatePacing(scenario, campaign, false);
    for (size_t d = 0; d < run.days.size(); ++d) {
      const SimulatedDay& day = run.days[d];
      ++out.days;
      all_clicks += static_cast<double>(day.clicks);
      unbilled += static_cast<double>(day.unbilled_clicks);
      out.overspend = std::max(out.overspend, day.Overspend());
      out.blackout_minutes =
          std::max(out.blackout_minutes, day.blackout_minutes);
      if (!day.traffic_allows) continue;
      const double share = clicks < 30 ? day.ShareToAClick() : day.Share();
      if (d == 0) {
        first += share;
        ++firsts;
        continue;
      }
      shares += share;
      out.shares.push_back(share);
      out.deviations.push_back(day.deviation);
      out.sign_changes = std::max(out.sign_changes, day.sign_changes);
    }
  }
  out.share =
      out.shares.empty() ? 0 : shares / static_cast<double>(out.shares.size());
  out.first_day_share = firsts == 0 ? 0 : first / firsts;
  out.unbilled_share = all_clicks > 0 ? unbilled / all_clicks : 0;
  return out;
}

std::vector<std::string> MissedPacingBars(const PacingScenario& scenario,
                                          double clicks,
                                          const PacingSummary& s) {
  std::vector<std::string> missed;
  const double least = clicks < 30 ? 0.9 : 1 - scenario.tolerance;
  if (!(s.share >= least && s.share <= 2 - least)) {
    missed.push_back(absl::StrCat("spend / target ", s.share, " not in [",
                                  least, ", ", 2 - least, "]"));
  }
  if (s.overspend > 0) {
    missed.push_back(absl::StrCat("overspend ", s.overspend));
  }
  if (s.blackout_minutes > 15) {
    missed.push_back(
        absl::StrCat("a blackout of ", s.blackout_minutes, " minutes"));
  }
  if (s.sign_changes > 12) {
    missed.push_back(absl::StrCat(s.sign_changes, " sign changes in a day"));
  }
  return missed;
}

}  // namespace adrank
