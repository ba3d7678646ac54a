#include "storage/catalog_transaction.h"

#include <memory>

#include "absl/base/internal/endian.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "storage/catalog_keys.h"

namespace adrank {

using catalog::AddEntity;
using catalog::ChildBytes;
using catalog::EntityBytes;
using catalog::HistoryBytes;
using catalog::IsSet;
using catalog::kMaxIdBytes;
using catalog::Name;
using catalog::OwnerBytes;
using catalog::ParentOf;

CatalogTransaction::CatalogTransaction(const rocks::Database* database,
                                       int64_t version, int64_t time_ms,
                                       std::optional<CatalogVectors> vectors,
                                       const ApplyOptions* options)
    : db_(database->db.get()),
      entities_(database->families[catalog::kEntities]),
      history_(database->families[catalog::kHistory]),
      children_(database->families[catalog::kChildren]),
      name_(absl::StrCat("catalogue ", database->path)),
      version_(version),
      time_ms_(time_ms),
      options_(*options),
      vectors_(vectors),
      batch_(rocksdb::BytewiseComparator(), 0, /*overwrite_key=*/true) {}

absl::StatusOr<v1::CatalogEntity> CatalogTransaction::Find(
    const v1::EntityKey& key) {
  std::string value;
  const rocksdb::Status s = batch_.GetFromBatchAndDB(
      db_, rocksdb::ReadOptions(), entities_, EntityBytes(key), &value);
  v1::CatalogEntity entity;
  if (s.IsNotFound()) return entity;
  RETURN_IF_ERROR(ToStatus(s));
  if (!entity.ParseFromString(value)) {
    return absl::DataLossError(
        absl::StrCat(name_, ": ", Name(key), " is damaged"));
  }
  return entity;
}

absl::StatusOr<bool> CatalogTransaction::Exists(const v1::EntityKey& key) {
  rocksdb::PinnableSlice value;
  const rocksdb::Status s = batch_.GetFromBatchAndDB(
      db_, rocksdb::ReadOptions(), entities_, EntityBytes(key), &value);
  if (s.IsNotFound()) return false;
  RETURN_IF_ERROR(ToStatus(s));
  return true;
}

absl::StatusOr<std::string> CatalogTransaction::AnyChild(
    const v1::EntityKey& key) {
  const std::string prefix = OwnerBytes(key);
  std::unique_ptr<rocksdb::Iterator> it(batch_.NewIteratorWithBase(
      children_, db_->NewIterator(rocksdb::ReadOptions(), children_)));
  it->Seek(prefix);
  RETURN_IF_ERROR(ToStatus(it->status()));
  if (!it->Valid() || !it->key().starts_with(prefix)) return std::string();
  return Name(catalog::ChildOf(rocks::View(it->key()), prefix));
}

absl::Status CatalogTransaction::Upsert(const v1::CatalogEntity& entity,
                                        absl::Status* error) {
  *error = ValidateEntity(entity);
  if (error->ok() && options_.also_check) {
    *error = options_.also_check(entity);
  }
  if (!error->ok()) return absl::OkStatus();
  const v1::EntityKey key = KeyOf(entity);
  const v1::EntityKey parent = ParentOf(entity);
  if (IsSet(parent)) {
    ASSIGN_OR_RETURN(const bool exists, Exists(parent));
    if (!exists) {
      *error = absl::InvalidArgumentError(
          absl::StrCat(Name(key), ": ", Name(parent), " does not exist"));
      return absl::OkStatus();
    }
  }
  ASSIGN_OR_RETURN(const v1::CatalogEntity old, Find(key));
  *error = ReplaceVector(old, entity);
  if (!error->ok()) return absl::OkStatus();
  const v1::EntityKey old_parent = ParentOf(old);
  if (IsSet(old_parent) && old_parent.id() != parent.id()) {
    RETURN_IF_ERROR(
        ToStatus(batch_.Delete(children_, ChildBytes(old_parent, key))));
  }
  if (IsSet(parent) && old_parent.id() != parent.id()) {
    RETURN_IF_ERROR(
        ToStatus(batch_.Put(children_, ChildBytes(parent, key), "")));
  }
  return ToStatus(
      batch_.Put(entities_, EntityBytes(key), entity.SerializeAsString()));
}

absl::Status CatalogTransaction::Remove(const v1::EntityKey& key,
                                        absl::Status* error) {
  if (key.id().empty() || key.id().size() > kMaxIdBytes ||
      key.type() == v1::ENTITY_TYPE_UNSPECIFIED ||
      !v1::EntityType_IsValid(key.type())) {
    *error = absl::InvalidArgumentError(
        absl::StrCat("remove: ", Name(key), " is not the key of an entity"));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const v1::CatalogEntity old, Find(key));
  if (old.entity_case() == v1::CatalogEntity::ENTITY_NOT_SET) {
    *error = absl::NotFoundError(absl::StrCat(Name(key), " does not exist"));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string child, AnyChild(key));
  if (!child.empty()) {
    *error = absl::FailedPreconditionError(absl::StrCat(
        Name(key), " cannot be removed: ", child, " refers to it"));
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(ReplaceVector(old, v1::CatalogEntity()));
  const v1::EntityKey parent = ParentOf(old);
  if (IsSet(parent)) {
    RETURN_IF_ERROR(
        ToStatus(batch_.Delete(children_, ChildBytes(parent, key))));
  }
  return ToStatus(batch_.Delete(entities_, EntityBytes(key)));
}

absl::Status CatalogTransaction::ReplaceVector(
    const v1::CatalogEntity& old, const v1::CatalogEntity& entity) {
  if (!vectors_.has_value()) return absl::OkStatus();
  CatalogVectors vectors = *vectors_;
  vectors.ads -= !old.ad().embedding().empty();
  const int size = entity.ad().embedding_size();
  if (size > 0) {
    if (vectors.ads > 0 && size != vectors.dims) {
      return absl::InvalidArgumentError(
          absl::StrCat(Name(KeyOf(entity)), ": embedding has ", size,
                       " components, the catalogue's have ", vectors.dims,
                       "; for another length clear those first"));
    }
    ++vectors.ads;
    vectors.dims = size;
  }
  vectors_ = vectors;
  return absl::OkStatus();
}

absl::Status CatalogTransaction::Add(const v1::CatalogOperation& operation,
                                     absl::Status* error) {
  const uint32_t index = index_++;
  switch (operation.operation_case()) {
    case v1::CatalogOperation::kUpsert:
      RETURN_IF_ERROR(Upsert(operation.upsert(), error));
      break;
    case v1::CatalogOperation::kRemove:
      RETURN_IF_ERROR(Remove(operation.remove(), error));
      break;
    case v1::CatalogOperation::OPERATION_NOT_SET:
      *error = absl::InvalidArgumentError("the operation is empty");
  }
  if (!error->ok()) return absl::OkStatus();
  v1::CatalogChange line;
  line.set_catalog_version(version_);
  line.set_time_ms(time_ms_);
  *line.mutable_operation() = operation;
  return ToStatus(batch_.Put(history_,
                             HistoryBytes(KeyOf(operation), version_, index),
                             line.SerializeAsString()));
}

absl::Status CatalogTransaction::AddAbove(const v1::EntityKey& key, Seen* seen,
                                          v1::Catalog* out) {
  if (!IsSet(key) || !seen->insert(EntityBytes(key)).second) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(v1::CatalogEntity entity, Find(key));
  const v1::EntityKey parent = ParentOf(entity);
  AddEntity(&entity, out);
  return AddAbove(parent, seen, out);
}

absl::Status CatalogTransaction::AddBelow(const v1::EntityKey& key, Seen* seen,
                                          v1::Catalog* out) {
  RETURN_IF_ERROR(AddAbove(key, seen, out));
  if (key.type() == v1::ENTITY_TYPE_AD) return absl::OkStatus();
  const std::string prefix = OwnerBytes(key);
  std::unique_ptr<rocksdb::Iterator> it(batch_.NewIteratorWithBase(
      children_, db_->NewIterator(rocksdb::ReadOptions(), children_)));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix);
       it->Next()) {
    RETURN_IF_ERROR(
        AddBelow(catalog::ChildOf(rocks::View(it->key()), prefix), seen, out));
  }
  return ToStatus(it->status());
}

absl::Status CatalogTransaction::AddAffected(
    absl::Span<const v1::CatalogOperation> operations, ApplyResult* result) {
  Seen seen;
  for (size_t i = 0; i < operations.size(); ++i) {
    const v1::CatalogEntity& entity = operations[i].upsert();
    if (!result->errors[i].ok() ||
        !(entity.has_campaign() || entity.has_ad_group())) {
      continue;
    }
    RETURN_IF_ERROR(AddBelow(KeyOf(entity), &seen, &result->affected));
  }
  return absl::OkStatus();
}

absl::Status CatalogTransaction::Commit() {
  char version[8];
  absl::big_endian::Store64(version, static_cast<uint64_t>(version_));
  RETURN_IF_ERROR(ToStatus(batch_.Put(
      catalog::kVersionKey, rocksdb::Slice(version, sizeof(version)))));
  rocksdb::WriteOptions synced;
  synced.sync = true;
  return ToStatus(db_->Write(synced, batch_.GetWriteBatch()));
}

}  // namespace adrank
