#include "server/serving_state.h"

#include <algorithm>
#include <utility>

namespace adrank {

ServingSnapshot ServingSnapshot::Of(
    std::shared_ptr<const ModelBundle> bundle,
    std::shared_ptr<const AdIndex> index,
    std::shared_ptr<const AdFeatureCache> base_features) {
  ServingSnapshot snapshot;
  if (bundle != nullptr) {
    snapshot.ad_features =
        AdFeatureCache::Build(*bundle, *index, std::move(base_features));
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

void ServingState::Prepare(std::shared_ptr<const AdIndex> index) {
  auto prepared = std::make_shared<const ServingSnapshot>(
      ServingSnapshot::Of(Current()->bundle, std::move(index)));
  absl::MutexLock build(&build_mu_);
  prepared_ = std::move(prepared);
}

std::shared_ptr<const AdFeatureCache> ServingState::KnownFeatures(
    const ModelBundle* bundle, const AdIndex* index) const {
  if (bundle == nullptr || index == nullptr) return nullptr;
  const auto current = Current();
  for (const auto& snapshot : {current, prepared_}) {
    if (snapshot == nullptr || snapshot->bundle.get() != bundle) continue;
    if (snapshot->index.get() == index) return snapshot->ad_features;
    if (snapshot->index->base().get() == index) {
      return snapshot->ad_features->base();
    }
  }
  return nullptr;
}

void ServingState::Replace(std::shared_ptr<const ModelBundle> bundle,
                           std::shared_ptr<const AdIndex> index) {
  auto next = std::make_shared<ServingSnapshot>();
  next->ad_features = KnownFeatures(bundle.get(), index.get());
  if (next->ad_features != nullptr) {
    next->bundle = std::move(bundle);
    next->index = std::move(index);
  } else {
    auto base = KnownFeatures(bundle.get(), index->base().get());
    *next = ServingSnapshot::Of(std::move(bundle), std::move(index),
                                std::move(base));
  }
  std::shared_ptr<const ServingSnapshot> old = std::move(next);
  {
    absl::MutexLock lock(&mu_);
    old.swap(current_);
  }
  prepared_.reset();
  retired_.push_back(std::move(old));
  SweepRetired();
}

void ServingState::Sweep() {
  absl::MutexLock build(&build_mu_);
  SweepRetired();
}

// What only retired_ has cannot be had again.
void ServingState::SweepRetired() {
  retired_.erase(
      std::remove_if(retired_.begin(), retired_.end(),
                     [](const auto& old) { return old.use_count() == 1; }),
      retired_.end());
}

}  // namespace adrank
