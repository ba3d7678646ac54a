// Reading a server's whole catalogue.
#ifndef ADRANK_TOOLS_CATALOG_CLIENT_H_
#define ADRANK_TOOLS_CATALOG_CLIENT_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/catalog_service.pb.h"
#include "tools/client.h"

namespace adrank {

// Calls `take` with each entity that `request` asks for, page after page; it
// may change the entity.
absl::Status ForEachEntity(const ClientOptions& options,
                           v1::ListCatalogRequest request,
                           const std::function<void(v1::CatalogEntity*)>& take);

// The version of the catalogue that `read` saw from its first call to its last.
// Aborted when it changed meanwhile.
absl::StatusOr<int64_t> ReadConsistently(
    const ClientOptions& options, const std::function<absl::Status()>& read);

}  // namespace adrank

#endif  // ADRANK_TOOLS_CATALOG_CLIENT_H_
