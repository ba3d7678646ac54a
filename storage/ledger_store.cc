#include "storage/ledger_store.h"

#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "rocksdb/cache.h"
#include "rocksdb/write_batch.h"
#include "storage/ledger_audit.h"
#include "storage/ledger_format.h"
#include "storage/rocks.h"

namespace adrank {

using ledger_format::AccountKey;
using ledger_format::Book;
using ledger_format::Settled;

namespace {

constexpr char kBookKey[] = "book";
constexpr size_t kBlockCacheBytes = 16 << 20;
// Of LedgerSpec's families.
constexpr size_t kAccounts = 1, kReservations = 2, kSettled = 3;
// 200 bytes each; the accounts of a day that is over are not asked for again.
constexpr size_t kMaxCachedAccounts = 1 << 19;

rocks::Spec LedgerSpec(const std::string& data_dir) {
  rocks::Spec spec;
  spec.path = files::Join(data_dir, "ledger");
  spec.noun = "ledger";
  spec.format_prefix = "adrank ledger ";
  spec.format_version = 1;
  const auto cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  const auto family = [&](size_t buffer) {
    return rocks::FamilyOptions(rocks::Access::kPoint, buffer, cache);
  };
  spec.families = {{rocksdb::kDefaultColumnFamilyName, family(1 << 20)},
                   {"accounts", family(8 << 20)},
                   {"reservations", family(16 << 20)},
                   {"settled", family(8 << 20)}};
  return spec;
}

absl::StatusOr<std::unique_ptr<rocks::Database>> OpenLedger(
    const std::string& data_dir, rocksdb::Env* env) {
  return rocks::Open(LedgerSpec(data_dir), rocks::DatabaseOptions(env));
}

absl::Status Damaged(const rocks::Database& database, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("ledger ", database.path, ": ", what, " is damaged"));
}

// All zero of a new ledger.
absl::StatusOr<Book> ReadBook(const rocks::Database& database,
                              const rocksdb::ReadOptions& options) {
  std::string bytes;
  const rocksdb::Status s = database.db->Get(options, kBookKey, &bytes);
  Book book;
  if (s.IsNotFound()) return book;
  RETURN_IF_ERROR(rocks::ToStatus(s, "read the ledger's sums"));
  if (!Book::Decode(bytes, &book)) return Damaged(database, "its sums");
  return book;
}

// Calls visit(key, value) for every row of a family, until it returns an error.
template <typename Visit>
absl::Status ForEachRow(const rocks::Database& database, size_t family,
                        const rocksdb::ReadOptions& options,
                        const Visit& visit) {
  std::unique_ptr<rocksdb::Iterator> it(
      database.db->NewIterator(options, database.families[family]));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    RETURN_IF_ERROR(visit(rocks::View(it->key()), rocks::View(it->value())));
  }
  return rocks::ToStatus(it->status(),
                         absl::StrCat("read ledger ", database.path));
}

// Calls visit(key, account) for every account.
template <typename Visit>
absl::Status ForEachAccount(const rocks::Database& database,
                            const rocksdb::ReadOptions& options,
                            const Visit& visit) {
  return ForEachRow(
      database, kAccounts, options,
      [&](absl::string_view key, absl::string_view value) -> absl::Status {
        AccountKey k;
        LedgerAccount account;
        if (!ledger_format::DecodeKey(key, &k) ||
            !ledger_format::DecodeAccount(value, &account)) {
          return Damaged(database, "an account");
        }
        visit(std::move(k), account);
        return absl::OkStatus();
      });
}

template <typename Visit>
absl::Status ForEachReservation(const rocks::Database& database,
                                const rocksdb::ReadOptions& options,
                                const Visit& visit) {
  return ForEachRow(
      database, kReservations, options,
      [&](absl::string_view key, absl::string_view value) -> absl::Status {
        LedgerContents::Reservation r;
        if (!ledger_format::DecodeReservation(key, value, &r)) {
          return Damaged(database, "a reservation");
        }
        visit(std::move(r));
        return absl::OkStatus();
      });
}

// The accounts that one write changes, read as needed. Owns nothing of the
// store but its cache, which it changes only in Keep.
class Postings {
 public:
  using Cache = absl::flat_hash_map<std::string, LedgerAccount>;
  Postings(const rocks::Database* database, Cache* cache, Book* book)
      : database_(database), cache_(cache), book_(book) {}

  using Sides = LedgerAccount::Sides;
  // Moves `micros` between two accounts of the campaign's day and of its life.
  absl::Status Transfer(const LedgerEntry& entry, Sides LedgerAccount::*from,
                        Sides LedgerAccount::*to) {
    return ForEntry(entry, [&](LedgerAccount* a) {
      (a->*from).debit += entry.slot.micros;
      (a->*to).credit += entry.slot.micros;
      book_->debits += entry.slot.micros;
      book_->credits += entry.slot.micros;
    });
  }
  // Calls change(LedgerAccount*) for the day's and the life's.
  template <typename Change>
  absl::Status ForEntry(const LedgerEntry& entry, const Change& change) {
    for (const int32_t day : {entry.slot.day, LedgerAccount::kLife}) {
      LedgerAccount*& account = of_entries_[{entry.campaign, day}];
      if (account == nullptr) {
        ASSIGN_OR_RETURN(account,
                         Find(ledger_format::EncodeKey(*entry.campaign, day)));
      }
      change(account);
    }
    return absl::OkStatus();
  }
  template <typename Change>
  absl::Status ForBoth(absl::string_view campaign, int32_t day,
                       const Change& change) {
    for (const int32_t d : {day, LedgerAccount::kLife}) {
      ASSIGN_OR_RETURN(LedgerAccount * account,
                       Find(ledger_format::EncodeKey(campaign, d)));
      change(account);
    }
    return absl::OkStatus();
  }

  rocksdb::Status AddTo(rocksdb::WriteBatch* batch) const {
    rocksdb::Status s;
    for (const auto& [key, account] : changed_) {
      if (!s.ok()) break;
      s = batch->Put(database_->families[kAccounts], key,
                     ledger_format::EncodeAccount(account));
    }
    return s;
  }
  // Call when the batch was written.
  void Keep() {
    if (cache_->size() > kMaxCachedAccounts) cache_->clear();
    for (auto& [key, account] : changed_) (*cache_)[key] = account;
  }

 private:
  absl::StatusOr<LedgerAccount*> Find(std::string key) {
    const auto [it, added] = changed_.try_emplace(std::move(key));
    if (!added) return &it->second;
    if (const auto known = cache_->find(it->first); known != cache_->end()) {
      it->second = known->second;
      return &it->second;
    }
    std::string bytes;
    const rocksdb::Status s =
        database_->db->Get(rocksdb::ReadOptions(),
                           database_->families[kAccounts], it->first, &bytes);
    if (s.IsNotFound()) return &it->second;
    RETURN_IF_ERROR(rocks::ToStatus(s, "read an account of the ledger"));
    if (!ledger_format::DecodeAccount(bytes, &it->second)) {
      return Damaged(*database_, "an account");
    }
    return &it->second;
  }

  const rocks::Database* const database_;
  Cache* const cache_;
  Book* const book_;
  std::map<std::string, LedgerAccount> changed_;  // pointers stay
  // Of these, by the entries' own pointers, which stay too: saves the key.
  absl::flat_hash_map<std::pair<const std::string*, int32_t>, LedgerAccount*>
      of_entries_;
};

class LedgerStoreImpl final : public LedgerStore {
 public:
  LedgerStoreImpl(const std::string& data_dir, rocksdb::Env* env,
                  std::shared_ptr<rocks::Database> database, const Book& book)
      : data_dir_(data_dir),
        env_(env),
        database_(std::move(database)),
        book_(book) {}

  absl::StatusOr<LedgerContents> Load() override;
  absl::Status Write(uint64_t number, absl::Span<const LedgerEntry> entries,
                     int64_t covered_ms, bool sync) override;
  absl::StatusOr<bool> IsSettled(const DecisionId& id, uint8_t position,
                                 v1::EventType event) override;
  absl::StatusOr<bool> Prune(int64_t horizon_ms, int32_t day,
                             size_t limit) override;
  absl::StatusOr<LedgerAudit> Audit() override;

 private:
  absl::Status Recover() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<const rocks::Database>> Pin();
  absl::Status AddEntry(const LedgerEntry& entry, Postings* postings,
                        rocksdb::WriteBatch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Commit(Postings* postings, const Book& book,
                      rocksdb::WriteBatch* batch, bool sync)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status PruneSettled(int64_t horizon_ms, size_t limit,
                            Postings* postings, rocksdb::WriteBatch* batch,
                            bool* more) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status PruneDays(int32_t day, size_t limit, Book* book,
                         rocksdb::WriteBatch* batch, bool* more)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string data_dir_;
  rocksdb::Env* const env_;
  absl::Mutex mu_;
  // Null while it could not be opened anew.
  std::shared_ptr<rocks::Database> database_ ABSL_GUARDED_BY(mu_);
  Book book_ ABSL_GUARDED_BY(mu_);
  Postings::Cache cache_ ABSL_GUARDED_BY(mu_);
  bool failed_ ABSL_GUARDED_BY(mu_) = false;
  int32_t pruned_day_ ABSL_GUARDED_BY(mu_) = INT32_MIN;
};

absl::StatusOr<std::shared_ptr<const rocks::Database>> LedgerStoreImpl::Pin() {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(Recover());
  return database_;
}

// A failed write may have reached the disk nevertheless: what is there is read
// back, with the number of the last batch.
absl::Status LedgerStoreImpl::Recover() {
  if (!failed_) return absl::OkStatus();
  RETURN_IF_ERROR(rocks::CheckFreeSpace(data_dir_));
  database_.reset();
  cache_.clear();
  ASSIGN_OR_RETURN(std::unique_ptr<rocks::Database> opened,
                   OpenLedger(data_dir_, env_));
  ASSIGN_OR_RETURN(book_, ReadBook(*opened, rocksdb::ReadOptions()));
  database_ = std::move(opened);
  failed_ = false;
  LOG(WARNING) << "ledger " << database_->path << " was opened anew";
  return absl::OkStatus();
}

absl::StatusOr<LedgerContents> LedgerStoreImpl::Load() {
  ASSIGN_OR_RETURN(const auto pin, Pin());
  LedgerContents contents;
  ASSIGN_OR_RETURN(const Book book, ReadBook(*pin, rocksdb::ReadOptions()));
  contents.covered_ms = book.covered_ms;
  contents.batch = book.batch;
  RETURN_IF_ERROR(ForEachAccount(
      *pin, rocks::ScanOptions(), [&](AccountKey key, const LedgerAccount& a) {
        contents.accounts.push_back({std::move(key.campaign), key.day, a});
      }));
  RETURN_IF_ERROR(ForEachReservation(
      *pin, rocks::ScanOptions(), [&](LedgerContents::Reservation r) {
        contents.reservations.push_back(std::move(r));
      }));
  return contents;
}

absl::Status LedgerStoreImpl::AddEntry(const LedgerEntry& entry,
                                       Postings* postings,
                                       rocksdb::WriteBatch* batch) {
  const LedgerReservation& slot = entry.slot;
  const std::string key = ledger_format::ReservationKey(slot.id, slot.position);
  rocksdb::ColumnFamilyHandle* reservations =
      database_->families[kReservations];
  using Kind = LedgerEntry::Kind;
  if (entry.kind == Kind::kReserve) {
    RETURN_IF_ERROR(postings->Transfer(entry, &LedgerAccount::budget,
                                       &LedgerAccount::reserved));
    return rocks::ToStatus(
        batch->Put(reservations, key,
                   ledger_format::EncodeReservation(slot, *entry.campaign)),
        "ledger batch");
  }
  const bool held = entry.kind == Kind::kRelease || entry.reserved;
  if (held) {
    RETURN_IF_ERROR(postings->Transfer(entry, &LedgerAccount::reserved,
                                       entry.kind == Kind::kBill
                                           ? &LedgerAccount::spent
                                           : &LedgerAccount::budget));
    RETURN_IF_ERROR(
        rocks::ToStatus(batch->Delete(reservations, key), "ledger batch"));
  } else if (entry.kind == Kind::kBill) {
    RETURN_IF_ERROR(postings->Transfer(entry, &LedgerAccount::budget,
                                       &LedgerAccount::spent));
  }
  if (entry.kind == Kind::kRelease) return absl::OkStatus();
  if (entry.kind == Kind::kRefuse) {
    RETURN_IF_ERROR(postings->ForEntry(entry, [&](LedgerAccount* a) {
      a->unbilled += slot.micros;
      ++a->unbilled_events;
    }));
  }
  const Settled settled = {entry.kind == Kind::kBill, slot.day, slot.micros,
                           *entry.campaign};
  return rocks::ToStatus(
      batch->Put(database_->families[kSettled],
                 ledger_format::SettledKey(slot.id, slot.position, entry.event),
                 ledger_format::EncodeSettled(settled)),
      "ledger batch");
}

absl::Status LedgerStoreImpl::Commit(Postings* postings, const Book& book,
                                     rocksdb::WriteBatch* batch, bool sync) {
  rocksdb::Status s = postings->AddTo(batch);
  if (s.ok()) s = batch->Put(kBookKey, book.Encode());
  rocksdb::WriteOptions options;
  options.sync = sync;
  if (s.ok()) s = database_->db->Write(options, batch);
  if (s.ok()) {
    postings->Keep();
    book_ = book;
    return absl::OkStatus();
  }
  failed_ = true;
  return rocks::ToStatus(s, absl::StrCat("write ledger of ", data_dir_));
}

absl::Status LedgerStoreImpl::Write(uint64_t number,
                                    absl::Span<const LedgerEntry> entries,
                                    int64_t covered_ms, bool sync) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(Recover());
  if (number <= book_.batch) return absl::OkStatus();
  Book book = book_;
  book.batch = number;
  book.covered_ms = covered_ms;
  Postings postings(database_.get(), &cache_, &book);
  rocksdb::WriteBatch batch;
  for (const LedgerEntry& entry : entries) {
    RETURN_IF_ERROR(AddEntry(entry, &postings, &batch));
  }
  return Commit(&postings, book, &batch, sync);
}

absl::StatusOr<bool> LedgerStoreImpl::IsSettled(const DecisionId& id,
                                                uint8_t position,
                                                v1::EventType event) {
  ASSIGN_OR_RETURN(const auto pin, Pin());
  std::string value;
  const rocksdb::Status s =
      pin->db->Get(rocksdb::ReadOptions(), pin->families[kSettled],
                   ledger_format::SettledKey(id, position, event), &value);
  if (s.IsNotFound()) return false;
  RETURN_IF_ERROR(rocks::ToStatus(s, "read a settled event of the ledger"));
  return true;
}

absl::Status LedgerStoreImpl::PruneSettled(int64_t horizon_ms, size_t limit,
                                           Postings* postings,
                                           rocksdb::WriteBatch* batch,
                                           bool* more) {
  std::unique_ptr<rocksdb::Iterator> it(database_->db->NewIterator(
      rocks::ScanOptions(), database_->families[kSettled]));
  size_t count = 0;
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    const absl::string_view key = rocks::View(it->key());
    Settled settled;
    if (key.size() != DecisionId::kBytes + 2 ||
        !ledger_format::DecodeSettled(rocks::View(it->value()), &settled)) {
      return Damaged(*database_, "a settled event");
    }
    const DecisionId id =
        DecisionId::FromBytes(key.substr(0, DecisionId::kBytes));
    if (static_cast<int64_t>(id.ms) >= horizon_ms) break;
    if (++count > limit) {
      *more = true;
      break;
    }
    if (settled.billed) {
      RETURN_IF_ERROR(postings->ForBoth(
          settled.campaign, settled.day,
          [&](LedgerAccount* a) { a->archived += settled.micros; }));
    }
    RETURN_IF_ERROR(
        rocks::ToStatus(batch->Delete(database_->families[kSettled], it->key()),
                        "ledger batch"));
  }
  return rocks::ToStatus(it->status(), "read ledger");
}

absl::Status LedgerStoreImpl::PruneDays(int32_t day, size_t limit, Book* book,
                                        rocksdb::WriteBatch* batch,
                                        bool* more) {
  size_t count = 0;
  rocksdb::Status s;
  RETURN_IF_ERROR(ForEachAccount(
      *database_, rocks::ScanOptions(),
      [&](const AccountKey& key, const LedgerAccount& a) {
        if (key.day >= day || a.reserved.balance() != 0 ||
            a.archived != a.spent.balance() || !s.ok()) {
          return;
        }
        if (++count > limit) {
          *more = true;
          return;
        }
        for (const auto* sides : {&a.budget, &a.reserved, &a.spent}) {
          book->debits -= sides->debit;
          book->credits -= sides->credit;
        }
        const std::string bytes =
            ledger_format::EncodeKey(key.campaign, key.day);
        s = batch->Delete(database_->families[kAccounts], bytes);
        cache_.erase(bytes);
      }));
  return rocks::ToStatus(s, "ledger batch");
}

absl::StatusOr<bool> LedgerStoreImpl::Prune(int64_t horizon_ms, int32_t day,
                                            size_t limit) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(Recover());
  bool more = false;
  {
    Book book = book_;
    Postings postings(database_.get(), &cache_, &book);
    rocksdb::WriteBatch batch;
    RETURN_IF_ERROR(PruneSettled(horizon_ms, limit, &postings, &batch, &more));
    if (batch.Count() > 0) {
      RETURN_IF_ERROR(Commit(&postings, book, &batch, /*sync=*/false));
    }
  }
  // Reads all accounts: once a day.
  if (more || day <= pruned_day_) return more;
  Book book = book_;
  Postings none(database_.get(), &cache_, &book);
  rocksdb::WriteBatch batch;
  RETURN_IF_ERROR(PruneDays(day, limit, &book, &batch, &more));
  if (batch.Count() > 0) {
    RETURN_IF_ERROR(Commit(&none, book, &batch, /*sync=*/false));
  }
  if (!more) pruned_day_ = day;
  return more;
}

absl::StatusOr<LedgerAudit> LedgerStoreImpl::Audit() {
  ASSIGN_OR_RETURN(const auto pin, Pin());
  rocksdb::ReadOptions options = rocks::ScanOptions();
  rocksdb::ManagedSnapshot snapshot(pin->db.get());
  options.snapshot = snapshot.snapshot();
  LedgerAudit audit;
  LedgerAuditor auditor(&audit);
  ASSIGN_OR_RETURN(const Book book, ReadBook(*pin, options));
  RETURN_IF_ERROR(ForEachReservation(*pin, options,
                                     [&](const LedgerContents::Reservation& r) {
                                       auditor.AddReservation(r);
                                     }));
  RETURN_IF_ERROR(ForEachRow(
      *pin, kSettled, options,
      [&](absl::string_view, absl::string_view value) -> absl::Status {
        Settled settled;
        if (!ledger_format::DecodeSettled(value, &settled)) {
          return Damaged(*pin, "a settled event");
        }
        auditor.AddSettled(settled);
        return absl::OkStatus();
      }));
  RETURN_IF_ERROR(ForEachAccount(
      *pin, options, [&](const AccountKey& key, const LedgerAccount& a) {
        auditor.CheckAccount(key, a);
      }));
  auditor.Finish(book);
  return audit;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LedgerStore>> LedgerStore::Open(
    const std::string& data_dir, rocksdb::Env* env) {
  ASSIGN_OR_RETURN(std::unique_ptr<rocks::Database> database,
                   OpenLedger(data_dir, env));
  ASSIGN_OR_RETURN(const Book book,
                   ReadBook(*database, rocksdb::ReadOptions()));
  return std::make_unique<LedgerStoreImpl>(data_dir, env, std::move(database),
                                           book);
}

}  // namespace adrank
