#include "server/budget/pacing_loop.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "server/budget/campaign_day.h"
#include "server/trigger/ad_index.h"

namespace adrank {
namespace {

constexpr int64_t kSaveMs = 600'000;
constexpr double kRateMemoryMs = 900'000;

int64_t Clamp(WideMicros micros) {
  return static_cast<int64_t>(
      std::clamp<WideMicros>(micros, INT64_MIN, INT64_MAX));
}

// Counters of the process only grow.
uint64_t Since(uint64_t before, uint64_t now) {
  return now > before ? now - before : 0;
}

std::string Sealed(const std::string& bytes) {
  return absl::StrCat(absl::Hex(Hash64(bytes), absl::kZeroPad16), "\n", bytes);
}

}  // namespace

PacingLoop::PacingLoop(Ledger* ledger, const CampaignTraffic* traffic,
                       const Clock* clock, std::string state_file)
    : ledger_(ledger),
      traffic_(traffic),
      clock_(clock),
      state_file_(std::move(state_file)) {
  Load();
}

// file := 16 hex digits of Hash64(state) '\n' state; state := PacingState
void PacingLoop::Load() {
  absl::MutexLock lock(&mu_);
  saved_ms_ = clock_->NowMs();
  absl::StatusOr<std::string> content = files::Read(state_file_);
  if (absl::IsNotFound(content.status())) return;
  v1::PacingState state;
  constexpr size_t kHead = 17;
  if (!content.ok() || content->size() < kHead ||
      Sealed(content->substr(kHead)) != *content ||
      !state.ParseFromString(content->substr(kHead))) {
    LOG(ERROR) << "pacing: " << state_file_
               << " cannot be read; traffic is learnt anew";
    return;
  }
  for (v1::PacingState::Campaign& c : *state.mutable_campaigns()) {
    const std::string id = c.campaign_id();
    saved_[id] = std::move(c);
  }
}

void PacingLoop::Prepare(const AdIndex& index) {
  absl::MutexLock lock(&mu_);
  absl::flat_hash_map<std::string, Campaign> next;
  for (uint32_t i = 0; i < index.campaigns(); ++i) {
    const std::string& id = index.campaign_id(i);
    Campaign& campaign = next[id];
    if (const auto known = campaigns_.find(id); known != campaigns_.end()) {
      campaign = std::move(known->second);
    } else if (const auto saved = saved_.find(id); saved != saved_.end()) {
      const v1::PacingState::Campaign& c = saved->second;
      campaign.pacer = Pacer(c.state());
      campaign.before = {c.day_start_ms(), c.eligible(), c.served(),
                         c.budget_lost()};
      saved_.erase(saved);
    }
    const v1::Budget& budget = index.budget(i);
    campaign.terms.delivery = budget.delivery();
    campaign.terms.daily_micros = budget.daily_micros();
    campaign.terms.total_micros = budget.total_micros();
    campaign.terms.start_ms = index.campaign_start_ms(i);
    campaign.terms.end_ms = index.campaign_end_ms(i);
    // The ledger has logged a zone that is not known.
    const auto zone = FindTimeZone(index.time_zone(i));
    const absl::TimeZone found = zone.ok() ? *zone : absl::UTCTimeZone();
    if (campaign.zone != found) campaign.day = PacingDay();
    campaign.zone = found;
    campaign.ledger = ledger_->Campaign(id);
    campaign.pace = campaign.pacer.Pace(campaign.terms);
    ledger_->SetPace(campaign.ledger,
                     {campaign.pace.multiplier, campaign.pace.participation});
  }
  campaigns_ = std::move(next);
}

PacerReading PacingLoop::Read(const Campaign& c, int64_t now_ms,
                              const CampaignSpend& spend,
                              const TrafficCounts& traffic) {
  PacerReading r;
  r.now_ms = now_ms;
  r.spent_micros = Clamp(spend.spent_total);
  r.spent_today_micros = spend.day == c.day.day ? Clamp(spend.spent_today) : 0;
  r.outstanding_micros = Clamp(spend.reserved_total);
  r.closed = spend.closed;
  if (!c.stepped) return r;
  const bool same_day = spend.day == c.spend.day;
  r.served_ads = same_day ? Since(c.spend.served_today, spend.served_today)
                          : spend.served_today;
  r.served_micros = static_cast<double>(std::max<WideMicros>(
      0, same_day ? spend.expected_today - c.spend.expected_today
                  : spend.expected_today));
  const uint64_t refused =
      same_day ? Since(c.spend.refused_today, spend.refused_today)
               : spend.refused_today;
  r.closed |= refused > r.served_ads;
  r.charged_micros =
      std::max<int64_t>(0, Clamp(spend.spent_total - c.spend.spent_total));
  // The ledger counts money; the mean price says how many charges it was.
  if (traffic.price_micros > 0) {
    r.charges = static_cast<uint64_t>(
        std::llround(static_cast<double>(r.charged_micros) *
                     static_cast<double>(traffic.served_ads) /
                     static_cast<double>(traffic.price_micros)));
  }
  r.eligible = Since(c.traffic.eligible, traffic.eligible);
  r.reserve_shares = Since(c.traffic.reserve_shares, traffic.reserve_shares);
  r.reserve_share_sum =
      1e-6 * static_cast<double>(
                 Since(c.traffic.reserve_share_ppm, traffic.reserve_share_ppm));
  return r;
}

PacingLoop::DayCounts PacingLoop::Today(const Campaign& c, int64_t now_ms,
                                        const TrafficCounts& now) {
  const int64_t day_start_ms =
      c.stepped ? c.day.day.start_ms : DayOf(now_ms, c.zone).start_ms;
  DayCounts today;
  if (c.before.day_start_ms == day_start_ms) today = c.before;
  today.day_start_ms = day_start_ms;
  today.eligible += Since(c.day_traffic.eligible, now.eligible);
  today.served += Since(c.day_traffic.served, now.served);
  today.budget_lost += Since(c.day_traffic.budget_lost, now.budget_lost);
  return today;
}

void PacingLoop::Step(absl::string_view id, int64_t now_ms, Campaign* c) const {
  const CampaignSpend spend = ledger_->Spend(c->ledger);
  const TrafficCounts traffic = traffic_->Read(id);
  if (c->day.quarters.empty() || now_ms < c->day.day.start_ms ||
      now_ms >= c->day.day.end_ms) {
    const CampaignDay today = DayOf(now_ms, c->zone);
    // The first step after a start finds the day under way.
    if (c->stepped) c->day_traffic = c->traffic;
    c->day = MakePacingDay(today, c->zone);
  }
  const int64_t last_ms = c->pacer.State().updated_ms();
  const PacerReading reading = Read(*c, now_ms, spend, traffic);
  if (c->stepped && now_ms > last_ms) {
    const double ms = static_cast<double>(now_ms - last_ms);
    const double keep = std::exp(-ms / kRateMemoryMs);
    c->rate = keep * c->rate + (1 - keep) * reading.served_micros / ms;
  }
  c->pace = c->pacer.Update(c->day, c->terms, reading);
  c->spend = spend;
  c->traffic = traffic;
  c->stepped = true;
  ledger_->SetPace(c->ledger, {c->pace.multiplier, c->pace.participation});
}

absl::Status PacingLoop::RunOnce() {
  const int64_t now_ms = clock_->NowMs();
  bool save = false;
  {
    absl::MutexLock lock(&mu_);
    for (auto& [id, campaign] : campaigns_) Step(id, now_ms, &campaign);
    save = std::abs(now_ms - saved_ms_) >= kSaveMs;
  }
  return save ? Save() : absl::OkStatus();
}

absl::Status PacingLoop::Save() {
  v1::PacingState state;
  {
    absl::MutexLock lock(&mu_);
    saved_ms_ = clock_->NowMs();
    for (const auto& [id, c] : campaigns_) {
      const v1::PacerState s = c.pacer.State();
      if (s.updated_ms() == 0) continue;
      v1::PacingState::Campaign* out = state.add_campaigns();
      out->set_campaign_id(id);
      *out->mutable_state() = s;
      const DayCounts today = Today(c, saved_ms_, traffic_->Read(id));
      out->set_day_start_ms(today.day_start_ms);
      out->set_eligible(today.eligible);
      out->set_served(today.served);
      out->set_budget_lost(today.budget_lost);
    }
  }
  return files::WriteAtomically(state_file_, Sealed(state.SerializeAsString()));
}

std::optional<PacingReport> PacingLoop::Report(
    absl::string_view campaign_id) const {
  const TrafficCounts now = traffic_->Read(campaign_id);
  absl::MutexLock lock(&mu_);
  const auto it = campaigns_.find(campaign_id);
  if (it == campaigns_.end()) return std::nullopt;
  const Campaign& c = it->second;
  PacingReport report;
  report.target_micros = c.pace.target_micros;
  report.multiplier = c.pace.multiplier;
  report.participation = c.pace.participation;
  const DayCounts today = Today(c, clock_->NowMs(), now);
  report.eligible = today.eligible;
  report.served = std::min(report.eligible, today.served);
  report.budget_lost =
      std::min(report.eligible - report.served, today.budget_lost);
  report.rank_lost = report.eligible - report.served - report.budget_lost;
  const bool limited = c.terms.daily_micros > 0 || c.terms.total_micros > 0;
  if (limited && c.rate > 0) {
    const double left =
        static_cast<double>(std::max<int64_t>(0, Clamp(c.spend.free))) / c.rate;
    const double at = static_cast<double>(clock_->NowMs()) + left;
    if (at < static_cast<double>(c.day.day.end_ms)) {
      report.exhausted_ms = static_cast<int64_t>(at);
    }
  }
  return report;
}

}  // namespace adrank
