// CapService over gRPC; admin port only.
#ifndef ADRANK_SERVER_RPC_CAP_RPC_H_
#define ADRANK_SERVER_RPC_CAP_RPC_H_

#include "proto/cap_service.grpc.pb.h"
#include "server/caps/frequency_caps.h"
#include "server/metrics.h"
#include "server/serving_state.h"

namespace adrank {

// A user's row for people. Sorted as UserCaps says.
v1::UserCaps DescribeCaps(const AdIndex& index, const CapRow& row,
                          const CapTimes& times);

// The synchronous API: there are few calls.
class CapRpc : public v1::CapService::Service {
 public:
  // The pointers must outlive the service.
  CapRpc(FrequencyCaps* caps, const ServingState* state, Metrics* metrics)
      : caps_(caps), state_(state), metrics_(metrics) {}

  grpc::Status GetUser(grpc::ServerContext* context,
                       const v1::GetUserCapsRequest* request,
                       v1::UserCaps* response) override;
  grpc::Status ForgetUser(grpc::ServerContext* context,
                          const v1::ForgetUserCapsRequest* request,
                          v1::ForgetUserCapsResponse* response) override;

 private:
  FrequencyCaps* const caps_;
  const ServingState* const state_;
  Metrics* const metrics_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_CAP_RPC_H_
