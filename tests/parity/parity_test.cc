// Training and serving compute the same numbers: a bundle learnt from simulated
// logs and served over gRPC returns, bit for bit, what the trainer's code says
// of the logged rows; and what the server logs of its own answers can be
// recomputed from the log alone.
#include <grpcpp/grpcpp.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/textproto.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
#include "proto/ranking_service.grpc.pb.h"
#include "server/server.h"
#include "storage/event_log_reader.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tools/generate.h"
#include "tools/market.h"
#include "trainer/config.h"
#include "trainer/step_progress.h"
#include "trainer/training_run.h"

namespace adrank {
namespace {

using ::adrank::testing::TempDir;

constexpr char kMarket[] =
    "seed: 3 users: 500 words: 100 decisions_per_day: 1500 base_ctr: 0.15";

// A logged decision with what it refers to.
struct LoggedDecision {
  v1::Decision decision;
  std::vector<v1::AdSnapshot> ads;
};

std::vector<LoggedDecision> ReadLog(const std::string& data_dir) {
  auto reader = EventLogReader::Open(data_dir);
  EXPECT_OK(reader);
  std::vector<LoggedDecision> logged;
  for (auto cursor = (*reader)->Join(0, int64_t{1} << 47); cursor->Valid();
       cursor->Next()) {
    if (!cursor->record().has_decision()) continue;
    LoggedDecision& one = logged.emplace_back();
    EXPECT_TRUE(cursor->record().Parse(&one.decision));
    for (const v1::ServedAd& ad : one.decision.ads()) {
      auto snapshot = (*reader)->GetSnapshot(ad.ad_hash());
      EXPECT_OK(snapshot);
      one.ads.push_back(*std::move(snapshot));
    }
  }
  return logged;
}

// The served row of each ad of a logged decision, by the trainer's code.
struct Recomputed {
  std::vector<float> logits, pctrs;
  std::vector<uint64_t> fingerprints;
};

Recomputed Recompute(const ModelBundle& bundle, const LoggedDecision& logged,
                     const std::string& placement) {
  std::vector<const v1::AdSnapshot*> ads;
  for (const v1::AdSnapshot& ad : logged.ads) ads.push_back(&ad);
  RequestFeatures features;
  bundle.extractor().Extract(logged.decision.context(), placement, ads, {},
                             &features);
  Recomputed out;
  out.logits.resize(ads.size());
  out.pctrs.resize(ads.size());
  PredictScratch scratch;
  bundle.Predict(features, &scratch, absl::MakeSpan(out.logits),
                 absl::MakeSpan(out.pctrs));
  for (size_t i = 0; i < ads.size(); ++i) {
    out.fingerprints.push_back(FeatureExtractor::Fingerprint(features, i));
  }
  return out;
}

bool SameBits(float a, float b) { return std::memcmp(&a, &b, 4) == 0; }

class ParityTest : public ::testing::Test {
 protected:
  // Simulates two days, learns from them, starts a server on the result.
  void SetUp() override {
    v1::MarketConfig market_config;
    ASSERT_OK(ParseTextProto(kMarket, "market", &market_config));
    ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(market_config));
    GenerateOptions options;
    options.data_dir = dir_ / "data";
    options.days = 2;
    ASSERT_OK(Generate(*market, options, [](const auto&, uint64_t) {}));
    logged_ = ReadLog(dir_ / "data");
    ASSERT_EQ(logged_.size(), 3000u);

    v1::TrainerConfig config;
    ASSERT_OK(ReadTextProtoInto(
        "deploy/examples/simulated_market.trainer.textproto", &config));
    config.set_data_dir(dir_ / "data");
    config.set_model_dir(dir_ / "models");
    // Every stage of the calibrator.
    config.mutable_data()->set_calibration_share(0.3);
    config.mutable_data()->set_negative_keep_rate(0.7);
    config.mutable_calibration()->set_method(
        v1::CalibrationConfig::PLATT_ISOTONIC);
    config.mutable_calibration()->set_slice_field("category");
    config.mutable_calibration()->set_slice_prior(100);
    config.mutable_gate()->set_min_examples(100);
    config.mutable_gate()->set_min_clicks(10);
    config.mutable_gate()->set_min_calibration(0.5);
    config.mutable_gate()->set_max_calibration(2);
    config.mutable_gate()->set_max_ne(2);
    ASSERT_OK_AND_ASSIGN(config, ResolveConfig(config));
    StepProgress progress(Clock::Real());
    ASSERT_OK_AND_ASSIGN(const v1::TrainingReport report,
                         RunTraining(config, &progress));
    ASSERT_EQ(report.verdict(), v1::TrainingReport::PUBLISHED)
        << report.DebugString();
    ASSERT_OK_AND_ASSIGN(
        bundle_,
        ModelBundle::Load(ModelStore(dir_ / "models", "ctr").VersionDir(1)));

    ASSERT_TRUE(bundle_->manifest().calibrator().has_slice_bias());
    ASSERT_TRUE(bundle_->manifest().calibrator().has_isotonic());

    v1::ServerConfig server;
    server.mutable_storage()->set_data_dir(dir_ / "data");
    server.mutable_model()->set_model_dir(dir_ / "models");
    server.mutable_limits()->set_deadline_ms(10000);
    server.mutable_listen()->set_grpc_port(-1);
    server.mutable_listen()->set_http_port(-1);
    server.mutable_listen()->set_admin_port(-1);
    ASSERT_OK_AND_ASSIGN(server_, Server::Start(server, Clock::Real()));
    stub_ = v1::RankingService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->ports().grpc),
                            grpc::InsecureChannelCredentials()));
  }

  TempDir dir_;
  std::vector<LoggedDecision> logged_;
  std::shared_ptr<const ModelBundle> bundle_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::RankingService::Stub> stub_;
};

TEST_F(ParityTest, ServedPredictionsAreTheTrainersBitForBit) {
  int rows = 0;
  for (const LoggedDecision& logged : logged_) {
    const std::string placement = logged.decision.placement_ids(0);
    v1::PredictRequest request;
    *request.mutable_context() = logged.decision.context();
    request.set_placement_id(placement);
    for (const v1::AdSnapshot& ad : logged.ads) {
      v1::Candidate* candidate = request.add_candidates();
      candidate->set_ad_id(ad.ad_id());
      candidate->set_bid_micros(1);
      *candidate->mutable_ad() = ad;
    }
    grpc::ClientContext context;
    v1::PredictResponse response;
    const grpc::Status status = stub_->Predict(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(response.model_version(), 1);
    const Recomputed expected = Recompute(*bundle_, logged, placement);
    for (size_t i = 0; i < logged.ads.size(); ++i, ++rows) {
      const v1::Prediction& got = response.predictions(static_cast<int>(i));
      ASSERT_TRUE(SameBits(got.pctr(), expected.pctrs[i]));
      ASSERT_TRUE(SameBits(got.logit(), expected.logits[i]));
      ASSERT_EQ(got.feature_fingerprint(), expected.fingerprints[i]);
    }
  }
  EXPECT_GE(rows, 3000);
}

TEST_F(ParityTest, LoggedAnswersAreRecomputedFromTheLogOnEveryRow) {
  int asked = 0;
  for (const LoggedDecision& logged : logged_) {
    v1::RankRequest request;
    *request.mutable_context() = logged.decision.context();
    for (const char* id : {"left", "right"}) {
      v1::Placement* placement = request.add_placements();
      placement->set_id(absl::StrCat(logged.decision.placement_ids(0),
                                     id[0] == 'l' ? "" : "_right"));
      placement->set_count(2);
    }
    grpc::ClientContext context;
    v1::RankResponse response;
    const grpc::Status status = stub_->Rank(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    if (++asked == 1000) break;
  }
  ASSERT_OK(server_->Shutdown(absl::Seconds(5)));
  server_.reset();

  int rows = 0, decisions = 0;
  for (const LoggedDecision& logged : ReadLog(dir_ / "data")) {
    if (logged.decision.model_version() != 1) continue;  // simulated
    ++decisions;
    for (int p = 0; p < logged.decision.placement_ids_size(); ++p) {
      const Recomputed expected =
          Recompute(*bundle_, logged, logged.decision.placement_ids(p));
      for (int i = 0; i < logged.decision.ads_size(); ++i) {
        const v1::ServedAd& ad = logged.decision.ads(i);
        if (static_cast<int>(ad.placement_index()) != p) continue;
        ++rows;
        ASSERT_EQ(ad.feature_fingerprint(), expected.fingerprints[i]);
        ASSERT_TRUE(SameBits(ad.logit(), expected.logits[i]));
        ASSERT_TRUE(SameBits(ad.pctr(), expected.pctrs[i]));
      }
    }
  }
  EXPECT_EQ(decisions, 1000);
  EXPECT_GT(rows, 1000);
}

}  // namespace
}  // namespace adrank
