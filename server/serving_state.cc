#include "server/serving_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace adrank {

ServingSnapshot ServingSnapshot::Of(std::shared_ptr<const ModelBundle> bundle,
                                    std::shared_ptr<const AdIndex> index,
                                    Made base) {
  ServingSnapshot snapshot;
  if (bundle != nullptr) {
    snapshot.ad_features =
        AdFeatureCache::Build(*bundle, *index, std::move(base.features));
  }
  if (!index->options().by_model) {
    snapshot.model_retrieval = "off: trigger.quota.model is 0";
  } else if (bundle == nullptr) {
    snapshot.model_retrieval = "off: no model is loaded";
  } else {
    auto vectors = ModelVectors::Build(bundle, *index, *snapshot.ad_features,
                                       std::move(base.vectors));
    snapshot.model_retrieval =
        vectors.ok() ? (*vectors)->Describe()
                     : absl::StrCat("off: ", vectors.status().message());
    if (vectors.ok()) snapshot.model_vectors = *std::move(vectors);
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

ServingSnapshot::Made ServingState::KnownOfBase(const ModelBundle* bundle,
                                                const AdIndex* base) const {
  if (bundle == nullptr || base == nullptr) return {};
  const auto current = Current();
  for (const auto& snapshot : {current, prepared_}) {
    if (snapshot == nullptr || snapshot->bundle.get() != bundle) continue;
    const auto& vectors = snapshot->model_vectors;
    if (snapshot->index.get() == base) {
      return {snapshot->ad_features, vectors};
    }
    if (snapshot->index->base().get() == base) {
      return {snapshot->ad_features->base(),
              vectors == nullptr ? nullptr : vectors->base()};
    }
  }
  return {};
}

void ServingState::Replace(std::shared_ptr<const ModelBundle> bundle,
                           std::shared_ptr<const AdIndex> index) {
  const auto is_pair = [&](const ServingSnapshot* s) {
    return s != nullptr && s->bundle == bundle && s->index == index;
  };
  if (is_pair(Current().get())) return;
  std::shared_ptr<const ServingSnapshot> old;
  if (is_pair(prepared_.get())) {
    old = prepared_;
  } else {
    auto base = KnownOfBase(bundle.get(), index->base().get());
    old = std::make_shared<const ServingSnapshot>(ServingSnapshot::Of(
        std::move(bundle), std::move(index), std::move(base)));
  }
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
