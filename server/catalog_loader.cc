#include "server/catalog_loader.h"

#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace adrank {

absl::StatusOr<CatalogLoader::Index> CatalogLoader::BuildWhole() {
  ASSIGN_OR_RETURN(const auto loaded, store_->Load());
  return AdIndex::Build(loaded.first, loaded.second, options_);
}

absl::StatusOr<CatalogLoader::Index> CatalogLoader::BuildOn(const Index& base) {
  // Beyond a quarter the whole is built as fast.
  const size_t max_groups = base->groups() / 4 + 1000;
  const auto also = [&](absl::Span<const v1::EntityKey> changed) {
    return base->GroupsOf(changed);
  };
  ASSIGN_OR_RETURN(const CatalogChanges changes,
                   store_->LoadChanges(base->version(), also, max_groups));
  return AdIndex::BuildOn(base, changes);
}

absl::Status CatalogLoader::RunOnce() {
  absl::MutexLock build_lock(&build_mu_);
  const Index current = state_->Current()->index;
  if (store_->Version() == current->version()) {
    state_->Sweep();
    return absl::OkStatus();
  }
  const absl::Time start = absl::Now();
  const Index base = current->base() == nullptr ? current : current->base();
  // A small catalogue is built whole in no time.
  const bool small = base->size() < MergeFrom(0);
  absl::StatusOr<Index> index = small ? BuildWhole() : BuildOn(base);
  if (!small && !index.ok()) {
    LOG(INFO) << "catalogue: building it anew: " << index.status();
    index = BuildWhole();
  }
  return Serve(std::move(index), start);
}

absl::Status CatalogLoader::Merge() {
  absl::MutexLock merge_lock(&merge_mu_);
  const Index current = state_->Current()->index;
  if (current->base() == nullptr ||
      current->changed_ads().size() <= MergeFrom(current->base()->size())) {
    return absl::OkStatus();
  }
  const absl::Time start = absl::Now();
  absl::StatusOr<Index> whole = BuildWhole();
  if (whole.ok()) state_->Prepare(*whole);
  absl::MutexLock build_lock(&build_mu_);
  // What changed while it was built.
  if (whole.ok() && store_->Version() != (*whole)->version()) {
    absl::StatusOr<Index> now = BuildOn(*whole);
    // Else what is served stays, and the next merge begins with less to do.
    if (!now.ok() || (*now)->version() < state_->Current()->index->version()) {
      return now.status();
    }
    whole = std::move(now);
  }
  return Serve(std::move(whole), start);
}

absl::Status CatalogLoader::Serve(absl::StatusOr<Index> index,
                                  absl::Time start) {
  if (!index.ok()) {
    metrics_->CatalogBuildFailed();
    LOG(ERROR) << "catalogue: " << index.status() << "; the old one stays";
    return index.status();
  }
  if (prepare_) prepare_(**index);
  state_->SetIndex(*index);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  metrics_->CatalogBuilt(**index, seconds);
  LOG(INFO) << "catalogue: serving version " << (*index)->version() << ", "
            << (*index)->stats().ads << " ads, built in " << seconds << " s";
  absl::MutexLock lock(&mu_);
  last_build_seconds_ = seconds;
  return absl::OkStatus();
}

double CatalogLoader::last_build_seconds() const {
  absl::MutexLock lock(&mu_);
  return last_build_seconds_;
}

}  // namespace adrank
