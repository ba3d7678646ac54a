#include "storage/retention.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "rocksdb/convenience.h"
#include "rocksdb/write_batch.h"

namespace adrank::retention {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;

std::string Bound(const DecisionId& id) {
  std::string bytes;
  id.AppendTo(&bytes);
  return bytes;
}

absl::Status ReadError(const LogDatabase& log, const rocksdb::Status& s) {
  return rocks::ToStatus(s, absl::StrCat("read event log ", log.path()));
}

// Deletes up to `limit` records of the family before `end`; returns how many.
absl::StatusOr<uint64_t> DropRecords(LogDatabase* log,
                                     rocksdb::ColumnFamilyHandle* family,
                                     const std::string& end, size_t limit,
                                     rocksdb::WriteBatch* batch) {
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options = rocks::ScanOptions();
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      log->db()->NewIterator(options, family));
  std::string first, last;
  uint64_t count = 0;
  for (it->SeekToFirst(); it->Valid() && count < limit; it->Next(), ++count) {
    if (count == 0) first = it->key().ToString();
    last.assign(it->key().data(), it->key().size());
  }
  RETURN_IF_ERROR(ReadError(*log, it->status()));
  // The end of a range is exclusive: the shortest key after `last`.
  last.push_back('\0');
  if (count > 0) batch->DeleteRange(family, first, last);
  return count;
}

// One ServedAd: its field 1 is the hash.
bool CollectServedAd(CodedInputStream* in,
                     absl::flat_hash_set<Hash128Value>* ads) {
  int size = 0;
  if (!in->ReadVarintSizeAsInt(&size)) return false;
  const CodedInputStream::Limit limit = in->PushLimit(size);
  std::string hash;
  while (const uint32_t tag = in->ReadTag()) {
    if (tag ==
        WireFormatLite::MakeTag(1, WireFormatLite::WIRETYPE_LENGTH_DELIMITED)) {
      int length = 0;
      if (!in->ReadVarintSizeAsInt(&length) || !in->ReadString(&hash, length)) {
        return false;
      }
      if (hash.size() == log_format::kHashBytes) ads->insert(HashKey(hash));
    } else if (!WireFormatLite::SkipField(in, tag)) {
      return false;
    }
  }
  if (!in->ConsumedEntireMessage()) return false;
  in->PopLimit(limit);
  return true;
}

}  // namespace

absl::StatusOr<bool> DropChunk(LogDatabase* log, const DecisionId& end,
                               size_t limit) {
  rocksdb::WriteBatch batch;
  const std::string bound = Bound(end);
  ASSIGN_OR_RETURN(const uint64_t decisions,
                   DropRecords(log, log->decisions(), bound, limit, &batch));
  ASSIGN_OR_RETURN(const uint64_t events,
                   DropRecords(log, log->events(), bound, limit, &batch));
  if (decisions + events == 0) return false;
  log_format::Counters counters = log->counters();
  counters.decisions -= std::min(counters.decisions, decisions);
  counters.events -= std::min(counters.events, events);
  RETURN_IF_ERROR(log->Commit(&batch, counters, /*sync=*/true));
  return true;
}

absl::Status FreeSpace(LogDatabase* log, const DecisionId& end) {
  const std::string bound = Bound(end);
  const rocksdb::Slice upper(bound);
  for (rocksdb::ColumnFamilyHandle* family :
       {log->decisions(), log->events()}) {
    const absl::string_view what = "free space of the event log";
    // Files that lie wholly before the bound go at once; compaction rewrites
    // the others that reach into it.
    RETURN_IF_ERROR(rocks::ToStatus(
        rocksdb::DeleteFilesInRange(log->db(), family, nullptr, &upper, false),
        what));
    rocksdb::CompactRangeOptions options;
    options.exclusive_manual_compaction = false;
    options.bottommost_level_compaction =
        rocksdb::BottommostLevelCompaction::kForceOptimized;
    RETURN_IF_ERROR(rocks::ToStatus(
        log->db()->CompactRange(options, family, nullptr, &upper), what));
  }
  // The write-ahead log has the records too, until every family is flushed.
  return rocks::ToStatus(log->db()->Flush(rocksdb::FlushOptions(),
                                          {log->meta(), log->decisions(),
                                           log->events(), log->snapshots()}),
                         "free space of the event log");
}

bool CollectAds(absl::string_view decision_value,
                absl::flat_hash_set<Hash128Value>* ads) {
  if (decision_value.empty()) return false;
  decision_value.remove_prefix(1);
  CodedInputStream in(reinterpret_cast<const uint8_t*>(decision_value.data()),
                      static_cast<int>(decision_value.size()));
  while (const uint32_t tag = in.ReadTag()) {
    const bool served_ad =
        tag ==
        WireFormatLite::MakeTag(v1::Decision::kAdsFieldNumber,
                                WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
    if (!(served_ad ? CollectServedAd(&in, ads)
                    : WireFormatLite::SkipField(&in, tag))) {
      return false;
    }
  }
  return in.ConsumedEntireMessage();
}

absl::StatusOr<absl::flat_hash_set<Hash128Value>> UsedAds(LogDatabase* log) {
  absl::flat_hash_set<Hash128Value> used;
  std::unique_ptr<rocksdb::Iterator> it(
      log->db()->NewIterator(rocks::ScanOptions(), log->decisions()));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (!CollectAds(rocks::View(it->value()), &used)) {
      return absl::DataLossError(
          absl::StrCat("event log ", log->path(), ": decision ",
                       DecisionId::FromBytes(rocks::View(it->key())).ToHex(),
                       " is damaged"));
    }
  }
  RETURN_IF_ERROR(ReadError(*log, it->status()));
  return used;
}

absl::StatusOr<bool> SweepChunk(
    LogDatabase* log, const std::function<bool(const Hash128Value&)>& is_used,
    size_t limit, std::string* position) {
  std::unique_ptr<rocksdb::Iterator> it(
      log->db()->NewIterator(rocks::ScanOptions(), log->snapshots()));
  rocksdb::WriteBatch batch;
  uint64_t unused = 0;
  size_t seen = 0;
  for (it->Seek(*position); it->Valid() && seen < limit; it->Next(), ++seen) {
    if (is_used(HashKey(rocks::View(it->key())))) continue;
    batch.Delete(log->snapshots(), it->key());
    ++unused;
  }
  RETURN_IF_ERROR(ReadError(*log, it->status()));
  *position = it->Valid() ? it->key().ToString() : std::string();
  if (unused == 0) return false;
  log_format::Counters counters = log->counters();
  counters.snapshots -= std::min(counters.snapshots, unused);
  RETURN_IF_ERROR(log->Commit(&batch, counters, /*sync=*/true));
  return true;
}

absl::Status CompactSnapshots(LogDatabase* log) {
  return rocks::ToStatus(
      log->db()->CompactRange(rocksdb::CompactRangeOptions(), log->snapshots(),
                              nullptr, nullptr),
      "free space of the event log");
}

}  // namespace adrank::retention
