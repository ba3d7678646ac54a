// CatalogService over gRPC: reads for everyone, changes on the admin port.
#ifndef ADRANK_SERVER_RPC_CATALOG_RPC_H_
#define ADRANK_SERVER_RPC_CATALOG_RPC_H_

#include <functional>

#include "proto/catalog_service.grpc.pb.h"
#include "server/catalog_loader.h"
#include "server/metrics.h"
#include "server/serving_state.h"
#include "storage/catalog_store.h"
#include "storage/event_log.h"

namespace adrank {

// The synchronous API: these calls read and write the disk, and there are few.
class CatalogRpc : public v1::CatalogService::Service {
 public:
  // The pointers must outlive the service. `changed` is called after a change,
  // to have the index rebuilt; empty: Mutate is PERMISSION_DENIED. The log has
  // the recent requests on which a validated change is tried, the pipeline the
  // limits of what vectors find.
  CatalogRpc(CatalogStore* store, EventLog* log,
             const RankingPipeline* pipeline, const ServingState* state,
             const CatalogLoader* loader, std::function<void()> changed,
             Metrics* metrics)
      : pipeline_(pipeline),
        store_(store),
        log_(log),
        state_(state),
        loader_(loader),
        changed_(std::move(changed)),
        metrics_(metrics) {}

  grpc::Status Mutate(grpc::ServerContext* context,
                      const v1::MutateRequest* request,
                      v1::MutateResponse* response) override;
  grpc::Status List(grpc::ServerContext* context,
                    const v1::ListCatalogRequest* request,
                    v1::ListCatalogResponse* response) override;
  grpc::Status Status(grpc::ServerContext* context,
                      const v1::CatalogStatusRequest* request,
                      v1::CatalogStatusResponse* response) override;
  grpc::Status History(grpc::ServerContext* context,
                       const v1::CatalogHistoryRequest* request,
                       v1::CatalogHistoryResponse* response) override;

 private:
  absl::Status DoMutate(grpc::ServerContext* context,
                        const v1::MutateRequest& request,
                        v1::MutateResponse* response);
  absl::Status DoList(const v1::ListCatalogRequest& request,
                      v1::ListCatalogResponse* response);

  const RankingPipeline* const pipeline_;
  CatalogStore* const store_;
  EventLog* const log_;
  const ServingState* const state_;
  const CatalogLoader* const loader_;
  const std::function<void()> changed_;
  Metrics* const metrics_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_CATALOG_RPC_H_
