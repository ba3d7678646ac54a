#include "storage/ledger_audit.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace adrank {

using ledger_format::AccountKey;
using ledger_format::Book;
using ledger_format::Settled;

namespace {

constexpr size_t kMaxErrors = 20;

// Micros that fit in no int64 are of no use to a reader.
int64_t Clamp(WideMicros micros) {
  return static_cast<int64_t>(
      std::clamp<WideMicros>(micros, INT64_MIN, INT64_MAX));
}

}  // namespace

void LedgerAuditor::AddReservation(const LedgerContents::Reservation& r) {
  ++audit_->reservations;
  Add(r.campaign, r.slot.day, &Expected::reserved, r.slot.micros);
}

void LedgerAuditor::AddSettled(const Settled& s) {
  ++audit_->settled;
  Add(s.campaign, s.day, s.billed ? &Expected::billed : &Expected::refused,
      s.micros);
}

void LedgerAuditor::CheckAccount(const AccountKey& key,
                                 const LedgerAccount& account) {
  ++audit_->accounts;
  WideMicros debits = 0, credits = 0;
  for (const auto* sides :
       {&account.budget, &account.reserved, &account.spent}) {
    debits += sides->debit;
    credits += sides->credit;
  }
  audit_->debits += debits;
  audit_->credits += credits;
  if (key.day == LedgerAccount::kLife) {
    audit_->reserved += account.reserved.balance();
    audit_->spent += account.spent.balance();
    audit_->unbilled += account.unbilled;
  }
  Expected e;
  const auto it =
      expected_.find(ledger_format::EncodeKey(key.campaign, key.day));
  if (it != expected_.end()) {
    e = it->second;
    expected_.erase(it);
  }
  Same(key, "debits", debits, "credits", credits);
  Same(key, "reserved", account.reserved.balance(), "its reservations",
       e.reserved);
  Same(key, "spent", account.spent.balance(), "its billed events",
       e.billed + account.archived);
  // Rows of refused events that are gone leave no sum.
  if (account.unbilled < e.refused) {
    Same(key, "unbilled", account.unbilled, "its refused events", e.refused);
  }
}

void LedgerAuditor::Finish(const Book& book) {
  const AccountKey all = {"(all)", LedgerAccount::kLife};
  Same(all, "sum of debits", audit_->debits, "the book's", book.debits);
  Same(all, "sum of credits", audit_->credits, "the book's", book.credits);
  for (const auto& [bytes, e] : expected_) {
    AccountKey key;
    ledger_format::DecodeKey(bytes, &key);
    Same(key, "reserved without an account", 0, "its reservations", e.reserved);
    Same(key, "spent without an account", 0, "its billed events", e.billed);
  }
}

void LedgerAuditor::Add(const std::string& campaign, int32_t day,
                        WideMicros Expected::*what, int64_t micros) {
  for (const int32_t d : {day, LedgerAccount::kLife}) {
    expected_[ledger_format::EncodeKey(campaign, d)].*what += micros;
  }
}

void LedgerAuditor::Same(const AccountKey& key, absl::string_view what,
                         WideMicros a, absl::string_view other, WideMicros b) {
  if (a == b || audit_->errors.size() >= kMaxErrors) return;
  audit_->errors.push_back(absl::StrCat(
      "campaign \"", key.campaign, "\"",
      key.day == LedgerAccount::kLife ? "" : absl::StrCat(" day ", key.day),
      ": ", what, " ", Clamp(a), ", ", other, " ", Clamp(b)));
}

}  // namespace adrank
