// What ages out of the log. Internal to storage/.
#ifndef ADRANK_STORAGE_RETENTION_H_
#define ADRANK_STORAGE_RETENTION_H_

#include <functional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "storage/decision_id.h"
#include "storage/log_database.h"

namespace adrank::retention {

// Deletes up to `limit` decisions and as many events before `end`, and counts
// them, in one commit. False when none is left.
absl::StatusOr<bool> DropChunk(LogDatabase* log, const DecisionId& end,
                               size_t limit);

// Gives the space of what was dropped before `end` back to the file system.
// Needs no lock: whatever was appended meanwhile stays.
absl::Status FreeSpace(LogDatabase* log, const DecisionId& end);

// Adds the snapshots that the stored decision refers to. False: damaged.
bool CollectAds(absl::string_view decision_value,
                absl::flat_hash_set<Hash128Value>* ads);

// The snapshots that any decision in the log refers to.
absl::StatusOr<absl::flat_hash_set<Hash128Value>> UsedAds(LogDatabase* log);

// Deletes those of up to `limit` snapshots from *position on that `is_used`
// denies, in one commit, and moves *position on; it is empty at the end. True
// when any was deleted.
absl::StatusOr<bool> SweepChunk(
    LogDatabase* log, const std::function<bool(const Hash128Value&)>& is_used,
    size_t limit, std::string* position);

absl::Status CompactSnapshots(LogDatabase* log);

}  // namespace adrank::retention

#endif  // ADRANK_STORAGE_RETENTION_H_
