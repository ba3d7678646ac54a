// The embedding family from the log to the bundle.
#include <filesystem>
#include <map>
#include <string>

#include "base/files.h"
#include "base/textproto.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/trainer/a_log.h"
#include "trainer/config.h"
#include "trainer/report.h"
#include "trainer/training_run.h"

namespace adrank {
namespace {

using ::adrank::testing::AConfig;
using ::adrank::testing::ALog;
using ::adrank::testing::TempDir;
using ::testing::Contains;
using ::testing::HasSubstr;
using Report = v1::TrainingReport;

constexpr char kDense[] = "layers { units: 16 batch_norm: true dropout: 0.1 }";

// Steps large enough for 6,000 examples.
constexpr char kTable[] =
    "table { kind: ADAM_LAZY learning_rate: 0.01 } "
    "dense { learning_rate: 0.005 } batch_size: 128 passes: 3 shuffle: true "
    "min_count: 2";

absl::StatusOr<Report> Train(const v1::TrainerConfig& config) {
  ASSIGN_OR_RETURN(const v1::TrainerConfig resolved, ResolveConfig(config));
  StepProgress progress(Clock::Real(), false, -1);
  return RunTraining(resolved, &progress);
}

std::map<std::string, std::string> VersionFiles(
    const v1::TrainerConfig& config) {
  const ModelStore store(config.model_dir(), "ctr");
  std::map<std::string, std::string> found;
  for (const auto& e : std::filesystem::directory_iterator(
           store.VersionDir(*store.Published()))) {
    found[e.path().filename().string()] = *files::Read(e.path().string());
  }
  return found;
}

class EmbeddingRunTest : public ::testing::Test {
 protected:
  v1::TrainerConfig Config(const std::string& embedding) {
    v1::TrainerConfig config =
        AConfig(dir_ / "log", dir_ / absl::StrCat("models", ++models_));
    EXPECT_OK(
        ParseTextProto(embedding, "embedding", config.mutable_embedding()));
    return config;
  }
  std::shared_ptr<const ModelBundle> Live(const v1::TrainerConfig& config) {
    const ModelStore store(config.model_dir(), "ctr");
    auto bundle = ModelBundle::Load(store.VersionDir(*store.Published()));
    EXPECT_OK(bundle);
    return *bundle;
  }
  TempDir dir_;
  int models_ = 0;
};

TEST_F(EmbeddingRunTest, EveryKnownModelIsAConfigurationThatIsPublished) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  const std::string dense = kDense, table = kTable;
  const std::map<std::string, std::string> models = {
      {"FM in one pass",
       "graph { dim: 8 linear: true pairwise: FM } table { kind: ADAGRAD "
       "linear_ftrl { alpha: 0.1 } } passes: 3"},
      {"FM", "graph { dim: 4 linear: true pairwise: FM } " + table},
      {"FwFM", "graph { dim: 4 linear: true pairwise: FWFM } " + table},
      {"DeepFM", "graph { dim: 4 linear: true pairwise: FM streams { " + dense +
                     " } } " + table},
      {"Wide&Deep",
       "graph { dim: 4 linear: true streams { " + dense + " } } " + table},
      {"IPNN",
       "graph { dim: 4 streams { emit: true " + dense + " } } " + table},
      {"DCNv2",
       "graph { dim: 4 streams { layers { kind: CROSS } layers { "
       "kind: CROSS rank: 3 } " +
           dense + " } } " + table},
      {"triangular",
       "graph { dim: 4 streams { layers { kind: "
       "CROSS_TRIANGULAR } " +
           dense + " } } " + table},
      {"FinalMLP",
       "graph { dim: 4 streams { gate { kind: FIELDS fields: \"user\" hidden: "
       "8 } " +
           dense + " } streams { gate { kind: CONSTANT } " + dense +
           " } fusion { heads: 4 } } " + table},
      {"FINAL",
       "graph { dim: 4 combine: MEAN streams { gate { kind: FIELD } layers { "
       "kind: FINT units: 16 batch_norm: true } } streams { layers { kind: "
       "FINT units: 16 batch_norm: true } } } self_distillation: true " +
           table},
  };
  for (const auto& [name, embedding] : models) {
    SCOPED_TRACE(name);
    const v1::TrainerConfig config = Config(embedding);
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
    EXPECT_GT(report.candidate().auc(), 0.62);
    const auto bundle = Live(config);  // replays the golden examples
    EXPECT_EQ(bundle->manifest().family(), "embedding");
    EXPECT_NE(bundle->embedding(), nullptr);
  }
}

TEST_F(EmbeddingRunTest, ThreadsDoNotChangeAByteOfTheBundle) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  for (const char* kind : {"ADAGRAD_ROW", "ADAM", "ADAM_LAZY"}) {
    std::map<std::string, std::string> first;
    for (const uint32_t threads : {1, 3}) {
      v1::TrainerConfig config = Config(absl::StrCat(
          "graph { dim: 6 linear: true pairwise: FWFM streams { ", kDense, " ",
          kDense, " } } table { kind: ", kind,
          " linear_ftrl { alpha: 0.1 } } average_decay: 0.9 batch_size: 300 "
          "passes: 2 shuffle: true out_of_vocabulary: OOV_ROW"));
      config.set_threads(threads);
      ASSERT_OK(Train(config));
      if (threads == 1) {
        first = VersionFiles(config);
      } else {
        EXPECT_EQ(VersionFiles(config), first) << kind;
      }
    }
  }
}

TEST_F(EmbeddingRunTest, ASecondNightContinuesRowsAndOptimizer) {
  for (const std::string embedding :
       {absl::StrCat("graph { dim: 4 linear: true streams { ", kDense, " } } ",
                     kTable, " average_decay: 0.9"),
        std::string("graph { dim: 8 linear: true pairwise: FM } table { kind: "
                    "ADAGRAD linear_ftrl { alpha: 0.1 } }")}) {
    std::filesystem::remove_all(dir_ / "log");
    ASSERT_OK(ALog().Write(dir_ / "log"));
    v1::TrainerConfig config = Config(embedding);
    ASSERT_OK_AND_ASSIGN(const Report first, Train(config));
    ASSERT_EQ(first.verdict(), Report::PUBLISHED) << first.DebugString();
    ALog more;
    more.begin_ms += 2 * testing::kDayMs;
    more.first_ad = 20;  // half of the ads are new
    more.seed = 8;
    ASSERT_OK(more.Write(dir_ / "log"));
    config.set_warm_start(true);
    config.mutable_data()->set_train_begin(absl::StrCat(more.begin_ms));
    ASSERT_OK_AND_ASSIGN(const Report second, Train(config));
    EXPECT_EQ(second.parent_version(), 1) << second.DebugString();
    EXPECT_GT(second.vocabulary_rows(), first.vocabulary_rows());
    EXPECT_GT(second.candidate().auc(), second.incumbent().auc());
  }
}

TEST_F(EmbeddingRunTest, AnotherFamilyOrGraphStartsColdWithANote) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  v1::TrainerConfig config = Config("");
  config.clear_embedding();
  ASSERT_OK(Train(config));
  config.set_warm_start(true);
  config.mutable_gate()->set_max_ne_increase(1);
  for (const int dim : {4, 6}) {
    ASSERT_OK(
        ParseTextProto(absl::StrCat("graph { dim: ", dim,
                                    " linear: true pairwise: FWFM } ", kTable),
                       "embedding", config.mutable_embedding()));
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    EXPECT_EQ(report.parent_version(), 0);
    EXPECT_THAT(report.notes(), Contains(HasSubstr("cold start")));
    config.clear_embedding();
  }
}

TEST_F(EmbeddingRunTest, StoredSmallerItSaysWhatThatCosts) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  const std::string graph =
      "graph { dim: 16 linear: true pairwise: FM } table { kind: ADAGRAD "
      "learning_rate: 0.1 linear_ftrl { alpha: 0.1 } } passes: 2 ";
  uint64_t larger = 0;
  for (const auto& [storage, bound] :
       {std::pair("STORE_FP32", 0.0), std::pair("STORE_BF16", 0.05),
        std::pair("STORE_INT8", 0.05)}) {
    const v1::TrainerConfig config =
        Config(absl::StrCat(graph, "storage: ", storage));
    ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
    ASSERT_EQ(report.verdict(), Report::PUBLISHED) << report.DebugString();
    EXPECT_EQ(report.has_storage_loss(), bound > 0);
    const uint64_t size = VersionFiles(config)["weights.bin"].size();
    if (bound > 0) {
      EXPECT_EQ(report.storage_loss().examples(),
                report.candidate().examples());
      EXPECT_GT(report.storage_loss().max_logit_change(), 0);
      EXPECT_LT(report.storage_loss().max_logit_change(), bound);
      EXPECT_LT(std::abs(report.storage_loss().delta_logloss()), 1e-3);
      EXPECT_LT(size, larger);
    }
    larger = size;
  }
}

TEST_F(EmbeddingRunTest, EarlyStoppingPublishesTheBestPass) {
  ASSERT_OK(ALog().Write(dir_ / "log"));
  const v1::TrainerConfig config = Config(
      absl::StrCat("graph { dim: 16 linear: true streams { layers { units: 64 "
                   "} } } table { kind: ADAM learning_rate: 0.02 } batch_size: "
                   "64 passes: 20 shuffle: true min_count: 1 early_stopping { "
                   "patience: 2 metric: LOGLOSS }"));
  ASSERT_OK_AND_ASSIGN(const Report report, Train(config));
  ASSERT_GT(report.validation_size(), 2);
  EXPECT_LT(report.validation_size(), 20);
  EXPECT_EQ(report.best_pass() + 2,
            static_cast<uint32_t>(report.validation_size()));
  for (const v1::Metrics& m : report.validation()) {
    EXPECT_GE(
        m.logloss(),
        report.validation(static_cast<int>(report.best_pass()) - 1).logloss());
  }
  EXPECT_THAT(ReportText(report, absl::UTCTimeZone()), HasSubstr("(kept)"));
}

TEST_F(EmbeddingRunTest, AWrongGraphIsAConfigErrorThatNamesThePart) {
  const auto resolve = [&](const std::string& embedding) {
    return ResolveConfig(Config(embedding)).status();
  };
  EXPECT_THAT(resolve("graph {}").message(), HasSubstr("no part is on"));
  EXPECT_THAT(
      resolve("graph { streams { layers { kind: FINT units: 7 } } }").message(),
      HasSubstr("streams[0].layers[0].units: 7 is odd"));
  EXPECT_THAT(resolve("graph { linear: true } early_stopping { patience: 1 } "
                      "average_decay: 1")
                  .message(),
              HasSubstr("embedding.average_decay: 1"));
  EXPECT_THAT(resolve("graph { linear: true } table { kind: FTRL }").message(),
              HasSubstr("embedding.table.kind"));
}

}  // namespace
}  // namespace adrank
