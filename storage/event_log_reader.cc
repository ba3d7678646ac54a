#include "storage/event_log_reader.h"

#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "rocksdb/cache.h"
#include "storage/join_cursor.h"
#include "storage/log_database.h"
#include "storage/log_format.h"

namespace adrank {
namespace {

constexpr size_t kBlockCacheBytes = 32 << 20;
// The writer deletes files while they are being opened only when a flush or a
// compaction ends just then.
constexpr int kOpenAttempts = 20;

// Where RocksDB writes the secondary's own log. Removed with the object.
class ScratchDir {
 public:
  static absl::StatusOr<ScratchDir> Make() {
    std::error_code error;
    const auto base = std::filesystem::temp_directory_path(error);
    if (error) return absl::ErrnoToStatus(error.value(), "temporary directory");
    std::string pattern = (base / "adrank_reader.XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {
      return absl::ErrnoToStatus(errno, absl::StrCat("create ", pattern));
    }
    ScratchDir dir;
    dir.path_ = pattern;
    return dir;
  }
  ScratchDir() = default;
  ScratchDir(ScratchDir&& other) noexcept { std::swap(path_, other.path_); }
  ScratchDir& operator=(ScratchDir&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~ScratchDir() {
    if (!path_.empty()) files::RemoveAll(path_).IgnoreError();
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

absl::StatusOr<std::vector<std::string>> WriteAheadLogs(
    const std::string& path) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, files::List(path));
  names.erase(std::remove_if(names.begin(), names.end(),
                             [](const std::string& name) {
                               return !absl::EndsWith(name, ".log");
                             }),
              names.end());
  return names;
}

class EventLogReaderImpl final : public EventLogReader {
 public:
  EventLogReaderImpl(ScratchDir scratch,
                     std::unique_ptr<rocks::Database> database)
      : scratch_(std::move(scratch)), database_(std::move(database)) {}

  std::unique_ptr<JoinCursor> Join(int64_t begin_ms, int64_t end_ms) override {
    return MakeJoinCursor(database_->db.get(), decisions(), events(),
                          database_->path, begin_ms, end_ms);
  }
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view hash) override;
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) override;
  absl::StatusOr<std::pair<int64_t, int64_t>> TimeRange() override;

 private:
  rocksdb::ColumnFamilyHandle* decisions() const {
    return database_->families[1];
  }
  rocksdb::ColumnFamilyHandle* events() const { return database_->families[2]; }
  rocksdb::ColumnFamilyHandle* snapshots() const {
    return database_->families[3];
  }
  absl::Status Damaged(absl::string_view what) const {
    return absl::DataLossError(
        absl::StrCat("event log ", database_->path, ": ", what, " is damaged"));
  }

  const ScratchDir scratch_;  // outlives the database
  const std::unique_ptr<rocks::Database> database_;
};

absl::StatusOr<v1::AdSnapshot> EventLogReaderImpl::GetSnapshot(
    absl::string_view hash) {
  const std::string name =
      absl::StrCat("snapshot ", absl::BytesToHexString(hash));
  rocksdb::PinnableSlice value;
  const rocksdb::Status s = database_->db->Get(
      rocksdb::ReadOptions(), snapshots(), rocks::Slice(hash), &value);
  RETURN_IF_ERROR(rocks::ToStatus(s, name));
  v1::AdSnapshot ad;
  if (!ad.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return Damaged(name);
  }
  return ad;
}

absl::StatusOr<v1::Decision> EventLogReaderImpl::GetDecision(
    const DecisionId& id) {
  const std::string name = absl::StrCat("decision ", id.ToHex());
  std::string key;
  id.AppendTo(&key);
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      database_->db->Get(rocksdb::ReadOptions(), decisions(), key, &value);
  RETURN_IF_ERROR(rocks::ToStatus(s, name));
  v1::Decision decision;
  if (!log_format::ParseDecisionValue(id, rocks::View(value), &decision)) {
    return Damaged(name);
  }
  return decision;
}

absl::StatusOr<std::pair<int64_t, int64_t>> EventLogReaderImpl::TimeRange() {
  std::unique_ptr<rocksdb::Iterator> it(
      database_->db->NewIterator(rocksdb::ReadOptions(), decisions()));
  std::pair<int64_t, int64_t> range;
  for (const bool last : {false, true}) {
    if (last) {
      it->SeekToLast();
    } else {
      it->SeekToFirst();
    }
    RETURN_IF_ERROR(rocks::ToStatus(
        it->status(), absl::StrCat("read event log ", database_->path)));
    if (!it->Valid()) {
      return absl::NotFoundError(
          absl::StrCat("event log ", database_->path, " has no decisions"));
    }
    if (it->key().size() != DecisionId::kBytes) return Damaged("a key");
    (last ? range.second : range.first) =
        DecisionId::FromBytes(rocks::View(it->key())).ms;
  }
  return range;
}

// Brings `db` up to date in a pass during which the writer deleted none of the
// write-ahead logs that the pass needs. In a pass that saw one go the secondary
// may have read later records without earlier ones.
absl::StatusOr<bool> CatchUpWhole(rocksdb::DB* db, const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<std::string> before, WriteAheadLogs(path));
  const rocksdb::Status s = db->TryCatchUpWithPrimary();
  if (s.IsCorruption()) {
    return rocks::ToStatus(s, absl::StrCat("event log ", path, " is damaged"));
  }
  if (!s.ok()) return false;
  uint64_t needed = 0;
  if (!db->GetIntProperty(rocksdb::DB::Properties::kMinLogNumberToKeep,
                          &needed)) {
    return false;
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> after, WriteAheadLogs(path));
  return std::all_of(before.begin(), before.end(), [&](const auto& name) {
    uint64_t number = 0;
    return (absl::SimpleAtoi(name.substr(0, name.size() - 4), &number) &&
            number < needed) ||
           std::binary_search(after.begin(), after.end(), name);
  });
}

// A secondary shows nothing of a family of which a file is missing.
absl::Status CheckReadable(const rocks::Spec& spec, rocksdb::DB* db) {
  const absl::Status format = rocks::CheckFormat(spec, db);
  uint64_t tables = 0;
  for (const std::string& name :
       files::List(spec.path).value_or(std::vector<std::string>())) {
    tables += absl::EndsWith(name, ".sst");
  }
  if (!absl::IsFailedPrecondition(format) || tables == 0) return format;
  return absl::FailedPreconditionError(
      absl::StrCat(format.message(),
                   ", or files of it are missing (adrank-server says "
                   "which)"));
}

absl::StatusOr<std::unique_ptr<rocks::Database>> OpenSecondary(
    const rocks::Spec& spec, const std::string& scratch) {
  rocksdb::DBOptions options = rocks::DatabaseOptions(nullptr);
  options.create_if_missing = false;
  options.create_missing_column_families = false;
  // A secondary keeps every file open, so that the writer's deletions do not
  // reach what it sees.
  options.max_open_files = -1;
  auto database = std::make_unique<rocks::Database>();
  database->path = spec.path;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status s = rocksdb::DB::OpenAsSecondary(
      options, spec.path, scratch, spec.families, &database->families, &db);
  RETURN_IF_ERROR(
      rocks::ToStatus(s, absl::StrCat("open event log ", spec.path)));
  database->db.reset(db);
  return database;
}

}  // namespace

bool JoinedRecord::Parse(v1::Decision* out) const {
  if (!has_decision() ||
      !out->ParseFromArray(decision.data(),
                           static_cast<int>(decision.size()))) {
    return false;
  }
  out->set_decision_id(id.ToHex());
  return true;
}

absl::StatusOr<std::unique_ptr<EventLogReader>> EventLogReader::Open(
    const std::string& data_dir) {
  const rocks::Spec spec =
      LogSpec(data_dir, rocksdb::NewLRUCache(kBlockCacheBytes));
  if (!files::Exists(files::Join(spec.path, "CURRENT"))) {
    return absl::NotFoundError(
        absl::StrCat("there is no event log in ", data_dir));
  }
  absl::Status last;
  for (int attempt = 0; attempt < kOpenAttempts; ++attempt) {
    if (attempt > 0) absl::SleepFor(absl::Milliseconds(20 * attempt));
    ASSIGN_OR_RETURN(ScratchDir scratch, ScratchDir::Make());
    absl::StatusOr<std::unique_ptr<rocks::Database>> database =
        OpenSecondary(spec, scratch.path());
    if (!database.ok()) {
      last = database.status();
      continue;
    }
    for (int pass = 0; pass < kOpenAttempts; ++pass) {
      ASSIGN_OR_RETURN(const bool whole,
                       CatchUpWhole((*database)->db.get(), spec.path));
      if (!whole) continue;
      // Not before: a table that the writer has just replaced hides the marker.
      RETURN_IF_ERROR(CheckReadable(spec, (*database)->db.get()));
      return std::make_unique<EventLogReaderImpl>(std::move(scratch),
                                                  *std::move(database));
    }
    last = absl::UnavailableError(absl::StrCat(
        "event log ", spec.path, " changes too fast to be read whole"));
  }
  return last;
}

}  // namespace adrank
