// Loads what is published and swaps it in; keeps the one before for rollback.
#ifndef ADRANK_SERVER_MODEL_WATCHER_H_
#define ADRANK_SERVER_MODEL_WATCHER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "model/model_store.h"
#include "proto/model_service.pb.h"
#include "server/metrics.h"
#include "server/serving_state.h"

namespace adrank {

// A bundle is served only after ModelBundle::Load has verified every byte and
// replayed its golden examples; whatever is wrong with a new one, the old one
// stays. Thread-safe; one load at a time, never on a request's thread.
class ModelWatcher {
 public:
  // The pointers must outlive the watcher.
  ModelWatcher(const ModelStore& store, const std::string& model_name,
               const Clock* clock, ServingState* state, Metrics* metrics);

  // Looks at the published pointer and loads what it names, if that is new:
  // another version, or another bundle under the number that is served. A
  // refused version is tried again with growing pauses (up to a minute), since
  // somebody may repair it. Returns why the published version is not served.
  absl::Status RunOnce();

  // Loads, serves and publishes a version; the error leaves all as it was.
  absl::Status Promote(int64_t version);
  // Promotes the version served before. FailedPrecondition when there is none.
  absl::Status Rollback();

  v1::ModelStatusResponse Status() const;
  absl::StatusOr<v1::ListModelsResponse> List() const;

 private:
  struct Refusal {
    std::string error;
    absl::Time retry;
    absl::Duration pause;
  };

  absl::Status Serve(int64_t version) ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mu_);
  void Swap(std::shared_ptr<const ModelBundle> bundle, std::string checksums)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mu_);
  int64_t ServingVersion() const;
  // Whether what is served is what lies on disk under this number now.
  bool IsServed(int64_t version) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mu_);
  absl::StatusOr<std::string> ChecksumsOnDisk(int64_t version) const;

  const ModelStore store_;
  const std::string model_name_;
  const Clock* const clock_;
  ServingState* const state_;
  Metrics* const metrics_;

  absl::Mutex load_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  // Replaced bundles until no request uses them: the last reference must not be
  // dropped, and megabytes unmapped, on a request's thread.
  std::vector<std::shared_ptr<const ModelBundle>> retired_
      ABSL_GUARDED_BY(load_mu_);

  mutable absl::Mutex mu_;
  std::shared_ptr<const ModelBundle> serving_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const ModelBundle> previous_ ABSL_GUARDED_BY(mu_);
  // Their checksums.sha256. A model directory that was wiped and trained anew
  // has other bundles under the same numbers.
  std::string serving_checksums_ ABSL_GUARDED_BY(mu_);
  std::string previous_checksums_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, Refusal> refused_ ABSL_GUARDED_BY(mu_);
  std::string error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_MODEL_WATCHER_H_
