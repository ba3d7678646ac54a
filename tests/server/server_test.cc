// The whole server in one process: over gRPC and HTTP, as its callers see it.
#include "server/server.h"

#include <grpcpp/grpcpp.h>
#include <httplib.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "model/model_store.h"
#include "proto/catalog_service.grpc.pb.h"
#include "proto/event_service.grpc.pb.h"
#include "proto/model_service.grpc.pb.h"
#include "proto/ranking_service.grpc.pb.h"
#include "storage/event_log_reader.h"
#include "tests/model/a_bundle.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AContents;
using ::adrank::testing::AddText;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Two advertisers, an ad each, both BROAD on "shoes"; a2 bids more.
v1::MutateRequest ACatalog() {
  v1::MutateRequest request;
  for (int i = 1; i <= 2; ++i) {
    const std::string n = absl::StrCat(i);
    auto* advertiser =
        request.add_operations()->mutable_upsert()->mutable_advertiser();
    advertiser->set_id("v" + n);
    auto* campaign =
        request.add_operations()->mutable_upsert()->mutable_campaign();
    campaign->set_id("c" + n);
    campaign->set_advertiser_id("v" + n);
    auto* group =
        request.add_operations()->mutable_upsert()->mutable_ad_group();
    group->set_id("g" + n);
    group->set_campaign_id("c" + n);
    group->set_bid_micros(1000000 * i);
    group->add_keywords()->set_text("shoes");
    auto* ad = request.add_operations()->mutable_upsert()->mutable_ad();
    ad->set_id("a" + n);
    ad->set_ad_group_id("g" + n);
    ad->set_landing_url("https://example.com/" + n);
    AddText(ad->mutable_attributes(), "category", i == 1 ? "a" : "b");
  }
  return request;
}

class ServerTest : public ::testing::Test {
 protected:
  void Start() {
    v1::ServerConfig config;
    config.mutable_storage()->set_data_dir(dir_ / "data");
    config.mutable_model()->set_model_dir(dir_ / "models");
    // Only CheckForModel() looks for models.
    config.mutable_model()->set_poll_ms(3600000);
    config.mutable_listen()->set_grpc_port(-1);
    config.mutable_listen()->set_http_port(-1);
    config.mutable_listen()->set_admin_port(-1);
    config.mutable_listen()->set_ports_file(dir_ / "ports");
    config.mutable_limits()->set_deadline_ms(5000);
    ASSERT_OK_AND_ASSIGN(server_, Server::Start(config, Clock::Real()));
    const auto channel = [](int port) {
      return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                                 grpc::InsecureChannelCredentials());
    };
    const auto main = channel(server_->ports().grpc);
    const auto admin = channel(server_->ports().admin);
    ranking_ = v1::RankingService::NewStub(main);
    events_ = v1::EventService::NewStub(main);
    catalog_ = v1::CatalogService::NewStub(main);
    catalog_admin_ = v1::CatalogService::NewStub(admin);
    models_ = v1::ModelService::NewStub(admin);
  }

  void FillCatalog() {
    grpc::ClientContext context;
    v1::MutateResponse response;
    ASSERT_TRUE(catalog_admin_->Mutate(&context, ACatalog(), &response).ok());
    ASSERT_EQ(response.applied(), 8u);
    for (int i = 0; i < 500; ++i) {
      grpc::ClientContext status_context;
      v1::CatalogStatusResponse status;
      ASSERT_TRUE(catalog_->Status(&status_context, {}, &status).ok());
      if (status.serving_version() == response.catalog_version()) return;
      absl::SleepFor(absl::Milliseconds(10));
    }
    FAIL() << "the catalogue never became live";
  }

  v1::RankResponse Rank(uint32_t slots = 1) {
    grpc::ClientContext context;
    v1::RankRequest request;
    request.mutable_context()->set_query("red shoes");
    AddText(request.mutable_context()->mutable_attributes(), "city", "Berlin");
    v1::Placement* placement = request.add_placements();
    placement->set_id("top");
    placement->set_count(slots);
    v1::RankResponse response;
    const grpc::Status status = ranking_->Rank(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  std::vector<v1::EventResult::Code> Report(std::vector<v1::Event> events) {
    grpc::ClientContext context;
    v1::LogEventsRequest request;
    for (const v1::Event& event : events) *request.add_events() = event;
    v1::LogEventsResponse response;
    const grpc::Status status =
        events_->LogEvents(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<v1::EventResult::Code> codes;
    for (const auto& result : response.results()) {
      codes.push_back(result.code());
    }
    return codes;
  }

  static v1::Event AnEvent(const std::string& decision, uint32_t position,
                           v1::EventType type) {
    v1::Event event;
    event.set_decision_id(decision);
    event.set_position(position);
    event.set_type(type);
    return event;
  }

  std::string Get(const std::string& path, int expected = 200) {
    httplib::Client client("127.0.0.1", server_->ports().http);
    const auto response = client.Get(path);
    if (!response) return "no answer";
    EXPECT_EQ(response->status, expected) << path;
    return response->body;
  }

  TempDir dir_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::RankingService::Stub> ranking_;
  std::unique_ptr<v1::EventService::Stub> events_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_, catalog_admin_;
  std::unique_ptr<v1::ModelService::Stub> models_;
};

TEST_F(ServerTest, RanksLogsAndJoinsWithoutAModel) {
  Start();
  EXPECT_EQ(Rank().placements(0).no_ad_reason(),
            v1::NO_AD_REASON_EMPTY_CATALOG);
  FillCatalog();
  const v1::RankResponse response = Rank(2);
  ASSERT_EQ(response.placements(0).ads_size(), 2);
  EXPECT_EQ(response.placements(0).ads(0).ad_id(), "a2");  // equal prior, bid
  EXPECT_EQ(response.placements(0).ads(0).landing_url(),
            "https://example.com/2");
  ASSERT_EQ(response.degraded_size(), 1);
  EXPECT_EQ(response.degraded(0), v1::DEGRADATION_NO_MODEL);
  EXPECT_FLOAT_EQ(response.placements(0).ads(0).pctr(), 0.01f);

  const std::string id = response.decision_id();
  EXPECT_THAT(
      Report({AnEvent(id, 1, v1::EVENT_TYPE_IMPRESSION),
              AnEvent(id, 2, v1::EVENT_TYPE_IMPRESSION),
              AnEvent(id, 1, v1::EVENT_TYPE_CLICK),
              AnEvent(id, 1, v1::EVENT_TYPE_CLICK),
              AnEvent("nonsense", 1, v1::EVENT_TYPE_CLICK),
              AnEvent(id, 0, v1::EVENT_TYPE_CLICK)}),
      ::testing::ElementsAre(
          v1::EventResult::CODE_ACCEPTED, v1::EventResult::CODE_ACCEPTED,
          v1::EventResult::CODE_ACCEPTED, v1::EventResult::CODE_DUPLICATE,
          v1::EventResult::CODE_INVALID, v1::EventResult::CODE_INVALID));

  // Graceful: what was served and acknowledged is in the log afterwards.
  ASSERT_OK(server_->Shutdown(absl::Seconds(5)));
  server_.reset();
  ASSERT_OK_AND_ASSIGN(const auto reader, EventLogReader::Open(dir_ / "data"));
  auto cursor = reader->Join(0, int64_t{1} << 47);
  int with_events = 0, decisions = 0;
  for (; cursor->Valid(); cursor->Next()) {
    ++decisions;
    if (cursor->record().events.empty()) continue;
    ++with_events;
    EXPECT_EQ(cursor->record().id.ToHex(), id);
    EXPECT_EQ(cursor->record().events.size(), 3u);
    v1::Decision decision;
    ASSERT_TRUE(cursor->record().Parse(&decision));
    ASSERT_EQ(decision.ads_size(), 2);
    ASSERT_OK_AND_ASSIGN(const v1::AdSnapshot ad,
                         reader->GetSnapshot(decision.ads(0).ad_hash()));
    EXPECT_EQ(ad.ad_id(), "a2");
    EXPECT_EQ(decision.context().query(), "red shoes");
    EXPECT_GT(decision.context().time_ms(), 0);
  }
  ASSERT_OK(cursor->status());
  EXPECT_EQ(decisions, 2);
  EXPECT_EQ(with_events, 1);
}

TEST_F(ServerTest, BadRequestsNameTheField) {
  Start();
  grpc::ClientContext context;
  v1::RankRequest request;
  request.mutable_context()->add_attributes()->add_number(1);
  v1::RankResponse response;
  const grpc::Status status = ranking_->Rank(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("context.attributes[0].name"));

  grpc::ClientContext events_context;
  v1::LogEventsRequest events;
  for (int i = 0; i < 1001; ++i) events.add_events();
  v1::LogEventsResponse ignored;
  const grpc::Status too_many =
      events_->LogEvents(&events_context, events, &ignored);
  EXPECT_EQ(too_many.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(too_many.error_message(),
              HasSubstr("events: 1001 exceeds the limit of 1000"));
}

TEST_F(ServerTest, CatalogueIsChangedOnTheAdminPortOnly) {
  Start();
  grpc::ClientContext context;
  v1::MutateResponse response;
  EXPECT_EQ(catalog_->Mutate(&context, ACatalog(), &response).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  FillCatalog();
  v1::ListCatalogRequest list;
  list.set_page_size(3);
  int entities = 0;
  do {
    grpc::ClientContext list_context;
    v1::ListCatalogResponse page;
    ASSERT_TRUE(catalog_->List(&list_context, list, &page).ok());
    entities += page.entities_size();
    list.set_page_token(page.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_EQ(entities, 8);
}

TEST_F(ServerTest, PublishedModelIsSwappedInAndRolledBack) {
  Start();
  FillCatalog();
  const ModelStore store(dir_ / "models", "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  ASSERT_OK(server_->CheckForModel());
  const v1::RankResponse one = Rank();
  EXPECT_EQ(one.model_version(), 1);
  EXPECT_EQ(one.degraded_size(), 0);
  ASSERT_OK(store.Publish(AContents(2)));
  ASSERT_OK(server_->CheckForModel());
  const v1::RankResponse two = Rank();
  EXPECT_EQ(two.model_version(), 2);
  EXPECT_NE(one.placements(0).ads(0).logit(), two.placements(0).ads(0).logit());

  grpc::ClientContext context;
  v1::ModelStatusResponse status;
  ASSERT_TRUE(models_->Rollback(&context, {}, &status).ok());
  EXPECT_EQ(status.serving_version(), 1);
  EXPECT_EQ(status.published_version(), 1);
  EXPECT_EQ(Rank().placements(0).ads(0).logit(),
            one.placements(0).ads(0).logit());

  grpc::ClientContext promote_context;
  v1::PromoteRequest promote;
  promote.set_version(99);
  const grpc::Status absent =
      models_->Promote(&promote_context, promote, &status);
  EXPECT_EQ(absent.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Rank().model_version(), 1);
}

TEST_F(ServerTest, DamagedModelIsRefusedAndTheOldOneStays) {
  Start();
  FillCatalog();
  const ModelStore store(dir_ / "models", "ctr");
  ASSERT_OK(store.Publish(AContents(1)));
  ASSERT_OK(server_->CheckForModel());
  ASSERT_OK(store.Publish(AContents(2)));
  const std::string weights = files::Join(store.VersionDir(2), "weights.bin");
  ASSERT_OK_AND_ASSIGN(std::string bytes, files::Read(weights));
  bytes.back() ^= 1;
  ASSERT_OK(files::Write(weights, bytes));
  EXPECT_THAT(server_->CheckForModel(),
              ::testing::Not(::adrank::testing::IsOk()));
  EXPECT_EQ(Rank().model_version(), 1);
  grpc::ClientContext context;
  v1::ModelStatusResponse status;
  ASSERT_TRUE(models_->Status(&context, {}, &status).ok());
  EXPECT_THAT(status.error(), HasSubstr("version 2"));
  EXPECT_THAT(Get("/metrics"),
              HasSubstr("adrank_model_load_total{result=\"refused\"} 1"));
}

TEST_F(ServerTest, SwapsWithoutAFailedRequest) {
  Start();
  FillCatalog();
  const ModelStore store(dir_ / "models", "ctr");
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0}, failed{0};
  std::thread caller([&] {
    while (!stop) {
      grpc::ClientContext context;
      v1::RankRequest request;
      request.mutable_context()->set_query("shoes");
      v1::RankResponse response;
      const bool good = ranking_->Rank(&context, request, &response).ok() &&
                        response.placements(0).ads_size() == 1;
      ++(good ? answered : failed);
    }
  });
  for (int version = 1; version <= 20; ++version) {
    ASSERT_OK(store.Publish(AContents(version)));
    ASSERT_OK(server_->CheckForModel());
  }
  stop = true;
  caller.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(answered, 20);
  EXPECT_EQ(Rank().model_version(), 20);
}

TEST_F(ServerTest, StreamAcknowledgesInOrder) {
  Start();
  FillCatalog();
  const std::string id = Rank().decision_id();
  grpc::ClientContext context;
  auto stream = events_->StreamEvents(&context);
  constexpr int kEvents = 10000;  // beyond what the server reads ahead
  std::thread writer([&] {
    for (int i = 0; i < kEvents; ++i) {
      // Every third is invalid, the others are one event again and again.
      stream->Write(AnEvent(id, i % 3 == 0 ? 0 : 1, v1::EVENT_TYPE_IMPRESSION));
    }
    stream->WritesDone();
  });
  v1::EventResult result;
  int results = 0;
  for (; stream->Read(&result); ++results) {
    const v1::EventResult::Code expected =
        results % 3 == 0 ? v1::EventResult::CODE_INVALID
        : results == 1   ? v1::EventResult::CODE_ACCEPTED
                         : v1::EventResult::CODE_DUPLICATE;
    ASSERT_EQ(result.code(), expected) << results;
  }
  writer.join();
  EXPECT_EQ(results, kEvents);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, CancelledStreamLeavesNothingBehind) {
  Start();
  for (int round = 0; round < 20; ++round) {
    grpc::ClientContext context;
    auto stream = events_->StreamEvents(&context);
    for (int i = 0; i < round * 10; ++i) {
      stream->Write(
          AnEvent("000000000000000000000001", 1, v1::EVENT_TYPE_CLICK));
    }
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  ASSERT_OK(server_->Shutdown(absl::Seconds(5)));
}

// The log's thread finished a call and then let go of a lock that was gone; and
// an event that was read after its sender had gone was answered to a call that
// was gone. Found by the address sanitizer, which must see nothing here.
TEST_F(ServerTest, StreamsThatTheLogFinishesEndInOrder) {
  Start();
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        grpc::ClientContext context;
        const auto stream = events_->StreamEvents(&context);
        EXPECT_TRUE(stream->Write(
            AnEvent("0123456789abcdef01234567", 1, v1::EVENT_TYPE_CLICK)));
        // Gone before the answer is, or with it.
        if (i % 2 == 0) context.TryCancel();
        stream->WritesDone();
        v1::EventResult result;
        while (stream->Read(&result)) {
        }
        stream->Finish();
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(ServerTest, PagesTellMetricsHealthAndStatus) {
  Start();
  FillCatalog();
  Rank();
  EXPECT_EQ(Get("/healthz"), "ok\n");
  EXPECT_EQ(Get("/readyz"), "ready\n");
  EXPECT_THAT(Get("/status"), HasSubstr("\"servable_ads\": 2"));
  const std::string metrics = Get("/metrics");
  for (const char* line : {
           "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Rank\"",
           "adrank_stage_seconds_bucket{stage=\"trigger\"",
           "adrank_request_candidates_count 1",
           "adrank_degraded_total{reason=\"no_model\"} 1",
           "adrank_events_total{result=\"accepted\",type=\"click\"} 0",
           "adrank_model_version 0",
           "adrank_catalog_servable_ads 2",
           "process_start_time_seconds",
       }) {
    EXPECT_THAT(metrics, HasSubstr(line));
  }
  ASSERT_OK_AND_ASSIGN(const std::string ports, files::Read(dir_ / "ports"));
  EXPECT_THAT(ports, HasSubstr(absl::StrCat("grpc=", server_->ports().grpc)));
}

TEST_F(ServerTest, SecondServerOnTheSameDataIsRefused) {
  Start();
  v1::ServerConfig config;
  config.mutable_storage()->set_data_dir(dir_ / "data");
  config.mutable_model()->set_model_dir(dir_ / "models");
  config.mutable_listen()->set_grpc_port(-1);
  config.mutable_listen()->set_http_port(-1);
  config.mutable_listen()->set_admin_port(-1);
  EXPECT_THAT(
      Server::Start(config, Clock::Real()),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("data")));
}

TEST_F(ServerTest, TakenPortIsAnError) {
  Start();
  v1::ServerConfig config;
  config.mutable_storage()->set_data_dir(dir_ / "other");
  config.mutable_model()->set_model_dir(dir_ / "models");
  config.mutable_listen()->set_grpc_port(server_->ports().grpc);
  config.mutable_listen()->set_http_port(-1);
  config.mutable_listen()->set_admin_port(-1);
  EXPECT_THAT(Server::Start(config, Clock::Real()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr(absl::StrCat(server_->ports().grpc))));
}

TEST(ValidateConfig, NamesTheField) {
  const auto error = [](const std::function<void(v1::ServerConfig*)>& change) {
    v1::ServerConfig config;
    config.mutable_storage()->set_data_dir("d");
    config.mutable_model()->set_model_dir("m");
    change(&config);
    return std::string(ValidateConfig(config).message());
  };
  EXPECT_EQ(error([](auto*) {}), "");
  EXPECT_THAT(error([](auto* c) { c->mutable_storage()->clear_data_dir(); }),
              HasSubstr("storage.data_dir: required"));
  EXPECT_THAT(error([](auto* c) { c->mutable_model()->clear_model_dir(); }),
              HasSubstr("model.model_dir: required"));
  EXPECT_THAT(
      error([](auto* c) { c->mutable_model()->set_model_name("../x"); }),
      HasSubstr("model.model_name: \"../x\""));
  EXPECT_THAT(error([](auto* c) { c->mutable_listen()->set_grpc_port(70000); }),
              HasSubstr("listen.grpc_port: 70000"));
  EXPECT_THAT(error([](auto* c) { c->mutable_storage()->set_node_id(65536); }),
              HasSubstr("storage.node_id: 65536"));
  EXPECT_THAT(
      error([](auto* c) { c->mutable_storage()->set_group_commit_ms(2000); }),
      HasSubstr("storage.group_commit_ms: 2000"));
  EXPECT_THAT(error([](auto* c) { c->mutable_model()->set_prior_ctr(2); }),
              HasSubstr("model.prior_ctr"));
  // As a float it is 0, and so was every score.
  EXPECT_EQ(error([](auto* c) { c->mutable_model()->set_prior_ctr(1e-300); }),
            "model.prior_ctr: 1e-300 not in (0, 1)");
  EXPECT_EQ(error([](auto* c) {
              c->mutable_storage()->set_durability(
                  static_cast<v1::StorageConfig::Durability>(77));
            }),
            "storage.durability: 77 is no known durability");
  EXPECT_EQ(error([](auto* c) { c->mutable_listen()->set_address("../x\n"); }),
            "listen.address: \"../x\\n\" is neither a host name nor an IP "
            "address");
  for (const char* good :
       {"", "::1", "fe80::1%eth0", "0.0.0.0", "ads_1.local"}) {
    EXPECT_EQ(error([&](auto* c) { c->mutable_listen()->set_address(good); }),
              "");
  }
}

}  // namespace
}  // namespace adrank
