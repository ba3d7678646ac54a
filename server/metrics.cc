#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "server/budget/budget_series.h"
#include "server/caps/frequency_caps.h"

namespace adrank {
namespace {

using ::prometheus::BuildCounter;
using ::prometheus::BuildGauge;
using ::prometheus::BuildHistogram;
using ::prometheus::Counter;
using ::prometheus::Family;
using ::prometheus::Gauge;
using ::prometheus::Histogram;
using ::prometheus::Registry;

struct RpcName {
  const char* service;
  const char* method;
};
constexpr RpcName kRpcs[] = {
    {"adrank.v1.RankingService", "Rank"},
    {"adrank.v1.RankingService", "Predict"},
    {"adrank.v1.RankingService", "Explain"},
    {"adrank.v1.EventService", "LogEvents"},
    {"adrank.v1.EventService", "StreamEvents"},
    {"adrank.v1.CatalogService", "Mutate"},
    {"adrank.v1.CatalogService", "List"},
    {"adrank.v1.CatalogService", "Status"},
    {"adrank.v1.CatalogService", "History"},
    {"adrank.v1.ModelService", "List"},
    {"adrank.v1.ModelService", "Status"},
    {"adrank.v1.ModelService", "Promote"},
    {"adrank.v1.ModelService", "Rollback"},
    {"adrank.v1.BudgetService", "GetPacing"},
    {"adrank.v1.BudgetService", "ListBudgets"},
    {"adrank.v1.BudgetService", "Audit"},
    {"adrank.v1.CapService", "GetUser"},
    {"adrank.v1.CapService", "ForgetUser"},
    {"adrank.v1.PolicyService", "Replay"},
};
constexpr size_t kRpcCount = std::size(kRpcs);

// Names of grpc::StatusCode 0..16.
constexpr const char* kCodes[] = {"OK",
                                  "Canceled",
                                  "Unknown",
                                  "InvalidArgument",
                                  "DeadlineExceeded",
                                  "NotFound",
                                  "AlreadyExists",
                                  "PermissionDenied",
                                  "ResourceExhausted",
                                  "FailedPrecondition",
                                  "Aborted",
                                  "OutOfRange",
                                  "Unimplemented",
                                  "Internal",
                                  "Unavailable",
                                  "DataLoss",
                                  "Unauthenticated"};

// An ad server answers in 1..20 ms: the usual gRPC buckets would see one bar.
const Histogram::BucketBoundaries kRpcSeconds = {.0005, .001, .002, .003, .005,
                                                 .0075, .01,  .015, .02,  .03,
                                                 .05,   .1,   .25,  .5,   1};
const Histogram::BucketBoundaries kStageSeconds = {
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, .1};
const Histogram::BucketBoundaries kCandidates = {0,   1,   5,   10,   20,  50,
                                                 100, 200, 500, 1000, 2000};

// "NO_AD_REASON_NO_MATCH" -> "no_match".
std::string Label(const std::string& name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::string_view(name).substr(prefix.size()));
}

double ResidentBytes() {
  auto text = files::Read("/proc/self/statm");
  long long size = 0, resident = 0;
  if (!text.ok() ||
      std::sscanf(text->c_str(), "%lld %lld", &size, &resident) != 2) {
    return 0;
  }
  return static_cast<double>(resident) *
         static_cast<double>(sysconf(_SC_PAGESIZE));
}

}  // namespace

struct Metrics::Series {
  Registry registry;

  // By RPC.
  std::array<Counter*, kRpcCount> started;
  std::array<Histogram*, kRpcCount> handling;
  std::array<std::array<Counter*, std::size(kCodes)>, kRpcCount> handled{};
  Family<Counter>* handled_family;

  Histogram *trigger, *predict, *rank, *total, *candidates;
  std::array<Counter*, kVetoes> filtered;
  std::vector<Counter*> found;  // by match type
  std::vector<Counter*> degraded, no_ad;
  Counter *predictions, *prediction_sum, *non_finite;
  Counter *served, *explored, *decisions_dropped;
  // [type][result code]
  std::vector<std::vector<Counter*>> events;

  Counter *loads_ok, *loads_failed;
  Histogram* load_seconds;
  Family<Gauge>* model_info;
  Gauge* model_info_now = nullptr;
  Gauge *model_version, *model_watermark, *model_loaded, *model_bytes;
  Gauge *catalog_version, *catalog_ads, *catalog_servable, *catalog_seconds;
  Counter* catalog_failed;
  Gauge *retrieval_ads, *retrieval_bytes;
  Family<Gauge>*recall_family, *recall_winners_family;
  std::vector<Gauge*> recall, recall_winners;
  Gauge *recall_day, *recall_decisions;
  Gauge *log_decisions, *log_events, *log_duplicates, *log_unknown,
      *log_pending, *log_bytes, *log_commits, *log_snapshots;
  Counter *caps_reserved, *caps_refused, *caps_released, *caps_confirmed,
      *caps_unknown, *caps_reads, *caps_damaged, *caps_full, *caps_failures;
  Gauge *caps_cached, *caps_users, *caps_bytes;
  BudgetSeries budget{&registry};
  Gauge* resident;
  // model_info_now, recall's families, counters that are raised, budget
  absl::Mutex mu;

  Series();

 private:
  void AddRpcs();
  void AddPipeline();
  void AddState();
  void AddCaps();
  Counter& OneCounter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  Gauge& OneGauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
};

Metrics::Series::Series() {
  AddRpcs();
  AddPipeline();
  AddState();
  AddCaps();
}

namespace {

const char* RpcType(Rpc rpc) {
  switch (rpc) {
    case Rpc::kStreamEvents:
      return "bidi_stream";
    case Rpc::kReplayPolicy:
      return "server_stream";
    default:
      return "unary";
  }
}

}  // namespace

void Metrics::Series::AddRpcs() {
  auto& started_family = BuildCounter()
                             .Name("grpc_server_started_total")
                             .Help("RPCs started")
                             .Register(registry);
  handled_family = &BuildCounter()
                        .Name("grpc_server_handled_total")
                        .Help("RPCs answered, by code")
                        .Register(registry);
  auto& handling_family = BuildHistogram()
                              .Name("grpc_server_handling_seconds")
                              .Help("Time to answer, errors included")
                              .Register(registry);
  for (size_t i = 0; i < kRpcCount; ++i) {
    const std::map<std::string, std::string> labels = {
        {"grpc_service", kRpcs[i].service},
        {"grpc_method", kRpcs[i].method},
        {"grpc_type", RpcType(static_cast<Rpc>(i))}};
    started[i] = &started_family.Add(labels);
    handling[i] = &handling_family.Add(labels, kRpcSeconds);
    for (size_t code = 0; code < std::size(kCodes); ++code) {
      auto with_code = labels;
      with_code["grpc_code"] = kCodes[code];
      handled[i][code] = &handled_family->Add(with_code);
    }
  }
}

void Metrics::Series::AddPipeline() {
  auto& stage = BuildHistogram()
                    .Name("adrank_stage_seconds")
                    .Help("Time in each stage of Rank")
                    .Register(registry);
  trigger = &stage.Add({{"stage", "trigger"}}, kStageSeconds);
  predict = &stage.Add({{"stage", "predict"}}, kStageSeconds);
  rank = &stage.Add({{"stage", "rank"}}, kStageSeconds);
  total = &stage.Add({{"stage", "total"}}, kStageSeconds);
  candidates = &BuildHistogram()
                    .Name("adrank_request_candidates")
                    .Help("Candidates predicted in one Rank")
                    .Register(registry)
                    .Add({}, kCandidates);
  auto& filtered_family = BuildCounter()
                              .Name("adrank_filtered_ads_total")
                              .Help("Ads that matched and were vetoed")
                              .Register(registry);
  for (size_t i = 0; i < kVetoes; ++i) {
    filtered[i] = &filtered_family.Add(
        {{"reason", std::string(VetoName(static_cast<Veto>(i)))}});
  }
  auto& found_family = BuildCounter()
                           .Name("adrank_candidates_total")
                           .Help(
                               "Candidates that the trigger chose, by how it "
                               "found them")
                           .Register(registry);
  for (int i = 0; i < v1::MatchType_ARRAYSIZE; ++i) {
    found.push_back(&found_family.Add(
        {{"match_type", Label(v1::MatchType_Name(static_cast<v1::MatchType>(i)),
                              "MATCH_TYPE_")}}));
  }
  auto& degraded_family = BuildCounter()
                              .Name("adrank_degraded_total")
                              .Help("Answers that were less than the best")
                              .Register(registry);
  for (int i = 0; i < v1::Degradation_ARRAYSIZE; ++i) {
    degraded.push_back(&degraded_family.Add(
        {{"reason", Label(v1::Degradation_Name(static_cast<v1::Degradation>(i)),
                          "DEGRADATION_")}}));
  }
  auto& no_ad_family = BuildCounter()
                           .Name("adrank_empty_placements_total")
                           .Help("Placements with fewer ads than slots")
                           .Register(registry);
  for (int i = 0; i < v1::NoAdReason_ARRAYSIZE; ++i) {
    no_ad.push_back(&no_ad_family.Add(
        {{"reason", Label(v1::NoAdReason_Name(static_cast<v1::NoAdReason>(i)),
                          "NO_AD_REASON_")}}));
  }
  predictions = &OneCounter("adrank_predictions_total", "Candidates scored");
  prediction_sum = &OneCounter("adrank_prediction_sum", "Sum of their pctr");
  non_finite = &OneCounter("adrank_non_finite_scores_total",
                           "Scores replaced by the prior");
  served = &OneCounter("adrank_served_ads_total", "Ads in answers of Rank");
  explored = &OneCounter("adrank_explored_slots_total",
                         "Slots where exploration put another than the best");
  decisions_dropped =
      &OneCounter("adrank_decisions_dropped_total",
                  "Decisions answered and not logged, since the log began: "
                  "its queue was full or its disk failed");
  auto& event_family = BuildCounter()
                           .Name("adrank_events_total")
                           .Help("Reported events, by what became of them")
                           .Register(registry);
  for (int type = 0; type < v1::EventType_ARRAYSIZE; ++type) {
    auto& row = events.emplace_back();
    for (int code = 0; code < v1::EventResult::Code_ARRAYSIZE; ++code) {
      row.push_back(&event_family.Add(
          {{"type", Label(v1::EventType_Name(static_cast<v1::EventType>(type)),
                          "EVENT_TYPE_")},
           {"result", Label(v1::EventResult::Code_Name(
                                static_cast<v1::EventResult::Code>(code)),
                            "CODE_")}}));
    }
  }
}

void Metrics::Series::AddState() {
  auto& loads = BuildCounter()
                    .Name("adrank_model_load_total")
                    .Help("Bundles loaded and refused")
                    .Register(registry);
  loads_ok = &loads.Add({{"result", "ok"}});
  loads_failed = &loads.Add({{"result", "refused"}});
  load_seconds = &BuildHistogram()
                      .Name("adrank_model_load_seconds")
                      .Help("Time to map and verify a bundle")
                      .Register(registry)
                      .Add({}, Histogram::BucketBoundaries{.01, .1, 1, 10, 60});
  model_info = &BuildGauge()
                    .Name("adrank_model_info")
                    .Help("1 for the bundle that is served")
                    .Register(registry);
  model_version = &OneGauge("adrank_model_version", "Served version; 0: none");
  model_watermark =
      &OneGauge("adrank_model_data_watermark_timestamp_seconds",
                "Newest example the served model learnt from: time() minus "
                "this is the age of its data");
  model_loaded = &OneGauge("adrank_model_load_timestamp_seconds",
                           "When the served version was swapped in");
  model_bytes = &OneGauge("adrank_model_bytes", "Bytes of the served bundle");
  catalog_version =
      &OneGauge("adrank_catalog_version", "Version requests are served from");
  catalog_ads = &OneGauge("adrank_catalog_ads", "Ads in the catalogue");
  catalog_servable =
      &OneGauge("adrank_catalog_servable_ads", "Ads that are enabled");
  catalog_seconds = &OneGauge("adrank_catalog_build_seconds",
                              "Time the last index took to build");
  catalog_failed = &OneCounter("adrank_catalog_build_failed_total",
                               "Catalogues that could not be indexed");
  retrieval_ads =
      &OneGauge("adrank_model_retrieval_ads",
                "Ads that the served model's embeddings can find; 0: off");
  retrieval_bytes =
      &OneGauge("adrank_model_retrieval_bytes", "Bytes of their vectors");
  recall_family =
      &BuildGauge()
           .Name("adrank_trigger_recall_at_winner")
           .Help(
               "Of yesterday's decisions asked again: share of the ads that "
               "win among all candidates that are among the configured ones; "
               "by how they are found (source=\"all\": all of them). Absent: "
               "nothing to measure")
           .Register(registry);
  recall_winners_family = &BuildGauge()
                               .Name("adrank_trigger_recall_winners")
                               .Help("Winners that it is a share of")
                               .Register(registry);
  recall_day = &OneGauge("adrank_trigger_recall_day_timestamp_seconds",
                         "Beginning of the day that it is of; 0: none yet");
  recall_decisions = &OneGauge("adrank_trigger_recall_decisions",
                               "Decisions of that day that were asked again");
  log_decisions =
      &OneGauge("adrank_event_log_decisions", "Decisions in the log");
  log_events = &OneGauge("adrank_event_log_events", "Events in the log");
  log_duplicates = &OneGauge("adrank_event_log_duplicate_events",
                             "Repeated reports since the log was made");
  log_unknown = &OneGauge("adrank_event_log_unknown_decision_events",
                          "Events whose decision was unknown when reported");
  log_pending =
      &OneGauge("adrank_event_log_pending", "Appends waiting for the disk");
  log_bytes = &OneGauge("adrank_event_log_bytes", "Bytes on disk");
  log_commits = &OneGauge("adrank_event_log_commits", "Write batches");
  log_snapshots =
      &OneGauge("adrank_event_log_snapshots", "Distinct ads as served");
  BuildGauge()
      .Name("adrank_build_info")
      .Help("1")
      .Register(registry)
      .Add({{"version", "0.1.0"}, {"compiler", "gcc " __VERSION__}})
      .Set(1);
  OneGauge("process_start_time_seconds", "Start of the process")
      .Set(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
  resident = &OneGauge("process_resident_memory_bytes", "Resident memory");
}

void Metrics::Series::AddCaps() {
  caps_reserved = &OneCounter("adrank_caps_reservations_total",
                              "Ads served that have a frequency cap");
  caps_refused = &OneCounter("adrank_caps_refused_slots_total",
                             "Slots whose ad was at a frequency cap when the "
                             "answer was about to be given");
  caps_released = &OneCounter("adrank_caps_released_decisions_total",
                              "Reservations given back: not answered");
  caps_confirmed = &OneCounter("adrank_caps_impressions_total",
                               "Reported impressions of ads with a cap");
  caps_unknown = &OneCounter("adrank_caps_unknown_user_denied_total",
                             "Requests without user_id that got no ad with a "
                             "cap (caps.unknown_user: DENY)");
  caps_reads = &OneCounter("adrank_caps_rows_read_total",
                           "Users whose counters were read from the store");
  caps_damaged = &OneCounter("adrank_caps_rows_damaged_total",
                             "Of them, those that could not be decoded");
  caps_full = &OneCounter("adrank_caps_rows_full_total",
                          "Requests of users with too many counters");
  caps_failures = &OneCounter("adrank_caps_store_failures_total",
                              "Reads and writes of counters that failed");
  caps_cached = &OneGauge("adrank_caps_cached_users", "Users in memory");
  caps_users = &OneGauge("adrank_caps_users", "Users in the store, estimated");
  caps_bytes = &OneGauge("adrank_caps_bytes", "Bytes of the store's tables");
}

Metrics::Metrics() : series_(std::make_unique<Series>()) {}
Metrics::~Metrics() = default;

void Metrics::RpcStarted(Rpc rpc) {
  series_->started[static_cast<size_t>(rpc)]->Increment();
}

void Metrics::RpcHandled(Rpc rpc, int code, double seconds) {
  const size_t i = static_cast<size_t>(rpc);
  const size_t known =
      code >= 0 && code < static_cast<int>(std::size(kCodes)) ? code : 2;
  series_->handled[i][known]->Increment();
  series_->handling[i]->Observe(seconds);
}

void Metrics::Ranked(const RankOutcome& outcome, const Retrieval& retrieval) {
  const v1::RankResponse& response = outcome.response;
  series_->trigger->Observe(response.timings().trigger_us() * 1e-6);
  series_->predict->Observe(response.timings().predict_us() * 1e-6);
  series_->rank->Observe(response.timings().rank_us() * 1e-6);
  series_->total->Observe(response.timings().total_us() * 1e-6);
  series_->candidates->Observe(response.counts().predicted());
  for (size_t i = 0; i < kVetoes; ++i) {
    if (retrieval.filtered_by[i] != 0) {
      series_->filtered[i]->Increment(retrieval.filtered_by[i]);
    }
  }
  std::array<uint32_t, v1::MatchType_ARRAYSIZE> found{};
  for (const AdMatch& match : retrieval.matches) ++found[match.match_type];
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] != 0) series_->found[i]->Increment(found[i]);
  }
  for (const int d : response.degraded()) series_->degraded[d]->Increment();
  double pctr_sum = 0;
  int ads = 0, explored = 0;
  for (const v1::PlacementResult& placement : response.placements()) {
    if (placement.no_ad_reason() != v1::NO_AD_REASON_UNSPECIFIED) {
      series_->no_ad[placement.no_ad_reason()]->Increment();
    }
    for (const v1::RankedAd& ad : placement.ads()) {
      pctr_sum += ad.pctr();
      explored += ad.explored() ? 1 : 0;
    }
    ads += placement.ads_size();
  }
  series_->served->Increment(ads);
  series_->explored->Increment(explored);
  Predicted(response.counts().predicted(), pctr_sum, outcome.non_finite);
}

void Metrics::Predicted(size_t candidates, double pctr_sum,
                        uint64_t non_finite) {
  series_->predictions->Increment(static_cast<double>(candidates));
  series_->prediction_sum->Increment(pctr_sum);
  if (non_finite != 0) {
    series_->non_finite->Increment(static_cast<double>(non_finite));
  }
}

void Metrics::EventHandled(v1::EventType type, v1::EventResult::Code code) {
  // An event of an unknown type is invalid; it counts as unspecified.
  const size_t t = v1::EventType_IsValid(type) ? type : 0;
  series_->events[t][code]->Increment();
}

void Metrics::ModelLoad(double seconds, bool loaded) {
  series_->load_seconds->Observe(seconds);
  (loaded ? series_->loads_ok : series_->loads_failed)->Increment();
}

void Metrics::ModelSwapped(const ModelBundle& bundle, double now_seconds) {
  const v1::ModelManifest& manifest = bundle.manifest();
  series_->model_version->Set(static_cast<double>(manifest.version()));
  series_->model_watermark->Set(
      static_cast<double>(manifest.last_example_ms()) * 1e-3);
  series_->model_loaded->Set(now_seconds);
  series_->model_bytes->Set(static_cast<double>(bundle.bytes()));
  // One series at a time: versions come every night for years.
  absl::MutexLock lock(&series_->mu);
  if (series_->model_info_now != nullptr) {
    series_->model_info->Remove(series_->model_info_now);
  }
  series_->model_info_now =
      &series_->model_info->Add({{"model", manifest.model_name()},
                                 {"version", absl::StrCat(manifest.version())},
                                 {"family", manifest.family()}});
  series_->model_info_now->Set(1);
}

void Metrics::CatalogBuilt(const AdIndex& index, double seconds) {
  series_->catalog_version->Set(static_cast<double>(index.version()));
  series_->catalog_ads->Set(static_cast<double>(index.stats().ads));
  series_->catalog_servable->Set(
      static_cast<double>(index.stats().servable_ads));
  series_->catalog_seconds->Set(seconds);
}

void Metrics::CatalogBuildFailed() { series_->catalog_failed->Increment(); }

void Metrics::ModelRetrieval(const ModelVectors* vectors) {
  const bool on = vectors != nullptr;
  series_->retrieval_ads->Set(on ? static_cast<double>(vectors->size()) : 0);
  series_->retrieval_bytes->Set(on ? static_cast<double>(vectors->bytes()) : 0);
}

void Metrics::RecallMeasured(double day_seconds,
                             const v1::RecallReport& report) {
  series_->recall_day->Set(day_seconds);
  series_->recall_decisions->Set(report.decisions());
  absl::MutexLock lock(&series_->mu);
  for (Gauge* gauge : series_->recall) series_->recall_family->Remove(gauge);
  for (Gauge* gauge : series_->recall_winners) {
    series_->recall_winners_family->Remove(gauge);
  }
  series_->recall.clear();
  series_->recall_winners.clear();
  for (const v1::RecallReport::Source& s : report.limits(0).sources()) {
    const std::map<std::string, std::string> labels = {
        {"source", s.match_type().empty()
                       ? "all"
                       : absl::AsciiStrToLower(s.match_type())}};
    series_->recall_winners.push_back(
        &series_->recall_winners_family->Add(labels));
    series_->recall_winners.back()->Set(s.winners());
    if (s.winners() == 0) continue;
    series_->recall.push_back(&series_->recall_family->Add(labels));
    series_->recall.back()->Set(s.recall());
  }
}

void Metrics::EventLogStats(const adrank::EventLogStats& stats) {
  const auto set = [](Gauge* gauge, uint64_t value) {
    gauge->Set(static_cast<double>(value));
  };
  set(series_->log_decisions, stats.decisions);
  set(series_->log_events, stats.events);
  set(series_->log_duplicates, stats.duplicate_events);
  set(series_->log_unknown, stats.unknown_decisions);
  set(series_->log_pending, stats.pending);
  set(series_->log_bytes, stats.disk_bytes);
  set(series_->log_commits, stats.commits);
  set(series_->log_snapshots, stats.snapshots);
  absl::MutexLock lock(&series_->mu);
  const double dropped = static_cast<double>(stats.dropped_decisions);
  const double told = series_->decisions_dropped->Value();
  if (dropped > told) series_->decisions_dropped->Increment(dropped - told);
}

void Metrics::BudgetStats(const LedgerStats& stats,
                          const TrafficCounts& traffic) {
  absl::MutexLock lock(&series_->mu);
  series_->budget.Update(stats, traffic);
}

void Metrics::FrequencyCaps(const CapStats& caps, const CapStoreStats& store) {
  series_->caps_cached->Set(static_cast<double>(caps.cached_users));
  series_->caps_users->Set(static_cast<double>(store.users));
  series_->caps_bytes->Set(static_cast<double>(store.disk_bytes));
  absl::MutexLock lock(&series_->mu);
  const auto raise = [](Counter* counter, uint64_t value) {
    const double more = static_cast<double>(value) - counter->Value();
    if (more > 0) counter->Increment(more);
  };
  raise(series_->caps_reserved, caps.reservations);
  raise(series_->caps_refused, caps.refused);
  raise(series_->caps_released, caps.released);
  raise(series_->caps_confirmed, caps.confirmed);
  raise(series_->caps_unknown, caps.unknown_denied);
  raise(series_->caps_reads, caps.rows_read);
  raise(series_->caps_damaged, caps.rows_damaged);
  raise(series_->caps_full, caps.rows_full);
  raise(series_->caps_failures, caps.store_failures);
}

std::string Metrics::Text() const {
  series_->resident->Set(ResidentBytes());
  return prometheus::TextSerializer().Serialize(series_->registry.Collect());
}

}  // namespace adrank
