// What applying files would change.
#ifndef ADRANK_TOOLS_CATALOG_DIFF_H_
#define ADRANK_TOOLS_CATALOG_DIFF_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/message_diff.h"
#include "proto/catalog.pb.h"

namespace adrank {

// One entity that is not the same on both sides.
struct EntityChange {
  enum Kind { kAdded, kChanged, kRemoved };
  Kind kind;
  v1::EntityKey key;
  std::vector<FieldDifference> fields;  // of kChanged: live, then file
  v1::CatalogEntity entity;             // of kAdded
};

// Compares wanted entities with the live ones, which are shown one by one in
// any order.
class CatalogDiff {
 public:
  explicit CatalogDiff(const std::vector<v1::CatalogEntity>& wanted);

  void Live(const v1::CatalogEntity& entity);

  // Added and changed entities in the order of `wanted`; then the live ones
  // that it lacks, children first, when `prune`.
  std::vector<EntityChange> Finish(bool prune) const;
  // Live entities that `wanted` lacks.
  size_t only_live() const { return only_live_.size(); }
  size_t same() const { return same_; }

 private:
  using Key = std::pair<int, std::string>;
  const std::vector<v1::CatalogEntity>& wanted_;
  absl::flat_hash_map<Key, size_t> index_;
  std::vector<uint8_t> live_;                         // [wanted]
  std::vector<std::vector<FieldDifference>> fields_;  // [wanted]
  std::vector<v1::EntityKey> only_live_;
  size_t same_ = 0;
};

// Lines for people:
//
//   ~ campaign "c1"
//       budget.daily_micros: 1000000 -> 2000000
//       negative_keywords[2]: + "free"
//   + ad "a9"
//   - ad "a7"
std::string DiffText(const std::vector<EntityChange>& changes);
// {"changes": [{"change": "changed", "type": "campaign", "id": "c1", "fields":
// [{"path": "...", "live": "...", "file": "..."}]}], ...}
std::string DiffJson(const std::vector<EntityChange>& changes, size_t only_live,
                     int64_t version);

}  // namespace adrank

#endif  // ADRANK_TOOLS_CATALOG_DIFF_H_
