// Counting in one user's row: pure functions.
#ifndef ADRANK_SERVER_CAPS_USER_ROW_H_
#define ADRANK_SERVER_CAPS_USER_ROW_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "server/caps/cap_table.h"
#include "storage/cap_row.h"
#include "storage/decision_id.h"

namespace adrank {

struct CapTimes {
  int64_t now_ms = 0;
  // An unconfirmed record younger than this counts; an older one waits for
  // `late_ms` more, not counting, whether an impression is reported after all.
  int64_t reservation_ms = 0;
  int64_t late_ms = 0;
};

inline bool Counts(const CapRecord& r, const CapTimes& times) {
  return r.confirmed || r.ms + times.reservation_ms > times.now_ms;
}

// Those of one entity.
absl::Span<const CapRecord> RecordsOf(const CapRow& row, uint64_t key);

// Impressions that one more at `at_ms` could share a window (t - window_ms, t]
// with: those in (at_ms - window_ms, at_ms + window_ms). When nothing is later
// than at_ms, as is usual, that is the window that ends at at_ms.
uint64_t CountAround(absl::Span<const CapRecord> records, int64_t at_ms,
                     int64_t window_ms, const CapTimes& times);

// The first cap that leaves no room for `more` impressions at at_ms.
std::optional<CompiledCap> CapReached(absl::Span<const CapRecord> records,
                                      absl::Span<const CompiledCap> caps,
                                      uint64_t more, int64_t at_ms,
                                      const CapTimes& times);

void AddRecord(const CapRecord& record, CapRow* row);

// Counts the impression of the decision's ad; false when nothing of it waits.
bool ConfirmRecords(const DecisionId& id, uint32_t position, CapRow* row);

// Removes what waits for a report on the decision; false: nothing does.
bool RemoveUnconfirmed(const DecisionId& id, CapRow* row);
bool HasUnconfirmed(const DecisionId& id, const CapRow& row);

// A decision that reserves later than this after its time gets nothing: what
// shared a window with it may be gone.
inline constexpr int64_t kOrderGraceMs = 60'000;

// Removes what will never count again (kOrderGraceMs ago). Decisions of which
// unconfirmed records went, and none is left, are appended to *dropped.
void Prune(const CapTimes& times, CapRow* row,
           std::vector<DecisionId>* dropped);

// Confirmed impressions of an entity are kept one by one up to here.
inline constexpr size_t kExactRecords = 128;

// Above kExactRecords: within the shortest cap's window that still holds them,
// impressions in the same 1/128 of it become one record at the time of the last
// of them. So each counts at most 1/128 of a window longer than it should,
// never shorter, and a row stays below 129 records a cap.
void Coarsen(const CappedEntity& entity, absl::Span<const CompiledCap> caps,
             int64_t now_ms, CapRow* row);

}  // namespace adrank

#endif  // ADRANK_SERVER_CAPS_USER_ROW_H_
