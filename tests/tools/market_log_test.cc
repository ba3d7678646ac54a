#include "tools/market_log.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "storage/catalog_store.h"
#include "tests/testing/status_matchers.h"
#include "tools/block_pipeline.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;

v1::MarketConfig SmallConfig() {
  v1::MarketConfig config;
  config.set_seed(11);
  config.set_advertisers(12);
  config.set_users(3000);
  config.set_decisions_per_day(20000);
  return config;
}

const Market& SmallMarket() {
  static const Market* market = Market::Create(SmallConfig())->release();
  return *market;
}

// Every record as bytes, one a line.
std::vector<std::string> Records(const LogBatch& batch) {
  std::vector<std::string> records;
  for (const auto& d : batch.decisions) {
    records.push_back(d.id.ToHex() + d.decision.SerializeAsString());
  }
  for (const v1::Event& e : batch.events) {
    records.push_back(e.SerializeAsString());
  }
  return records;
}

TEST(MarketLog, RecordsDoNotDependOnTheBlocksTheyAreMadeIn) {
  const MarketLog log(&SmallMarket());
  const DayEffects effects = SmallMarket().click_model().EffectsOfDay(2);
  LogBatch whole;
  const MarketCounts counts = log.MakeBlock(effects, 0, 100, &whole);
  EXPECT_EQ(counts.decisions, 100);
  std::vector<std::string> parts;
  MarketCounts sum;
  LogBatch part;  // used again: what was in it must not shine through
  for (const auto& [first, n] : {std::pair(63, 37), {0, 60}, {60, 3}}) {
    sum.Add(log.MakeBlock(effects, first, n, &part));
    for (std::string& r : Records(part)) parts.push_back(std::move(r));
  }
  std::vector<std::string> expected = Records(whole);
  std::sort(expected.begin(), expected.end());
  std::sort(parts.begin(), parts.end());
  EXPECT_EQ(parts, expected);
  EXPECT_EQ(sum.events(), counts.events());
  EXPECT_EQ(sum.clicks, counts.clicks);
}

TEST(MarketLog, RecordsAreInOrderOfTimeAndWhole) {
  const Market& market = SmallMarket();
  const MarketLog log(&market);
  const int64_t midnight = market.first_day_ms() + 3 * kDayMs;
  LogBatch batch;
  log.MakeBlock(market.click_model().EffectsOfDay(3), 0, 5000, &batch);
  std::set<std::string> ads;
  for (const EncodedAd& ad : batch.ads) {
    EXPECT_TRUE(ads.insert(ad.hash).second) << "a snapshot twice in a batch";
  }
  std::map<std::string, const v1::Decision*> by_id;
  DecisionId last;
  for (const auto& d : batch.decisions) {
    ASSERT_LT(last, d.id);
    last = d.id;
    ASSERT_GE(static_cast<int64_t>(d.id.ms), midnight);
    ASSERT_EQ(d.decision.context().time_ms(), d.id.ms);
    ASSERT_EQ(d.decision.placement_ids_size(), 1);
    ASSERT_GE(d.decision.ads_size(), 1);
    ASSERT_LE(d.decision.ads_size(), 3);
    for (int i = 0; i < d.decision.ads_size(); ++i) {
      const v1::ServedAd& ad = d.decision.ads(i);
      ASSERT_EQ(ad.position(), i + 1);
      ASSERT_EQ(ad.position_in_placement(), i + 1);
      ASSERT_TRUE(ads.count(ad.ad_hash()));
      ASSERT_EQ(ad.keyword().empty(),
                ad.match_type() == v1::MATCH_TYPE_TARGETING);
      ASSERT_EQ(ad.pctr(), static_cast<float>(Sigmoid(ad.logit())));
    }
    by_id[d.id.ToHex()] = &d.decision;
  }
  std::map<std::pair<std::string, uint32_t>, int64_t> seen;
  size_t clicks = 0;
  for (const v1::Event& e : batch.events) {
    ASSERT_TRUE(by_id.count(e.decision_id()));
    if (e.type() == v1::EVENT_TYPE_IMPRESSION) {
      ASSERT_GT(e.time_ms(), by_id[e.decision_id()]->context().time_ms());
      seen[{e.decision_id(), e.position()}] = e.time_ms();
    } else {
      ++clicks;
      ASSERT_EQ(e.type(), v1::EVENT_TYPE_CLICK);
      const auto impression = seen.find({e.decision_id(), e.position()});
      ASSERT_NE(impression, seen.end());
      ASSERT_GT(e.time_ms(), impression->second);
    }
  }
  EXPECT_GT(clicks, 300);
}

TEST(MarketLog, TheTruthIsRecomputedFromLoggedDecisionsAlone) {
  const Market& market = SmallMarket();
  const MarketLog log(&market);
  LogBatch batch;
  const MarketCounts counts =
      log.MakeBlock(market.click_model().EffectsOfDay(7), 100, 500, &batch);
  // Another process would build its own.
  ASSERT_OK_AND_ASSIGN(const auto again, Market::Create(SmallConfig()));
  const DayEffects effects = again->click_model().EffectsOfDay(7);
  std::map<std::string, v1::AdSnapshot> ads;
  for (const EncodedAd& ad : batch.ads) {
    ASSERT_TRUE(ads[ad.hash].ParseFromString(ad.bytes));
  }
  double expected_clicks = 0;
  for (const auto& d : batch.decisions) {
    ASSERT_OK_AND_ASSIGN(
        const Visit visit,
        again->ParseVisit(d.decision.context(), d.decision.placement_ids(0)));
    ASSERT_EQ(visit.day, 7);
    for (const v1::ServedAd& served : d.decision.ads()) {
      ASSERT_OK_AND_ASSIGN(const uint32_t ad,
                           again->FindAd(ads[served.ad_hash()].ad_id()));
      expected_clicks += again->click_model().Ctr(
          effects, visit, ad, served.position_in_placement());
    }
  }
  EXPECT_EQ(expected_clicks, counts.expected_clicks);  // bit for bit
}

TEST(MarketLog, ClicksFollowTheTruthAtEveryProbabilityAndPosition) {
  const Market& market = SmallMarket();
  const MarketLog log(&market);
  const DayEffects effects = market.click_model().EffectsOfDay(0);
  LogBatch batch;
  log.MakeBlock(effects, 0, 20000, &batch);
  std::map<std::string, uint32_t> ads;
  for (const EncodedAd& ad : batch.ads) {
    v1::AdSnapshot snapshot;
    ASSERT_TRUE(snapshot.ParseFromString(ad.bytes));
    ads[ad.hash] = market.FindAd(snapshot.ad_id()).value();
  }
  std::set<std::pair<std::string, uint32_t>> clicked;
  for (const v1::Event& e : batch.events) {
    if (e.type() == v1::EVENT_TYPE_CLICK) {
      clicked.emplace(e.decision_id(), e.position());
    }
  }
  struct Bin {
    double n = 0, clicks = 0, expected = 0, variance = 0;
  };
  std::map<int, Bin> by_logit, by_position;
  for (const auto& d : batch.decisions) {
    const Visit visit =
        market.ParseVisit(d.decision.context(), d.decision.placement_ids(0))
            .value();
    const std::string id = d.id.ToHex();
    for (const v1::ServedAd& served : d.decision.ads()) {
      const double p = market.click_model().Ctr(
          effects, visit, ads[served.ad_hash()], served.position());
      const double logit = std::log(p / (1 - p));
      for (Bin* bin : {&by_logit[std::clamp<int>(logit, -6, -1)],
                       &by_position[served.position()]}) {
        ++bin->n;
        bin->clicks += clicked.count({id, served.position()});
        bin->expected += p;
        bin->variance += p * (1 - p);
      }
    }
  }
  double chi2 = 0;
  for (const auto& [logit, bin] : by_logit) {
    chi2 += (bin.clicks - bin.expected) * (bin.clicks - bin.expected) /
            bin.variance;
  }
  ASSERT_EQ(by_logit.size(), 6);
  EXPECT_LT(chi2, 22.5);  // 6 degrees of freedom, 99.9 %
  for (const auto& [position, bin] : by_position) {
    EXPECT_NEAR(bin.clicks, bin.expected, 4 * std::sqrt(bin.variance));
  }
  EXPECT_NEAR(by_position[1].expected / by_position[1].n, 0.05, 0.0025);
  const auto rate = [&](int position) {
    return by_position[position].clicks / by_position[position].n;
  };
  // exp(-0.35) = 0.70 at small rates.
  EXPECT_LT(rate(2), 0.8 * rate(1));
  EXPECT_LT(rate(3), 0.8 * rate(2));
}

TEST(MarketLog, OnlySeenAdsHaveEvents) {
  v1::MarketConfig config = SmallConfig();
  config.set_view_rate(0.4);
  config.set_click_delay_s(0);
  ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
  LogBatch batch;
  const MarketCounts counts =
      MarketLog(market.get())
          .MakeBlock(market->click_model().EffectsOfDay(0), 0, 4000, &batch);
  size_t served = 0, impressions = 0;
  for (const auto& d : batch.decisions) served += d.decision.ads_size();
  for (const v1::Event& e : batch.events) {
    impressions += e.type() == v1::EVENT_TYPE_IMPRESSION;
  }
  EXPECT_EQ(counts.impressions, impressions);
  EXPECT_NEAR(static_cast<double>(impressions) / static_cast<double>(served),
              0.4, 0.02);
  EXPECT_EQ(counts.impressions + counts.clicks, batch.events.size());
}

TEST(MarketCatalog, EveryEntityPassesTheStoresValidation) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    v1::MarketConfig config = SmallConfig();
    config.set_seed(seed);
    ASSERT_OK_AND_ASSIGN(const auto market, Market::Create(config));
    for (int day = 0; day <= 30; ++day) {
      for (const auto& op : market->catalog().Operations(day)) {
        ASSERT_OK(ValidateEntity(op.upsert()));
      }
    }
  }
}

TEST(BlockPipeline, WritesEveryBlockOnceInOrder) {
  for (uint32_t threads : {1u, 2u, 5u}) {
    for (uint64_t blocks : {0, 1, 2, 3, 11, 200}) {
      std::vector<uint64_t> slots(BlockPipeline::Slots(threads)), written;
      ASSERT_OK(BlockPipeline().Run(
          blocks, threads,
          [&](uint64_t block, uint32_t slot) { slots[slot] = block; },
          [&](uint32_t slot) {
            written.push_back(slots[slot]);
            return absl::OkStatus();
          }));
      ASSERT_EQ(written.size(), blocks);
      for (uint64_t i = 0; i < blocks; ++i) ASSERT_EQ(written[i], i);
    }
  }
}

TEST(BlockPipeline, StopsAtTheFirstFailedWrite) {
  int writes = 0;
  EXPECT_THAT(BlockPipeline().Run(
                  1000, 3, [](uint64_t, uint32_t) {},
                  [&](uint32_t) {
                    return ++writes == 7 ? absl::DataLossError("disk full")
                                         : absl::OkStatus();
                  }),
              StatusIs(absl::StatusCode::kDataLoss, "disk full"));
  EXPECT_EQ(writes, 7);
}

}  // namespace
}  // namespace adrank
