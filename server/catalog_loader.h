// Keeps the served AdIndex at the version of the catalogue on disk.
#ifndef ADRANK_SERVER_CATALOG_LOADER_H_
#define ADRANK_SERVER_CATALOG_LOADER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/metrics.h"
#include "server/serving_state.h"
#include "storage/catalog_store.h"

namespace adrank {

// A change of the catalogue becomes an index on the last whole one (AdIndex),
// in time proportional to all that changed since that was built: RunOnce. When
// that has become much, the whole is built anew beside it: Merge. Thread-safe.
// Requests are answered from the old index until the new one is complete.
class CatalogLoader {
 public:
  // The pointers must outlive the loader. `prepare` is shown an index before
  // requests are; may be empty.
  CatalogLoader(CatalogStore* store, ServingState* state, Metrics* metrics,
                std::function<void(const AdIndex&)> prepare = nullptr,
                const AdIndexOptions& options = {})
      : store_(store),
        state_(state),
        metrics_(metrics),
        prepare_(std::move(prepare)),
        options_(options) {}

  // Builds and swaps when the store is ahead of what is served. The error
  // leaves the old index serving.
  absl::Status RunOnce();

  // Builds and swaps a whole index when the ads beside the one that is served
  // are more than MergeFrom of it. Changes are taken meanwhile by RunOnce.
  absl::Status Merge();
  // At 1 % and a half an index is built in a fraction of a second for a million
  // ads, and a change costs a request as little as a hundredth of them.
  static size_t MergeFrom(size_t ads) { return ads / 64 + 1000; }

  double last_build_seconds() const;

 private:
  using Index = std::shared_ptr<const AdIndex>;

  // Of the whole catalogue.
  absl::StatusOr<Index> BuildWhole();
  // The catalogue as it is now, on `base` if it has not changed too much.
  absl::StatusOr<Index> BuildOn(const Index& base);
  absl::Status Serve(absl::StatusOr<Index> index, absl::Time start)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu_);

  CatalogStore* const store_;
  ServingState* const state_;
  Metrics* const metrics_;
  const std::function<void(const AdIndex&)> prepare_;
  const AdIndexOptions options_;
  absl::Mutex merge_mu_ ABSL_ACQUIRED_BEFORE(build_mu_);
  absl::Mutex build_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  mutable absl::Mutex mu_;
  double last_build_seconds_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_CATALOG_LOADER_H_
