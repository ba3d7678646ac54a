// A simulated market has a known effect of the position: the learnt position
// term is that effect, and a server, which knows no position, is free of it.
#include <cmath>
#include <string>
#include <vector>

#include "base/textproto.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
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

constexpr double kEffect = -0.6;
constexpr uint32_t kSlots = 3;

// Sums over the ads that the log shows at one position.
struct AtPosition {
  double n = 0;
  double truth = 0;   // click rate, were it shown first
  double served = 0;  // pctr that a server would give it
};

class PositionBiasTest : public ::testing::Test {
 protected:
  void SetUp() override {
    v1::MarketConfig config;
    ASSERT_OK(
        ParseTextProto("seed: 5 users: 2000 decisions_per_day: 30000 "
                       "base_ctr: 0.2 pair_effect_std: -1 "
                       "drift_per_day: -1 new_ad_share: -1",
                       "market", &config));
    config.set_position_effect(kEffect);
    config.set_slots(kSlots);
    ASSERT_OK_AND_ASSIGN(market_, Market::Create(config));
    GenerateOptions options;
    options.data_dir = dir_ / "data";
    options.days = 2;
    ASSERT_OK(Generate(*market_, options, [](const auto&, uint64_t) {}));
  }

  // Learns with or without the position.
  std::shared_ptr<const ModelBundle> Train(bool position) {
    v1::TrainerConfig config;
    EXPECT_OK(ReadTextProtoInto(
        "deploy/examples/simulated_market.trainer.textproto", &config));
    config.set_data_dir(dir_ / "data");
    config.set_model_dir(dir_ / (position ? "with" : "without"));
    auto* fields = config.mutable_feature_spec()->mutable_fields();
    EXPECT_EQ(fields->rbegin()->source(), "position");
    if (!position) fields->RemoveLast();
    auto resolved = ResolveConfig(config);
    EXPECT_OK(resolved);
    StepProgress progress(Clock::Real(), false, -1);
    auto report = RunTraining(*resolved, &progress);
    EXPECT_OK(report);
    EXPECT_EQ(report->verdict(), v1::TrainingReport::PUBLISHED)
        << report->DebugString();
    auto bundle =
        ModelBundle::Load(ModelStore(config.model_dir(), "ctr").VersionDir(1));
    EXPECT_OK(bundle);
    return *bundle;
  }

  // [position - 1]
  std::vector<AtPosition> Compare(const ModelBundle& bundle) {
    std::vector<AtPosition> sums(kSlots);
    auto reader = EventLogReader::Open(dir_ / "data");
    EXPECT_OK(reader);
    DayEffects effects;
    effects.day = -1;
    for (auto cursor = (*reader)->Join(0, int64_t{1} << 47); cursor->Valid();
         cursor->Next()) {
      v1::Decision decision;
      EXPECT_TRUE(cursor->record().Parse(&decision));
      const auto visit =
          market_->ParseVisit(decision.context(), decision.placement_ids(0));
      EXPECT_OK(visit);
      if (effects.day != visit->day) {
        effects = market_->click_model().EffectsOfDay(visit->day);
      }
      Add(bundle, reader->get(), decision, *visit, effects, &sums);
    }
    return sums;
  }

  void Add(const ModelBundle& bundle, EventLogReader* reader,
           const v1::Decision& decision, const Visit& visit,
           const DayEffects& effects, std::vector<AtPosition>* sums) {
    std::vector<v1::AdSnapshot> snapshots;
    for (const v1::ServedAd& ad : decision.ads()) {
      snapshots.push_back(*reader->GetSnapshot(ad.ad_hash()));
    }
    std::vector<const v1::AdSnapshot*> ads;
    for (const v1::AdSnapshot& ad : snapshots) ads.push_back(&ad);
    bundle.extractor().Extract(decision.context(), decision.placement_ids(0),
                               ads, {}, &features_);
    std::vector<float> logits(ads.size()), pctrs(ads.size());
    bundle.Predict(features_, &scratch_, absl::MakeSpan(logits),
                   absl::MakeSpan(pctrs));
    for (size_t i = 0; i < ads.size(); ++i) {
      AtPosition& at =
          (*sums)[decision.ads(static_cast<int>(i)).position_in_placement() -
                  1];
      at.n += 1;
      at.served += pctrs[i];
      at.truth += market_->click_model().Ctr(
          effects, visit, *market_->FindAd(ads[i]->ad_id()), 1);
    }
  }

  TempDir dir_;
  std::unique_ptr<const Market> market_;
  RequestFeatures features_;
  PredictScratch scratch_;
};

TEST_F(PositionBiasTest, TheLearntTermIsThePlantedEffect) {
  const auto bundle = Train(true);
  // Before calibration; the difference is the same for every ad and context.
  v1::AdSnapshot ad;
  const v1::AdSnapshot* ads[] = {&ad, &ad, &ad};
  bundle->extractor().Extract({}, "top", ads, {1, 2, 3}, &features_);
  std::vector<float> logits(3), pctrs(3);
  bundle->Predict(features_, &scratch_, absl::MakeSpan(logits),
                  absl::MakeSpan(pctrs));
  const double slope = bundle->manifest().calibrator().platt().slope();
  EXPECT_NEAR(slope * (logits[1] - logits[0]), kEffect, 0.04);
  EXPECT_NEAR(slope * (logits[2] - logits[0]), 2 * kEffect, 0.06);

  // Served, every ad is at position 1, wherever it will land.
  bundle->extractor().Extract({}, "top", ads, {}, &features_);
  std::vector<float> served(3);
  bundle->Predict(features_, &scratch_, absl::MakeSpan(served),
                  absl::MakeSpan(pctrs));
  for (const float logit : served) EXPECT_EQ(logit, logits[0]);
}

TEST_F(PositionBiasTest, ServedPctrsAreThoseOfTheFirstPositionWhereverLogged) {
  const std::vector<AtPosition> with = Compare(*Train(true));
  const std::vector<AtPosition> without = Compare(*Train(false));
  for (uint32_t p = 0; p < kSlots; ++p) {
    ASSERT_GT(with[p].n, 10000);
    EXPECT_NEAR(with[p].served / with[p].truth, 1, 0.02) << p + 1;
    // Without the term every ad is priced as at an average position.
    EXPECT_LT(without[p].served / without[p].truth, 0.85) << p + 1;
  }
}

}  // namespace
}  // namespace adrank
