#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/checksums.h"
#include "model/model_store.h"
#include "server/budget/budget_admission.h"
#include "server/budget/campaign_traffic.h"
#include "server/budget/event_charging.h"
#include "server/budget/ledger.h"
#include "server/budget/pacing_loop.h"
#include "server/caps/frequency_caps.h"
#include "server/catalog_loader.h"
#include "server/event_intake.h"
#include "server/http_endpoint.h"
#include "server/impression_counts.h"
#include "server/metrics.h"
#include "server/model_watcher.h"
#include "server/nightly_recall.h"
#include "server/periodic.h"
#include "server/ranking_pipeline.h"
#include "server/replay.h"
#include "server/rpc/budget_rpc.h"
#include "server/rpc/cap_rpc.h"
#include "server/rpc/catalog_rpc.h"
#include "server/rpc/event_rpc.h"
#include "server/rpc/model_rpc.h"
#include "server/rpc/policy_rpc.h"
#include "server/rpc/ranking_rpc.h"
#include "server/serving_state.h"
#include "server/trigger/stemmer.h"
#include "storage/cap_store.h"
#include "storage/catalog_store.h"
#include "storage/event_log.h"
#include "storage/event_log_reader.h"
#include "storage/ledger_store.h"

namespace adrank {
namespace {

constexpr absl::Duration kDefaultGrace = absl::Seconds(5);
// How often the catalogue is looked at without being told of a change.
constexpr absl::Duration kCatalogPeriod = absl::Seconds(30);
// How often it is looked whether the whole should be built anew.
constexpr absl::Duration kMergePeriod = absl::Seconds(1);
constexpr absl::Duration kRetentionPeriod = absl::Hours(1);
// What a killed process loses of reservations, at most.
constexpr absl::Duration kLedgerPeriod = absl::Milliseconds(20);
// What a power failure may take of the counters of frequency caps.
constexpr absl::Duration kCapSyncPeriod = absl::Milliseconds(100);
constexpr absl::Duration kImpressionsPeriod = absl::Minutes(1);
// How soon after midnight (UTC), or after the start, recall is measured.
constexpr absl::Duration kRecallPeriod = absl::Minutes(5);
// A whole catalogue is one Mutate, so that it is changed whole or not at all.
constexpr uint32_t kAdminMessageBytes = 256 << 20;

std::string ModelName(const v1::ServerConfig& config) {
  return config.model().model_name().empty() ? "ctr"
                                             : config.model().model_name();
}

// 0 is the default, -1 asks for a free port.
int Port(int32_t configured, int standard) {
  return configured == 0 ? standard : configured;
}

std::string Address(const v1::ServerConfig& config) {
  return config.listen().address().empty() ? "127.0.0.1"
                                           : config.listen().address();
}

class ServerImpl : public Server {
 public:
  explicit ServerImpl(const v1::ServerConfig& config) : config_(config) {}
  ~ServerImpl() override {
    const absl::Status status = Shutdown(kDefaultGrace);
    if (!status.ok()) LOG(ERROR) << "shutdown: " << status;
  }

  absl::Status Init(const Clock* clock);
  Ports ports() const override { return ports_; }
  absl::Status Shutdown(absl::Duration grace) override;
  absl::Status CheckForModel() override { return watcher_->RunOnce(); }

 private:
  absl::Status OpenStores(const Clock* clock);
  absl::Status OpenLedger(const Clock* clock);
  void PrepareBudgets(const AdIndex& index);
  // Charges what a crash kept from the ledger.
  absl::Status StartLedger();
  void OpenImpressions();
  void SaveImpressions();
  void MeasureRecall();
  std::string ImpressionsFile() const {
    return files::Join(config_.storage().data_dir(), "impressions.bin");
  }
  absl::Status Listen();
  absl::StatusOr<std::unique_ptr<grpc::Server>> BuildServer(
      const std::vector<grpc::Service*>& services, int port,
      uint32_t max_message_bytes, int* chosen);
  std::string StatusPage();
  std::string MetricsPage();

  const v1::ServerConfig config_;
  // Destroyed in reverse: servers before what they call.
  Metrics metrics_;
  ServingState state_;
  CampaignTraffic traffic_;
  std::unique_ptr<const RankingPipeline> pipeline_;
  // Null, as the three that use it: budgets are disabled.
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<EventCharging> charging_;
  std::unique_ptr<CapStore> cap_store_;
  std::unique_ptr<FrequencyCaps> caps_;
  std::unique_ptr<EventIntake> intake_;
  // Tells the intake and its sinks of events until it is closed.
  std::unique_ptr<EventLog> log_;
  std::unique_ptr<BudgetAdmission> budgets_;
  std::unique_ptr<PacingLoop> pacing_;
  std::unique_ptr<CatalogStore> catalog_;
  std::unique_ptr<DecisionIdGenerator> ids_;
  std::unique_ptr<ModelWatcher> watcher_;
  std::unique_ptr<CatalogLoader> loader_;
  std::unique_ptr<Replayer> replayer_;
  std::unique_ptr<ImpressionCounts> impressions_;  // null: nobody asks
  std::unique_ptr<NightlyRecall> recall_;          // null: disabled
  std::unique_ptr<Periodic> watch_models_;
  std::unique_ptr<Periodic> load_catalog_;
  std::unique_ptr<Periodic> merge_catalog_;
  std::unique_ptr<Periodic> retention_;
  std::unique_ptr<Periodic> run_ledger_;
  std::unique_ptr<Periodic> run_pacing_;
  std::unique_ptr<Periodic> sync_caps_;
  std::unique_ptr<Periodic> save_impressions_;
  std::unique_ptr<Periodic> measure_recall_;
  std::unique_ptr<RankingRpc> ranking_;
  std::unique_ptr<EventRpc> events_;
  std::unique_ptr<CatalogRpc> catalog_reads_, catalog_admin_;
  std::unique_ptr<ModelRpc> models_;
  std::unique_ptr<BudgetRpc> budget_rpc_;
  std::unique_ptr<CapRpc> cap_admin_;
  std::unique_ptr<PolicyRpc> policies_;
  std::unique_ptr<grpc::Server> main_, admin_;
  std::unique_ptr<HttpEndpoint> http_;
  Ports ports_;
  std::atomic<bool> ready_{false};
  absl::Mutex shutdown_mu_;
  bool shut_down_ ABSL_GUARDED_BY(shutdown_mu_) = false;
};

absl::Status ServerImpl::OpenStores(const Clock* clock) {
  ASSIGN_OR_RETURN(pipeline_, RankingPipeline::Create(config_, clock));
  ASSIGN_OR_RETURN(log_, EventLog::Open(config_.storage(), clock));
  ASSIGN_OR_RETURN(catalog_,
                   CatalogStore::Open(config_.storage().data_dir(), clock));
  ASSIGN_OR_RETURN(
      cap_store_,
      CapStore::Open(config_.storage().data_dir(), clock,
                     {FrequencyCaps::KeepDecisions(config_.caps())}));
  caps_ =
      std::make_unique<FrequencyCaps>(config_.caps(), cap_store_.get(), clock);
  // Not for learning, not stored: two runs must not repeat an id.
  ids_ = std::make_unique<DecisionIdGenerator>(
      clock, static_cast<uint16_t>(config_.storage().node_id()),
      std::random_device{}());
  const std::string name = ModelName(config_);
  watcher_ = std::make_unique<ModelWatcher>(
      ModelStore(config_.model().model_dir(), name), name, clock, &state_,
      &metrics_);
  if (!config_.budget().disabled()) RETURN_IF_ERROR(OpenLedger(clock));
  loader_ = std::make_unique<CatalogLoader>(
      catalog_.get(), &state_, &metrics_,
      [this](const AdIndex& index) { PrepareBudgets(index); },
      AdIndexOptions::Of(config_));
  ASSIGN_OR_RETURN(
      replayer_, Replayer::Create(config_, &state_, catalog_.get(),
                                  ModelStore(config_.model().model_dir(), name),
                                  log_.get()));
  ASSIGN_OR_RETURN(recall_,
                   NightlyRecall::Create(config_, &state_, clock, [this] {
                     return EventLogReader::Open(config_.storage().data_dir());
                   }));
  return absl::OkStatus();
}

void ServerImpl::MeasureRecall() {
  if (const absl::Status s = recall_->RunOnce(); !s.ok()) {
    LOG(ERROR) << "recall@winner is not measured: " << s;
  }
  if (const auto last = recall_->Last()) {
    metrics_.RecallMeasured(
        absl::ToDoubleSeconds(last->day - absl::UnixEpoch()), last->report);
  }
}

absl::Status ServerImpl::OpenLedger(const Clock* clock) {
  Ledger::Options options;
  ASSIGN_OR_RETURN(options.policy, BudgetPolicy::Create(config_.budget()));
  options.sync = config_.storage().durability() != v1::StorageConfig::ASYNC;
  ASSIGN_OR_RETURN(std::unique_ptr<LedgerStore> store,
                   LedgerStore::Open(config_.storage().data_dir()));
  ASSIGN_OR_RETURN(ledger_, Ledger::Open(std::move(store), options, clock));
  ledger_->SetLookup([this](const DecisionId& id, uint8_t position) {
    return LookUpSlot(log_.get(), id, position);
  });
  budgets_ = std::make_unique<BudgetAdmission>(ledger_.get());
  charging_ = std::make_unique<EventCharging>(ledger_.get());
  pacing_ = std::make_unique<PacingLoop>(
      ledger_.get(), &traffic_, clock,
      files::Join(config_.storage().data_dir(), "pacing"));
  return absl::OkStatus();
}

void ServerImpl::PrepareBudgets(const AdIndex& index) {
  if (ledger_ == nullptr) return;
  traffic_.Prepare(index);
  budgets_->Prepare(index);
  pacing_->Prepare(index);
}

absl::Status ServerImpl::StartLedger() {
  if (ledger_ == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t replayed,
                   ReplayEvents(log_.get(), ledger_.get()));
  LOG(INFO) << "ledger: " << replayed << " events of the log looked at";
  run_ledger_ = std::make_unique<Periodic>(
      kLedgerPeriod, [this] { ledger_->RunOnce().IgnoreError(); });
  const uint32_t pacing_s = config_.budget().pacing_seconds() == 0
                                ? 60
                                : config_.budget().pacing_seconds();
  run_pacing_ = std::make_unique<Periodic>(absl::Seconds(pacing_s), [this] {
    if (const absl::Status s = pacing_->RunOnce(); !s.ok()) {
      LOG(ERROR) << "pacing: " << s;
    }
  });
  return absl::OkStatus();
}

// Counted for the newcomer boost only.
void ServerImpl::OpenImpressions() {
  if (!pipeline_->exploration().boosts()) return;
  impressions_ = std::make_unique<ImpressionCounts>();
  if (const absl::Status s = impressions_->Load(ImpressionsFile()); !s.ok()) {
    LOG(ERROR) << "all ads count as new: " << s;
  }
  save_impressions_ = std::make_unique<Periodic>(kImpressionsPeriod,
                                                 [this] { SaveImpressions(); });
}

void ServerImpl::SaveImpressions() {
  if (impressions_ == nullptr) return;
  if (const absl::Status s = impressions_->Save(ImpressionsFile()); !s.ok()) {
    LOG(ERROR) << "impression counts are not saved: " << s;
  }
}

absl::Status ServerImpl::Init(const Clock* clock) {
  RETURN_IF_ERROR(ValidateConfig(config_));
  RETURN_IF_ERROR(OpenStores(clock));
  OpenImpressions();
  policies_ =
      std::make_unique<PolicyRpc>(config_, &state_, replayer_.get(), log_.get(),
                                  impressions_.get(), clock, &metrics_);
  RETURN_IF_ERROR(loader_->RunOnce());
  RETURN_IF_ERROR(StartLedger());
  if (const absl::Status model = watcher_->RunOnce(); !model.ok()) {
    LOG(ERROR) << "starting without the published model: " << model;
  }
  const uint32_t poll_ms =
      config_.model().poll_ms() == 0 ? 1000 : config_.model().poll_ms();
  watch_models_ =
      std::make_unique<Periodic>(absl::Milliseconds(poll_ms),
                                 [this] { watcher_->RunOnce().IgnoreError(); });
  load_catalog_ = std::make_unique<Periodic>(
      kCatalogPeriod, [this] { loader_->RunOnce().IgnoreError(); });
  sync_caps_ = std::make_unique<Periodic>(kCapSyncPeriod, [this] {
    if (const absl::Status s = cap_store_->Sync(); !s.ok()) {
      LOG_EVERY_N(ERROR, 100) << "frequency caps: " << s.message();
    }
  });
  if (recall_ != nullptr) {
    measure_recall_ =
        std::make_unique<Periodic>(kRecallPeriod, [this] { MeasureRecall(); });
  }
  merge_catalog_ = std::make_unique<Periodic>(
      kMergePeriod, [this] { loader_->Merge().IgnoreError(); });
  if (config_.storage().retention_days() > 0) {
    retention_ = std::make_unique<Periodic>(kRetentionPeriod, [this] {
      if (const absl::Status s = log_->ApplyRetention(); !s.ok()) {
        LOG(ERROR) << "retention: " << s;
      }
    });
  }
  return Listen();
}

absl::StatusOr<std::unique_ptr<grpc::Server>> ServerImpl::BuildServer(
    const std::vector<grpc::Service*>& services, int port,
    uint32_t max_message_bytes, int* chosen) {
  grpc::ServerBuilder builder;
  const std::string host = Address(config_);
  const bool v6 = absl::StrContains(host, ':');
  const std::string address = absl::StrCat(v6 ? "[" : "", host, v6 ? "]" : "",
                                           ":", port < 0 ? 0 : port);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), chosen);
  // Else a second server would silently share the port with the first.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(static_cast<int>(max_message_bytes));
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || *chosen == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("listen: cannot listen on ", address,
                     " (gRPC): address in use, or not of this machine?"));
  }
  return server;
}

absl::Status ServerImpl::Listen() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::vector<Admission*> admissions;
  std::vector<EventSink*> sinks = {caps_.get()};
  if (ledger_ != nullptr) {
    admissions.push_back(budgets_.get());
    sinks.push_back(charging_.get());
  }
  admissions.push_back(caps_.get());
  const ExplainStores explain_stores = {catalog_.get(), ledger_.get(),
                                        caps_.get()};
  ranking_ = std::make_unique<RankingRpc>(
      pipeline_.get(), &state_, explain_stores, replayer_.get(), admissions,
      ids_.get(), log_.get(), ledger_ == nullptr ? nullptr : &traffic_,
      impressions_.get(), &metrics_);
  intake_ = std::make_unique<EventIntake>(log_.get(), std::move(sinks));
  events_ = std::make_unique<EventRpc>(
      intake_.get(), pipeline_->limits().max_events, &metrics_);
  budget_rpc_ =
      std::make_unique<BudgetRpc>(ledger_.get(), pacing_.get(), &metrics_);
  catalog_reads_ = std::make_unique<CatalogRpc>(
      catalog_.get(), log_.get(), pipeline_.get(), &state_, loader_.get(),
      std::function<void()>(), &metrics_);
  catalog_admin_ = std::make_unique<CatalogRpc>(
      catalog_.get(), log_.get(), pipeline_.get(), &state_, loader_.get(),
      [this] { load_catalog_->Notify(); }, &metrics_);
  models_ = std::make_unique<ModelRpc>(watcher_.get(), &metrics_);
  cap_admin_ = std::make_unique<CapRpc>(caps_.get(), &state_, &metrics_);
  const uint32_t max_message_bytes = pipeline_->limits().max_message_bytes;
  ASSIGN_OR_RETURN(main_, BuildServer({ranking_.get(), events_.get(),
                                       catalog_reads_.get(), budget_rpc_.get()},
                                      Port(config_.listen().grpc_port(), 8500),
                                      max_message_bytes, &ports_.grpc));
  ASSIGN_OR_RETURN(admin_,
                   BuildServer({models_.get(), catalog_admin_.get(),
                                cap_admin_.get(), policies_.get()},
                               Port(config_.listen().admin_port(), 8502),
                               std::max(max_message_bytes, kAdminMessageBytes),
                               &ports_.admin));
  HttpEndpoint::Pages pages;
  pages.metrics = [this] { return MetricsPage(); };
  pages.ready = [this] { return ready_.load(); };
  pages.status = [this] { return StatusPage(); };
  ASSIGN_OR_RETURN(http_,
                   HttpEndpoint::Start(Address(config_),
                                       Port(config_.listen().http_port(), 8501),
                                       std::move(pages)));
  ports_.http = http_->port();
  ready_ = true;
  if (!config_.listen().ports_file().empty()) {
    RETURN_IF_ERROR(
        Annotate(files::WriteAtomically(
                     config_.listen().ports_file(),
                     absl::StrFormat("grpc=%d http=%d admin=%d\n", ports_.grpc,
                                     ports_.http, ports_.admin)),
                 "listen.ports_file"));
  }
  return absl::OkStatus();
}

absl::Status ServerImpl::Shutdown(absl::Duration grace) {
  absl::MutexLock lock(&shutdown_mu_);
  if (shut_down_) return absl::OkStatus();
  shut_down_ = true;
  ready_ = false;
  const auto deadline =
      std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace);
  for (grpc::Server* server : {main_.get(), admin_.get()}) {
    if (server == nullptr) continue;
    if (auto* health = server->GetHealthCheckService()) {
      health->SetServingStatus(false);
    }
    server->Shutdown(deadline);
  }
  watch_models_.reset();
  load_catalog_.reset();
  merge_catalog_.reset();
  retention_.reset();
  if (recall_ != nullptr) recall_->Stop();
  measure_recall_.reset();
  save_impressions_.reset();
  SaveImpressions();
  absl::Status status = log_ == nullptr ? absl::OkStatus() : log_->Flush();
  run_pacing_.reset();
  if (pacing_ != nullptr) status.Update(pacing_->Save());
  // The log has told the ledger of its last events.
  run_ledger_.reset();
  if (ledger_ != nullptr) status.Update(ledger_->Flush());
  sync_caps_.reset();
  if (cap_store_ != nullptr) status.Update(cap_store_->Sync());
  return status;
}

std::string ServerImpl::MetricsPage() {
  metrics_.EventLogStats(log_->Stats());
  if (ledger_ != nullptr) {
    metrics_.BudgetStats(ledger_->Stats(), traffic_.Total());
  }
  metrics_.FrequencyCaps(caps_->Stats(), cap_store_->Stats());
  metrics_.ModelRetrieval(state_.Current()->model_vectors.get());
  return metrics_.Text();
}

std::string ServerImpl::StatusPage() {
  const v1::ModelStatusResponse model = watcher_->Status();
  const auto serving = state_.Current();
  const EventLogStats log = log_->Stats();
  return absl::StrFormat(
      "{\"ready\": %s,\n"
      " \"model\": {\"name\": \"%s\", \"serving_version\": %d, "
      "\"previous_version\": %d, \"published_version\": %d},\n"
      " \"catalog\": {\"serving_version\": %d, \"ads\": %d, "
      "\"servable_ads\": %d},\n"
      " \"event_log\": {\"decisions\": %d, \"events\": %d, "
      "\"duplicate_events\": %d, \"pending\": %d, \"bytes\": %d}}\n",
      ready_ ? "true" : "false", model.model_name(), model.serving_version(),
      model.previous_version(), model.published_version(),
      serving->index->version(), serving->index->stats().ads,
      serving->index->stats().servable_ads, log.decisions, log.events,
      log.duplicate_events, log.pending, log.disk_bytes);
}

// A host name, or an IP address with its scope; nobody is asked for it.
absl::Status CheckAddress(const std::string& address) {
  for (const char c : address) {
    if (absl::ascii_isalnum(c) || absl::StrContains(".:-_%", c)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("listen.address: \"", absl::CHexEscape(address),
                     "\" is neither a host name nor an IP address"));
  }
  return absl::OkStatus();
}

absl::Status CheckPort(const char* name, int32_t port) {
  if (port >= -1 && port <= 65535) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("listen.", name, ": ", port, " not in [-1, 65535]"));
}

}  // namespace

absl::Status ValidateConfig(const v1::ServerConfig& config) {
  if (config.storage().data_dir().empty()) {
    return absl::InvalidArgumentError("storage.data_dir: required");
  }
  if (config.storage().node_id() > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "storage.node_id: ", config.storage().node_id(), " not in [0, 65535]"));
  }
  if (config.storage().group_commit_ms() > 1000) {
    return absl::InvalidArgumentError(absl::StrCat(
        "storage.group_commit_ms: ", config.storage().group_commit_ms(),
        " exceeds 1000"));
  }
  if (!v1::StorageConfig::Durability_IsValid(config.storage().durability())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "storage.durability: ", static_cast<int>(config.storage().durability()),
        " is no known durability"));
  }
  if (config.model().model_dir().empty()) {
    return absl::InvalidArgumentError("model.model_dir: required");
  }
  if (const std::string name = ModelName(config); !IsPlainName(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.model_name: \"", name,
                     "\" is not made of letters, digits, '.', '_', '-'"));
  }
  if (const std::string& language = config.trigger().stemmer_language();
      !language.empty()) {
    RETURN_IF_ERROR(Annotate(Stemmer::Create(language).status(),
                             "trigger.stemmer_language"));
  }
  RETURN_IF_ERROR(CheckAddress(config.listen().address()));
  RETURN_IF_ERROR(CheckPort("grpc_port", config.listen().grpc_port()));
  RETURN_IF_ERROR(CheckPort("http_port", config.listen().http_port()));
  RETURN_IF_ERROR(CheckPort("admin_port", config.listen().admin_port()));
  RETURN_IF_ERROR(BudgetPolicy::Create(config.budget()).status());
  // Longer intervals than a quarter hour are none to steer by.
  if (config.budget().pacing_seconds() > 600) {
    return absl::InvalidArgumentError(absl::StrCat(
        "budget.pacing_seconds: ", config.budget().pacing_seconds(),
        " not in [0, 600]"));
  }
  RETURN_IF_ERROR(FrequencyCaps::ValidateConfig(config.caps()));
  RETURN_IF_ERROR(
      NightlyRecall::Create(config, nullptr, Clock::Real(), {}).status());
  return RankingPipeline::Create(config, Clock::Real()).status();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const v1::ServerConfig& config, const Clock* clock) {
  auto server = std::make_unique<ServerImpl>(config);
  RETURN_IF_ERROR(server->Init(clock));
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace adrank
