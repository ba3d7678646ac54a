// Compares the accounts of the ledger with what its rows add up to. Internal to
// storage/.
#ifndef ADRANK_STORAGE_LEDGER_AUDIT_H_
#define ADRANK_STORAGE_LEDGER_AUDIT_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "storage/ledger_format.h"
#include "storage/ledger_store.h"

namespace adrank {

// Not thread-safe. All reservations and settled events, then all accounts, then
// Finish.
class LedgerAuditor {
 public:
  // `audit` is filled in and must outlive this.
  explicit LedgerAuditor(LedgerAudit* audit) : audit_(audit) {}

  void AddReservation(const LedgerContents::Reservation& reservation);
  void AddSettled(const ledger_format::Settled& settled);
  void CheckAccount(const ledger_format::AccountKey& key,
                    const LedgerAccount& account);
  void Finish(const ledger_format::Book& book);

 private:
  // What the rows say of an account.
  struct Expected {
    WideMicros reserved = 0, billed = 0, refused = 0;
  };
  void Add(const std::string& campaign, int32_t day, WideMicros Expected::*what,
           int64_t micros);
  // An error unless a == b.
  void Same(const ledger_format::AccountKey& key, absl::string_view what,
            WideMicros a, absl::string_view other, WideMicros b);

  LedgerAudit* const audit_;
  absl::flat_hash_map<std::string, Expected> expected_;  // by account key
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_LEDGER_AUDIT_H_
