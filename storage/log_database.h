// The event log's RocksDB: families, what the writer must know of what is
// stored, and the batch that adds records idempotently. Internal to storage/.
#ifndef ADRANK_STORAGE_LOG_DATABASE_H_
#define ADRANK_STORAGE_LOG_DATABASE_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "proto/events.pb.h"
#include "rocksdb/write_batch.h"
#include "storage/decision_id.h"
#include "storage/event_log.h"
#include "storage/log_format.h"
#include "storage/rocks.h"

namespace adrank {

// <data_dir>/log.
std::string LogPath(const std::string& data_dir);

// How an event log is opened; `cache` serves its block reads.
rocks::Spec LogSpec(const std::string& data_dir,
                    const std::shared_ptr<rocksdb::Cache>& cache);

inline Hash128Value HashKey(absl::string_view bytes) {
  Hash128Value value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// Not thread-safe where not said otherwise: one writer at a time.
class LogDatabase {
 public:
  static absl::StatusOr<std::unique_ptr<LogDatabase>> Open(
      const std::string& data_dir, rocksdb::Env* env);

  rocksdb::DB* db() const { return database_->db.get(); }
  const std::string& path() const { return database_->path; }
  rocksdb::ColumnFamilyHandle* meta() const { return database_->families[0]; }
  rocksdb::ColumnFamilyHandle* decisions() const {
    return database_->families[1];
  }
  rocksdb::ColumnFamilyHandle* events() const { return database_->families[2]; }
  rocksdb::ColumnFamilyHandle* snapshots() const {
    return database_->families[3];
  }

  const log_format::Counters& counters() const { return counters_; }
  absl::StatusOr<bool> HasDecision(const DecisionId& id) const;
  absl::StatusOr<bool> HasSnapshot(absl::string_view hash) const;
  absl::StatusOr<std::optional<log_format::EventValue>> FindEvent(
      const log_format::EventKey& key) const;

  // NotFound when there is none. Thread-safe.
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) const;
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view hash) const;
  // As of EventLog. Thread-safe.
  absl::Status ForEachEvent(
      int64_t begin_ms,
      const std::function<absl::Status(const StoredEvent&)>& visit) const;
  // Newest first. Thread-safe.
  absl::StatusOr<std::vector<v1::Decision>> NewestDecisions(size_t limit) const;
  // Of all files. Thread-safe.
  uint64_t DiskBytes() const;

  // Writes the batch and the counters with it. `after` become the counters when
  // that succeeded.
  absl::Status Commit(rocksdb::WriteBatch* batch, log_format::Counters after,
                      bool sync);

  // No decision or event is beyond these, so that newer ones need no lookup.
  void RaiseLargest(const std::optional<DecisionId>& decision,
                    const std::optional<log_format::EventKey>& event);

 private:
  LogDatabase() = default;
  absl::Status ReadState();

  std::unique_ptr<rocks::Database> database_;
  log_format::Counters counters_;
  std::optional<DecisionId> largest_decision_;
  std::optional<log_format::EventKey> largest_event_;
};

// Records that are written together, each at most once whatever the log holds
// already. Used again after Reset, so that its buffers stay. Not thread-safe.
class LogBatchBuilder {
 public:
  explicit LogBatchBuilder(LogDatabase* log) { Reset(log); }
  void Reset(LogDatabase* log);

  // The first decision of an id stays. `value` as stored.
  absl::Status AddDecision(const DecisionId& id, absl::string_view value);
  // A snapshot that cannot be read is written again: the hash says that it is
  // the same.
  void AddSnapshot(absl::string_view hash, absl::string_view bytes);
  // ACCEPTED, DUPLICATE or UNKNOWN_DECISION. Decisions added before are known.
  absl::StatusOr<v1::EventResult::Code> AddEvent(
      const log_format::EventKey& key, int64_t time_ms, int64_t receive_ms);

  void CountDropped(uint64_t decisions) {
    counters_.dropped_decisions += decisions;
  }

  absl::Status Commit(bool sync);

  bool empty() const { return batch_.Count() == 0 && events_.empty(); }
  size_t bytes() const {
    return batch_.GetDataSize() + events_.size() * kEventBytes;
  }
  // Snapshots that are in the log once Commit has succeeded.
  const absl::flat_hash_set<Hash128Value>& ads() const { return ads_; }

 private:
  static constexpr size_t kEventBytes = 48;  // with RocksDB's own of a record
  bool IsPending(const DecisionId& id) const;
  struct PendingEvent {
    log_format::EventKey key;
    log_format::EventValue value;
  };

  LogDatabase* log_ = nullptr;
  rocksdb::WriteBatch batch_;
  log_format::Counters counters_;
  std::vector<DecisionId> decisions_;
  // Empty while decisions_ is sorted, which it is when nobody reorders them.
  absl::flat_hash_set<DecisionId> unsorted_decisions_;
  std::vector<PendingEvent> events_;
  absl::flat_hash_map<log_format::EventKey, uint32_t> event_index_;
  absl::flat_hash_set<Hash128Value> ads_;
  std::string key_, value_;  // scratch
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_LOG_DATABASE_H_
