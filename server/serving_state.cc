#include "server/serving_state.h"

#include <utility>

namespace adrank {

ServingSnapshot ServingSnapshot::Of(std::shared_ptr<const ModelBundle> bundle,
                                    std::shared_ptr<const AdIndex> index) {
  ServingSnapshot snapshot;
  if (bundle != nullptr) {
    snapshot.ad_features = AdFeatureCache::Build(*bundle, *index);
  }
  snapshot.bundle = std::move(bundle);
  snapshot.index = std::move(index);
  return snapshot;
}

ServingState::ServingState()
    : current_(std::make_shared<const ServingSnapshot>(
          ServingSnapshot::Of(nullptr, AdIndex::Empty()))) {}

std::shared_ptr<const ServingSnapshot> ServingState::Current() const {
  absl::ReaderMutexLock lock(&mu_);
  return current_;
}

void ServingState::SetBundle(std::shared_ptr<const ModelBundle> bundle) {
  absl::MutexLock build(&build_mu_);
  Replace(std::move(bundle), Current()->index);
}

void ServingState::SetIndex(std::shared_ptr<const AdIndex> index) {
  absl::MutexLock build(&build_mu_);
  Replace(Current()->bundle, std::move(index));
}

void ServingState::Replace(std::shared_ptr<const ModelBundle> bundle,
                           std::shared_ptr<const AdIndex> index) {
  std::shared_ptr<const ServingSnapshot> next =
      std::make_shared<const ServingSnapshot>(
          ServingSnapshot::Of(std::move(bundle), std::move(index)));
  {
    absl::MutexLock lock(&mu_);
    next.swap(current_);
  }
  // `next`, now the old one, may be the last reference to a catalogue: it is
  // freed here, where nobody waits.
}

}  // namespace adrank
