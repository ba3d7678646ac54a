// Keys of the catalogue on disk (catalog_store.cc has their grammar), and how a
// part of it is read.
#ifndef ADRANK_STORAGE_CATALOG_PART_H_
#define ADRANK_STORAGE_CATALOG_PART_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "proto/catalog.pb.h"
#include "rocksdb/db.h"

namespace adrank {

v1::EntityKey MakeKey(v1::EntityType type, const std::string& id);

// Of the family "entities".
std::string EntityBytes(const v1::EntityKey& key);
// Prefix of the history and of the children of an entity.
std::string OwnerBytes(const v1::EntityKey& key);

// Sorts by type and id.
void KeepDistinct(std::vector<v1::EntityKey>* keys);

// One moment of a catalogue.
struct CatalogView {
  rocksdb::DB* db;
  rocksdb::ColumnFamilyHandle* entities;
  rocksdb::ColumnFamilyHandle* children;
  const rocksdb::Snapshot* snapshot;
  std::string name;  // for errors
};

// CatalogChanges::part of the changed entities and of `groups`. The view's
// snapshot is the caller's.
absl::Status LoadCatalogPart(const CatalogView& view,
                             absl::Span<const v1::EntityKey> changed,
                             const std::vector<std::string>& groups,
                             size_t max_groups, v1::Catalog* part);

}  // namespace adrank

#endif  // ADRANK_STORAGE_CATALOG_PART_H_
