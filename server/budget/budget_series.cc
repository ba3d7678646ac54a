#include "server/budget/budget_series.h"

#include <algorithm>
#include <string>

namespace adrank {
namespace {

using ::prometheus::Counter;
using ::prometheus::Gauge;
using ::prometheus::Registry;

Counter* OneCounter(const char* name, const char* help, Registry* registry) {
  return &prometheus::BuildCounter()
              .Name(name)
              .Help(help)
              .Register(*registry)
              .Add({});
}

Gauge* OneGauge(const char* name, const char* help, Registry* registry) {
  return &prometheus::BuildGauge()
              .Name(name)
              .Help(help)
              .Register(*registry)
              .Add({});
}

// Counters of the ledger start at 0 with the process, as these do.
void Raise(double value, Counter* counter) {
  const double told = counter->Value();
  if (value > told) counter->Increment(value - told);
}

}  // namespace

BudgetSeries::BudgetSeries(Registry* registry) {
  auto& slots = prometheus::BuildCounter()
                    .Name("adrank_budget_slots_total")
                    .Help(
                        "Slots won: reserved, refused for want of budget; "
                        "reserved ones that expired without their event")
                    .Register(*registry);
  reserved_ = &slots.Add({{"result", "reserved"}});
  refused_ = &slots.Add({{"result", "refused"}});
  expired_ = &slots.Add({{"result", "expired"}});
  auto& events = prometheus::BuildCounter()
                     .Name("adrank_budget_events_total")
                     .Help("Billable events, by what became of them")
                     .Register(*registry);
  for (size_t i = 0; i < kCharges; ++i) {
    charges_[i] = &events.Add(
        {{"charge", std::string(ChargeName(static_cast<Charge>(i)))}});
  }
  auto& traffic = prometheus::BuildCounter()
                      .Name("adrank_campaign_requests_total")
                      .Help(
                          "Requests x campaigns that could have answered them "
                          "since the start of the server: "
                          "served, lost to the budget, lost to rank")
                      .Register(*registry);
  served_ = &traffic.Add({{"result", "served"}});
  budget_lost_ = &traffic.Add({{"result", "budget_lost"}});
  rank_lost_ = &traffic.Add({{"result", "rank_lost"}});
  billed_micros_ = OneCounter("adrank_budget_billed_micros_total",
                              "Micros billed", registry);
  late_ = OneCounter("adrank_budget_late_events_total",
                     "Events that found no reservation", registry);
  unwritten_ = OneCounter(
      "adrank_budget_unwritten_slots_total",
      "Reservations kept in memory only, since the disk failed", registry);
  write_failures_ = OneCounter("adrank_budget_write_failures_total",
                               "Writes of the ledger that failed", registry);
  campaigns_ =
      OneGauge("adrank_budget_campaigns", "Campaigns in the ledger", registry);
  closed_ = OneGauge("adrank_budget_closed_campaigns",
                     "Campaigns of which nothing is left", registry);
  open_ = OneGauge("adrank_budget_open_decisions",
                   "Decisions whose billable event may come", registry);
  backlog_ = OneGauge("adrank_budget_backlog", "Entries that wait for the disk",
                      registry);
}

void BudgetSeries::Update(const LedgerStats& stats,
                          const TrafficCounts& traffic) {
  Raise(static_cast<double>(traffic.served), served_);
  Raise(static_cast<double>(traffic.budget_lost), budget_lost_);
  // The three are not read at one moment.
  const uint64_t known = traffic.served + traffic.budget_lost;
  Raise(
      static_cast<double>(traffic.eligible - std::min(traffic.eligible, known)),
      rank_lost_);
  const auto as_double = [](auto v) { return static_cast<double>(v); };
  Raise(as_double(stats.reserved_slots), reserved_);
  Raise(as_double(stats.refused_slots), refused_);
  Raise(as_double(stats.expired_slots), expired_);
  for (size_t i = 0; i < kCharges; ++i) {
    Raise(as_double(stats.charges[i]), charges_[i]);
  }
  Raise(as_double(stats.billed_micros), billed_micros_);
  Raise(as_double(stats.late_events), late_);
  Raise(as_double(stats.unwritten_slots), unwritten_);
  Raise(as_double(stats.write_failures), write_failures_);
  campaigns_->Set(as_double(stats.campaigns));
  closed_->Set(as_double(stats.closed));
  open_->Set(as_double(stats.open_reservations));
  backlog_->Set(as_double(stats.backlog));
}

}  // namespace adrank
