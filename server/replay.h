// Past decisions answered again: from the catalogue, the model and the state
// that answered them.
#ifndef ADRANK_SERVER_REPLAY_H_
#define ADRANK_SERVER_REPLAY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "model/model_store.h"
#include "proto/events.pb.h"
#include "proto/server_config.pb.h"
#include "server/ranking_pipeline.h"
#include "server/serving_state.h"
#include "server/why_not.h"
#include "storage/catalog_store.h"
#include "storage/event_log.h"

namespace adrank {

// The request as the pipeline was given it, from what a decision holds.
v1::RankRequest RequestOf(const v1::Decision& decision);

// Thread-safe; one replay at a time. The state that answered the last one is
// kept, so that decisions of one catalogue and model follow quickly.
class Replayer {
 public:
  // The pointers must outlive the replayer. InvalidArgument as
  // RankingPipeline::Create.
  static absl::StatusOr<std::unique_ptr<Replayer>> Create(
      const v1::ServerConfig& config, const ServingState* state,
      CatalogStore* catalog, const ModelStore& models, EventLog* log);

  // Answers request.decision_id() again and explains it, with request.ad_ids();
  // replay_identical says whether the decision is the logged one byte for byte,
  // replay_difference where it is not, and why it may.
  //
  // NotFound: no such decision in the log. FailedPrecondition: it was not made
  // by ranking (imported), or what answered it is gone: the model's version was
  // deleted, the history of the catalogue does not reach it. `call` is asked
  // only whether the caller has gone.
  absl::Status Explain(const v1::ExplainRequest& request,
                       const CallOptions& call, RankTrace* trace,
                       v1::ExplainResponse* response);

  // The catalogue and the model of these versions (0: no model).
  // FailedPrecondition when one is gone.
  absl::StatusOr<std::shared_ptr<const ServingSnapshot>> ServingOf(
      int64_t model_version, int64_t catalog_version);

  // The decision that the state of `logged` gives now, with its id; and the
  // trace of how.
  absl::StatusOr<v1::Decision> Replay(const v1::Decision& logged,
                                      const CallOptions& call, RankTrace* trace,
                                      v1::RankResponse* response);

 private:
  Replayer(const ServingState* state, CatalogStore* catalog,
           const ModelStore& models, EventLog* log)
      : state_(state), catalog_(catalog), models_(models), log_(log) {}

  absl::StatusOr<v1::Decision> Logged(const std::string& decision_id);
  // What answered a decision of these versions.
  absl::StatusOr<std::shared_ptr<const ServingSnapshot>> Serving(
      int64_t model_version, int64_t catalog_version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<const ModelBundle>> Bundle(int64_t version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<const AdIndex>> Index(int64_t version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<v1::Decision> ReplayIn(
      const ServingSnapshot& serving, const v1::Decision& logged,
      const v1::RankRequest& request, const CallOptions& call, RankTrace* trace,
      v1::RankResponse* response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::string WhyDifferent(const ServingSnapshot& serving,
                           const v1::Decision& logged,
                           const v1::Decision& replayed) const;

  const ServingState* const state_;
  CatalogStore* const catalog_;
  const ModelStore models_;
  EventLog* const log_;
  // Stands still: a replay has all the time it needs.
  SimulatedClock clock_{absl::UnixEpoch()};
  std::unique_ptr<const RankingPipeline> pipeline_;
  bool boosts_newcomers_ = false;

  absl::Mutex mu_;
  std::shared_ptr<const ServingSnapshot> last_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_REPLAY_H_
