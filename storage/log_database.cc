#include "storage/log_database.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "rocksdb/cache.h"

namespace adrank {

using log_format::EventKey;
using log_format::EventValue;

namespace {

constexpr size_t kBlockCacheBytes = 128 << 20;

// The last key of a family, empty when there is none.
absl::StatusOr<std::string> LastKey(rocksdb::DB* db,
                                    rocksdb::ColumnFamilyHandle* family,
                                    size_t size, const std::string& path) {
  std::unique_ptr<rocksdb::Iterator> it(
      db->NewIterator(rocksdb::ReadOptions(), family));
  it->SeekToLast();
  RETURN_IF_ERROR(
      rocks::ToStatus(it->status(), absl::StrCat("read event log ", path)));
  if (!it->Valid()) return std::string();
  if (it->key().size() != size) {
    return absl::DataLossError(absl::StrCat("event log ", path, ": a key of ",
                                            family->GetName(), " has ",
                                            it->key().size(), " bytes"));
  }
  return it->key().ToString();
}

}  // namespace

std::string LogPath(const std::string& data_dir) {
  return files::Join(data_dir, "log");
}

rocks::Spec LogSpec(const std::string& data_dir,
                    const std::shared_ptr<rocksdb::Cache>& cache) {
  rocks::Spec spec;
  spec.path = LogPath(data_dir);
  spec.noun = "event log";
  spec.format_prefix = log_format::kFormatPrefix;
  spec.format_version = log_format::kFormatVersion;
  const auto scan = [&](size_t buffer) {
    return rocks::FamilyOptions(rocks::Access::kScan, buffer, cache);
  };
  spec.families = {
      {rocksdb::kDefaultColumnFamilyName, scan(1 << 20)},
      {log_format::kDecisionsFamily, scan(64 << 20)},
      {log_format::kEventsFamily, scan(64 << 20)},
      {log_format::kSnapshotsFamily,
       rocks::FamilyOptions(rocks::Access::kPoint, 16 << 20, cache)}};
  return spec;
}

absl::StatusOr<std::unique_ptr<LogDatabase>> LogDatabase::Open(
    const std::string& data_dir, rocksdb::Env* env) {
  auto log = std::unique_ptr<LogDatabase>(new LogDatabase);
  ASSIGN_OR_RETURN(
      log->database_,
      rocks::Open(LogSpec(data_dir, rocksdb::NewLRUCache(kBlockCacheBytes)),
                  rocks::DatabaseOptions(env)));
  RETURN_IF_ERROR(log->ReadState());
  return log;
}

absl::Status LogDatabase::ReadState() {
  std::string bytes;
  const rocksdb::Status s =
      db()->Get(rocksdb::ReadOptions(), log_format::kCountersKey, &bytes);
  if (!s.IsNotFound()) {
    RETURN_IF_ERROR(
        rocks::ToStatus(s, absl::StrCat("read counters of ", path())));
  }
  counters_ = log_format::Counters::Decode(bytes);
  ASSIGN_OR_RETURN(const std::string decision,
                   LastKey(db(), decisions(), DecisionId::kBytes, path()));
  if (!decision.empty()) largest_decision_ = DecisionId::FromBytes(decision);
  ASSIGN_OR_RETURN(const std::string event,
                   LastKey(db(), events(), log_format::kEventKeyBytes, path()));
  if (!event.empty()) largest_event_ = EventKey::FromBytes(event);
  return absl::OkStatus();
}

absl::StatusOr<bool> LogDatabase::HasDecision(const DecisionId& id) const {
  if (!largest_decision_.has_value() || id > *largest_decision_) return false;
  std::string key;
  id.AppendTo(&key);
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      db()->Get(rocksdb::ReadOptions(), decisions(), key, &value);
  if (s.IsNotFound()) return false;
  RETURN_IF_ERROR(rocks::ToStatus(s, absl::StrCat("read event log ", path())));
  return true;
}

absl::StatusOr<bool> LogDatabase::HasSnapshot(absl::string_view hash) const {
  rocksdb::PinnableSlice value;
  const rocksdb::Status s = db()->Get(rocksdb::ReadOptions(), snapshots(),
                                      rocks::Slice(hash), &value);
  if (s.IsNotFound()) return false;
  RETURN_IF_ERROR(rocks::ToStatus(s, absl::StrCat("read event log ", path())));
  return true;
}

absl::StatusOr<std::optional<EventValue>> LogDatabase::FindEvent(
    const EventKey& key) const {
  if (!largest_event_.has_value() || key > *largest_event_) return std::nullopt;
  std::string bytes;
  key.AppendTo(&bytes);
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      db()->Get(rocksdb::ReadOptions(), events(), bytes, &value);
  if (s.IsNotFound()) return std::nullopt;
  RETURN_IF_ERROR(rocks::ToStatus(s, absl::StrCat("read event log ", path())));
  if (value.size() != log_format::kEventValueBytes) {
    return absl::DataLossError(absl::StrCat("event log ", path(),
                                            ": an event of decision ",
                                            key.id.ToHex(), " is damaged"));
  }
  return EventValue::FromBytes(rocks::View(value));
}

absl::StatusOr<v1::Decision> LogDatabase::GetDecision(
    const DecisionId& id) const {
  std::string key;
  id.AppendTo(&key);
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      db()->Get(rocksdb::ReadOptions(), decisions(), key, &value);
  RETURN_IF_ERROR(rocks::ToStatus(s, absl::StrCat("decision ", id.ToHex())));
  v1::Decision decision;
  if (!log_format::ParseDecisionValue(id, rocks::View(value), &decision)) {
    return absl::DataLossError(absl::StrCat("event log ", path(), ": decision ",
                                            id.ToHex(), " is damaged"));
  }
  return decision;
}

absl::StatusOr<v1::AdSnapshot> LogDatabase::GetSnapshot(
    absl::string_view hash) const {
  std::string value;
  RETURN_IF_ERROR(rocks::ToStatus(db()->Get(rocksdb::ReadOptions(), snapshots(),
                                            rocks::Slice(hash), &value),
                                  absl::StrCat("read a snapshot of ", path())));
  v1::AdSnapshot snapshot;
  if (snapshot.ParseFromString(value)) return snapshot;
  return absl::DataLossError(
      absl::StrCat("event log ", path(), ": a snapshot is damaged"));
}

absl::Status LogDatabase::ForEachEvent(
    int64_t begin_ms,
    const std::function<absl::Status(const StoredEvent&)>& visit) const {
  std::unique_ptr<rocksdb::Iterator> it(
      db()->NewIterator(rocks::ScanOptions(), events()));
  std::string begin;
  DecisionId{static_cast<uint64_t>(std::max<int64_t>(begin_ms, 0)), 0, 0}
      .AppendTo(&begin);
  for (it->Seek(begin); it->Valid(); it->Next()) {
    if (it->key().size() != log_format::kEventKeyBytes ||
        it->value().size() != log_format::kEventValueBytes) {
      return absl::DataLossError(
          absl::StrCat("event log ", path(), ": an event is damaged"));
    }
    const EventKey key = EventKey::FromBytes(rocks::View(it->key()));
    const EventValue value = EventValue::FromBytes(rocks::View(it->value()));
    RETURN_IF_ERROR(
        visit({key.id, key.position, static_cast<v1::EventType>(key.type),
               value.receive_ms}));
  }
  return rocks::ToStatus(it->status(), absl::StrCat("read ", path()));
}

absl::StatusOr<std::vector<v1::Decision>> LogDatabase::NewestDecisions(
    size_t limit) const {
  std::vector<v1::Decision> newest;
  std::unique_ptr<rocksdb::Iterator> it(
      db()->NewIterator(rocks::ScanOptions(), decisions()));
  for (it->SeekToLast(); it->Valid() && newest.size() < limit; it->Prev()) {
    const DecisionId id = DecisionId::FromBytes(rocks::View(it->key()));
    if (!log_format::ParseDecisionValue(id, rocks::View(it->value()),
                                        &newest.emplace_back())) {
      return absl::DataLossError(absl::StrCat(
          "event log ", path(), ": decision ", id.ToHex(), " is damaged"));
    }
  }
  RETURN_IF_ERROR(
      rocks::ToStatus(it->status(), absl::StrCat("event log ", path())));
  return newest;
}

uint64_t LogDatabase::DiskBytes() const {
  rocksdb::Env* const env = db()->GetEnv();
  std::vector<std::string> names;
  if (!env->GetChildren(path(), &names).ok()) return 0;
  uint64_t total = 0;
  for (const std::string& name : names) {
    uint64_t bytes = 0;
    // A file may go away meanwhile; directories have no size here.
    if (env->GetFileSize(files::Join(path(), name), &bytes).ok()) {
      total += bytes;
    }
  }
  return total;
}

absl::Status LogDatabase::Commit(rocksdb::WriteBatch* batch,
                                 log_format::Counters after, bool sync) {
  ++after.commits;
  batch->Put(meta(), log_format::kCountersKey, after.Encode());
  rocksdb::WriteOptions options;
  options.sync = sync;
  RETURN_IF_ERROR(rocks::ToStatus(db()->Write(options, batch),
                                  absl::StrCat("write event log ", path())));
  counters_ = after;
  return absl::OkStatus();
}

void LogDatabase::RaiseLargest(const std::optional<DecisionId>& decision,
                               const std::optional<EventKey>& event) {
  largest_decision_ = std::max(largest_decision_, decision);
  largest_event_ = std::max(largest_event_, event);
}

void LogBatchBuilder::Reset(LogDatabase* log) {
  log_ = log;
  batch_.Clear();
  counters_ = log->counters();
  decisions_.clear();
  unsorted_decisions_.clear();
  events_.clear();
  event_index_.clear();
  ads_.clear();
}

bool LogBatchBuilder::IsPending(const DecisionId& id) const {
  if (!unsorted_decisions_.empty()) return unsorted_decisions_.contains(id);
  return std::binary_search(decisions_.begin(), decisions_.end(), id);
}

absl::Status LogBatchBuilder::AddDecision(const DecisionId& id,
                                          absl::string_view value) {
  ASSIGN_OR_RETURN(bool known, log_->HasDecision(id));
  const bool in_order = decisions_.empty() || id > decisions_.back();
  known =
      known || (!(in_order && unsorted_decisions_.empty()) && IsPending(id));
  if (known) return absl::OkStatus();
  if (!in_order && unsorted_decisions_.empty()) {
    unsorted_decisions_.insert(decisions_.begin(), decisions_.end());
  }
  decisions_.push_back(id);
  if (!unsorted_decisions_.empty()) unsorted_decisions_.insert(id);
  key_.clear();
  id.AppendTo(&key_);
  batch_.Put(log_->decisions(), key_, rocks::Slice(value));
  ++counters_.decisions;
  return absl::OkStatus();
}

void LogBatchBuilder::AddSnapshot(absl::string_view hash,
                                  absl::string_view bytes) {
  if (!ads_.insert(HashKey(hash)).second) return;
  const absl::StatusOr<bool> known = log_->HasSnapshot(hash);
  if (known.ok() && *known) return;
  batch_.Put(log_->snapshots(), rocks::Slice(hash), rocks::Slice(bytes));
  if (known.ok()) ++counters_.snapshots;
}

absl::StatusOr<v1::EventResult::Code> LogBatchBuilder::AddEvent(
    const EventKey& key, int64_t time_ms, int64_t receive_ms) {
  const auto [it, inserted] = event_index_.try_emplace(key, events_.size());
  if (!inserted) {
    ++events_[it->second].value.duplicates;
    ++counters_.duplicate_events;
    return v1::EventResult::CODE_DUPLICATE;
  }
  absl::StatusOr<std::optional<EventValue>> stored = log_->FindEvent(key);
  absl::StatusOr<bool> known = IsPending(key.id);
  if (stored.ok() && !stored->has_value() && !*known) {
    known = log_->HasDecision(key.id);
  }
  if (!stored.ok() || !known.ok()) {
    event_index_.erase(it);
    return stored.ok() ? known.status() : stored.status();
  }
  if (stored->has_value()) {
    events_.push_back({key, **stored});
    ++events_.back().value.duplicates;
    ++counters_.duplicate_events;
    return v1::EventResult::CODE_DUPLICATE;
  }
  events_.push_back({key, {time_ms, receive_ms, 0}});
  ++counters_.events;
  if (*known) return v1::EventResult::CODE_ACCEPTED;
  ++counters_.unknown_decisions;
  return v1::EventResult::CODE_UNKNOWN_DECISION;
}

absl::Status LogBatchBuilder::Commit(bool sync) {
  std::optional<EventKey> largest_event;
  for (const PendingEvent& event : events_) {
    key_.clear();
    value_.clear();
    event.key.AppendTo(&key_);
    event.value.AppendTo(&value_);
    batch_.Put(log_->events(), key_, value_);
    largest_event = std::max(largest_event, std::optional(event.key));
  }
  RETURN_IF_ERROR(log_->Commit(&batch_, counters_, sync));
  std::optional<DecisionId> largest_decision;
  if (!decisions_.empty()) {
    largest_decision = *std::max_element(decisions_.begin(), decisions_.end());
  }
  log_->RaiseLargest(largest_decision, largest_event);
  return absl::OkStatus();
}

}  // namespace adrank
