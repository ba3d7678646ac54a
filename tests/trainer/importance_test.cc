#include "trainer/importance.h"

#include <map>

#include "base/files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/feature_names.h"
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The log says the same of every ad's brand and, in `constant`, of a context
// attribute.
v1::TrainingReport Train(const TempDir& dir, uint32_t threads,
                         int32_t rows = 0) {
  ALog log;
  log.decisions = 4000;
  log.edit = [](v1::Decision* decision, const std::vector<v1::AdSnapshot>&) {
    auto* a = decision->mutable_context()->add_attributes();
    a->set_name("constant");
    a->add_text("same");
  };
  EXPECT_OK(log.Write(dir.path() + "/data"));
  v1::TrainerConfig config = AConfig(
      dir.path() + "/data", dir.path() + "/models" + std::to_string(threads));
  config.set_threads(threads);
  config.mutable_feature_spec()->add_fields()->set_name("constant");
  config.mutable_evaluation()->set_importance_rows(rows);
  auto resolved = ResolveConfig(config);
  EXPECT_OK(resolved);
  StepProgress progress(Clock::Real(), false, -1);
  auto report = RunTraining(*resolved, &progress);
  EXPECT_OK(report);
  return *report;
}

const v1::FeatureImportance& Of(const v1::TrainingReport& report,
                                const std::string& source) {
  for (const auto& i : report.importance()) {
    if (i.source() == source) return i;
  }
  ADD_FAILURE() << source << " is not there";
  return report.importance(0);
}

TEST(Importance, WhatWasPlantedComesFirstAndAConstantCostsNothing) {
  TempDir dir;
  const v1::TrainingReport report = Train(dir, 2);
  ASSERT_EQ(report.importance_size(), 7);
  const auto& ad = Of(report, "ad.id");
  EXPECT_GT(ad.ne_increase(), 4 * ad.ne_error());
  const auto& device = Of(report, "context.device");
  EXPECT_GT(device.ne_increase(), 4 * device.ne_error());
  EXPECT_GT(device.auc_decrease(), 0.01);
  EXPECT_THAT(device.fields(), ElementsAre("device"));
  const auto& constant = Of(report, "context.constant");
  EXPECT_EQ(constant.ne_increase(), 0);
  EXPECT_EQ(constant.auc_decrease(), 0);
  // Users click alike: what was learnt of them is noise.
  EXPECT_LT(Of(report, "user_id").ne_increase(), device.ne_increase());
  for (int i = 1; i < report.importance_size(); ++i) {
    EXPECT_LE(report.importance(i).ne_increase(),
              report.importance(i - 1).ne_increase());
  }
  EXPECT_THAT(ReportText(report, absl::UTCTimeZone()),
              HasSubstr("context.device"));
}

TEST(FeatureNames, TheBundleNamesWhatTheSampleHas) {
  TempDir dir;
  Train(dir, 2);
  const ModelStore store(dir.path() + "/models2", "ctr");
  const std::string version = store.VersionDir(*store.Published());
  const auto bundle = ModelBundle::Load(version);
  ASSERT_OK(bundle);
  const auto bytes = files::Read(files::Join(version, kFeatureNamesFile));
  ASSERT_OK(bytes);
  const auto names = ParseFeatureNames(*bytes);
  ASSERT_OK(names);
  std::map<std::string, uint64_t> rows;
  for (const FeatureName& name : *names) {
    EXPECT_NE((*bundle)->vocabulary().Row(0xffff, name.id), kNoRow);
    rows[name.text] = name.rows;
  }
  // Everyone has it; each row has one of four devices.
  EXPECT_EQ(rows["constant=same"], 3200);
  EXPECT_EQ(rows["device=d0"] + rows["device=d1"] + rows["device=d2"] +
                rows["device=d3"],
            3200);
  EXPECT_EQ(rows.count("ad=ad0"), 1);
  EXPECT_EQ(names->front().text, "constant=same");
}

TEST(Importance, DoesNotDependOnTheNumberOfThreads) {
  TempDir dir, other;
  const v1::TrainingReport one = Train(dir, 1, 500),
                           three = Train(other, 3, 500);
  ASSERT_EQ(one.importance_size(), three.importance_size());
  EXPECT_EQ(one.importance_rows(), 500);
  for (int i = 0; i < one.importance_size(); ++i) {
    EXPECT_EQ(one.importance(i).SerializeAsString(),
              three.importance(i).SerializeAsString());
  }
}

TEST(Importance, NegativeIsOff) {
  TempDir dir;
  const v1::TrainingReport report = Train(dir, 2, -1);
  EXPECT_EQ(report.importance_size(), 0);
  EXPECT_EQ(report.importance_rows(), 0);
}

}  // namespace
}  // namespace adrank
