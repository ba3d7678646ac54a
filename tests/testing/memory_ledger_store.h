// A LedgerStore in memory that a test can crash, fail and look into.
#ifndef ADRANK_TESTS_TESTING_MEMORY_LEDGER_STORE_H_
#define ADRANK_TESTS_TESTING_MEMORY_LEDGER_STORE_H_

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "storage/ledger_store.h"

namespace adrank::testing {

// What is on the disk: outlives the stores that are opened on it.
struct LedgerDisk {
  std::map<std::pair<std::string, int32_t>, LedgerAccount> accounts;
  std::map<std::pair<DecisionId, uint8_t>, LedgerContents::Reservation>
      reservations;
  std::set<std::tuple<DecisionId, uint8_t, int>> settled;
  WideMicros billed = 0;
  int64_t covered_ms = 0;
  uint64_t batch = 0;
  uint64_t synced = 0;  // the last batch that was written with sync
  // Writes fail; with `lost_answer` they are on the disk nevertheless.
  bool fails = false;
  bool lost_answer = false;
};

class MemoryLedgerStore final : public LedgerStore {
 public:
  explicit MemoryLedgerStore(LedgerDisk* disk) : disk_(disk) {}

  absl::StatusOr<LedgerContents> Load() override {
    LedgerContents contents;
    contents.covered_ms = disk_->covered_ms;
    contents.batch = disk_->batch;
    for (const auto& [key, account] : disk_->accounts) {
      contents.accounts.push_back({key.first, key.second, account});
    }
    for (const auto& [key, r] : disk_->reservations) {
      contents.reservations.push_back(r);
    }
    return contents;
  }
  absl::Status Write(uint64_t batch, absl::Span<const LedgerEntry> entries,
                     int64_t covered_ms, bool sync) override {
    if (disk_->fails && !disk_->lost_answer) return Failure();
    if (batch > disk_->batch) {
      disk_->batch = batch;
      disk_->covered_ms = covered_ms;
      for (const LedgerEntry& entry : entries) Add(entry);
      if (sync) disk_->synced = batch;
    }
    return disk_->fails ? Failure() : absl::OkStatus();
  }
  absl::StatusOr<bool> IsSettled(const DecisionId& id, uint8_t position,
                                 v1::EventType event) override {
    return disk_->settled.count({id, position, event}) > 0;
  }
  absl::StatusOr<bool> Prune(int64_t, int32_t, size_t) override {
    return false;
  }
  absl::StatusOr<LedgerAudit> Audit() override {
    LedgerAudit audit;
    std::map<std::pair<std::string, int32_t>, WideMicros> reserved;
    for (const auto& [key, r] : disk_->reservations) {
      for (const int32_t day : {r.slot.day, LedgerAccount::kLife}) {
        reserved[{r.campaign, day}] += r.slot.micros;
      }
    }
    for (const auto& [key, a] : disk_->accounts) {
      for (const auto* sides : {&a.budget, &a.reserved, &a.spent}) {
        audit.debits += sides->debit;
        audit.credits += sides->credit;
      }
      if (a.reserved.balance() != reserved[key]) {
        audit.errors.push_back(key.first + ": reserved");
      }
      if (key.second == LedgerAccount::kLife) audit.spent += a.spent.balance();
    }
    if (audit.debits != audit.credits) audit.errors.push_back("unbalanced");
    if (audit.spent != disk_->billed) audit.errors.push_back("spent");
    return audit;
  }

 private:
  using Sides = LedgerAccount::Sides;
  static absl::Status Failure() {
    return absl::UnavailableError("the disk fails");
  }
  void Move(const LedgerEntry& entry, Sides LedgerAccount::*from,
            Sides LedgerAccount::*to) {
    for (const int32_t day : {entry.slot.day, LedgerAccount::kLife}) {
      LedgerAccount& account = disk_->accounts[{*entry.campaign, day}];
      (account.*from).debit += entry.slot.micros;
      (account.*to).credit += entry.slot.micros;
    }
  }
  void Add(const LedgerEntry& entry) {
    using Kind = LedgerEntry::Kind;
    const std::pair key(entry.slot.id, entry.slot.position);
    const bool bill = entry.kind == Kind::kBill;
    if (entry.kind == Kind::kReserve) {
      Move(entry, &LedgerAccount::budget, &LedgerAccount::reserved);
      disk_->reservations[key] = {*entry.campaign, entry.slot};
      return;
    }
    if (entry.kind == Kind::kRelease || entry.reserved) {
      Move(entry, &LedgerAccount::reserved,
           bill ? &LedgerAccount::spent : &LedgerAccount::budget);
      disk_->reservations.erase(key);
    } else if (bill) {
      Move(entry, &LedgerAccount::budget, &LedgerAccount::spent);
    }
    if (entry.kind == Kind::kRelease) return;
    const bool first =
        disk_->settled.insert({entry.slot.id, entry.slot.position, entry.event})
            .second;
    // An event charged twice is not among what should have been billed.
    if (bill && first) disk_->billed += entry.slot.micros;
    if (bill) return;
    for (const int32_t day : {entry.slot.day, LedgerAccount::kLife}) {
      LedgerAccount& account = disk_->accounts[{*entry.campaign, day}];
      account.unbilled += entry.slot.micros;
      ++account.unbilled_events;
    }
  }

  LedgerDisk* const disk_;
};

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TESTING_MEMORY_LEDGER_STORE_H_
