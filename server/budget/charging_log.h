// The event log with the ledger behind it: what it stores for the first time is
// charged.
#ifndef ADRANK_SERVER_BUDGET_CHARGING_LOG_H_
#define ADRANK_SERVER_BUDGET_CHARGING_LOG_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/budget/ledger.h"
#include "storage/event_log.h"

namespace adrank {

// What `log` says of an ad: for Ledger::SetLookup.
absl::StatusOr<LoggedSlot> LookUpSlot(EventLog* log, const DecisionId& id,
                                      uint8_t position);

// Charges the events that a crash kept from the ledger: those that the log
// received since Ledger::covered_ms, of decisions that can still be billed.
// Returns how many were looked at. Before the server listens.
absl::StatusOr<uint64_t> ReplayEvents(EventLog* log, Ledger* ledger);

// Thread-safe; appends through it are charged before `done` is told of them.
class ChargingLog final : public EventLog {
 public:
  // Both must outlive this, and the ledger the log: it calls back.
  ChargingLog(EventLog* log, Ledger* ledger) : log_(log), ledger_(ledger) {}

  void AppendEvents(
      std::vector<v1::Event> events,
      std::function<void(std::vector<v1::EventResult>)> done) override;

  bool AppendDecision(
      const DecisionId& id, const v1::Decision& decision,
      absl::Span<const std::shared_ptr<const EncodedAd>> ads) override {
    return log_->AppendDecision(id, decision, ads);
  }
  absl::Status Write(const LogBatch& batch) override {
    return log_->Write(batch);
  }
  absl::Status Flush() override { return log_->Flush(); }
  absl::Status ApplyRetention() override { return log_->ApplyRetention(); }
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) override {
    return log_->GetDecision(id);
  }
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view hash) override {
    return log_->GetSnapshot(hash);
  }
  absl::Status ForEachEvent(
      int64_t begin_ms,
      const std::function<absl::Status(const StoredEvent&)>& visit) override {
    return log_->ForEachEvent(begin_ms, visit);
  }
  absl::StatusOr<std::vector<v1::Decision>> NewestDecisions(
      size_t limit) override {
    return log_->NewestDecisions(limit);
  }
  EventLogStats Stats() override { return log_->Stats(); }

 private:
  EventLog* const log_;
  Ledger* const ledger_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_CHARGING_LOG_H_
