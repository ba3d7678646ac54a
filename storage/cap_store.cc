#include "storage/cap_store.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "rocksdb/cache.h"
#include "rocksdb/compaction_filter.h"
#include "rocksdb/write_batch.h"
#include "storage/rocks.h"

namespace adrank {
namespace {

constexpr size_t kUserBytes = 16;
constexpr size_t kBlockCacheBytes = 64 << 20;
// A row that has expired is found by a compaction at the latest then. Shorter:
// the whole table is rewritten more often.
constexpr uint64_t kPeriodicCompactionSeconds = 3 * 86400;

rocksdb::Slice UserSlice(const CapUser& user) {
  static_assert(sizeof(CapUser) == kUserBytes);
  return {reinterpret_cast<const char*>(&user), sizeof(user)};
}

std::string IdBytes(const DecisionId& id) {
  std::string bytes;
  id.AppendTo(&bytes);
  return bytes;
}

class ExpiredRows : public rocksdb::CompactionFilter {
 public:
  explicit ExpiredRows(int64_t now_ms) : now_s_(now_ms / 1000) {}
  const char* Name() const override { return "adrank.ExpiredCapRows"; }
  bool Filter(int, const rocksdb::Slice&, const rocksdb::Slice& value,
              std::string*, bool*) const override {
    return CapRowExpiry(rocks::View(value)) <= now_s_;
  }

 private:
  const int64_t now_s_;
};

class OldDecisions : public rocksdb::CompactionFilter {
 public:
  explicit OldDecisions(int64_t end_ms) : end_ms_(end_ms) {}
  const char* Name() const override { return "adrank.OldCapDecisions"; }
  bool Filter(int, const rocksdb::Slice& key, const rocksdb::Slice&,
              std::string*, bool*) const override {
    return key.size() == DecisionId::kBytes &&
           static_cast<int64_t>(DecisionId::FromBytes(rocks::View(key)).ms) <
               end_ms_;
  }

 private:
  const int64_t end_ms_;
};

// A filter sees the clock as of the compaction's beginning.
template <typename Filter>
class FilterFactory : public rocksdb::CompactionFilterFactory {
 public:
  FilterFactory(const Clock* clock, absl::Duration age)
      : clock_(clock), age_ms_(absl::ToInt64Milliseconds(age)) {}
  const char* Name() const override { return "adrank.CapFilterFactory"; }
  std::unique_ptr<rocksdb::CompactionFilter> CreateCompactionFilter(
      const rocksdb::CompactionFilter::Context&) override {
    return std::make_unique<Filter>(clock_->NowMs() - age_ms_);
  }

 private:
  const Clock* const clock_;
  const int64_t age_ms_;
};

rocks::Spec CapSpec(const std::string& data_dir, const Clock* clock,
                    const CapStoreOptions& options) {
  rocks::Spec spec;
  spec.path = files::Join(data_dir, "caps");
  spec.noun = "store of frequency caps";
  spec.format_prefix = "adrank caps ";
  const auto cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  const auto family = [&](size_t buffer) {
    return rocks::FamilyOptions(rocks::Access::kPoint, buffer, cache);
  };
  rocksdb::ColumnFamilyOptions users = family(64 << 20);
  users.compaction_filter_factory =
      std::make_shared<FilterFactory<ExpiredRows>>(clock, absl::ZeroDuration());
  users.periodic_compaction_seconds = kPeriodicCompactionSeconds;
  rocksdb::ColumnFamilyOptions decisions = family(16 << 20);
  decisions.compaction_filter_factory =
      std::make_shared<FilterFactory<OldDecisions>>(clock,
                                                    options.keep_decisions);
  decisions.periodic_compaction_seconds = kPeriodicCompactionSeconds;
  spec.families = {{rocksdb::kDefaultColumnFamilyName, family(1 << 20)},
                   {"users", users},
                   {"decisions", decisions}};
  return spec;
}

class CapStoreImpl : public CapStore {
 public:
  CapStoreImpl(std::string data_dir, const Clock* clock,
               const CapStoreOptions& options,
               std::unique_ptr<rocks::Database> database)
      : data_dir_(std::move(data_dir)),
        clock_(clock),
        options_(options),
        database_(std::move(database)) {}
  ~CapStoreImpl() override {
    const absl::Status status = Sync();
    if (!status.ok()) LOG(ERROR) << status.message();
  }

  absl::Status Read(const CapUser& user, CapRow* row) override;
  absl::Status Write(const CapUser& user, const CapRow& row,
                     absl::Span<const DecisionId> added,
                     absl::Span<const DecisionId> removed) override;
  absl::StatusOr<std::optional<CapUser>> FindUser(
      const DecisionId& id) override;
  bool Writable() const override {
    return !failing_.load(std::memory_order_relaxed);
  }
  absl::Status Sync() override;
  absl::Status Compact() override;
  CapStoreStats Stats() override;

 private:
  absl::Status NotOpen() const {
    return absl::UnavailableError(
        absl::StrCat("the store of frequency caps in ", data_dir_,
                     " could not be opened again after a failure"));
  }
  absl::Status Recover();

  rocksdb::DB* db() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return database_->db.get();
  }
  rocksdb::ColumnFamilyHandle* users() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return database_->families[1];
  }
  rocksdb::ColumnFamilyHandle* decisions() const
      ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return database_->families[2];
  }

  // Constant after construction.
  const std::string data_dir_;
  const Clock* const clock_;
  const CapStoreOptions options_;

  // Held shared by every use, exclusively while it is opened again.
  absl::Mutex mu_;
  // Null while it could not be opened again.
  std::unique_ptr<rocks::Database> database_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> dirty_{false};
  std::atomic<bool> failing_{false};
  std::atomic<uint64_t> writes_{0}, failed_writes_{0};
};

absl::Status CapStoreImpl::Read(const CapUser& user, CapRow* row) {
  row->clear();
  absl::ReaderMutexLock lock(&mu_);
  if (database_ == nullptr) return NotOpen();
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      db()->Get(rocksdb::ReadOptions(), users(), UserSlice(user), &value);
  if (s.IsNotFound()) return absl::OkStatus();
  if (!s.ok()) return rocks::ToStatus(s, "read a user's frequency caps");
  return DecodeCapRow(rocks::View(value), row);
}

absl::Status CapStoreImpl::Write(const CapUser& user, const CapRow& row,
                                 absl::Span<const DecisionId> added,
                                 absl::Span<const DecisionId> removed) {
  thread_local rocksdb::WriteBatch batch;
  thread_local std::string bytes;
  batch.Clear();
  absl::ReaderMutexLock lock(&mu_);
  if (database_ == nullptr) return NotOpen();
  if (row.empty()) {
    batch.Delete(users(), UserSlice(user));
  } else {
    EncodeCapRow(row, &bytes);
    batch.Put(users(), UserSlice(user), bytes);
  }
  for (const DecisionId& id : removed) batch.Delete(decisions(), IdBytes(id));
  for (const DecisionId& id : added) {
    batch.Put(decisions(), IdBytes(id), UserSlice(user));
  }
  writes_.fetch_add(1, std::memory_order_relaxed);
  const rocksdb::Status s = db()->Write(rocksdb::WriteOptions(), &batch);
  if (s.ok()) {
    dirty_.store(true, std::memory_order_relaxed);
    return absl::OkStatus();
  }
  failed_writes_.fetch_add(1, std::memory_order_relaxed);
  const absl::Status status =
      rocks::ToStatus(s, absl::StrCat("write ", database_->path));
  if (!failing_.exchange(true)) {
    LOG(ERROR) << status.message()
               << "; ads with frequency caps are not served until it works";
  }
  return status;
}

absl::StatusOr<std::optional<CapUser>> CapStoreImpl::FindUser(
    const DecisionId& id) {
  absl::ReaderMutexLock lock(&mu_);
  if (database_ == nullptr) return NotOpen();
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      db()->Get(rocksdb::ReadOptions(), decisions(), IdBytes(id), &value);
  if (s.IsNotFound()) return std::nullopt;
  RETURN_IF_ERROR(rocks::ToStatus(
      s, absl::StrCat("find the user of decision ", id.ToHex())));
  if (value.size() != kUserBytes) {
    return absl::DataLossError(absl::StrCat("the user of decision ", id.ToHex(),
                                            " has ", value.size(), " bytes"));
  }
  CapUser user;
  std::memcpy(&user, value.data(), sizeof(user));
  return user;
}

absl::Status CapStoreImpl::Sync() {
  if (failing_.load()) RETURN_IF_ERROR(Recover());
  if (!dirty_.exchange(false)) return absl::OkStatus();
  absl::ReaderMutexLock lock(&mu_);
  if (database_ == nullptr) return NotOpen();
  const absl::Status status =
      rocks::ToStatus(db()->SyncWAL(), absl::StrCat("sync ", database_->path));
  if (!status.ok()) failing_.store(true);
  return status;
}

// RocksDB does not resume after a failed write of its write-ahead log; opening
// it anew reads back what was written before.
absl::Status CapStoreImpl::Recover() {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(rocks::CheckFreeSpace(data_dir_));
  absl::Status status = absl::UnavailableError("not open");
  if (database_ != nullptr) {
    status = rocks::ToStatus(db()->Resume(), "resume");
  }
  if (!status.ok()) {
    database_.reset();
    ASSIGN_OR_RETURN(database_,
                     rocks::Open(CapSpec(data_dir_, clock_, options_),
                                 rocks::DatabaseOptions(options_.env)));
  }
  failing_.store(false);
  LOG(WARNING) << database_->path << " is written again";
  return absl::OkStatus();
}

absl::Status CapStoreImpl::Compact() {
  absl::ReaderMutexLock lock(&mu_);
  if (database_ == nullptr) return NotOpen();
  for (rocksdb::ColumnFamilyHandle* family : {users(), decisions()}) {
    rocksdb::CompactRangeOptions options;
    options.bottommost_level_compaction =
        rocksdb::BottommostLevelCompaction::kForce;
    options.exclusive_manual_compaction = false;
    RETURN_IF_ERROR(
        rocks::ToStatus(db()->CompactRange(options, family, nullptr, nullptr),
                        absl::StrCat("compact ", database_->path)));
  }
  return absl::OkStatus();
}

CapStoreStats CapStoreImpl::Stats() {
  CapStoreStats stats;
  stats.writes = writes_.load(std::memory_order_relaxed);
  stats.failed_writes = failed_writes_.load(std::memory_order_relaxed);
  absl::ReaderMutexLock lock(&mu_);
  if (database_ == nullptr) return stats;
  db()->GetIntProperty(users(), rocksdb::DB::Properties::kEstimateNumKeys,
                       &stats.users);
  for (rocksdb::ColumnFamilyHandle* family : database_->families) {
    uint64_t bytes = 0;
    db()->GetIntProperty(family, rocksdb::DB::Properties::kTotalSstFilesSize,
                         &bytes);
    stats.disk_bytes += bytes;
  }
  return stats;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CapStore>> CapStore::Open(
    const std::string& data_dir, const Clock* clock,
    const CapStoreOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<rocks::Database> database,
                   rocks::Open(CapSpec(data_dir, clock, options),
                               rocks::DatabaseOptions(options.env)));
  return std::make_unique<CapStoreImpl>(data_dir, clock, options,
                                        std::move(database));
}

}  // namespace adrank
