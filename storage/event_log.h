// The RocksDB log of what was served and what happened to it: ordered,
// idempotent, durable as configured. Nothing outside storage/ knows RocksDB.
//
// Column families and keys (all integers big-endian, so that byte order is time
// order):
//   decisions:  key   := id                      (DecisionId, 12 bytes)
//               value := u8 ads, serialised v1::Decision without decision_id
//   events:     key   := id u8(position) u8(type)
//               value := be64(time_ms) be64(receive_ms) be32(duplicates)
//   snapshots:  key   := hash (16 bytes)         Hash128 of the value
//               value := serialised v1::AdSnapshot
//   default:    "format" -> "adrank event log 1", "counters" -> be64 each
// In <data_dir>/log; the catalogue has <data_dir>/catalog. Because decisions
// and events are sorted by the same id, their join is a merge of two iterators.
#ifndef ADRANK_STORAGE_EVENT_LOG_H_
#define ADRANK_STORAGE_EVENT_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "proto/common.pb.h"
#include "proto/events.pb.h"
#include "proto/storage_config.pb.h"
#include "storage/decision_id.h"
#include "storage/snapshot_bytes.h"

namespace rocksdb {
class Env;
}

namespace adrank {

// Many records written as one: what an import or the simulator appends.
struct LogBatch {
  struct DecisionRecord {
    DecisionId id;
    v1::Decision decision;
  };
  std::vector<DecisionRecord> decisions;
  std::vector<EncodedAd> ads;  // that the decisions refer to
  std::vector<v1::Event> events;
};

// An event of the log, as first reported.
struct StoredEvent {
  DecisionId id;
  uint8_t position = 0;
  v1::EventType type = v1::EVENT_TYPE_UNSPECIFIED;
  int64_t receive_ms = 0;
};

// All but the last two survive a restart: they are written with the records
// that they count.
struct EventLogStats {
  // In the log now.
  uint64_t decisions = 0;
  uint64_t events = 0;  // first reports only
  uint64_t snapshots = 0;
  // Since the log was made.
  uint64_t duplicate_events = 0;   // repeated reports
  uint64_t unknown_decisions = 0;  // first reports that came before a decision
  uint64_t dropped_decisions = 0;  // queue full or log failing
  uint64_t commits = 0;            // write batches
  // Now.
  uint64_t pending = 0;     // decisions and events that wait for the disk
  uint64_t disk_bytes = 0;  // of all files of the log
};

// Thread-safe. One process at a time may have a log open for writing; the error
// for a second one says so.
//
// When the disk fails or is full, events are answered UNAVAILABLE with the
// reason, decisions are counted as dropped, and the log tries again by itself
// with what is appended next. What was acknowledged before stays.
class EventLog {
 public:
  // Creates the log when there is none. FailedPrecondition when it is locked by
  // another process, of a future format, or not an event log at all; DataLoss
  // when it is damaged. `env` is null for the machine's file system.
  static absl::StatusOr<std::unique_ptr<EventLog>> Open(
      const v1::StorageConfig& config, const Clock* clock,
      rocksdb::Env* env = nullptr);
  // Commits what is pending.
  virtual ~EventLog() = default;

  // Queues a decision and returns at once; false (and a counter) when the queue
  // is full or the decision has more than 255 ads. `ads` are the snapshots that
  // decision.ads() refer to; those known already are not written again. The
  // first decision of an id stays.
  virtual bool AppendDecision(
      const DecisionId& id, const v1::Decision& decision,
      absl::Span<const std::shared_ptr<const EncodedAd>> ads) = 0;

  // Queues events; `done` gets one result per event, in order, once they are as
  // durable as configured. Called on the log's own thread (or, when the queue
  // is full or the log is closing, on the caller's with UNAVAILABLE).
  virtual void AppendEvents(
      std::vector<v1::Event> events,
      std::function<void(std::vector<v1::EventResult>)> done) = 0;
  // The same, waiting.
  std::vector<v1::EventResult> AppendEventsAndWait(
      std::vector<v1::Event> events);

  // Writes the batch atomically and waits. Idempotent: writing it again changes
  // nothing but duplicate counters. For loading; fastest in time order.
  // The events' time of receipt is their own. InvalidArgument names the first
  // bad record, and nothing is written.
  virtual absl::Status Write(const LogBatch& batch) = 0;

  // Returns when everything appended before is on disk, under ASYNC too. Not OK
  // when some of what this call waited for was lost.
  virtual absl::Status Flush() = 0;

  // Drops decisions and events older than the configured retention (as of the
  // clock) and frees their space; snapshots that no decision refers to any more
  // go too. Appends go on meanwhile. May take minutes.
  virtual absl::Status ApplyRetention() = 0;

  // NotFound when there is none.
  virtual absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) = 0;
  virtual absl::StatusOr<v1::AdSnapshot> GetSnapshot(
      absl::string_view hash) = 0;

  // Visits the stored events of decisions made at `begin_ms` or later, by id,
  // until the visitor returns an error. Reads their table from there on.
  virtual absl::Status ForEachEvent(
      int64_t begin_ms,
      const std::function<absl::Status(const StoredEvent&)>& visit) = 0;

  // Up to `limit` decisions, newest first: what is on disk now.
  virtual absl::StatusOr<std::vector<v1::Decision>> NewestDecisions(
      size_t limit) = 0;

  virtual EventLogStats Stats() = 0;
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_EVENT_LOG_H_
