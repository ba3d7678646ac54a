// The counters of frequency caps on disk: a row a user, in <data_dir>/caps.
//
// Column families and keys:
//   users:      key   := user (16 bytes, CapUser)
//               value := row (cap_row.h)
//   decisions:  key   := id (DecisionId, 12 bytes)
//               value := user (16 bytes)
//     while the user's row has unconfirmed records of the decision
//   default:    "format" -> "adrank caps 1"
// Rows go by themselves when they have expired, decisions when they are older
// than CapStoreOptions.keep_decisions: at the next compaction, which comes
// within three days.
#ifndef ADRANK_STORAGE_CAP_STORE_H_
#define ADRANK_STORAGE_CAP_STORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "storage/cap_row.h"
#include "storage/decision_id.h"

namespace rocksdb {
class Env;
}

namespace adrank {

struct CapStoreOptions {
  absl::Duration keep_decisions = absl::Hours(25);
  rocksdb::Env* env = nullptr;  // null: the machine's
};

struct CapStoreStats {
  uint64_t users = 0;  // estimated; expired ones that are still there included
  uint64_t disk_bytes = 0;
  uint64_t writes = 0;  // since it was opened
  uint64_t failed_writes = 0;
};

// Thread-safe. What Write was told is with the operating system when it
// returns: it survives a killed process. It survives a power failure once the
// next Sync has returned.
class CapStore {
 public:
  // Creates what is missing. FailedPrecondition when another process has it
  // open or it is of a future format; DataLoss when it is damaged.
  static absl::StatusOr<std::unique_ptr<CapStore>> Open(
      const std::string& data_dir, const Clock* clock,
      const CapStoreOptions& options = {});
  virtual ~CapStore() = default;

  // Replaces *row; an unknown user has an empty one. DataLoss when the row is
  // damaged, Unavailable when the disk fails.
  virtual absl::Status Read(const CapUser& user, CapRow* row) = 0;

  // Replaces the user's row (an empty one is removed), says whose the decisions
  // of `added` are and forgets those of `removed`: all or nothing.
  virtual absl::Status Write(const CapUser& user, const CapRow& row,
                             absl::Span<const DecisionId> added,
                             absl::Span<const DecisionId> removed) = 0;

  // Whose decision this is; nullopt when none of its ads waits for a report.
  virtual absl::StatusOr<std::optional<CapUser>> FindUser(
      const DecisionId& id) = 0;

  // False from a failed write until Sync has brought the database back. Hot
  // path.
  virtual bool Writable() const = 0;

  // Makes what was written durable. After a failed write, tries to bring the
  // database back; to be called every 100 ms or so.
  virtual absl::Status Sync() = 0;

  // Frees the space of what has expired or was removed, now. May take minutes.
  virtual absl::Status Compact() = 0;

  virtual CapStoreStats Stats() = 0;
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_CAP_STORE_H_
