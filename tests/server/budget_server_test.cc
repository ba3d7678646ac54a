// Budgets through the whole server: over gRPC, as its callers see them.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/budget_service.grpc.pb.h"
#include "proto/catalog_service.grpc.pb.h"
#include "proto/event_service.grpc.pb.h"
#include "proto/ranking_service.grpc.pb.h"
#include "server/server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

constexpr int64_t kPrice = 400'000;

class BudgetServerTest : public ::testing::Test {
 protected:
  void Start(bool disabled = false) {
    server_.reset();
    v1::ServerConfig config;
    config.mutable_storage()->set_data_dir(dir_ / "data");
    config.mutable_model()->set_model_dir(dir_ / "models");
    config.mutable_model()->set_poll_ms(3'600'000);
    config.mutable_listen()->set_grpc_port(-1);
    config.mutable_listen()->set_http_port(-1);
    config.mutable_listen()->set_admin_port(-1);
    config.mutable_limits()->set_deadline_ms(5000);
    // The price of the only ad.
    config.mutable_rank()->set_reserve_micros(kPrice);
    config.mutable_budget()->set_hard_share(1);
    config.mutable_budget()->set_disabled(disabled);
    ASSERT_OK_AND_ASSIGN(server_, Server::Start(config, Clock::Real()));
    const auto channel = [](int port) {
      return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                                 grpc::InsecureChannelCredentials());
    };
    const auto main = channel(server_->ports().grpc);
    ranking_ = v1::RankingService::NewStub(main);
    events_ = v1::EventService::NewStub(main);
    budgets_ = v1::BudgetService::NewStub(main);
    catalog_ = v1::CatalogService::NewStub(main);
    admin_ = v1::CatalogService::NewStub(channel(server_->ports().admin));
  }

  // One campaign with one ad.
  void SetBudget(int64_t daily_micros) {
    v1::MutateRequest request;
    request.add_operations()->mutable_upsert()->mutable_advertiser()->set_id(
        "v");
    v1::Campaign* campaign =
        request.add_operations()->mutable_upsert()->mutable_campaign();
    campaign->set_id("c");
    campaign->set_advertiser_id("v");
    campaign->mutable_budget()->set_daily_micros(daily_micros);
    campaign->mutable_budget()->set_delivery(v1::Budget::ACCELERATED);
    v1::AdGroup* group =
        request.add_operations()->mutable_upsert()->mutable_ad_group();
    group->set_id("g");
    group->set_campaign_id("c");
    group->set_bid_micros(1'000'000);
    v1::Ad* ad = request.add_operations()->mutable_upsert()->mutable_ad();
    ad->set_id("a");
    ad->set_ad_group_id("g");
    grpc::ClientContext context;
    v1::MutateResponse response;
    ASSERT_TRUE(admin_->Mutate(&context, request, &response).ok());
    for (int i = 0; i < 500; ++i) {
      grpc::ClientContext status_context;
      v1::CatalogStatusResponse status;
      ASSERT_TRUE(catalog_->Status(&status_context, {}, &status).ok());
      if (status.serving_version() == response.catalog_version()) return;
      absl::SleepFor(absl::Milliseconds(10));
    }
    FAIL() << "the catalogue never became live";
  }

  // Id of the decision, empty when no ad was served; *reason then says why.
  std::string Rank(v1::NoAdReason* reason, bool test = false) {
    grpc::ClientContext context;
    v1::RankRequest request;
    request.set_test(test);
    v1::RankResponse response;
    EXPECT_TRUE(ranking_->Rank(&context, request, &response).ok());
    *reason = response.placements(0).no_ad_reason();
    return response.placements(0).ads_size() > 0 ? response.decision_id() : "";
  }
  v1::EventResult::Code Click(const std::string& decision) {
    grpc::ClientContext context;
    v1::LogEventsRequest request;
    v1::Event* event = request.add_events();
    event->set_decision_id(decision);
    event->set_position(1);
    event->set_type(v1::EVENT_TYPE_CLICK);
    v1::LogEventsResponse response;
    EXPECT_TRUE(events_->LogEvents(&context, request, &response).ok());
    return response.results(0).code();
  }
  v1::CampaignPacing Pacing() {
    grpc::ClientContext context;
    v1::GetPacingRequest request;
    request.set_campaign_id("c");
    v1::CampaignPacing response;
    const grpc::Status status =
        budgets_->GetPacing(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  v1::AuditResponse Audit() {
    grpc::ClientContext context;
    v1::AuditResponse response;
    EXPECT_TRUE(budgets_->Audit(&context, {}, &response).ok());
    return response;
  }

  TempDir dir_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::RankingService::Stub> ranking_;
  std::unique_ptr<v1::EventService::Stub> events_;
  std::unique_ptr<v1::BudgetService::Stub> budgets_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_, admin_;
};

TEST_F(BudgetServerTest, ABudgetRunsOutAndIsRaised) {
  Start();
  SetBudget(2 * kPrice);
  v1::NoAdReason reason;
  EXPECT_NE(Rank(&reason, /*test=*/true), "");
  const std::string first = Rank(&reason), second = Rank(&reason);
  ASSERT_NE(first, "");
  ASSERT_NE(second, "");
  EXPECT_EQ(Rank(&reason), "");
  EXPECT_EQ(reason, v1::NO_AD_REASON_BUDGET);
  EXPECT_EQ(Click(first), v1::EventResult::CODE_ACCEPTED);
  EXPECT_EQ(Click(first), v1::EventResult::CODE_DUPLICATE);
  v1::CampaignPacing pacing = Pacing();
  EXPECT_EQ(pacing.spent_today_micros(), kPrice);
  EXPECT_EQ(pacing.reserved_today_micros(), kPrice);
  EXPECT_EQ(pacing.free_micros(), 0);
  EXPECT_EQ(pacing.served_today(), 2u);
  EXPECT_TRUE(pacing.closed());
  SetBudget(3 * kPrice);
  EXPECT_NE(Rank(&reason), "");
  EXPECT_EQ(Rank(&reason), "");
  EXPECT_EQ(Click(second), v1::EventResult::CODE_ACCEPTED);
  // All of it is there after a restart.
  Start();
  pacing = Pacing();
  EXPECT_EQ(pacing.spent_today_micros(), 2 * kPrice);
  EXPECT_EQ(pacing.reserved_total_micros(), kPrice);
  EXPECT_TRUE(pacing.closed());
  EXPECT_EQ(Rank(&reason), "");
  const v1::AuditResponse audit = Audit();
  EXPECT_TRUE(audit.balanced());
  EXPECT_EQ(audit.spent_micros(), 2 * kPrice);
  EXPECT_EQ(audit.debits_micros(), audit.credits_micros());
}

TEST_F(BudgetServerTest, DisabledBudgetsStopNothing) {
  Start(/*disabled=*/true);
  SetBudget(1);
  v1::NoAdReason reason;
  for (int i = 0; i < 3; ++i) {
    const std::string decision = Rank(&reason);
    ASSERT_NE(decision, "");
    EXPECT_EQ(Click(decision), v1::EventResult::CODE_ACCEPTED);
  }
  grpc::ClientContext context;
  v1::ListBudgetsResponse response;
  const grpc::Status status = budgets_->ListBudgets(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("disabled"));
}

TEST_F(BudgetServerTest, AnUnknownCampaignIsNotFound) {
  Start();
  grpc::ClientContext context;
  v1::GetPacingRequest request;
  request.set_campaign_id("nobody");
  v1::CampaignPacing response;
  EXPECT_EQ(budgets_->GetPacing(&context, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(ValidateConfig, NamesTheBudgetFieldThatIsOutOfRange) {
  v1::ServerConfig config;
  config.mutable_storage()->set_data_dir("data");
  config.mutable_model()->set_model_dir("models");
  EXPECT_THAT(ValidateConfig(config), testing::IsOk());
  config.mutable_budget()->set_hard_share(2);
  EXPECT_THAT(ValidateConfig(config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("budget.hard_share")));
}

}  // namespace
}  // namespace adrank
