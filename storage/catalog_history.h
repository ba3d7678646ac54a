// The past of the catalogue on disk; storage/ only.
#ifndef ADRANK_STORAGE_CATALOG_HISTORY_H_
#define ADRANK_STORAGE_CATALOG_HISTORY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "proto/catalog.pb.h"
#include "rocksdb/db.h"

namespace adrank {

// The entities as the changes up to `version` left them, sorted by id. `family`
// has the layout of "history" (catalog_keys.h); `path` is for errors.
// FailedPrecondition when no change of that version is there, so that nothing
// vouches for the ones before it. REQUIRES: version > 0.
absl::StatusOr<v1::Catalog> CatalogAt(rocksdb::DB* db,
                                      rocksdb::ColumnFamilyHandle* family,
                                      const rocksdb::ReadOptions& options,
                                      const std::string& path, int64_t version);

}  // namespace adrank

#endif  // ADRANK_STORAGE_CATALOG_HISTORY_H_
