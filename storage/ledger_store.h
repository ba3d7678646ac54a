// Campaign budgets on disk: a double-entry ledger, the reservations that are in
// force, and the events that were settled. In <data_dir>/ledger.
//
// Each campaign has three accounts for its whole life and three for each day of
// its time zone: BUDGET, from which money comes; RESERVED, which open decisions
// hold; SPENT. What happens to money is a transfer between two of them:
//   reserve   BUDGET -> RESERVED          release   RESERVED -> BUDGET
//   bill      RESERVED -> SPENT           bill without a reservation
//                                                   BUDGET -> SPENT
// A transfer debits one account and credits the other, in the life's accounts
// and in the day's. Each write is one atomic batch of transfers, the rows that
// they stand for and the sums, so that at any moment, after any crash, sum of
// debits = sum of credits, RESERVED = the reservations, SPENT = what was
// billed.
//
// Families and keys (integers big-endian):
//   accounts:      key   := campaign id, be32(day ^ 2^31); day kLife for life
//                  value := be128 of each field of LedgerAccount
//   reservations:  key   := id u8(position)
//                  value := u8(bid type) u8(full) be32(day) be64(micros)
//                           be32(bits of pctr) campaign id
//   settled:       key   := id u8(position) u8(event type)
//                  value := u8(billed) be32(day) be64(micros) campaign id
//   default:       "format", "book" -> be64(batch) be64(covered_ms)
//                           be128(debits) be128(credits)
#ifndef ADRANK_STORAGE_LEDGER_STORE_H_
#define ADRANK_STORAGE_LEDGER_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/common.pb.h"
#include "proto/events.pb.h"
#include "storage/decision_id.h"

namespace rocksdb {
class Env;
}

namespace adrank {

// Sums of int64 micros, which may exceed 64 bits.
using WideMicros = __int128;

struct LedgerAccount {
  static constexpr int32_t kLife = INT32_MAX;

  struct Sides {
    WideMicros debit = 0, credit = 0;
    WideMicros balance() const { return credit - debit; }
    friend bool operator==(const Sides&, const Sides&) = default;
  };
  Sides budget, reserved, spent;
  // Of spent: billed events whose rows are gone since they are too old.
  WideMicros archived = 0;
  // Events that found no budget left: served, not billed.
  WideMicros unbilled = 0;
  WideMicros unbilled_events = 0;

  friend bool operator==(const LedgerAccount&, const LedgerAccount&) = default;
};

// A served ad whose billable event may still come.
struct LedgerReservation {
  DecisionId id;
  uint8_t position = 0;
  v1::BidType bid_type = v1::BID_TYPE_CPC;
  bool full = false;  // held at its full price, not at its expected cost
  int32_t day = 0;
  int64_t micros = 0;
  float pctr = 0;
};

// One transfer. Exactly one of kRelease, kBill, kRefuse (with `reserved`)
// follows a kReserve.
struct LedgerEntry {
  enum class Kind : uint8_t {
    kReserve,
    kRelease,
    kBill,    // an event is charged
    kRefuse,  // an event finds no budget left
  };
  Kind kind = Kind::kReserve;
  // kBill, kRefuse: by `event`; of a reservation that is in the ledger.
  bool reserved = false;
  v1::EventType event = v1::EVENT_TYPE_UNSPECIFIED;
  // bid_type, full and pctr matter to kReserve only.
  LedgerReservation slot;
  // Not owned; must outlive the call.
  const std::string* campaign = nullptr;
};

// What the ledger holds, to go on from.
struct LedgerContents {
  struct Account {
    std::string campaign;
    int32_t day = LedgerAccount::kLife;
    LedgerAccount account;
  };
  struct Reservation {
    std::string campaign;
    LedgerReservation slot;
  };
  std::vector<Account> accounts;
  std::vector<Reservation> reservations;  // by id
  // Every event that the event log received before is in the ledger, if it
  // should be. 0: of a new ledger.
  int64_t covered_ms = 0;
  uint64_t batch = 0;  // the last that was written
};

struct LedgerAudit {
  uint64_t accounts = 0;
  uint64_t reservations = 0;
  uint64_t settled = 0;
  WideMicros debits = 0, credits = 0;
  // Of all campaigns' lives.
  WideMicros reserved = 0, spent = 0, unbilled = 0;
  // What does not agree, at most 20 sentences. Empty: the books are balanced.
  std::vector<std::string> errors;
};

// Thread-safe. One process at a time.
class LedgerStore {
 public:
  // Creates the ledger when there is none; errors as of EventLog::Open. Null
  // `env` is the machine's file system.
  static absl::StatusOr<std::unique_ptr<LedgerStore>> Open(
      const std::string& data_dir, rocksdb::Env* env = nullptr);
  virtual ~LedgerStore() = default;

  // All of it.
  virtual absl::StatusOr<LedgerContents> Load() = 0;

  // Writes the entries, in their order, and `covered_ms` as one batch, whole or
  // not at all; batches are numbered one by one. One that failed may have
  // reached the disk nevertheless: give the same entries again, under the same
  // number, which changes nothing then. A store whose disk failed opens itself
  // anew. With `sync` the batch is on disk.
  virtual absl::Status Write(uint64_t batch,
                             absl::Span<const LedgerEntry> entries,
                             int64_t covered_ms, bool sync) = 0;

  // Whether the event was billed or refused and not yet archived.
  virtual absl::StatusOr<bool> IsSettled(const DecisionId& id, uint8_t position,
                                         v1::EventType event) = 0;

  // Drops up to `limit` settled events of decisions before `horizon_ms`, and
  // the accounts of days before `day` in which nothing is reserved. True: there
  // may be more.
  virtual absl::StatusOr<bool> Prune(int64_t horizon_ms, int32_t day,
                                     size_t limit) = 0;

  // Adds up every row and compares. Sees one moment; writes go on.
  virtual absl::StatusOr<LedgerAudit> Audit() = 0;
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_LEDGER_STORE_H_
