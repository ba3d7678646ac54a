#include "storage/rocks.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "rocksdb/cache.h"
#include "rocksdb/convenience.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/table.h"

namespace adrank::rocks {
namespace {

constexpr char kFormatKey[] = "format";
constexpr uintmax_t kMinFreeBytes = 8 << 20;

// Files that RocksDB leaves when it dies before a new database is complete.
bool IsUnfinishedFile(absl::string_view name) {
  return name == "LOCK" || name == "IDENTITY" || name == "lost" ||
         absl::StartsWith(name, "LOG") || absl::StartsWith(name, "MANIFEST-") ||
         absl::StartsWith(name, "OPTIONS-") || absl::EndsWith(name, ".dbtmp") ||
         absl::EndsWith(name, ".log");
}

absl::Status NotOurs(const Spec& spec, absl::string_view reason) {
  return absl::FailedPreconditionError(
      absl::StrCat(spec.path, " is not an adrank ", spec.noun, ": ", reason));
}

// A directory that has something else in it must not become a database.
absl::Status CheckDirectory(const Spec& spec, rocksdb::Env* env, bool* fresh) {
  std::vector<std::string> names;
  const rocksdb::Status listed = env->GetChildren(spec.path, &names);
  *fresh = true;
  if (listed.IsNotFound()) return absl::OkStatus();
  if (!listed.ok()) return NotOurs(spec, listed.ToString());
  if (std::count(names.begin(), names.end(), "CURRENT") > 0) {
    *fresh = false;
    return absl::OkStatus();
  }
  for (const std::string& name : names) {
    if (name == "." || name == "..") continue;
    if (absl::EndsWith(name, ".sst")) {
      return absl::DataLossError(
          absl::StrCat(spec.noun, " ", spec.path,
                       " is damaged: the file CURRENT is missing"));
    }
    if (!IsUnfinishedFile(name)) {
      return NotOurs(spec, absl::StrCat("it contains \"", name, "\""));
    }
  }
  return absl::OkStatus();
}

// Opening makes the families that are missing, as after a crash while the
// database was made; someone else's database must be left as it is.
absl::Status CheckUnfinished(const Spec& spec,
                             const rocksdb::DBOptions& options) {
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status s = rocksdb::DB::OpenForReadOnly(
      rocksdb::Options(options, spec.families[0].options), spec.path, &raw);
  std::unique_ptr<rocksdb::DB> db(raw);
  RETURN_IF_ERROR(ToStatus(s, absl::StrCat("open ", spec.path)));
  std::unique_ptr<rocksdb::Iterator> it(
      db->NewIterator(rocksdb::ReadOptions()));
  it->SeekToFirst();
  return it->Valid() ? CheckFormat(spec, db.get()) : absl::OkStatus();
}

// Someone else's RocksDB has other families.
absl::Status CheckFamilies(const Spec& spec,
                           const rocksdb::DBOptions& options) {
  std::vector<std::string> names;
  const rocksdb::Status s =
      rocksdb::DB::ListColumnFamilies(options, spec.path, &names);
  if (!s.ok()) {
    return absl::DataLossError(
        absl::StrCat(spec.noun, " ", spec.path, " is damaged: ", s.ToString()));
  }
  for (const std::string& name : names) {
    const bool known = std::any_of(
        spec.families.begin(), spec.families.end(),
        [&](const auto& descriptor) { return descriptor.name == name; });
    if (!known) {
      return NotOurs(spec, absl::StrCat("it has a column family \"", name,
                                        "\" that this version does not know"));
    }
  }
  return names.size() < spec.families.size() ? CheckUnfinished(spec, options)
                                             : absl::OkStatus();
}

absl::Status OpenError(const Spec& spec, const rocksdb::Status& s) {
  const std::string reason = s.ToString();
  if (absl::StrContains(reason, "lock hold by current process") ||
      absl::StrContains(reason, "While lock file")) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec.noun, " ", spec.path,
                     " is open for writing in another process (its file "
                     "LOCK is held); stop that process first"));
  }
  if (s.IsCorruption() || s.IsPathNotFound()) {
    return absl::DataLossError(
        absl::StrCat(spec.noun, " ", spec.path, " is damaged: ", reason));
  }
  if (s.IsInvalidArgument()) return NotOurs(spec, reason);
  return absl::UnavailableError(
      absl::StrCat("open ", spec.noun, " ", spec.path, ": ", reason));
}

bool IsEmpty(const Database& database) {
  for (rocksdb::ColumnFamilyHandle* family : database.families) {
    std::unique_ptr<rocksdb::Iterator> it(
        database.db->NewIterator(rocksdb::ReadOptions(), family));
    it->SeekToFirst();
    if (it->Valid() || !it->status().ok()) return false;
  }
  return true;
}

absl::Status WriteFormat(const Spec& spec, rocksdb::DB* db) {
  rocksdb::WriteOptions synced;
  synced.sync = true;
  return ToStatus(
      db->Put(synced, kFormatKey,
              absl::StrCat(spec.format_prefix, spec.format_version)),
      absl::StrCat("write the format of ", spec.path));
}

}  // namespace

absl::Status CheckFreeSpace(const std::string& path) {
  std::error_code error;
  std::filesystem::path at = path;
  std::filesystem::space_info space = std::filesystem::space(at, error);
  while (error && at.has_parent_path() && at != at.parent_path()) {
    at = at.parent_path();
    space = std::filesystem::space(at, error);
  }
  // Whatever is wrong with the path is told by who opens it.
  if (error || space.available >= kMinFreeBytes) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the disk of ", path, " is full: ", space.available,
                   " bytes are free, at least ", kMinFreeBytes, " are needed"));
}

absl::Status ToStatus(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  if (status.IsCorruption()) return absl::DataLossError(message);
  if (status.IsNotFound()) return absl::NotFoundError(message);
  return absl::UnavailableError(message);
}

rocksdb::ColumnFamilyOptions FamilyOptions(
    Access access, size_t write_buffer_bytes,
    const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  // 64 KiB blocks read as fast with LZ4 as without; point lookups that miss the
  // cache pay for the whole block.
  table.block_size = access == Access::kScan ? 64 << 10 : 16 << 10;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  // Filters of a large log (1.25 bytes a key) are cached and not all held.
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.format_version = 5;
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kLZ4Compression;
  options.write_buffer_size = write_buffer_bytes;
  options.max_write_buffer_number = 4;
  options.target_file_size_base = 128 << 20;
  options.max_bytes_for_level_base = 512 << 20;
  options.memtable_whole_key_filtering = true;
  options.memtable_prefix_bloom_size_ratio = 0.02;
  return options;
}

rocksdb::DBOptions DatabaseOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.max_background_jobs = 2;
  options.max_total_wal_size = 256 << 20;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.max_log_file_size = 1 << 20;
  options.keep_log_file_num = 3;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.bytes_per_sync = 1 << 20;
  // A torn last record is what a crash leaves, and nothing acknowledged is in
  // it. Damage before it must not pass for the end of the log.
  options.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  return options;
}

rocksdb::ReadOptions ScanOptions() {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  options.readahead_size = 2 << 20;
  return options;
}

Database::~Database() {
  if (db == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* family : families) {
    db->DestroyColumnFamilyHandle(family);
  }
}

absl::Status CheckFormat(const Spec& spec, rocksdb::DB* db) {
  std::string marker;
  const rocksdb::Status s =
      db->Get(rocksdb::ReadOptions(), kFormatKey, &marker);
  if (s.IsNotFound()) return NotOurs(spec, "it has no format marker");
  RETURN_IF_ERROR(ToStatus(s, absl::StrCat("read the format of ", spec.path)));
  absl::string_view number = marker;
  int version = 0;
  if (!absl::ConsumePrefix(&number, spec.format_prefix) ||
      !absl::SimpleAtoi(number, &version)) {
    return NotOurs(spec, absl::StrCat("its format is \"", marker, "\""));
  }
  if (version > spec.format_version || version < 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        spec.noun, " ", spec.path, " has format ", version,
        ", which a newer version of adrank wrote; this one reads up to ",
        spec.format_version));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Database>> Open(
    const Spec& spec, const rocksdb::DBOptions& options) {
  bool fresh = false;
  RETURN_IF_ERROR(CheckDirectory(spec, options.env, &fresh));
  RETURN_IF_ERROR(CheckFreeSpace(spec.path));
  if (fresh) {
    RETURN_IF_ERROR(files::MakeDirectories(spec.path));
  } else {
    RETURN_IF_ERROR(CheckFamilies(spec, options));
  }
  auto database = std::make_unique<Database>();
  database->path = spec.path;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status s = rocksdb::DB::Open(options, spec.path, spec.families,
                                              &database->families, &db);
  if (!s.ok()) return OpenError(spec, s);
  database->db.reset(db);
  if (IsEmpty(*database)) RETURN_IF_ERROR(WriteFormat(spec, db));
  RETURN_IF_ERROR(CheckFormat(spec, db));
  return database;
}

}  // namespace adrank::rocks
