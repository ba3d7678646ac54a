// How a part of the catalogue on disk is read; storage/ only.
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
