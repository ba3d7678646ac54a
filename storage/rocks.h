// What the event log and the catalogue share of RocksDB: opening with errors
// that an operator can act on, statuses, options. Internal to storage/.
#ifndef ADRANK_STORAGE_ROCKS_H_
#define ADRANK_STORAGE_ROCKS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"

namespace adrank::rocks {

inline absl::string_view View(const rocksdb::Slice& s) {
  return {s.data(), s.size()};
}
inline rocksdb::Slice Slice(absl::string_view s) {
  return {s.data(), s.size()};
}

// Unavailable when the disk of `path` (which need not exist) has less than 8
// MiB free: a database that is opened writes some files, and RocksDB may abort
// the process when the disk fills up at that moment.
absl::Status CheckFreeSpace(const std::string& path);

// `what` says what was being done and to which path. Corruption is DataLoss, a
// missing thing NotFound, everything else Unavailable.
absl::Status ToStatus(const rocksdb::Status& status, absl::string_view what);

// Options of one kind of column family.
enum class Access {
  kScan,   // sorted scans and existence checks: 64 KiB blocks, bloom filter
  kPoint,  // point lookups: 16 KiB blocks, bloom filter
};
rocksdb::ColumnFamilyOptions FamilyOptions(
    Access access, size_t write_buffer_bytes,
    const std::shared_ptr<rocksdb::Cache>& cache);

// Null `env` is the machine's.
rocksdb::DBOptions DatabaseOptions(rocksdb::Env* env);

// A sequential scan: own read-ahead, nothing left in the cache, checksums on.
rocksdb::ReadOptions ScanOptions();

// An open database and its families, closed together.
struct Database {
  Database() = default;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  std::string path;
  std::unique_ptr<rocksdb::DB> db;
  // In the order of the descriptors it was opened with.
  std::vector<rocksdb::ColumnFamilyHandle*> families;
};

struct Spec {
  std::string path;
  // What the directory is called in errors: "event log".
  std::string noun;
  // Value of the key "format" in the default family is this prefix and a number
  // up to `format_version`.
  std::string format_prefix;
  int format_version = 1;
  // The first must be the default family.
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
};

// Opens for writing; creates what is missing. FailedPrecondition when another
// process has it, when it is something else, or of a future format; DataLoss
// when it is damaged.
absl::StatusOr<std::unique_ptr<Database>> Open(
    const Spec& spec, const rocksdb::DBOptions& options);

// FailedPrecondition unless the marker is there and known.
absl::Status CheckFormat(const Spec& spec, rocksdb::DB* db);

}  // namespace adrank::rocks

#endif  // ADRANK_STORAGE_ROCKS_H_
