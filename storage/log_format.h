// The bytes of keys and values of the event log; the grammar is in event_log.h.
#ifndef ADRANK_STORAGE_LOG_FORMAT_H_
#define ADRANK_STORAGE_LOG_FORMAT_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/events.pb.h"
#include "storage/decision_id.h"

namespace adrank::log_format {

inline constexpr char kFormatKey[] = "format";
inline constexpr char kFormatPrefix[] = "adrank event log ";
inline constexpr int kFormatVersion = 1;
inline constexpr char kCountersKey[] = "counters";
inline constexpr char kDecisionsFamily[] = "decisions";
inline constexpr char kEventsFamily[] = "events";
inline constexpr char kSnapshotsFamily[] = "snapshots";

inline constexpr size_t kHashBytes = 16;
inline constexpr size_t kEventKeyBytes = DecisionId::kBytes + 2;
inline constexpr size_t kEventValueBytes = 20;
// Times at or past this cannot be written in an id; the year 10889. Times in
// micro- or nanoseconds land beyond it.
inline constexpr int64_t kEndOfTimeMs = int64_t{1} << 48;
inline constexpr uint32_t kMaxPosition = 255;

void AppendBe64(uint64_t value, std::string* bytes);

struct EventKey {
  DecisionId id;
  uint8_t position = 0;
  uint8_t type = 0;

  // InvalidArgument when the event cannot be logged: names the field.
  static absl::StatusOr<EventKey> Of(const v1::Event& event);
  void AppendTo(std::string* bytes) const;
  // REQUIRES: bytes.size() == kEventKeyBytes
  static EventKey FromBytes(absl::string_view bytes);
  friend auto operator<=>(const EventKey&, const EventKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const EventKey& k) {
    return H::combine(std::move(h), k.id, k.position << 8 | k.type);
  }
};

struct EventValue {
  int64_t time_ms = 0;
  int64_t receive_ms = 0;
  uint32_t duplicates = 0;

  void AppendTo(std::string* bytes) const;
  // REQUIRES: bytes.size() == kEventValueBytes
  static EventValue FromBytes(absl::string_view bytes);
};

// The counters of EventLogStats that are kept on disk.
struct Counters {
  uint64_t decisions = 0;
  uint64_t events = 0;
  uint64_t snapshots = 0;
  uint64_t duplicate_events = 0;
  uint64_t unknown_decisions = 0;
  uint64_t dropped_decisions = 0;
  uint64_t commits = 0;

  std::string Encode() const;
  // Counters that `bytes` lacks are 0.
  static Counters Decode(absl::string_view bytes);
};

// Appends the stored value of a decision: u8 ads, message without decision_id.
// REQUIRES: decision.ads_size() <= 255
void AppendDecisionValue(const v1::Decision& decision, std::string* bytes);

// Parses a stored value; false when it is damaged.
bool ParseDecisionValue(const DecisionId& id, absl::string_view value,
                        v1::Decision* out);

}  // namespace adrank::log_format

#endif  // ADRANK_STORAGE_LOG_FORMAT_H_
