// The catalogue on disk: families, keys, and the entities they name. storage/
// only.
//
// Families and keys (integers big-endian):
//   entities:  key   := u8(type) id
//              value := serialised v1::CatalogEntity
//   history:   key   := u8(type) u8(id bytes) id be64(~version) be32(~index)
//              value := serialised v1::CatalogChange; index counts the
//                       operations of one Apply
//   children:  key   := u8(type) u8(id bytes) id u8(child type) child id
//              value := empty; the entities that refer to (type, id)
//   default:   "format", "version" -> be64
#ifndef ADRANK_STORAGE_CATALOG_KEYS_H_
#define ADRANK_STORAGE_CATALOG_KEYS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proto/catalog.pb.h"

namespace adrank::catalog {

// The families, in the order in which the database is opened with them.
inline constexpr size_t kEntities = 1, kHistory = 2, kChildren = 3;
// Of the default family.
inline constexpr char kVersionKey[] = "version";
inline constexpr size_t kMaxIdBytes = 128;

v1::EntityKey MakeKey(v1::EntityType type, const std::string& id);
// The entity that this one refers to; UNSPECIFIED for advertisers.
v1::EntityKey ParentOf(const v1::CatalogEntity& entity);
inline bool IsSet(const v1::EntityKey& key) {
  return key.type() != v1::ENTITY_TYPE_UNSPECIFIED;
}
// For errors: ad_group "shoes".
std::string Name(const v1::EntityKey& key);

// Of the family "entities".
std::string EntityBytes(const v1::EntityKey& key);
// Prefix of the history and of the children of an entity.
std::string OwnerBytes(const v1::EntityKey& key);
// Of the family "children", and the entity that such a key ends with.
std::string ChildBytes(const v1::EntityKey& parent, const v1::EntityKey& child);
v1::EntityKey ChildOf(absl::string_view child_bytes,
                      absl::string_view owner_bytes);
// Of the family "history".
std::string HistoryBytes(const v1::EntityKey& key, int64_t version,
                         uint32_t index);

// Sorts by type and id.
void KeepDistinct(std::vector<v1::EntityKey>* keys);

// Moves the entity to the end of its list; an empty one is dropped.
void AddEntity(v1::CatalogEntity* entity, v1::Catalog* catalog);

}  // namespace adrank::catalog

#endif  // ADRANK_STORAGE_CATALOG_KEYS_H_
