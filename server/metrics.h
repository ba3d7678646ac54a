// What the server tells Prometheus. Declared once, here; labels are bounded.
#ifndef ADRANK_SERVER_METRICS_H_
#define ADRANK_SERVER_METRICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "model/model_bundle.h"
#include "proto/events.pb.h"
#include "proto/ranking_service.pb.h"
#include "proto/recall_report.pb.h"
#include "server/ranking_pipeline.h"
#include "storage/event_log.h"

namespace adrank {

struct LedgerStats;
struct TrafficCounts;
struct CapStats;
struct CapStoreStats;

// The RPCs of all services; each has its series from the start, so that a rate
// over a quiet method is 0 and not absent.
enum class Rpc {
  kRank,
  kPredict,
  kExplain,
  kLogEvents,
  kStreamEvents,
  kMutate,
  kListCatalog,
  kCatalogStatus,
  kHistory,
  kListModels,
  kModelStatus,
  kPromote,
  kRollback,
  kGetPacing,
  kListBudgets,
  kAuditBudgets,
  kGetUserCaps,
  kForgetUserCaps,
  kReplayPolicy,
};

// Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  // grpc_server_started_total, grpc_server_handled_total{grpc_code} and
  // grpc_server_handling_seconds (errors included). `code` is a
  // grpc::StatusCode.
  void RpcStarted(Rpc rpc);
  void RpcHandled(Rpc rpc, int code, double seconds);

  // Stage histograms, candidates, scores, degradations and empty slots of one
  // ranked request.
  void Ranked(const RankOutcome& outcome, const Retrieval& retrieval);
  void Predicted(size_t candidates, double pctr_sum, uint64_t non_finite);
  void EventHandled(v1::EventType type, v1::EventResult::Code code);

  // `error` empty: loaded.
  void ModelLoad(double seconds, bool loaded);
  void ModelSwapped(const ModelBundle& bundle, double now_seconds);
  void CatalogBuilt(const AdIndex& index, double seconds);
  void CatalogBuildFailed();
  // Null: the model finds no ads.
  void ModelRetrieval(const ModelVectors* vectors);
  // Of the day that began then; REQUIRES: one limit.
  void RecallMeasured(double day_seconds, const v1::RecallReport& report);
  void EventLogStats(const EventLogStats& stats);
  void BudgetStats(const LedgerStats& stats, const TrafficCounts& traffic);
  void FrequencyCaps(const CapStats& caps, const CapStoreStats& store);

  // The exposition text; process metrics are read now.
  std::string Text() const;

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_METRICS_H_
