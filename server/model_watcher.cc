#include "server/model_watcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "model/checksums.h"

namespace adrank {
namespace {

constexpr absl::Duration kFirstPause = absl::Seconds(1);
constexpr absl::Duration kLongestPause = absl::Minutes(1);

}  // namespace

ModelWatcher::ModelWatcher(const ModelStore& store,
                           const std::string& model_name, const Clock* clock,
                           ServingState* state, Metrics* metrics)
    : store_(store),
      model_name_(model_name),
      clock_(clock),
      state_(state),
      metrics_(metrics) {}

int64_t ModelWatcher::ServingVersion() const {
  absl::MutexLock lock(&mu_);
  return serving_ == nullptr ? 0 : serving_->manifest().version();
}

absl::StatusOr<std::string> ModelWatcher::ChecksumsOnDisk(
    int64_t version) const {
  return files::Read(files::Join(store_.VersionDir(version), kChecksumsFile));
}

bool ModelWatcher::IsServed(int64_t version) const {
  if (version != ServingVersion()) return false;
  // A version that was deleted meanwhile is served on.
  const absl::StatusOr<std::string> checksums = ChecksumsOnDisk(version);
  absl::MutexLock lock(&mu_);
  return !checksums.ok() || *checksums == serving_checksums_;
}

absl::Status ModelWatcher::RunOnce() {
  absl::MutexLock load_lock(&load_mu_);
  retired_.erase(
      std::remove_if(retired_.begin(), retired_.end(),
                     [](const auto& b) { return b.use_count() == 1; }),
      retired_.end());
  const absl::StatusOr<int64_t> published = store_.Published();
  absl::Status result;
  if (absl::IsNotFound(published.status())) {
    // Nothing was ever published: the prior answers until then.
  } else if (!published.ok()) {
    result = published.status();
  } else if (!IsServed(*published)) {
    result = Serve(*published);
  }
  absl::MutexLock lock(&mu_);
  if (!published.ok() && !result.ok() && error_ != result.message()) {
    LOG(ERROR) << "model " << model_name_ << ": " << result;
  }
  error_ = std::string(result.message());
  return result;
}

absl::Status ModelWatcher::Serve(int64_t version) {
  std::shared_ptr<const ModelBundle> kept;
  // Read before the bundle: if that is replaced in between, the next look at
  // the disk finds a difference.
  const absl::StatusOr<std::string> on_disk = ChecksumsOnDisk(version);
  std::string checksums = on_disk.ok() ? *on_disk : "";
  {
    absl::MutexLock lock(&mu_);
    const auto refused = refused_.find(version);
    if (refused != refused_.end() && clock_->Now() < refused->second.retry) {
      return absl::FailedPreconditionError(refused->second.error);
    }
    if (previous_ != nullptr && previous_->manifest().version() == version &&
        (!on_disk.ok() || checksums == previous_checksums_)) {
      kept = previous_;
      checksums = previous_checksums_;
    }
  }
  if (kept != nullptr) {
    Swap(std::move(kept), std::move(checksums));
    return absl::OkStatus();
  }
  const absl::Time start = absl::Now();
  auto bundle = ModelBundle::Load(store_.VersionDir(version));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (bundle.ok() && (*bundle)->manifest().version() != version) {
    bundle = absl::DataLossError(absl::StrCat(store_.VersionDir(version),
                                              ": is version ",
                                              (*bundle)->manifest().version()));
  }
  metrics_->ModelLoad(seconds, bundle.ok());
  if (!bundle.ok()) {
    const absl::Status error =
        Annotate(bundle.status(), absl::StrCat("version ", version));
    LOG(ERROR) << "model " << model_name_ << ": refused " << error
               << "; version " << ServingVersion() << " stays";
    absl::MutexLock lock(&mu_);
    Refusal& refusal = refused_[version];
    refusal.error = std::string(error.message());
    refusal.pause =
        std::min(kLongestPause, std::max(kFirstPause, 2 * refusal.pause));
    refusal.retry = clock_->Now() + refusal.pause;
    return error;
  }
  LOG(INFO) << "model " << model_name_ << ": serving version " << version
            << " (" << (*bundle)->bytes() << " bytes, loaded in " << seconds
            << " s"
            << ((*bundle)->uncertainty() == nullptr
                    ? ", without uncertainty.bin: THOMPSON would act as "
                      "EPSILON_GREEDY)"
                    : ")");
  Swap(*std::move(bundle), std::move(checksums));
  return absl::OkStatus();
}

void ModelWatcher::Swap(std::shared_ptr<const ModelBundle> bundle,
                        std::string checksums) {
  state_->SetBundle(bundle);
  const auto serving = state_->Current();
  if (serving->index->options().by_model) {
    LOG(INFO) << "model " << model_name_ << ": version "
              << bundle->manifest().version()
              << ": retrieval by its embeddings: " << serving->model_retrieval;
  }
  metrics_->ModelSwapped(
      *bundle, absl::ToDoubleSeconds(clock_->Now() - absl::UnixEpoch()));
  absl::MutexLock lock(&mu_);
  refused_.erase(bundle->manifest().version());
  // A bundle replaced under its own number is nothing to roll back to.
  const bool same_number =
      serving_ != nullptr &&
      serving_->manifest().version() == bundle->manifest().version();
  if (!same_number) {
    std::swap(previous_, serving_);
    std::swap(previous_checksums_, serving_checksums_);
  }
  if (serving_ != nullptr && serving_ != bundle) {
    retired_.push_back(std::move(serving_));
  }
  serving_ = std::move(bundle);
  serving_checksums_ = std::move(checksums);
}

absl::Status ModelWatcher::Promote(int64_t version) {
  absl::MutexLock load_lock(&load_mu_);
  {
    absl::MutexLock lock(&mu_);
    refused_.erase(version);  // a person asks: try now
  }
  if (!IsServed(version)) RETURN_IF_ERROR(Serve(version));
  return store_.SetPublished(version);
}

absl::Status ModelWatcher::Rollback() {
  int64_t version = 0;
  {
    absl::MutexLock lock(&mu_);
    if (previous_ == nullptr) {
      return absl::FailedPreconditionError(
          "no version was served before this one since the server started; "
          "promote one by number");
    }
    version = previous_->manifest().version();
  }
  return Promote(version);
}

v1::ModelStatusResponse ModelWatcher::Status() const {
  v1::ModelStatusResponse response;
  response.set_model_name(model_name_);
  if (const auto published = store_.Published(); published.ok()) {
    response.set_published_version(*published);
  }
  absl::MutexLock lock(&mu_);
  if (serving_ != nullptr) {
    response.set_serving_version(serving_->manifest().version());
  }
  if (previous_ != nullptr) {
    response.set_previous_version(previous_->manifest().version());
  }
  response.set_error(error_);
  return response;
}

absl::StatusOr<v1::ListModelsResponse> ModelWatcher::List() const {
  ASSIGN_OR_RETURN(const std::vector<int64_t> versions, store_.Versions());
  v1::ListModelsResponse response;
  for (auto it = versions.rbegin(); it != versions.rend(); ++it) {
    v1::ModelVersion* v = response.add_versions();
    v->set_version(*it);
    v->set_state(v1::MODEL_STATE_AVAILABLE);
    const std::string dir = store_.VersionDir(*it);
    auto manifest = ReadTextProto<v1::ModelManifest>(
        files::Join(dir, "manifest.textproto"));
    if (manifest.ok()) *v->mutable_manifest() = *std::move(manifest);
    absl::MutexLock lock(&mu_);
    if (const auto refused = refused_.find(*it); refused != refused_.end()) {
      v->set_state(v1::MODEL_STATE_REJECTED);
      v->set_error(refused->second.error);
    } else if (serving_ != nullptr && serving_->manifest().version() == *it) {
      v->set_state(v1::MODEL_STATE_SERVING);
      v->set_bytes(serving_->bytes());
      v->set_retrieval(state_->Current()->model_retrieval);
    } else if (previous_ != nullptr && previous_->manifest().version() == *it) {
      v->set_state(v1::MODEL_STATE_PREVIOUS);
      v->set_bytes(previous_->bytes());
    }
  }
  return response;
}

}  // namespace adrank
