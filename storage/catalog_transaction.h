// What one Apply of the catalogue writes, all of it or nothing; storage/ only.
#ifndef ADRANK_STORAGE_CATALOG_TRANSACTION_H_
#define ADRANK_STORAGE_CATALOG_TRANSACTION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/catalog.pb.h"
#include "rocksdb/utilities/write_batch_with_index.h"
#include "storage/catalog_store.h"
#include "storage/rocks.h"

namespace adrank {

// The ads that have a vector: all of one length.
struct CatalogVectors {
  uint64_t ads = 0;
  int dims = 0;
};

// Collects operations; each sees what those before it leave. Statuses that are
// not OK mean that the store failed. For one thread; one transaction at a time.
class CatalogTransaction {
 public:
  // Makes version `version` of `database`. Both pointers outlive it. `vectors`
  // are those of the version before; nothing: no operation puts one in.
  CatalogTransaction(const rocks::Database* database, int64_t version,
                     int64_t time_ms, std::optional<CatalogVectors> vectors,
                     const ApplyOptions* options);

  // *error says why the operation cannot be applied; then it adds nothing.
  absl::Status Add(const v1::CatalogOperation& operation, absl::Status* error);

  // Fills in result->affected from operations that Add took without an error
  // in result->errors.
  absl::Status AddAffected(absl::Span<const v1::CatalogOperation> operations,
                           ApplyResult* result);

  // Writes everything, durably.
  absl::Status Commit();

  // As the operations leave them; nothing if the constructor was told nothing.
  const std::optional<CatalogVectors>& vectors() const { return vectors_; }

 private:
  // Entities of which one is not added twice, by EntityBytes.
  using Seen = absl::flat_hash_set<std::string>;

  absl::Status Upsert(const v1::CatalogEntity& entity, absl::Status* error);
  absl::Status Remove(const v1::EntityKey& key, absl::Status* error);
  // Whether the entity's vector may stand beside the others once `old` is gone;
  // then it is counted.
  absl::Status ReplaceVector(const v1::CatalogEntity& old,
                             const v1::CatalogEntity& entity);
  // Empty (ENTITY_NOT_SET) when there is none.
  absl::StatusOr<v1::CatalogEntity> Find(const v1::EntityKey& key);
  absl::StatusOr<bool> Exists(const v1::EntityKey& key);
  // Name of an entity that refers to `key`; empty when there is none.
  absl::StatusOr<std::string> AnyChild(const v1::EntityKey& key);
  // Adds the entity and all above it; AddBelow also all below it.
  absl::Status AddAbove(const v1::EntityKey& key, Seen* seen, v1::Catalog* out);
  absl::Status AddBelow(const v1::EntityKey& key, Seen* seen, v1::Catalog* out);
  absl::Status ToStatus(const rocksdb::Status& s) const {
    return rocks::ToStatus(s, name_);
  }

  rocksdb::DB* const db_;
  rocksdb::ColumnFamilyHandle *const entities_, *const history_,
                                                    *const children_;
  const std::string name_;  // for errors
  const int64_t version_, time_ms_;
  const ApplyOptions& options_;
  uint32_t index_ = 0;  // of the next operation
  std::optional<CatalogVectors> vectors_;
  // Reads through it see what came before.
  rocksdb::WriteBatchWithIndex batch_;
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_CATALOG_TRANSACTION_H_
