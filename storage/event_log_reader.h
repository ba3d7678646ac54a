// A consistent view of an event log, for readers that run while the server
// writes: the join of decisions with their events is a merge of two sorted
// iterators.
#ifndef ADRANK_STORAGE_EVENT_LOG_READER_H_
#define ADRANK_STORAGE_EVENT_LOG_READER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/common.pb.h"
#include "proto/events.pb.h"
#include "storage/decision_id.h"

namespace adrank {

// What is known of one (position, type) of a decision.
struct JoinedEvent {
  uint8_t position = 0;
  v1::EventType type = v1::EVENT_TYPE_UNSPECIFIED;
  int64_t time_ms = 0;
  int64_t receive_ms = 0;
  uint32_t duplicates = 0;
};

// One decision id with everything reported of it.
struct JoinedRecord {
  DecisionId id;
  // Serialised v1::Decision without its id. data() is null when only events
  // carry this id (orphans).
  absl::string_view decision;
  uint32_t ads = 0;
  // Sorted by position, then type.
  absl::Span<const JoinedEvent> events;

  bool has_decision() const { return decision.data() != nullptr; }
  // Parses `decision` and fills in the decision_id. False: damaged, or none.
  bool Parse(v1::Decision* out) const;
};

// Walks the ids of [begin, end) in order. Not thread-safe; several may run at
// once over one reader. Pointers in record() live until Next().
class JoinCursor {
 public:
  virtual ~JoinCursor() = default;
  virtual bool Valid() const = 0;
  virtual void Next() = 0;
  virtual const JoinedRecord& record() const = 0;
  // Not OK when the walk stopped because of damage.
  virtual absl::Status status() const = 0;
};

// Thread-safe. Sees the log as it was when opened.
class EventLogReader {
 public:
  // Works beside a live writer (RocksDB secondary instance; its scratch files
  // go to a temporary directory). NotFound when there is no log.
  static absl::StatusOr<std::unique_ptr<EventLogReader>> Open(
      const std::string& data_dir);
  virtual ~EventLogReader() = default;

  // Decisions with begin_ms <= id.ms < end_ms.
  virtual std::unique_ptr<JoinCursor> Join(int64_t begin_ms,
                                           int64_t end_ms) = 0;

  // NotFound when the log lacks it.
  virtual absl::StatusOr<v1::AdSnapshot> GetSnapshot(
      absl::string_view hash) = 0;

  virtual absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) = 0;

  // Time range [first, last] of decision ids; NotFound when there are none.
  virtual absl::StatusOr<std::pair<int64_t, int64_t>> TimeRange() = 0;
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_EVENT_LOG_READER_H_
