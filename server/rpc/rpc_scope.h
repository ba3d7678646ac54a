// What every RPC does besides its work: counts itself.
#ifndef ADRANK_SERVER_RPC_RPC_SCOPE_H_
#define ADRANK_SERVER_RPC_RPC_SCOPE_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/metrics.h"

namespace adrank {

// The two libraries number the codes alike.
inline grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

// One call in the metrics: started now, handled when Done is called.
class RpcScope {
 public:
  RpcScope(Rpc rpc, Metrics* metrics)
      : rpc_(rpc), metrics_(metrics), start_(absl::Now()) {
    metrics_->RpcStarted(rpc_);
  }
  // Counts and passes the status on.
  grpc::Status Done(const absl::Status& status) const {
    metrics_->RpcHandled(rpc_, static_cast<int>(status.code()),
                         absl::ToDoubleSeconds(absl::Now() - start_));
    return ToGrpc(status);
  }

 private:
  const Rpc rpc_;
  Metrics* const metrics_;
  const absl::Time start_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_RPC_SCOPE_H_
