#include "server/rpc/catalog_rpc.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "server/reach.h"
#include "server/rpc/rpc_scope.h"
#include "server/trigger/keyword_check.h"

namespace adrank {
namespace {

constexpr uint32_t kDefaultPage = 1000;
constexpr uint32_t kLargestPage = 10000;
// A page ends behind the entity that fills it; one has at most 1 MiB, and
// clients take 4 MiB unless told otherwise.
constexpr size_t kPageBytes = 2 << 20;
constexpr uint32_t kEntitiesPerRead = 256;
constexpr uint32_t kDefaultHistory = 100;
// A large change is tried on as many recent requests as fit into this.
constexpr absl::Duration kReachTime = absl::Seconds(10);

// A page token is the last key of the page before: "<type>:<id>".
std::string ToToken(const v1::EntityKey& key) {
  return absl::StrCat(static_cast<int>(key.type()), ":", key.id());
}

absl::StatusOr<v1::EntityKey> FromToken(const std::string& token) {
  v1::EntityKey key;
  if (token.empty()) return key;
  const size_t colon = token.find(':');
  int type = 0;
  if (colon == std::string::npos ||
      !absl::SimpleAtoi(token.substr(0, colon), &type) ||
      !v1::EntityType_IsValid(type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_token: \"", token, "\" is none of ours"));
  }
  key.set_type(static_cast<v1::EntityType>(type));
  key.set_id(token.substr(colon + 1));
  return key;
}

}  // namespace

absl::Status CatalogRpc::DoMutate(grpc::ServerContext* context,
                                  const v1::MutateRequest& request,
                                  v1::MutateResponse* response) {
  if (!changed_) {
    return absl::PermissionDeniedError(
        "the catalogue is changed through the admin port");
  }
  const std::vector<v1::CatalogOperation> operations(
      request.operations().begin(), request.operations().end());
  ApplyOptions options;
  options.partial_failure = request.partial_failure();
  options.validate_only = request.validate_only();
  if (request.has_expected_version()) {
    options.expected_version = request.expected_version();
  }
  options.want_affected = request.validate_only();
  options.also_check = CheckKeywords;
  ASSIGN_OR_RETURN(const ApplyResult result,
                   store_->Apply(operations, options));
  for (size_t i = 0; i < operations.size(); ++i) {
    v1::OperationResult* out = response->add_results();
    *out->mutable_key() = KeyOf(operations[i]);
    out->set_error(std::string(result.errors[i].message()));
  }
  response->set_catalog_version(result.version);
  response->set_applied(result.applied);
  if (result.applied > 0) changed_();
  if (!request.validate_only()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<v1::Decision> recent,
                   log_->NewestDecisions(kReachRequests));
  const absl::Time enough = absl::Now() + kReachTime;
  const auto serving = state_->Current();
  const ReachOptions reach = {serving->index->options(), serving->index.get(),
                              pipeline_->limits().max_candidates,
                              pipeline_->min_similarity()};
  return EstimateReach(
      result.affected, recent,
      [&] { return context->IsCancelled() || absl::Now() > enough; }, response,
      reach);
}

absl::Status CatalogRpc::DoList(const v1::ListCatalogRequest& request,
                                v1::ListCatalogResponse* response) {
  if (!request.id().empty()) {
    v1::EntityKey key;
    key.set_type(request.type());
    key.set_id(request.id());
    absl::StatusOr<v1::CatalogEntity> entity = store_->Get(key);
    if (absl::IsNotFound(entity.status())) return absl::OkStatus();
    RETURN_IF_ERROR(entity.status());
    *response->add_entities() = *std::move(entity);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(v1::EntityKey after, FromToken(request.page_token()));
  const uint32_t size = request.page_size() == 0
                            ? kDefaultPage
                            : std::min(request.page_size(), kLargestPage);
  uint32_t left = size;
  size_t bytes = 0;
  while (left > 0 && bytes < kPageBytes) {
    const uint32_t wanted = std::min(left, kEntitiesPerRead);
    ASSIGN_OR_RETURN(std::vector<v1::CatalogEntity> entities,
                     store_->List(request.type(), after, wanted));
    const bool last = entities.size() < wanted;
    for (v1::CatalogEntity& entity : entities) {
      if (bytes >= kPageBytes) break;
      bytes += entity.ByteSizeLong();
      --left;
      after = KeyOf(entity);
      *response->add_entities() = std::move(entity);
    }
    if (last && bytes < kPageBytes) return absl::OkStatus();
  }
  response->set_next_page_token(ToToken(after));
  return absl::OkStatus();
}

grpc::Status CatalogRpc::Mutate(grpc::ServerContext* context,
                                const v1::MutateRequest* request,
                                v1::MutateResponse* response) {
  const RpcScope scope(Rpc::kMutate, metrics_);
  return scope.Done(DoMutate(context, *request, response));
}

grpc::Status CatalogRpc::List(grpc::ServerContext*,
                              const v1::ListCatalogRequest* request,
                              v1::ListCatalogResponse* response) {
  const RpcScope scope(Rpc::kListCatalog, metrics_);
  return scope.Done(DoList(*request, response));
}

grpc::Status CatalogRpc::Status(grpc::ServerContext*,
                                const v1::CatalogStatusRequest*,
                                v1::CatalogStatusResponse* response) {
  const RpcScope scope(Rpc::kCatalogStatus, metrics_);
  const auto serving = state_->Current();
  const AdIndexStats& stats = serving->index->stats();
  response->set_catalog_version(store_->Version());
  response->set_serving_version(serving->index->version());
  response->set_advertisers(stats.live_advertisers);
  response->set_campaigns(stats.live_campaigns);
  response->set_ad_groups(stats.live_ad_groups);
  response->set_ads(stats.ads);
  response->set_servable_ads(stats.servable_ads);
  response->set_last_build_seconds(loader_->last_build_seconds());
  return scope.Done(absl::OkStatus());
}

grpc::Status CatalogRpc::History(grpc::ServerContext*,
                                 const v1::CatalogHistoryRequest* request,
                                 v1::CatalogHistoryResponse* response) {
  const RpcScope scope(Rpc::kHistory, metrics_);
  auto changes =
      store_->History(request->key(), request->limit() == 0 ? kDefaultHistory
                                                            : request->limit());
  if (!changes.ok()) return scope.Done(changes.status());
  for (v1::CatalogChange& change : *changes) {
    *response->add_changes() = std::move(change);
  }
  return scope.Done(absl::OkStatus());
}

}  // namespace adrank
