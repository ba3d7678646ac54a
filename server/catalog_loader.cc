#include "server/catalog_loader.h"

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace adrank {

absl::Status CatalogLoader::RunOnce() {
  absl::MutexLock build_lock(&build_mu_);
  if (store_->Version() == state_->Current()->index->version()) {
    return absl::OkStatus();
  }
  const absl::Time start = absl::Now();
  const auto build =
      [this]() -> absl::StatusOr<std::shared_ptr<const AdIndex>> {
    ASSIGN_OR_RETURN(const auto loaded, store_->Load());
    return AdIndex::Build(loaded.first, loaded.second);
  };
  absl::StatusOr<std::shared_ptr<const AdIndex>> index = build();
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
