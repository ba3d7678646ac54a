#include "server/predict/predictor.h"

#include <cmath>
#include <thread>

#include "gtest/gtest.h"
#include "tests/server/serving_testing.h"

namespace adrank {
namespace {

using ::adrank::testing::ABundle;
using ::adrank::testing::ABundleThatOverflows;
using ::adrank::testing::ACatalogOf;
using ::adrank::testing::AddText;
using ::adrank::testing::AnAd;
using ::adrank::testing::AnIndex;

v1::Context ContextIn(const std::string& city) {
  v1::Context context;
  AddText(context.mutable_attributes(), "city", city);
  return context;
}

void RunToEnd(Prediction* prediction) {
  while (prediction->Step()) {
  }
}

// Every third item is given as a snapshot, the others come from the index.
struct Items {
  std::vector<v1::AdSnapshot> given;
  std::vector<PredictItem> items;
  std::vector<const v1::AdSnapshot*> snapshots;

  Items(const AdIndex& index, size_t n) {
    given.reserve(n);
    for (size_t i = 0; i < n; ++i) {
      if (i % 3 == 0) {
        given.push_back(AnAd(absl::StrCat("x", i), i % 2 == 0 ? "b" : "zzz"));
        items.push_back({PredictItem::kNotIndexed, &given.back()});
      } else {
        const auto ad = static_cast<uint32_t>((i * 7) % index.size());
        given.push_back(index.Snapshot(ad));
        items.push_back({ad, nullptr});
      }
      snapshots.push_back(&given.back());
    }
  }
};

TEST(Prediction, EqualsTheBundlesOwnAnswerBitForBit) {
  const auto serving =
      ServingSnapshot::Of(ABundle(), AnIndex(ACatalogOf(90, 9, 100, 1)));
  const v1::Context context = ContextIn("Berlin");
  Prediction prediction;  // reused: sizes go up and down
  for (const size_t n : {200, 1, 0, 63, 64, 65, 128, 129}) {
    const Items items(*serving.index, n);
    prediction.Begin(serving, 0.01, context, {"top"}, items.items);
    RunToEnd(&prediction);
    ASSERT_EQ(prediction.ready(), n);
    RequestFeatures features;
    serving.bundle->extractor().Extract(context, "top", items.snapshots, {},
                                        &features);
    std::vector<float> logits(n), pctrs(n);
    PredictScratch scratch;
    if (n > 0) {
      serving.bundle->Predict(features, &scratch, absl::MakeSpan(logits),
                              absl::MakeSpan(pctrs));
    }
    for (size_t i = 0; i < n; ++i) {
      ASSERT_EQ(prediction.logits(0)[i], logits[i]) << i << " of " << n;
      ASSERT_EQ(prediction.pctrs(0)[i], pctrs[i]) << i << " of " << n;
      ASSERT_EQ(prediction.Fingerprint(0, i),
                FeatureExtractor::Fingerprint(features, i));
    }
  }
}

TEST(Prediction, StepsAreChunksAndReadyTellsHowFar) {
  const auto serving =
      ServingSnapshot::Of(ABundle(), AnIndex(ACatalogOf(90, 9, 100, 1)));
  const Items items(*serving.index, Prediction::kChunk + 1);
  const v1::Context context;
  Prediction prediction;
  prediction.Begin(serving, 0.01, context, {"top"}, items.items);
  EXPECT_EQ(prediction.ready(), 0u);
  EXPECT_TRUE(prediction.Step());
  EXPECT_EQ(prediction.ready(), Prediction::kChunk);
  EXPECT_EQ(prediction.pctrs(0).size(), Prediction::kChunk);
  EXPECT_FALSE(prediction.Step());
  EXPECT_EQ(prediction.ready(), Prediction::kChunk + 1);
  EXPECT_FALSE(prediction.Step());
}

TEST(Prediction, PlacementsShareScoresUnlessTheModelReadsThem) {
  const auto index = AnIndex(ACatalogOf(10, 2, 100, 1));
  const Items items(*index, 10);
  const v1::Context context = ContextIn("Berlin");
  Prediction prediction;
  const ServingSnapshot plain = ServingSnapshot::Of(ABundle(), index);
  prediction.Begin(plain, 0.01, context, {"top", "side"}, items.items);
  RunToEnd(&prediction);
  EXPECT_TRUE(prediction.SharesScores(0, 1));
  EXPECT_EQ(prediction.pctrs(0).data(), prediction.pctrs(1).data());

  const ServingSnapshot reads = ServingSnapshot::Of(ABundle(true), index);
  prediction.Begin(reads, 0.01, context, {"top", "side"}, items.items);
  RunToEnd(&prediction);
  EXPECT_FALSE(prediction.SharesScores(0, 1));
  for (size_t i = 0; i < 10; ++i) {
    // "side" is known (+2), "top" is not (its field's row, -0.7).
    EXPECT_NEAR(prediction.logits(1)[i] - prediction.logits(0)[i], 2.7, 1e-5);
    EXPECT_NE(prediction.Fingerprint(0, i), prediction.Fingerprint(1, i));
  }
}

TEST(Prediction, WithoutAModelAllGetThePrior) {
  const auto serving =
      ServingSnapshot::Of(nullptr, AnIndex(ACatalogOf(90, 9, 100, 1)));
  const Items items(*serving.index, 70);
  const v1::Context context;
  Prediction prediction;
  prediction.Begin(serving, 0.02, context, {"a", "b"}, items.items);
  RunToEnd(&prediction);
  EXPECT_FALSE(prediction.has_model());
  for (size_t i = 0; i < 70; ++i) {
    EXPECT_EQ(prediction.pctrs(1)[i], 0.02f);
    EXPECT_FLOAT_EQ(prediction.logits(1)[i], std::log(0.02f / 0.98f));
    EXPECT_EQ(prediction.Fingerprint(1, i), 0u);
  }
  EXPECT_EQ(prediction.non_finite(), 0u);
}

TEST(Prediction, ScoreThatIsNotFiniteBecomesThePriorAndIsCounted) {
  const auto serving = ServingSnapshot::Of(ABundleThatOverflows(),
                                           AnIndex(ACatalogOf(10, 2, 100, 1)));
  std::vector<PredictItem> items;
  for (uint32_t i = 0; i < 10; ++i) items.push_back({i, nullptr});
  const v1::Context context = ContextIn("Berlin");
  Prediction prediction;
  prediction.Begin(serving, 0.02, context, {"top"}, items);
  RunToEnd(&prediction);
  EXPECT_EQ(prediction.non_finite(), 5u);  // the ads of category a
  for (uint32_t i = 0; i < 10; ++i) {
    const bool is_a = serving.index->Snapshot(i).attributes(0).text(0) == "a";
    EXPECT_EQ(prediction.pctrs(0)[i] == 0.02f, is_a) << i;
    EXPECT_TRUE(std::isfinite(prediction.logits(0)[i]));
  }
}

TEST(ServingState, SnapshotIsAlwaysOfOnePair) {
  ServingState state;
  EXPECT_EQ(state.Current()->bundle, nullptr);
  EXPECT_EQ(state.Current()->index->size(), 0u);
  EXPECT_EQ(state.Current()->ad_features, nullptr);
  state.SetIndex(AnIndex(ACatalogOf(5, 1, 100, 1)));
  EXPECT_EQ(state.Current()->ad_features, nullptr);
  const auto bundle = ABundle();
  state.SetBundle(bundle);
  EXPECT_EQ(state.Current()->ad_features->size(), 5u);
  state.SetIndex(AnIndex(ACatalogOf(8, 1, 100, 1)));
  EXPECT_EQ(state.Current()->ad_features->size(), 8u);
  EXPECT_EQ(state.Current()->bundle, bundle);
  state.SetBundle(nullptr);
  EXPECT_EQ(state.Current()->ad_features, nullptr);
}

TEST(ServingState, ReadersSeeWholeSnapshotsWhileItChanges) {
  ServingState state;
  state.SetBundle(ABundle());
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread reader([&] {
    while (!stop) {
      const auto serving = state.Current();
      wrong += serving->ad_features->size() != serving->index->size();
    }
  });
  for (int i = 0; i < 200; ++i) {
    state.SetIndex(AnIndex(ACatalogOf(1 + i % 7, 1, 100, 1)));
  }
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace adrank
