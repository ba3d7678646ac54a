// The bytes of keys and values of the ledger; the grammar is in ledger_store.h.
// Internal to storage/.
#ifndef ADRANK_STORAGE_LEDGER_FORMAT_H_
#define ADRANK_STORAGE_LEDGER_FORMAT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "storage/ledger_store.h"

namespace adrank::ledger_format {

// The sums over all accounts.
struct Book {
  uint64_t batch = 0;  // the last that was written
  int64_t covered_ms = 0;
  WideMicros debits = 0, credits = 0;

  std::string Encode() const;
  static bool Decode(absl::string_view bytes, Book* out);
};

struct AccountKey {
  std::string campaign;
  int32_t day = LedgerAccount::kLife;
};
std::string EncodeKey(absl::string_view campaign, int32_t day);
bool DecodeKey(absl::string_view bytes, AccountKey* out);
std::string EncodeAccount(const LedgerAccount& account);
bool DecodeAccount(absl::string_view bytes, LedgerAccount* out);

std::string ReservationKey(const DecisionId& id, uint8_t position);
std::string EncodeReservation(const LedgerReservation& slot,
                              absl::string_view campaign);
bool DecodeReservation(absl::string_view key, absl::string_view value,
                       LedgerContents::Reservation* out);

// An event that was billed or refused.
struct Settled {
  bool billed = false;
  int32_t day = 0;
  int64_t micros = 0;
  std::string campaign;
};
std::string SettledKey(const DecisionId& id, uint8_t position,
                       v1::EventType event);
std::string EncodeSettled(const Settled& settled);
bool DecodeSettled(absl::string_view bytes, Settled* out);

}  // namespace adrank::ledger_format

#endif  // ADRANK_STORAGE_LEDGER_FORMAT_H_
