// What requests are answered from at this moment.
#ifndef ADRANK_SERVER_SERVING_STATE_H_
#define ADRANK_SERVER_SERVING_STATE_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "model/model_bundle.h"
#include "server/predict/ad_feature_cache.h"
#include "server/trigger/ad_index.h"

namespace adrank {

// One bundle, one catalogue and the ad features of exactly these two. A request
// takes a copy and uses nothing else, so that versions never mix within it.
struct ServingSnapshot {
  std::shared_ptr<const ModelBundle> bundle;  // null: no model is loaded
  std::shared_ptr<const AdIndex> index;       // never null
  // Null when bundle is.
  std::shared_ptr<const AdFeatureCache> ad_features;

  static ServingSnapshot Of(std::shared_ptr<const ModelBundle> bundle,
                            std::shared_ptr<const AdIndex> index);
};

// Thread-safe. Readers never wait for a build: a new cache is built beside the
// old one, then everything is replaced at once.
class ServingState {
 public:
  ServingState();

  std::shared_ptr<const ServingSnapshot> Current() const;

  // Returns when Current() has it. Null unloads the model. Setters wait for one
  // another.
  void SetBundle(std::shared_ptr<const ModelBundle> bundle);
  void SetIndex(std::shared_ptr<const AdIndex> index);

 private:
  void Replace(std::shared_ptr<const ModelBundle> bundle,
               std::shared_ptr<const AdIndex> index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu_);

  absl::Mutex build_mu_ ABSL_ACQUIRED_BEFORE(mu_);  // one build at a time
  mutable absl::Mutex mu_;
  std::shared_ptr<const ServingSnapshot> current_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_SERVING_STATE_H_
