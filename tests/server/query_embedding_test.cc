// A request's vector and the quotas, from the request to the answer.
#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/explain.h"
#include "server/ranking_pipeline.h"
#include "server/request_check.h"
#include "storage/catalog_store.h"
#include "tests/server/serving_testing.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ParseText;
using ::testing::HasSubstr;

const absl::Time kNoon = absl::FromUnixSeconds(1800000000);
constexpr DecisionId kId = {1, 2, 3};

v1::RankRequest Asking(const std::vector<float>& vector) {
  v1::RankRequest request;
  request.mutable_query_embedding()->Assign(vector.begin(), vector.end());
  return request;
}

std::string Wrong(const std::vector<float>& vector) {
  return std::string(CheckRequest(Asking(vector), {}).message());
}

TEST(QueryEmbedding, WhatIsNotADirectionIsRefusedByTheFieldsName) {
  EXPECT_EQ(Wrong({1, 2}), "");
  EXPECT_EQ(Wrong({}), "");
  EXPECT_EQ(Wrong({1, std::numeric_limits<float>::quiet_NaN()}),
            "query_embedding[1]: not finite");
  EXPECT_EQ(Wrong({-std::numeric_limits<float>::infinity()}),
            "query_embedding[0]: not finite");
  EXPECT_EQ(Wrong({0, -0.0f}),
            "query_embedding: all components are 0: no direction; leave it "
            "empty");
  EXPECT_EQ(Wrong(std::vector<float>(2049, 1)),
            "query_embedding: 2049 exceeds the limit of 2048");
}

TEST(QueryEmbedding, AnotherLengthThanTheAdsIsRefusedWithBoth) {
  const absl::Status status = CheckQueryEmbedding(Asking({1, 2, 3}), 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "query_embedding: 3 components, the ads' vectors have 2");
  EXPECT_OK(CheckQueryEmbedding(Asking({1, 2, 3}), 0));
  EXPECT_OK(CheckQueryEmbedding(Asking({}), 2));
}

TEST(QueryEmbedding, AnAdsVectorIsCheckedWhereItIsStored) {
  v1::CatalogEntity entity;
  v1::Ad* ad = entity.mutable_ad();
  ad->set_id("a");
  ad->set_ad_group_id("g");
  ad->add_embedding(1);
  EXPECT_OK(ValidateEntity(entity));
  ad->add_embedding(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(std::string(ValidateEntity(entity).message()),
              HasSubstr("ad \"a\""));
  EXPECT_THAT(std::string(ValidateEntity(entity).message()),
              HasSubstr("embedding has a component that is not finite"));
  ad->clear_embedding();
  ad->add_embedding(0);
  EXPECT_THAT(std::string(ValidateEntity(entity).message()),
              HasSubstr("embedding is 0 in all components"));
}

// Ads ad0 ... ad9 bid 1000, 1100, ...; ad0 to ad4 have vectors.
class Server {
 public:
  explicit Server(const std::string& config) {
    v1::Catalog catalog = ACatalogOf(10, 10, 1000, 100);
    for (int i = 0; i < 5; ++i) {
      catalog.mutable_ads(i)->add_embedding(1);
      catalog.mutable_ads(i)->add_embedding(static_cast<float>(i));
    }
    serving_ = ServingSnapshot::Of(nullptr, AnIndex(catalog));
    auto created =
        RankingPipeline::Create(ParseText<v1::ServerConfig>(config), &clock_);
    EXPECT_OK(created);
    pipeline_ = *std::move(created);
  }
  absl::Status Rank(const std::string& request) {
    asked_ = ParseText<v1::RankRequest>(request);
    return pipeline_->Rank(serving_, asked_, kId, {}, &trace_, &outcome_);
  }
  absl::Status Explain(const v1::ExplainRequest& request) {
    v1::ExplainResponse response;
    return ExplainRanking(*pipeline_, serving_, request, kId, {}, {}, &trace_,
                          &response);
  }
  // "ad0/EMBEDDING/0.71 ..."
  std::string Candidates() const {
    std::string text;
    for (const RankCandidate& c : trace_.candidates) {
      absl::StrAppend(&text, text.empty() ? "" : " ", c.ad_id, "/",
                      v1::MatchType_Name(c.match_type).substr(11));
    }
    return text;
  }
  const v1::RankResponse& response() const { return outcome_.response; }
  const v1::Decision& decision() const { return outcome_.decision; }

 private:
  SimulatedClock clock_{kNoon};
  ServingSnapshot serving_;
  std::unique_ptr<const RankingPipeline> pipeline_;
  v1::RankRequest asked_;
  RankTrace trace_;
  RankOutcome outcome_;
};

TEST(QueryEmbedding, AQuotaKeepsTheNearestAmongHigherBids) {
  Server server("trigger { quota { embedding: 2 } }");
  ASSERT_OK(server.Rank(
      "query_embedding: [1, 0] max_candidates: 4 placements { id: 'p' count: 9 "
      "}"));
  EXPECT_EQ(server.Candidates(),
            "ad9/TARGETING ad8/TARGETING ad1/EMBEDDING ad0/EMBEDDING");
  const auto& ads = server.response().placements(0).ads();
  ASSERT_EQ(ads.size(), 4);
  EXPECT_FLOAT_EQ(ads[3].similarity(), 1);
  EXPECT_EQ(ads[0].similarity(), 0);
  EXPECT_EQ(server.response().degraded(0), v1::DEGRADATION_NO_MODEL);
  EXPECT_EQ(server.response().degraded(1), v1::DEGRADATION_TRUNCATED);
  EXPECT_EQ(server.decision().request().query_embedding_size(), 2);
}

TEST(QueryEmbedding, WithoutQuotaTheHighestBidsAreKept) {
  Server server("");
  ASSERT_OK(server.Rank("query_embedding: [1, 0] max_candidates: 4"));
  EXPECT_EQ(server.Candidates(),
            "ad9/TARGETING ad8/TARGETING ad7/TARGETING ad6/TARGETING");
  ASSERT_OK(server.Rank("query_embedding: [1, 0]"));
  EXPECT_THAT(server.Candidates(), HasSubstr("ad4/EMBEDDING ad3/EMBEDDING"));
}

TEST(QueryEmbedding, MinSimilarityIsTheLeastCosine) {
  Server server("trigger { min_similarity: 0.5 }");
  ASSERT_OK(server.Rank("query_embedding: [1, 0]"));
  // Cosines 1, .707, .447, ...
  EXPECT_THAT(server.Candidates(),
              HasSubstr("ad2/TARGETING ad1/EMBEDDING ad0/EMBEDDING"));
}

TEST(QueryEmbedding, TheWrongLengthIsTheCallersError) {
  Server server("");
  const absl::Status status = server.Rank("query_embedding: [1, 0, 0]");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "query_embedding: 3 components, the ads' vectors have 2");
}

// The path was that of a RankRequest.
TEST(QueryEmbedding, TheWrongLengthUnderExplainIsFoundInItsRequest) {
  v1::ExplainRequest request;
  *request.mutable_request() = Asking({1, 0, 0});
  EXPECT_EQ(CheckQueryEmbedding(request, 2).message(),
            "request.query_embedding: 3 components, the ads' vectors have 2");
  EXPECT_OK(CheckQueryEmbedding(request, 3));
  EXPECT_EQ(Server("").Explain(request).message(),
            "request.query_embedding: 3 components, the ads' vectors have 2");
}

TEST(QueryEmbedding, AConfigurationOutOfRangeIsRefused) {
  SimulatedClock clock(kNoon);
  const auto message = [&](const std::string& config) {
    return std::string(
        RankingPipeline::Create(ParseText<v1::ServerConfig>(config), &clock)
            .status()
            .message());
  };
  EXPECT_EQ(message("trigger { min_similarity: 1.5 }"),
            "trigger.min_similarity: 1.5 not in [-1, 1]");
  EXPECT_EQ(message("trigger { min_similarity: nan }"),
            "trigger.min_similarity: nan not in [-1, 1]");
  EXPECT_EQ(message("limits { max_candidates: 10 } trigger { quota { keyword: "
                    "6 targeting: 5 } }"),
            "trigger.quota: 11 in all exceed the 10 of limits.max_candidates");
}

}  // namespace
}  // namespace adrank
