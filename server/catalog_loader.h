// Keeps the served AdIndex at the version of the catalogue on disk.
#ifndef ADRANK_SERVER_CATALOG_LOADER_H_
#define ADRANK_SERVER_CATALOG_LOADER_H_

#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "server/metrics.h"
#include "server/serving_state.h"
#include "storage/catalog_store.h"

namespace adrank {

// Thread-safe. Requests are answered from the old index until the new one is
// complete.
class CatalogLoader {
 public:
  // The pointers must outlive the loader. `prepare` is shown an index before
  // requests are; may be empty.
  CatalogLoader(CatalogStore* store, ServingState* state, Metrics* metrics,
                std::function<void(const AdIndex&)> prepare = nullptr)
      : store_(store),
        state_(state),
        metrics_(metrics),
        prepare_(std::move(prepare)) {}

  // Builds and swaps when the store is ahead of what is served. The error
  // leaves the old index serving.
  absl::Status RunOnce();

  double last_build_seconds() const;

 private:
  CatalogStore* const store_;
  ServingState* const state_;
  Metrics* const metrics_;
  const std::function<void(const AdIndex&)> prepare_;
  absl::Mutex build_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  mutable absl::Mutex mu_;
  double last_build_seconds_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_CATALOG_LOADER_H_
