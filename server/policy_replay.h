// A logged decision as another policy would have made it: the server's half of
// off-policy evaluation (proto/policy_service.proto).
#ifndef ADRANK_SERVER_POLICY_REPLAY_H_
#define ADRANK_SERVER_POLICY_REPLAY_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/events.pb.h"
#include "proto/policy_service.pb.h"
#include "proto/server_config.pb.h"
#include "server/impression_counts.h"
#include "server/serving_state.h"
#include "storage/event_log_reader.h"

namespace adrank {

// The server's configuration with the change; PolicyReplay::Create checks it.
v1::ServerConfig Changed(const v1::ServerConfig& config,
                         const v1::PolicyChange& change);

// Replays under one policy, one decision after another. Used by one thread.
class PolicyReplay {
 public:
  // `config` is the policy in question. InvalidArgument names the field out of
  // range. `counts` as RequestAds's; it must outlive the replay.
  static absl::StatusOr<std::unique_ptr<PolicyReplay>> Create(
      const v1::ServerConfig& config, const ImpressionCounts* counts);
  ~PolicyReplay();

  // `decision` as read from the log, with what was reported of it; `serving`
  // has the catalogue that answered it and the model of the policy in question.
  // Slot by slot, given the ads that were shown in the slots before: how likely
  // the policy is to show this ad, what it would have paid, and what the model
  // expects of it and of the policy's own choice. Behind the first slot that
  // the policy would never fill so, probabilities are 0: no answer of it begins
  // like this one. Errors are RankingPipeline::Rank's.
  absl::StatusOr<v1::ReplayedDecision> Replay(
      const ServingSnapshot& serving, const v1::Decision& decision,
      absl::Span<const JoinedEvent> events);

 private:
  class Work;
  explicit PolicyReplay(std::unique_ptr<Work> work);

  std::unique_ptr<Work> work_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_POLICY_REPLAY_H_
