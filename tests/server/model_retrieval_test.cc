// Candidates by the served model's embeddings, through the whole pipeline.
#include <atomic>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/explain.h"
#include "server/metrics.h"
#include "server/ranking_pipeline.h"
#include "tests/model/a_random_bundle.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AddRandomAttributes;
using ::adrank::testing::ARandomBundle;
using ::adrank::testing::ParseText;
using ::testing::HasSubstr;

constexpr char kFm[] = "dim: 4 linear: true pairwise: FM";

v1::ServerConfig Config(const std::string& quota) {
  return ParseText<v1::ServerConfig>(absl::StrCat(
      "limits { max_candidates: 30 } rank { reserve_micros: 1 } trigger { ",
      quota, " }"));
}

v1::Catalog ACatalog(Rng* rng, int ads) {
  v1::Catalog catalog = ACatalogOf(ads, 50, 1000, 7);
  for (v1::Ad& ad : *catalog.mutable_ads()) {
    AddRandomAttributes(rng, "a", ad.mutable_attributes());
  }
  return catalog;
}

std::shared_ptr<const AdIndex> IndexOf(const v1::Catalog& catalog,
                                       const v1::ServerConfig& config) {
  auto index = AdIndex::Build(catalog, 1, AdIndexOptions::Of(config));
  EXPECT_OK(index);
  return *index;
}

v1::RankRequest ARequest(Rng* rng) {
  v1::RankRequest request;
  AddRandomAttributes(rng, "c",
                      request.mutable_context()->mutable_attributes());
  v1::Placement* placement = request.add_placements();
  placement->set_id("top");
  placement->set_count(4);
  return request;
}

// With as many candidates as there are ads, the winners are those of a limit
// that the model fills by value: the auction's order but for 1 - pctr.
TEST(ModelRetrieval, ByValueFewCandidatesHaveTheWinnersOfAll) {
  size_t same_by_model = 0, same_by_bid = 0, slots = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    SimulatedClock clock(absl::FromUnixSeconds(1'800'000'000));
    v1::Calibrator rare;  // probabilities are small, as they are
    rare.mutable_platt()->set_slope(1);
    rare.mutable_platt()->set_intercept(-10);
    const auto bundle = ARandomBundle(&rng, kFm, false, rare);
    const v1::Catalog catalog = ACatalog(&rng, 800);
    const v1::ServerConfig by_model = Config("quota { model: 30 }"),
                           by_bid = Config("");
    v1::ServerConfig of_all = by_bid;
    of_all.mutable_limits()->set_max_candidates(1000);
    const auto serving =
        ServingSnapshot::Of(bundle, IndexOf(catalog, by_model));
    const v1::RankRequest request = ARequest(&rng);
    const auto winners = [&](const v1::ServerConfig& config) {
      RankTrace trace;
      RankOutcome outcome;
      const auto pipeline = RankingPipeline::Create(config, &clock);
      EXPECT_OK(
          (*pipeline)->Rank(serving, request, {1, 1, 1}, {}, &trace, &outcome));
      std::vector<std::string> ids;
      for (const auto& ad : outcome.response.placements(0).ads()) {
        ids.push_back(ad.ad_id());
        EXPECT_EQ(ad.match_type() == v1::MATCH_TYPE_MODEL,
                  config.trigger().quota().model() > 0);
      }
      return ids;
    };
    const auto all = winners(of_all), model = winners(by_model),
               bid = winners(by_bid);
    ASSERT_EQ(all.size(), 4u);
    for (size_t i = 0; i < all.size(); ++i) {
      ++slots;
      same_by_model += model[i] == all[i];
      same_by_bid += bid[i] == all[i];
    }
  }
  EXPECT_EQ(same_by_model, slots);
  EXPECT_LT(same_by_bid, slots / 2);
}

TEST(ModelRetrieval, WhyNotSaysWhereTheModelPutTheAd) {
  Rng rng(4);
  SimulatedClock clock(absl::FromUnixSeconds(1'800'000'000));
  const v1::ServerConfig config = Config("quota { model: 20 }");
  const auto pipeline = RankingPipeline::Create(config, &clock);
  ASSERT_OK(pipeline);
  const v1::Catalog catalog = ACatalog(&rng, 200);
  const auto ask = [&](const ServingSnapshot& serving) {
    v1::ExplainRequest request;
    *request.mutable_request() = ARequest(&rng);
    for (const v1::Ad& ad : catalog.ads()) {
      if (request.ad_ids_size() < 100) request.add_ad_ids(ad.id());
    }
    RankTrace trace;
    v1::ExplainResponse response;
    EXPECT_OK(ExplainRanking(**pipeline, serving, request, {1, 1, 1}, {}, {},
                             &trace, &response));
    std::string text;
    for (const v1::AdExplanation& ad : response.ads()) {
      absl::StrAppend(&text, ad.outcome(), "\n");
    }
    return text;
  };
  const auto index = IndexOf(catalog, config);
  EXPECT_THAT(ask(ServingSnapshot::Of(ARandomBundle(&rng, kFm), index)),
              HasSubstr("by the model's vectors it has product"));
  EXPECT_THAT(
      ask(ServingSnapshot::Of(
          ARandomBundle(&rng, "dim: 3 streams { layers { units: 4 } }"),
          index)),
      HasSubstr("the model was not asked: off: the model has neither an FM nor "
                "an FwFM part"));
}

TEST(ModelRetrieval, MetricsCountItsCandidates) {
  Rng rng(5);
  SimulatedClock clock(absl::FromUnixSeconds(1'800'000'000));
  const v1::ServerConfig config = Config("quota { model: 20 targeting: 10 }");
  const auto pipeline = RankingPipeline::Create(config, &clock);
  ASSERT_OK(pipeline);
  const auto serving = ServingSnapshot::Of(
      ARandomBundle(&rng, kFm), IndexOf(ACatalog(&rng, 800), config));
  RankTrace trace;
  RankOutcome outcome;
  ASSERT_OK((*pipeline)->Rank(serving, ARequest(&rng), {1, 1, 1}, {}, &trace,
                              &outcome));
  Metrics metrics;
  metrics.Ranked(outcome, trace.retrieval);
  metrics.ModelRetrieval(serving.model_vectors.get());
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("adrank_model_retrieval_ads 800"));
  EXPECT_THAT(text, HasSubstr("adrank_candidates_total{match_type=\"model\"}"));
  size_t by_model = 0;
  for (const AdMatch& m : trace.retrieval.matches) {
    by_model += m.match_type == v1::MATCH_TYPE_MODEL;
  }
  EXPECT_GE(by_model, 20u);
  EXPECT_THAT(text,
              HasSubstr(absl::StrCat(
                  "adrank_candidates_total{match_type=\"model\"} ", by_model)));
  metrics.ModelRetrieval(nullptr);
  EXPECT_THAT(metrics.Text(), HasSubstr("adrank_model_retrieval_ads 0"));
}

// The request's vector is infinite: the other sources answer.
TEST(ModelRetrieval, ANumberThatIsNotFiniteLeavesTheModelOut) {
  SimulatedClock clock(absl::FromUnixSeconds(1'800'000'000));
  const v1::ServerConfig config = Config("quota { model: 30 }");
  const auto pipeline = RankingPipeline::Create(config, &clock);
  ASSERT_OK(pipeline);
  BundleContents contents = testing::AContents();
  contents.weights[0] = 3.4e38f;  // Berlin
  contents.manifest.mutable_calibrator()->mutable_platt()->set_slope(4);
  const auto bundle = ModelBundle::FromContents(contents);
  ASSERT_OK(bundle);
  const auto serving =
      ServingSnapshot::Of(*bundle, IndexOf(ACatalogOf(60, 6, 1000, 7), config));
  ASSERT_NE(serving.model_vectors, nullptr);
  for (const char* city : {"Berlin", "Rome", "Berlin"}) {
    v1::RankRequest request;
    testing::AddText(request.mutable_context()->mutable_attributes(), "city",
                     city);
    RankTrace trace;
    RankOutcome outcome;
    ASSERT_OK(
        (*pipeline)->Rank(serving, request, {1, 1, 1}, {}, &trace, &outcome));
    EXPECT_EQ(trace.candidates.size(), 30u);
    EXPECT_EQ(outcome.response.placements(0).ads(0).match_type(),
              city[0] == 'B' ? v1::MATCH_TYPE_TARGETING : v1::MATCH_TYPE_MODEL);
  }
}

// A request uses the vectors of the very bundle that predicts: the product and
// the logit of every candidate differ by the same number (T7).
TEST(ModelRetrieval, T7ReadersSeeOnePairWhileModelsAndCataloguesAreSwapped) {
  Rng rng(6);
  SimulatedClock clock(absl::FromUnixSeconds(1'800'000'000));
  const v1::ServerConfig config =
      Config("model_order: BY_LOGIT quota { model: 30 }");
  const auto pipeline = RankingPipeline::Create(config, &clock);
  ASSERT_OK(pipeline);
  std::vector<std::shared_ptr<const ModelBundle>> bundles;
  std::vector<std::shared_ptr<const AdIndex>> indices;
  for (int i = 0; i < 4; ++i) {
    bundles.push_back(ARandomBundle(
        &rng, i % 2 ? kFm : "dim: 4 linear: true pairwise: FWFM"));
    indices.push_back(IndexOf(ACatalog(&rng, 300 + 10 * i), config));
  }
  ServingState state;
  state.SetBundle(bundles[0]);
  state.SetIndex(indices[0]);
  std::atomic<bool> stop{false};
  std::atomic<int> answers{0}, mixed{0};
  std::vector<std::thread> readers;
  for (uint64_t t = 0; t < 2; ++t) {
    readers.emplace_back([&, t] {
      Rng own(100 + t);
      RankTrace trace;
      RankOutcome outcome;
      while (!stop) {
        const auto serving = state.Current();
        if (!(*pipeline)
                 ->Rank(*serving, ARequest(&own), {1, 1, 1}, {}, &trace,
                        &outcome)
                 .ok()) {
          ++mixed;
          continue;
        }
        const auto logits = trace.prediction.logits(0);
        for (size_t i = 0; i < trace.candidates.size(); ++i) {
          const float own_part = logits[i] - trace.candidates[i].similarity;
          const float first = logits[0] - trace.candidates[0].similarity;
          mixed += std::abs(own_part - first) > 1e-3f;
        }
        ++answers;
      }
    });
  }
  for (int i = 0; i < 60 || answers < 200; ++i) {
    state.SetBundle(bundles[rng.Below(bundles.size())]);
    state.SetIndex(indices[rng.Below(indices.size())]);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mixed, 0);
}

}  // namespace
}  // namespace adrank
