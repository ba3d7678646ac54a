#include "tools/drive.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "proto/event_service.grpc.pb.h"
#include "proto/ranking_service.grpc.pb.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

const Market& SmallMarket() {
  static const Market* market = [] {
    v1::MarketConfig config;
    config.set_seed(3);
    config.set_advertisers(10);
    config.set_users(500);
    config.set_decisions_per_day(100);
    return Market::Create(config)->release();
  }();
  return *market;
}

// Answers every request with ads 0 and 1 and one of nobody, remembers events,
// and fails some of the first calls.
class TwoAdServer : public v1::RankingService::Service,
                    public v1::EventService::Service {
 public:
  TwoAdServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(static_cast<v1::RankingService::Service*>(this));
    builder.RegisterService(static_cast<v1::EventService::Service*>(this));
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  grpc::Status Rank(grpc::ServerContext*, const v1::RankRequest* request,
                    v1::RankResponse* response) override {
    const int n = ++ranks;
    if (n <= fail_ranks) return {grpc::StatusCode::RESOURCE_EXHAUSTED, "busy"};
    response->set_decision_id(absl::StrCat(n));
    response->set_model_version(3);
    v1::PlacementResult* placement = response->add_placements();
    for (const char* id : {"ad0", "ad1", "nobody's"}) {
      v1::RankedAd* ad = placement->add_ads();
      ad->set_ad_id(id);
      ad->set_position(placement->ads_size());
      ad->set_position_in_placement(placement->ads_size());
    }
    absl::MutexLock lock(&mu);
    requests.push_back(*request);
    return grpc::Status::OK;
  }

  grpc::Status LogEvents(grpc::ServerContext*,
                         const v1::LogEventsRequest* request,
                         v1::LogEventsResponse* response) override {
    absl::MutexLock lock(&mu);
    for (const v1::Event& event : request->events()) {
      const bool refuse = unavailable-- > 0;
      response->add_results()->set_code(refuse
                                            ? v1::EventResult::CODE_UNAVAILABLE
                                            : v1::EventResult::CODE_ACCEPTED);
      if (!refuse) events.push_back(event);
    }
    return grpc::Status::OK;
  }

  std::atomic<int> ranks{0};
  int fail_ranks = 0;
  absl::Mutex mu;
  int unavailable = 0;
  std::vector<v1::RankRequest> requests;
  std::vector<v1::Event> events;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

DriveOptions To(const TwoAdServer& server, uint64_t count) {
  DriveOptions options;
  options.server = server.address();
  options.count = count;
  options.day = 2;
  return options;
}

TEST(Drive, AsksAsTheMarketsVisitorsAndReportsWhatTheyDo) {
  TwoAdServer server;
  ASSERT_OK_AND_ASSIGN(const v1::DriveReport report,
                       Drive(SmallMarket(), To(server, 250), {}));
  EXPECT_EQ(report.requests(), 250);
  EXPECT_EQ(report.answers(), 250);
  EXPECT_EQ(report.ads(), 750);
  EXPECT_EQ(report.foreign_ads(), 250);
  EXPECT_EQ(report.impressions(), 750);
  EXPECT_EQ(report.empty_slots(), 0);
  EXPECT_EQ(report.rank().calls(), 250);
  EXPECT_GT(report.rank().p99_ms(), 0);
  EXPECT_EQ(report.model_versions().at(3), 250);
  EXPECT_EQ(report.event_results().at("CODE_ACCEPTED"),
            report.impressions() + report.clicks());
  EXPECT_GT(report.expected_clicks(), 1);
  absl::MutexLock lock(&server.mu);
  EXPECT_EQ(server.events.size(), report.impressions() + report.clicks());
  // 100 visits of day 2, 100 of day 3, 50 of day 4.
  std::map<int, int> days;
  for (const v1::RankRequest& request : server.requests) {
    ASSERT_EQ(request.placements_size(), 1);
    EXPECT_EQ(request.placements(0).count(), 3);
    ASSERT_OK_AND_ASSIGN(const Visit visit,
                         SmallMarket().ParseVisit(request.context(),
                                                  request.placements(0).id()));
    ++days[visit.day];
  }
  EXPECT_EQ(days, (std::map<int, int>{{2, 100}, {3, 100}, {4, 50}}));
  for (const v1::Event& event : server.events) {
    EXPECT_GT(event.time_ms(), SmallMarket().first_day_ms() + 2 * kDayMs);
    EXPECT_LT(event.time_ms(), SmallMarket().first_day_ms() + 6 * kDayMs);
  }
  EXPECT_THAT(PrintDriveReport(report), HasSubstr("CODE_ACCEPTED"));
}

TEST(Drive, FailedRequestsAreCountedByCode) {
  TwoAdServer server;
  server.fail_ranks = 5;
  ASSERT_OK_AND_ASSIGN(const v1::DriveReport report,
                       Drive(SmallMarket(), To(server, 20), {}));
  EXPECT_EQ(report.requests(), 20);
  EXPECT_EQ(report.answers(), 15);
  EXPECT_EQ(report.errors().at("Rank RESOURCE_EXHAUSTED"), 5);
}

TEST(Drive, UnavailableEventsAreReportedAgainAndNoneIsLostOrDoubled) {
  TwoAdServer server;
  server.unavailable = 4;
  ASSERT_OK_AND_ASSIGN(const v1::DriveReport report,
                       Drive(SmallMarket(), To(server, 10), {}));
  EXPECT_EQ(report.event_results().at("CODE_ACCEPTED"),
            report.impressions() + report.clicks());
  absl::MutexLock lock(&server.mu);
  EXPECT_EQ(server.events.size(), report.impressions() + report.clicks());
}

TEST(Drive, RateAndDurationBoundTheWork) {
  TwoAdServer server;
  DriveOptions options = To(server, 0);
  options.duration_s = 0.3;
  options.rate = 100;
  ASSERT_OK_AND_ASSIGN(const v1::DriveReport report,
                       Drive(SmallMarket(), options, {}));
  EXPECT_GE(report.requests(), 1);
  EXPECT_LE(report.requests(), 30);
}

TEST(Drive, VisitsOfNowCarryTheMachinesTime) {
  TwoAdServer server;
  DriveOptions options = To(server, 5);
  options.now = true;
  v1::MarketConfig config = SmallMarket().config();
  config.set_first_day("2020-01-01");
  ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
  const int64_t before = Clock::Real()->NowMs();
  ASSERT_OK(Drive(*market, options, {}));
  absl::MutexLock lock(&server.mu);
  for (const v1::RankRequest& request : server.requests) {
    EXPECT_GE(request.context().time_ms(), before);
    EXPECT_LE(request.context().time_ms(), Clock::Real()->NowMs());
  }
}

TEST(Drive, BadOptionsAreNamed) {
  TwoAdServer server;
  EXPECT_THAT(
      Drive(SmallMarket(), To(server, 0), {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("when to stop")));
  DriveOptions options = To(server, 1);
  options.concurrency = 0;
  EXPECT_THAT(
      Drive(SmallMarket(), options, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("concurrency 0")));
}

}  // namespace
}  // namespace adrank
