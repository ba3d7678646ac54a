// The ledger's series for Prometheus.
#ifndef ADRANK_SERVER_BUDGET_BUDGET_SERIES_H_
#define ADRANK_SERVER_BUDGET_BUDGET_SERIES_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <array>

#include "server/budget/campaign_traffic.h"
#include "server/budget/ledger.h"

namespace adrank {

// Not thread-safe.
class BudgetSeries {
 public:
  explicit BudgetSeries(prometheus::Registry* registry);
  // Brings the series to what these say.
  void Update(const LedgerStats& stats, const TrafficCounts& traffic);

 private:
  prometheus::Counter *reserved_, *refused_, *expired_;
  std::array<prometheus::Counter*, kCharges> charges_;
  prometheus::Counter *served_, *budget_lost_, *rank_lost_;
  prometheus::Counter *billed_micros_, *late_, *unwritten_, *write_failures_;
  prometheus::Gauge *campaigns_, *closed_, *open_, *backlog_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_BUDGET_SERIES_H_
