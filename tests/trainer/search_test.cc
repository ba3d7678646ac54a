#include "trainer/search.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/textproto.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/a_log.h"
#include "trainer/config.h"

namespace adrank {
namespace {

using ::adrank::testing::AConfig;
using ::adrank::testing::ALog;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::TrainerConfig Parsed(const std::string& text) {
  v1::TrainerConfig config;
  EXPECT_OK(ParseTextProto(text, "config", &config));
  return config;
}

TEST(SetByPath, SetsFieldsOfEveryKind) {
  v1::TrainerConfig config = Parsed(
      "embedding { graph { streams { layers { units: 9 } layers {} } } table "
      "{ l2: 3 } }");
  const std::pair<const char*, const char*> settings[] = {
      {"embedding.table.l2", "1e-3"},
      {"embedding.table.kind", "ADAM"},
      {"embedding.bf16", "true"},
      {"embedding.dense.clip_norm", "-1"},
      {"embedding.graph.streams[0].layers[1].units", "64"},
      {"embedding.graph.streams[0].gate", "{ kind: FIELDS hidden: [3, 4] }"},
      {"embedding.table.linear_ftrl.alpha", "0.2"},
      {"model_name", "a b"},
      {"evaluation.slices", "['x', 'y']"},
  };
  for (const auto& [path, value] : settings) {
    EXPECT_OK(SetByPath(path, value, &config)) << path;
  }
  const v1::TrainerConfig expected = Parsed(
      "model_name: 'a b' evaluation { slices: 'x' slices: 'y' } "
      "embedding { bf16: true dense { clip_norm: -1 } "
      "graph { streams { layers { units: 9 } layers { units: 64 } "
      "gate { kind: FIELDS hidden: 3 hidden: 4 } } } "
      "table { l2: 0.001 kind: ADAM linear_ftrl { alpha: 0.2 } } }");
  EXPECT_EQ(PrintTextProto(config), PrintTextProto(expected));
  EXPECT_OK(SetByPath("embedding.table.l2", "0", &config));
  EXPECT_EQ(config.embedding().table().l2(), 0);
}

TEST(SetByPath, SaysWhatIsWrongAndWhere) {
  const struct {
    const char* path;
    const char* value;
    const char* error;
  } wrong[] = {
      {"logistic.alhpa", "1", "no field \"alhpa\" in adrank.v1.LogisticConfig"},
      {"logistic.alpha.x", "1", "\"alpha\" has no fields"},
      {"logistic[0].alpha", "1", "\"logistic\" is no list"},
      {"embedding.graph.streams.emit", "true", "\"streams\" is a list"},
      {"embedding.graph.streams[1].emit", "true",
       "\"streams\" has 1 elements, no [1]"},
      {"embedding.graph.streams[x].emit", "true", "is not \"name[number]\""},
      {"embedding.graph.streams[0]", "{}", "set the whole list"},
      {"", "1", "no field \"\""},
      {"logistic.alpha", "fast", "\"fast\" is no value of logistic.alpha"},
      {"logistic.alpha", "", "\"\" is no value of logistic.alpha"},
      {"logistic.alpha", "1 l1: 2", "is no value of logistic.alpha"},
      {"logistic.passes", "1.5", "is no value of logistic.passes"},
      {"embedding.table.kind", "SGD", "is no value of embedding.table.kind"},
  };
  for (const auto& [path, value, error] : wrong) {
    v1::TrainerConfig config = Parsed("embedding { graph { streams {} } }");
    EXPECT_THAT(SetByPath(path, value, &config),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)))
        << path;
  }
}

v1::TrainerConfig Searching(const std::string& search) {
  v1::TrainerConfig config = AConfig("log", "models");
  config.MergeFrom(Parsed("search { " + search + " }"));
  return config;
}

std::vector<std::vector<std::string>> Values(const std::string& search) {
  const auto plans = PlanTrials(Searching(search));
  EXPECT_OK(plans);
  std::vector<std::vector<std::string>> values;
  if (!plans.ok()) return values;
  for (const TrialPlan& plan : *plans) values.push_back(plan.values);
  return values;
}

TEST(PlanTrials, AGridIsEveryCombination) {
  EXPECT_THAT(
      Values("parameters { path: 'logistic.l1' values: ['0', '2'] } "
             "parameters { path: 'logistic.alpha' low: 0.01 high: 1 log: true "
             "}"),
      ElementsAre(ElementsAre("0", "0.01"), ElementsAre("0", "0.1"),
                  ElementsAre("0", "1"), ElementsAre("2", "0.01"),
                  ElementsAre("2", "0.1"), ElementsAre("2", "1")));
  // Whole numbers, each once.
  EXPECT_THAT(
      Values("parameters { path: 'logistic.passes' low: 1 high: 3 steps: 7 }"),
      ElementsAre(ElementsAre("1"), ElementsAre("2"), ElementsAre("3")));
}

TEST(PlanTrials, RandomDrawsStayInTheirRangeAndFollowTheSeed) {
  const std::string search =
      "kind: RANDOM trials: 200 "
      "parameters { path: 'logistic.alpha' low: 0.001 high: 1 log: true } "
      "parameters { path: 'logistic.l1' values: ['0', '1', '5'] } ";
  const auto values = Values(search);
  ASSERT_EQ(values.size(), 200);
  int low = 0;
  std::set<std::string> l1;
  for (const auto& v : values) {
    double alpha = 0;
    ASSERT_TRUE(absl::SimpleAtod(v[0], &alpha));
    EXPECT_GE(alpha, 0.001);
    EXPECT_LE(alpha, 1);
    low += alpha < 0.0316 ? 1 : 0;
    l1.insert(v[1]);
  }
  EXPECT_GT(low, 70);  // half, on a logarithmic scale
  EXPECT_LT(low, 130);
  EXPECT_EQ(l1.size(), 3);
  EXPECT_EQ(Values(search), values);
  EXPECT_NE(Values(search + "seed: 2"), values);
}

// A default that depends on a parameter is that of the trial.
TEST(PlanTrials, DefaultsAreFilledInAfterTheValues) {
  v1::TrainerConfig config = Searching(
      "parameters { path: 'embedding.table.kind' values: ['ADAGRAD', 'ADAM'] "
      "}");
  config.mutable_embedding()->mutable_graph()->set_linear(true);
  ASSERT_OK_AND_ASSIGN(const auto plans, PlanTrials(config));
  ASSERT_EQ(plans.size(), 2);
  EXPECT_EQ(plans[0].config.embedding().table().learning_rate(), 0.05);
  EXPECT_EQ(plans[1].config.embedding().table().learning_rate(), 0.001);
  EXPECT_FALSE(plans[0].config.has_search());
}

TEST(PlanTrials, RefusesWhatItCannotSearch) {
  const auto error = [](const std::string& search) {
    return std::string(PlanTrials(Searching(search)).status().message());
  };
  const auto path = [&](const std::string& path) {
    return error("parameters { path: '" + path + "' values: '1' }");
  };
  EXPECT_THAT(error(""), HasSubstr("search.parameters: there are none"));
  for (const char* packs :
       {"logistic.min_count", "logistic.oov_rate", "data.attribution_window_s",
        "feature_spec.fields[0].name", "vocabulary.filter_bytes", "seed"}) {
    EXPECT_EQ(path(packs), std::string("search.parameters[0].path: ") + packs +
                               " decides what is packed, and a search packs "
                               "once");
  }
  EXPECT_THAT(path("embedding.table.l2"),
              HasSubstr("the configuration trains the logistic family"));
  EXPECT_THAT(path("gate.max_ne"),
              HasSubstr("gate.max_ne does not change what is learnt"));
  EXPECT_THAT(path("logistic"), HasSubstr("is a section"));
  EXPECT_THAT(path("logistic.alhpa"),
              HasSubstr("search.parameters[0].path: \"logistic.alhpa\": no "
                        "field \"alhpa\""));
  EXPECT_THAT(error("parameters { path: 'logistic.shuffle' low: 1 high: 2 }"),
              HasSubstr("logistic.shuffle is not a number"));
  EXPECT_THAT(error("parameters { path: 'logistic.l1' low: 2 high: 2 }"),
              HasSubstr("needs values, or low < high"));
  EXPECT_THAT(
      error("parameters { path: 'logistic.l1' low: 0 high: 2 log: true }"),
      HasSubstr("search.parameters[0].low: 0 has no logarithm"));
  EXPECT_THAT(
      error("parameters { path: 'logistic.alpha' values: ['1', '-1'] }"),
      HasSubstr("search: trial 2: logistic.alpha: -1"));
  EXPECT_THAT(error("parameters { path: 'logistic.alpha' values: 'x' }"),
              HasSubstr("search.parameters[0]: \"x\" is no value"));
  EXPECT_THAT(
      error("reduction: 1 parameters { path: 'logistic.l1' values: '1' }"),
      HasSubstr("search.reduction: 1 is not in [2, 100]"));
  EXPECT_THAT(
      error("parameters { path: 'logistic.l1' low: 1 high: 2 steps: 200 } "
            "parameters { path: 'logistic.l2' low: 1 high: 2 steps: 200 }"),
      HasSubstr("the grid has more than 10000 trials"));
  v1::TrainerConfig warm =
      Searching("parameters { path: 'logistic.l1' values: '1' }");
  warm.set_warm_start(true);
  EXPECT_THAT(ResolveConfig(warm).status().message(),
              HasSubstr("not with warm_start"));
}

TEST(SuccessiveHalving, SplitsBlocksAndTrials) {
  v1::SearchConfig search;
  search.set_rungs(3);
  search.set_reduction(3);
  EXPECT_EQ(RungBlocks(90, 0, search), 10);
  EXPECT_EQ(RungBlocks(90, 1, search), 30);
  EXPECT_EQ(RungBlocks(90, 2, search), 90);
  EXPECT_EQ(RungBlocks(10, 0, search), 2);
  EXPECT_EQ(RungBlocks(1, 0, search), 1);
  EXPECT_EQ(Survivors(27, search), 9);
  EXPECT_EQ(Survivors(8, search), 2);
  EXPECT_EQ(Survivors(2, search), 1);
  search.set_rungs(1);
  EXPECT_EQ(RungBlocks(90, 0, search), 90);
}

class SearchTest : public ::testing::Test {
 protected:
  SearchTest() : config_(AConfig(dir_ / "log", dir_ / "models")) {}
  void SetUp() override {
    ALog log;
    log.decisions = 1000;
    ASSERT_OK(log.Write(dir_ / "log"));
  }
  v1::SearchReport Searched() {
    StepProgress progress(Clock::Real(), false, -1);
    auto report = RunSearch(config_, &progress);
    EXPECT_OK(report);
    return report.ok() ? *std::move(report) : v1::SearchReport();
  }
  std::string InFolder(const char* name) {
    const auto text = files::Read(dir_ / "models/ctr/" + name);
    EXPECT_OK(text);
    return text.ok() ? *text : "";
  }
  TempDir dir_;
  v1::TrainerConfig config_;
};

TEST_F(SearchTest, FindsThePlantedBetterValueAndWritesItDown) {
  config_.MergeFrom(
      Parsed("search { metric: LOGLOSS parameters { path: 'logistic.alpha' "
             "values: ['0.0001', '0.1', '50'] } parameters { path: "
             "'logistic.l1' values: ['0', '1000'] } }"));
  const v1::SearchReport report = Searched();
  ASSERT_EQ(report.trials_size(), 6);
  const v1::SearchTrial& best = report.trials(0);
  EXPECT_THAT(best.values(), ElementsAre("0.1", "0"));
  EXPECT_EQ(best.trial(), 3);
  EXPECT_EQ(best.verdict(), "best");
  EXPECT_EQ(best.passes(), 2);
  EXPECT_GT(best.auc(), 0.6);
  for (int i = 1; i < 6; ++i) {
    EXPECT_GE(report.trials(i).logloss(), report.trials(i - 1).logloss());
    EXPECT_EQ(report.trials(i).verdict(), "finished");
  }
  const v1::TrainerConfig found = Parsed(InFolder(kBestConfigFile));
  v1::TrainerConfig expected = config_;
  expected.clear_search();
  expected.mutable_logistic()->set_alpha(0.1);
  expected.mutable_logistic()->set_l1(0);
  EXPECT_EQ(PrintTextProto(found), PrintTextProto(expected));
  EXPECT_OK(ResolveConfig(found));
  const std::vector<std::string> lines =
      absl::StrSplit(InFolder(kSearchTableFile), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 7);
  EXPECT_EQ(lines[0],
            "trial\tlogistic.alpha\tlogistic.l1\trung\tpasses\tauc\tlogloss\tne"
            "\tseconds\tverdict");
  EXPECT_THAT(lines[1], ::testing::StartsWith("3\t0.1\t0\t1\t2\t0."));
  EXPECT_THAT(InFolder(kSearchReportFile), HasSubstr("\"verdict\": \"best\""));
  // Nothing is published, nothing else is left.
  EXPECT_THAT(
      *files::List(dir_ / "models/ctr"),
      ElementsAre(kBestConfigFile, kSearchReportFile, kSearchTableFile));
}

// One block a pass, 9 passes: rungs of 1, 3 and 9.
TEST_F(SearchTest, HalvingStopsTheWorstAndGivesTheSameTableForAnyThreads) {
  config_.MergeFrom(Parsed(
      "embedding { graph { dim: 4 linear: true streams { layers { units: 4 "
      "dropout: 0.1 } } } passes: 9 shuffle: true batch_size: 64 } "
      "search { kind: RANDOM trials: 9 rungs: 3 parameters { path: "
      "'embedding.table.learning_rate' low: 1e-5 high: 1 log: true } "
      "parameters { path: 'embedding.graph.streams[0].layers[0].units' low: 2 "
      "high: 9 } }"));
  v1::SearchReport first;
  for (const uint32_t threads : {1, 2, 3}) {
    config_.set_threads(threads);
    v1::SearchReport report = Searched();
    ASSERT_EQ(report.trials_size(), 9);
    for (v1::SearchTrial& trial : *report.mutable_trials()) {
      trial.clear_seconds();
    }
    if (threads == 1) first = report;
    EXPECT_EQ(report.SerializeAsString(), first.SerializeAsString());
  }
  for (int i = 0; i < 9; ++i) {
    const v1::SearchTrial& trial = first.trials(i);
    EXPECT_EQ(trial.rung(), i < 1 ? 3 : i < 3 ? 2 : 1);
    EXPECT_EQ(trial.passes(), i < 1 ? 9 : i < 3 ? 3 : 1);
    EXPECT_EQ(trial.verdict(), i < 1 ? "best" : "stopped");
  }
  // The one that went on, rung by rung, is where it is when it learns alone.
  config_.clear_search();
  config_.MergeFrom(
      Parsed("search { parameters { path: 'embedding.table.learning_rate' "
             "values: '" +
             first.trials(0).values(0) +
             "' } parameters { path: "
             "'embedding.graph.streams[0].layers[0].units' values: '" +
             first.trials(0).values(1) + "' } }"));
  const v1::SearchReport alone = Searched();
  ASSERT_EQ(alone.trials_size(), 1);
  EXPECT_EQ(alone.trials(0).logloss(), first.trials(0).logloss());
  EXPECT_EQ(alone.trials(0).auc(), first.trials(0).auc());
}

TEST_F(SearchTest, ALogWithoutExamplesHasNothingToSearch) {
  config_.MergeFrom(
      Parsed("data { train_begin: '2030-01-01' } search { "
             "parameters { path: 'logistic.l1' values: '1' } }"));
  const v1::SearchReport report = Searched();
  EXPECT_TRUE(report.trials().empty());
  EXPECT_EQ(report.reasons_size(), 1);
}

}  // namespace
}  // namespace adrank
