#include "storage/catalog_store.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/internal/endian.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "rocksdb/cache.h"
#include "storage/catalog_history.h"
#include "storage/catalog_keys.h"
#include "storage/catalog_part.h"
#include "storage/catalog_transaction.h"
#include "storage/rocks.h"

namespace adrank {

using catalog::AddEntity;
using catalog::EntityBytes;
using catalog::kEntities;
using catalog::kHistory;
using catalog::kMaxIdBytes;
using catalog::kVersionKey;
using catalog::Name;
using catalog::OwnerBytes;

namespace {

constexpr size_t kBlockCacheBytes = 64 << 20;
// What LoadChanges remembers at most.
constexpr size_t kRecentChanges = 1 << 20;

rocks::Spec CatalogSpec(const std::string& data_dir) {
  rocks::Spec spec;
  spec.path = files::Join(data_dir, "catalog");
  spec.noun = "catalogue";
  spec.format_prefix = "adrank catalogue ";
  spec.format_version = 1;
  const auto cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  const auto family = [&](size_t buffer) {
    return rocks::FamilyOptions(rocks::Access::kPoint, buffer, cache);
  };
  spec.families = {{rocksdb::kDefaultColumnFamilyName, family(1 << 20)},
                   {"entities", family(32 << 20)},
                   {"history", family(32 << 20)},
                   {"children", family(16 << 20)}};
  return spec;
}

absl::StatusOr<std::unique_ptr<rocks::Database>> OpenCatalog(
    const std::string& data_dir) {
  return rocks::Open(CatalogSpec(data_dir), rocks::DatabaseOptions(nullptr));
}

// 0 of a new catalogue.
absl::StatusOr<int64_t> ReadVersion(const rocks::Database& database) {
  std::string bytes;
  const rocksdb::Status s =
      database.db->Get(rocksdb::ReadOptions(), kVersionKey, &bytes);
  if (s.IsNotFound()) return 0;
  if (s.ok() && bytes.size() == 8) {
    return static_cast<int64_t>(absl::big_endian::Load64(bytes.data()));
  }
  return absl::DataLossError(
      absl::StrCat("catalogue ", database.path,
                   ": its version cannot be read: ", s.ToString()));
}

class CatalogStoreImpl final : public CatalogStore {
 public:
  CatalogStoreImpl(const std::string& data_dir,
                   std::unique_ptr<rocks::Database> database,
                   const Clock* clock, int64_t version)
      : data_dir_(data_dir),
        path_(database->path),
        clock_(clock),
        database_(std::move(database)),
        version_(version),
        recent_since_(version) {}

  absl::StatusOr<ApplyResult> Apply(
      absl::Span<const v1::CatalogOperation> operations,
      const ApplyOptions& options) override;
  // Does not wait for an Apply, which may take a minute.
  int64_t Version() override { return version_; }
  absl::StatusOr<std::pair<v1::Catalog, int64_t>> Load() override;
  absl::StatusOr<CatalogChanges> LoadChanges(
      int64_t since,
      const std::function<
          std::vector<std::string>(absl::Span<const v1::EntityKey>)>& also,
      size_t max_groups) override;
  absl::StatusOr<v1::Catalog> LoadVersion(int64_t version) override;
  absl::StatusOr<std::vector<v1::CatalogEntity>> List(
      v1::EntityType type, const v1::EntityKey& after, uint32_t limit) override;
  absl::StatusOr<v1::CatalogEntity> Get(const v1::EntityKey& key) override;
  absl::StatusOr<std::vector<v1::CatalogChange>> History(
      const v1::EntityKey& key, uint32_t limit) override;

 private:
  // Makes the store writable again after a failed write: told to go on, or
  // opened anew. Unavailable, with the store as it was, while the disk is full.
  absl::Status Recover() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For readers, who do not hold mu_; keeps the database open.
  absl::StatusOr<std::shared_ptr<const rocks::Database>> Pin() const;

  // For who holds mu_, after Recover.
  rocksdb::DB* db() const { return database_->db.get(); }
  absl::Status ToStatus(const rocksdb::Status& s) const {
    return rocks::ToStatus(s, absl::StrCat("catalogue ", path_));
  }

  absl::StatusOr<CatalogVectors> CountVectors() const;
  void Remember(absl::Span<const v1::CatalogOperation> operations,
                const ApplyResult& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Parse(rocksdb::Iterator* it, v1::CatalogEntity* entity) const;

  const std::string data_dir_, path_;
  const Clock* const clock_;
  absl::Mutex mu_;  // one writer at a time; before database_mu_
  mutable absl::Mutex database_mu_;
  // Changed with both held. Null when it could not be opened anew.
  std::shared_ptr<const rocks::Database> database_;
  std::atomic<int64_t> version_;  // changed with mu_ held
  // What changed after version recent_since_, in the order of versions.
  std::deque<std::pair<int64_t, v1::EntityKey>> recent_ ABSL_GUARDED_BY(mu_);
  int64_t recent_since_ ABSL_GUARDED_BY(mu_);
  // Counted when the first one is put in.
  std::optional<CatalogVectors> vectors_ ABSL_GUARDED_BY(mu_);
};

absl::Status CatalogStoreImpl::Recover() {
  if (database_ != nullptr && db()->Resume().ok()) return absl::OkStatus();
  // RocksDB does not resume after a failed write of its write-ahead log.
  RETURN_IF_ERROR(rocks::CheckFreeSpace(path_));
  {
    absl::MutexLock lock(&database_mu_);
    database_.reset();
  }
  // The last reader that pins the old one closes it and gives up its lock.
  absl::StatusOr<std::unique_ptr<rocks::Database>> opened =
      OpenCatalog(data_dir_);
  for (int i = 0; i < 200 && absl::IsFailedPrecondition(opened.status()); ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    opened = OpenCatalog(data_dir_);
  }
  if (!opened.ok()) return absl::UnavailableError(opened.status().message());
  // A write that failed may have reached the disk nevertheless.
  ASSIGN_OR_RETURN(version_, ReadVersion(**opened));
  recent_.clear();
  recent_since_ = version_;
  vectors_.reset();
  LOG(WARNING) << "catalogue " << path_ << " was opened anew, version "
               << version_;
  absl::MutexLock lock(&database_mu_);
  database_ = *std::move(opened);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const rocks::Database>> CatalogStoreImpl::Pin()
    const {
  absl::MutexLock lock(&database_mu_);
  if (database_ != nullptr) return database_;
  return absl::UnavailableError(absl::StrCat(
      "catalogue ", path_, " failed; the next change opens it anew"));
}

absl::StatusOr<CatalogVectors> CatalogStoreImpl::CountVectors() const {
  CatalogVectors vectors;
  const std::string ads(1, static_cast<char>(v1::ENTITY_TYPE_AD));
  std::unique_ptr<rocksdb::Iterator> it(
      db()->NewIterator(rocks::ScanOptions(), database_->families[kEntities]));
  v1::CatalogEntity entity;
  for (it->Seek(ads); it->Valid() && it->key().starts_with(ads); it->Next()) {
    RETURN_IF_ERROR(Parse(it.get(), &entity));
    if (entity.ad().embedding().empty()) continue;
    ++vectors.ads;
    vectors.dims = entity.ad().embedding_size();
  }
  RETURN_IF_ERROR(ToStatus(it->status()));
  return vectors;
}

absl::StatusOr<ApplyResult> CatalogStoreImpl::Apply(
    absl::Span<const v1::CatalogOperation> operations,
    const ApplyOptions& options) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(Recover());
  ApplyResult result;
  result.version = version_;
  if (options.expected_version.value_or(result.version) != result.version) {
    return absl::AbortedError(absl::StrCat(
        "the catalogue has version ", result.version, ", not the expected ",
        *options.expected_version, "; nothing was applied"));
  }
  const auto has_vector = [](const v1::CatalogOperation& operation) {
    return !operation.upsert().ad().embedding().empty();
  };
  if (!vectors_.has_value() &&
      std::any_of(operations.begin(), operations.end(), has_vector)) {
    ASSIGN_OR_RETURN(vectors_, CountVectors());
  }
  CatalogTransaction transaction(database_.get(), result.version + 1,
                                 clock_->NowMs(), vectors_, &options);
  bool failed = false;
  for (const v1::CatalogOperation& operation : operations) {
    absl::Status error;
    RETURN_IF_ERROR(transaction.Add(operation, &error));
    failed = failed || !error.ok();
    result.applied += error.ok();
    result.errors.push_back(std::move(error));
  }
  if (options.want_affected) {
    RETURN_IF_ERROR(transaction.AddAffected(operations, &result));
  }
  if (options.validate_only || (failed && !options.partial_failure)) {
    result.applied = 0;
  }
  if (result.applied == 0) return result;
  RETURN_IF_ERROR(transaction.Commit());
  vectors_ = transaction.vectors();
  result.version = ++version_;
  Remember(operations, result);
  return result;
}

void CatalogStoreImpl::Remember(
    absl::Span<const v1::CatalogOperation> operations,
    const ApplyResult& result) {
  for (size_t i = 0; i < operations.size(); ++i) {
    if (result.errors[i].ok()) {
      recent_.emplace_back(result.version, KeyOf(operations[i]));
    }
  }
  while (recent_.size() > kRecentChanges) {
    recent_since_ = recent_.front().first;
    recent_.pop_front();
  }
  // A version is known whole or not at all.
  while (!recent_.empty() && recent_.front().first == recent_since_) {
    recent_.pop_front();
  }
}

absl::Status CatalogStoreImpl::Parse(rocksdb::Iterator* it,
                                     v1::CatalogEntity* entity) const {
  if (entity->ParseFromArray(it->value().data(),
                             static_cast<int>(it->value().size())) &&
      EntityBytes(KeyOf(*entity)) == rocks::View(it->key())) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("catalogue ", path_, ": the entity with key ",
                   it->key().ToString(/*hex=*/true), " is damaged"));
}

absl::StatusOr<std::pair<v1::Catalog, int64_t>> CatalogStoreImpl::Load() {
  rocksdb::ReadOptions options = rocks::ScanOptions();
  std::pair<v1::Catalog, int64_t> result;
  std::shared_ptr<const rocks::Database> pin;
  {
    absl::MutexLock lock(&mu_);
    ASSIGN_OR_RETURN(pin, Pin());
    options.snapshot = pin->db->GetSnapshot();
    result.second = version_;
  }
  // Deleted before the snapshot is released below.
  absl::Status status;
  {
    std::unique_ptr<rocksdb::Iterator> it(
        pin->db->NewIterator(options, pin->families[kEntities]));
    v1::CatalogEntity entity;
    for (it->SeekToFirst(); it->Valid() && status.ok(); it->Next()) {
      status = Parse(it.get(), &entity);
      AddEntity(&entity, &result.first);
    }
    status.Update(ToStatus(it->status()));
  }
  pin->db->ReleaseSnapshot(options.snapshot);
  RETURN_IF_ERROR(status);
  return result;
}

absl::StatusOr<CatalogChanges> CatalogStoreImpl::LoadChanges(
    int64_t since,
    const std::function<
        std::vector<std::string>(absl::Span<const v1::EntityKey>)>& also,
    size_t max_groups) {
  CatalogChanges changes;
  std::shared_ptr<const rocks::Database> pin;
  const rocksdb::Snapshot* snapshot;
  {
    absl::MutexLock lock(&mu_);
    if (since < recent_since_ || since > version_) {
      return absl::OutOfRangeError(absl::StrCat("catalogue ", path_,
                                                ": the changes since version ",
                                                since, " are not known"));
    }
    for (auto it = recent_.rbegin(); it != recent_.rend(); ++it) {
      if (it->first <= since) break;
      changes.keys.push_back(it->second);
    }
    ASSIGN_OR_RETURN(pin, Pin());
    snapshot = pin->db->GetSnapshot();
    changes.version = version_;
  }
  catalog::KeepDistinct(&changes.keys);
  const absl::Status status = LoadCatalogPart(
      {pin->db.get(), pin->families[kEntities],
       pin->families[catalog::kChildren], snapshot,
       absl::StrCat("catalogue ", path_)},
      changes.keys, also(changes.keys), max_groups, &changes.part);
  pin->db->ReleaseSnapshot(snapshot);
  RETURN_IF_ERROR(status);
  return changes;
}

absl::StatusOr<v1::Catalog> CatalogStoreImpl::LoadVersion(int64_t version) {
  rocksdb::ReadOptions options = rocks::ScanOptions();
  std::shared_ptr<const rocks::Database> pin;
  {
    absl::MutexLock lock(&mu_);
    if (version < 0 || version > version_) {
      return absl::NotFoundError(
          absl::StrCat("catalogue ", path_, ": version ", version,
                       " was never made; the newest is ", version_.load()));
    }
    if (version == 0) return v1::Catalog();
    ASSIGN_OR_RETURN(pin, Pin());
    options.snapshot = pin->db->GetSnapshot();
  }
  absl::StatusOr<v1::Catalog> catalog = CatalogAt(
      pin->db.get(), pin->families[kHistory], options, path_, version);
  pin->db->ReleaseSnapshot(options.snapshot);
  return catalog;
}

absl::StatusOr<std::vector<v1::CatalogEntity>> CatalogStoreImpl::List(
    v1::EntityType type, const v1::EntityKey& after, uint32_t limit) {
  ASSIGN_OR_RETURN(const auto pin, Pin());
  std::unique_ptr<rocksdb::Iterator> it(
      pin->db->NewIterator(rocksdb::ReadOptions(), pin->families[kEntities]));
  const std::string last = EntityBytes(after);
  const std::string first = type == v1::ENTITY_TYPE_UNSPECIFIED
                                ? std::string()
                                : std::string(1, static_cast<char>(type));
  it->Seek(std::max(first, after.id().empty() ? std::string() : last));
  if (it->Valid() && !after.id().empty() && it->key() == last) it->Next();
  std::vector<v1::CatalogEntity> found;
  for (; it->Valid() && found.size() < limit; it->Next()) {
    if (!it->key().starts_with(first)) break;
    RETURN_IF_ERROR(Parse(it.get(), &found.emplace_back()));
  }
  RETURN_IF_ERROR(ToStatus(it->status()));
  return found;
}

absl::StatusOr<v1::CatalogEntity> CatalogStoreImpl::Get(
    const v1::EntityKey& key) {
  ASSIGN_OR_RETURN(const auto pin, Pin());
  std::string value;
  const rocksdb::Status s =
      pin->db->Get(rocksdb::ReadOptions(), pin->families[kEntities],
                   EntityBytes(key), &value);
  if (s.IsNotFound()) {
    return absl::NotFoundError(absl::StrCat(Name(key), " does not exist"));
  }
  RETURN_IF_ERROR(ToStatus(s));
  v1::CatalogEntity entity;
  if (!entity.ParseFromString(value)) {
    return absl::DataLossError(
        absl::StrCat("catalogue ", path_, ": ", Name(key), " is damaged"));
  }
  return entity;
}

absl::StatusOr<std::vector<v1::CatalogChange>> CatalogStoreImpl::History(
    const v1::EntityKey& key, uint32_t limit) {
  std::vector<v1::CatalogChange> changes;
  if (key.id().size() > kMaxIdBytes) return changes;
  const std::string prefix = OwnerBytes(key);
  ASSIGN_OR_RETURN(const auto pin, Pin());
  std::unique_ptr<rocksdb::Iterator> it(
      pin->db->NewIterator(rocksdb::ReadOptions(), pin->families[kHistory]));
  for (it->Seek(prefix);
       it->Valid() && it->key().starts_with(prefix) && changes.size() < limit;
       it->Next()) {
    if (!changes.emplace_back().ParseFromArray(
            it->value().data(), static_cast<int>(it->value().size()))) {
      return absl::DataLossError(absl::StrCat(
          "catalogue ", path_, ": the history of ", Name(key), " is damaged"));
    }
  }
  RETURN_IF_ERROR(ToStatus(it->status()));
  return changes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CatalogStore>> CatalogStore::Open(
    const std::string& data_dir, const Clock* clock) {
  ASSIGN_OR_RETURN(std::unique_ptr<rocks::Database> database,
                   OpenCatalog(data_dir));
  ASSIGN_OR_RETURN(const int64_t version, ReadVersion(*database));
  return std::make_unique<CatalogStoreImpl>(data_dir, std::move(database),
                                            clock, version);
}

}  // namespace adrank
