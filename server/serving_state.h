// What requests are answered from at this moment.
#ifndef ADRANK_SERVER_SERVING_STATE_H_
#define ADRANK_SERVER_SERVING_STATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "model/model_bundle.h"
#include "server/predict/ad_feature_cache.h"
#include "server/predict/model_vectors.h"
#include "server/trigger/ad_index.h"

namespace adrank {

// One bundle, one catalogue and what is made of exactly these two. A request
// takes a copy and uses nothing else, so that versions never mix within it.
struct ServingSnapshot {
  std::shared_ptr<const ModelBundle> bundle;  // null: no model is loaded
  std::shared_ptr<const AdIndex> index;       // never null
  // Null when bundle is.
  std::shared_ptr<const AdFeatureCache> ad_features;
  // Null: the index's options do not ask for it, there is no bundle, or it has
  // no such vectors.
  std::shared_ptr<const ModelVectors> model_vectors;
  // "exact", "approximate: ..." or "off: ..."; says why model_vectors is null.
  std::string model_retrieval;

  // What is made of a pair.
  struct Made {
    std::shared_ptr<const AdFeatureCache> features;
    std::shared_ptr<const ModelVectors> vectors;
  };
  // `base`: of bundle and index->base(), where known already.
  static ServingSnapshot Of(std::shared_ptr<const ModelBundle> bundle,
                            std::shared_ptr<const AdIndex> index,
                            Made base = {});
};

// Thread-safe. Readers never wait for a build: a new cache is built beside the
// old one, then everything is replaced at once. Nor do they free what was
// replaced: that is kept until no reader has it, and freed by a setter or
// Sweep.
class ServingState {
 public:
  ServingState();

  std::shared_ptr<const ServingSnapshot> Current() const;

  // Returns when Current() has it. Null unloads the model. Setters wait for one
  // another.
  void SetBundle(std::shared_ptr<const ModelBundle> bundle);
  void SetIndex(std::shared_ptr<const AdIndex> index);

  // Builds what is made of the bundle and of an index without a base that is
  // about to be set, or to be the base of one, so that SetIndex finds it. Slow;
  // setters do not wait for it.
  void Prepare(std::shared_ptr<const AdIndex> index);

  // Frees what was replaced and is no longer read.
  void Sweep();

 private:
  void Replace(std::shared_ptr<const ModelBundle> bundle,
               std::shared_ptr<const AdIndex> index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu_);
  void SweepRetired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu_);
  // Of a base, when the current snapshot or a prepared one has it.
  ServingSnapshot::Made KnownOfBase(const ModelBundle* bundle,
                                    const AdIndex* base) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu_);

  absl::Mutex build_mu_ ABSL_ACQUIRED_BEFORE(mu_);  // one build at a time
  mutable absl::Mutex mu_;
  std::shared_ptr<const ServingSnapshot> current_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const ServingSnapshot> prepared_ ABSL_GUARDED_BY(build_mu_);
  std::vector<std::shared_ptr<const ServingSnapshot>> retired_
      ABSL_GUARDED_BY(build_mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_SERVING_STATE_H_
