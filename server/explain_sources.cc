#include "server/explain_sources.h"

#include <optional>

namespace adrank {
namespace {

// Changes of one entity since the version that are looked through.
constexpr uint32_t kMaxChanges = 10000;

std::optional<v1::CatalogEntity> EntityAt(CatalogStore* store,
                                          const v1::EntityKey& key,
                                          int64_t version) {
  auto changes = store->History(key, kMaxChanges);
  if (!changes.ok()) return std::nullopt;
  for (v1::CatalogChange& change : *changes) {
    if (change.catalog_version() > version) continue;
    if (!change.operation().has_upsert()) return std::nullopt;
    return std::move(*change.mutable_operation()->mutable_upsert());
  }
  return std::nullopt;
}

}  // namespace

ExplainSources CatalogSources(CatalogStore* store, int64_t version) {
  ExplainSources sources;
  sources.entity = [store, version](const v1::EntityKey& key) {
    return EntityAt(store, key, version);
  };
  return sources;
}

}  // namespace adrank
