// PolicyService over gRPC: the log read, decisions replayed one by one.
#ifndef ADRANK_SERVER_RPC_POLICY_RPC_H_
#define ADRANK_SERVER_RPC_POLICY_RPC_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "proto/policy_service.grpc.pb.h"
#include "proto/server_config.pb.h"
#include "server/impression_counts.h"
#include "server/metrics.h"
#include "server/replay.h"
#include "server/serving_state.h"
#include "storage/event_log.h"

namespace adrank {

// Synchronous: an answer streams for minutes, on a thread of its own. One at a
// time; others are RESOURCE_EXHAUSTED.
class PolicyRpc : public v1::PolicyService::Service {
 public:
  // `config` is the server's. The pointers must outlive the service. `counts`
  // null: newcomers are not counted.
  PolicyRpc(const v1::ServerConfig& config, const ServingState* state,
            Replayer* replayer, EventLog* log, const ImpressionCounts* counts,
            const Clock* clock, Metrics* metrics)
      : config_(config),
        state_(state),
        replayer_(replayer),
        log_(log),
        counts_(counts),
        clock_(clock),
        metrics_(metrics) {}

  grpc::Status Replay(
      grpc::ServerContext* context, const v1::ReplayPolicyRequest* request,
      grpc::ServerWriter<v1::ReplayedDecision>* writer) override;

 private:
  absl::Status Run(grpc::ServerContext* context,
                   const v1::ReplayPolicyRequest& request,
                   grpc::ServerWriter<v1::ReplayedDecision>* writer);

  const v1::ServerConfig& config_;
  const ServingState* const state_;
  Replayer* const replayer_;
  EventLog* const log_;
  const ImpressionCounts* const counts_;
  const Clock* const clock_;
  Metrics* const metrics_;
  absl::Mutex running_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_POLICY_RPC_H_
