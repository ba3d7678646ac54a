#include "tools/catalog_client.h"

#include <grpcpp/grpcpp.h>

#include "base/status_macros.h"
#include "proto/catalog_service.grpc.pb.h"

namespace adrank {
namespace {

absl::StatusOr<int64_t> LiveVersion(const ClientOptions& options) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::CatalogStatusResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::CatalogService::NewStub(Connect(options.server))
                               ->Status(&context, {}, &response),
                           options.server));
  return response.catalog_version();
}

}  // namespace

absl::Status ForEachEntity(
    const ClientOptions& options, v1::ListCatalogRequest request,
    const std::function<void(v1::CatalogEntity*)>& take) {
  const auto stub = v1::CatalogService::NewStub(Connect(options.server));
  do {
    grpc::ClientContext context;
    SetDeadline(options, &context);
    v1::ListCatalogResponse response;
    RETURN_IF_ERROR(
        FromGrpc(stub->List(&context, request, &response), options.server));
    for (v1::CatalogEntity& entity : *response.mutable_entities()) {
      take(&entity);
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ReadConsistently(
    const ClientOptions& options, const std::function<absl::Status()>& read) {
  ASSIGN_OR_RETURN(const int64_t before, LiveVersion(options));
  RETURN_IF_ERROR(read());
  ASSIGN_OR_RETURN(const int64_t after, LiveVersion(options));
  if (before != after) {
    return absl::AbortedError(
        "the catalogue changed while it was read; try again");
  }
  return after;
}

}  // namespace adrank
