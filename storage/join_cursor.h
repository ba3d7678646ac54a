// The merge of the two sorted families. Internal to storage/.
#ifndef ADRANK_STORAGE_JOIN_CURSOR_H_
#define ADRANK_STORAGE_JOIN_CURSOR_H_

#include <cstdint>
#include <memory>
#include <string>

#include "rocksdb/db.h"
#include "storage/event_log_reader.h"

namespace adrank {

// `path` names the log in errors.
std::unique_ptr<JoinCursor> MakeJoinCursor(
    rocksdb::DB* db, rocksdb::ColumnFamilyHandle* decisions,
    rocksdb::ColumnFamilyHandle* events, const std::string& path,
    int64_t begin_ms, int64_t end_ms);

}  // namespace adrank

#endif  // ADRANK_STORAGE_JOIN_CURSOR_H_
