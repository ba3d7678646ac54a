// The catalogue on disk, with history: the state of every entity, and every
// change that led to it.
#ifndef ADRANK_STORAGE_CATALOG_STORE_H_
#define ADRANK_STORAGE_CATALOG_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "proto/catalog.pb.h"

namespace adrank {

// Checks one entity by itself: ids, ranges, expression size. InvalidArgument
// names the entity and the field. References are checked by Apply.
absl::Status ValidateEntity(const v1::CatalogEntity& entity);

v1::EntityKey KeyOf(const v1::CatalogEntity& entity);
v1::EntityKey KeyOf(const v1::CatalogOperation& operation);

struct ApplyOptions {
  bool partial_failure = false;
  bool validate_only = false;
  // The version that the changes were thought out for; none: any.
  std::optional<int64_t> expected_version;
  // Fill in ApplyResult.affected.
  bool want_affected = false;
  // What an entity must be beyond ValidateEntity. Null: no more.
  std::function<absl::Status(const v1::CatalogEntity&)> also_check;
};

struct ApplyResult {
  // errors[i]: OK, or why operation i cannot be applied.
  std::vector<absl::Status> errors;
  // Operations applied (0 when validate_only or when one failed without
  // partial_failure).
  uint32_t applied = 0;
  int64_t version = 0;
  // The campaigns and ad groups that good operations put in or replaced, as all
  // good operations leave them, with everything above and below them.
  v1::Catalog affected;
};

// What makes the catalogue of one version that of a later one.
struct CatalogChanges {
  int64_t version = 0;
  // Changed or removed since, each once.
  std::vector<v1::EntityKey> keys;
  // What is there now of the changed entities and of everything below them, and
  // of the ad groups asked for besides: ad groups whole, with all their ads,
  // their campaigns and advertisers. Sorted by id.
  v1::Catalog part;
};

// Thread-safe. Durable when Apply returns.
class CatalogStore {
 public:
  // In `data_dir`; creates it when there is none.
  static absl::StatusOr<std::unique_ptr<CatalogStore>> Open(
      const std::string& data_dir, const Clock* clock);
  virtual ~CatalogStore() = default;

  // Applies in order, as one version; later operations see earlier ones. An
  // entity must refer to an existing parent, a removed one must have no
  // children, and all vectors of ads have one length. The status is not OK only
  // when the store itself failed, or Aborted when the catalogue does not have
  // the expected version: read it again.
  virtual absl::StatusOr<ApplyResult> Apply(
      absl::Span<const v1::CatalogOperation> operations,
      const ApplyOptions& options) = 0;

  // 0 for an empty store that never changed.
  virtual int64_t Version() = 0;

  // The whole catalogue and its version, consistently. Sorted by id.
  virtual absl::StatusOr<std::pair<v1::Catalog, int64_t>> Load() = 0;

  // What changed after version `since`, consistently, in time proportional to
  // it. `also` names ad groups to load besides, given what changed (those that
  // were above an ad before it moved, say). OutOfRange: the store no longer
  // knows, Load instead; it knows the last million changes since it was opened.
  // ResourceExhausted: more than `max_groups` ad groups would be loaded.
  virtual absl::StatusOr<CatalogChanges> LoadChanges(
      int64_t since,
      const std::function<
          std::vector<std::string>(absl::Span<const v1::EntityKey>)>& also,
      size_t max_groups) = 0;

  // The catalogue as Load gave it when it had this version, from the history of
  // all changes. NotFound for a version that was never made; FailedPrecondition
  // when the history does not reach it. Reads the whole history.
  virtual absl::StatusOr<v1::Catalog> LoadVersion(int64_t version) = 0;

  // Up to `limit` entities in (type, id) order, after `after` (exclusive; an
  // empty id means "from the start"). `type` UNSPECIFIED: all.
  virtual absl::StatusOr<std::vector<v1::CatalogEntity>> List(
      v1::EntityType type, const v1::EntityKey& after, uint32_t limit) = 0;

  // NotFound when there is none.
  virtual absl::StatusOr<v1::CatalogEntity> Get(const v1::EntityKey& key) = 0;

  // Newest first.
  virtual absl::StatusOr<std::vector<v1::CatalogChange>> History(
      const v1::EntityKey& key, uint32_t limit) = 0;
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_CATALOG_STORE_H_
