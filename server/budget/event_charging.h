// The ledger behind the event log: what that stores for the first time is
// charged.
#ifndef ADRANK_SERVER_BUDGET_EVENT_CHARGING_H_
#define ADRANK_SERVER_BUDGET_EVENT_CHARGING_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/budget/ledger.h"
#include "server/event_intake.h"
#include "storage/event_log.h"

namespace adrank {

// What `log` says of an ad: for Ledger::SetLookup.
absl::StatusOr<LoggedSlot> LookUpSlot(EventLog* log, const DecisionId& id,
                                      uint8_t position);

// Charges the events that a crash kept from the ledger: those that the log
// received since Ledger::covered_ms, of decisions that can still be billed.
// Returns how many were looked at. Before the server listens.
absl::StatusOr<uint64_t> ReplayEvents(EventLog* log, Ledger* ledger);

// Charges what the log stores for the first time, before its sender is told.
class EventCharging final : public EventSink {
 public:
  // The ledger must outlive this.
  explicit EventCharging(Ledger* ledger) : ledger_(ledger) {}

  int64_t OnReported(absl::Span<const v1::Event>) override {
    return ledger_->BeginEvents();
  }
  void OnLogged(int64_t reported, absl::Span<const ReportedEvent> events,
                absl::Span<const v1::EventResult> results) override;

 private:
  Ledger* const ledger_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_EVENT_CHARGING_H_
