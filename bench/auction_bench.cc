// Microseconds of one auction: 1,000 candidates of 200 advertisers, 8 slots,
// ties and prices included. The floor is std::partial_sort of the bare scores,
// taken in turns with the measured work. Lower is better; ratio = value /
// floor. The first line is the ordinary case; the others name what differs.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/rng.h"
#include "server/rank/auction.h"

namespace adrank {
namespace {

constexpr int kAds = 1000;
constexpr int kSlots = 8;
// So many that no branch is learnt by heart, so few that they stay in the cache
// as candidates just predicted do.
constexpr int kInstances = 16;

struct Instance {
  std::vector<std::string> ids;
  std::vector<std::vector<uint64_t>> labels;
  std::vector<AuctionAd> ads;
  AuctionAds columns;
  std::vector<float> pctr;
  std::vector<double> scores;
};

Instance AnInstance(Rng* rng) {
  Instance in;
  for (int i = 0; i < kAds; ++i) {
    in.ids.push_back(absl::StrCat("ad", i));
    in.labels.push_back({rng->Below(30)});
  }
  for (int i = 0; i < kAds; ++i) {
    AuctionAd& ad = in.ads.emplace_back();
    ad.ad_id = in.ids[i];
    ad.advertiser = static_cast<uint32_t>(rng->Below(200));
    ad.bid_micros = static_cast<int64_t>(100000 + rng->Below(2000000));
    in.pctr.push_back(static_cast<float>(0.01 * rng->Exponential()));
    in.pctr.back() = std::min(in.pctr.back(), 1.0f);
    in.scores.push_back(static_cast<double>(ad.bid_micros) * in.pctr.back());
  }
  in.columns = AuctionAds(in.ads);
  return in;
}

struct Case {
  const char* name;
  AuctionOptions options;
  std::function<void(Rng*, Instance*)> change = [](Rng*, Instance*) {};
  bool fill = false;  // the columns, in the measured time
};

double RunAuctions(std::vector<Instance>* instances, const Case& c,
                   Auction* auction, AuctionResult* result) {
  const int64_t start = absl::GetCurrentTimeNanos();
  for (Instance& in : *instances) {
    if (c.fill) {
      in.columns.Resize(kAds);
      for (int i = 0; i < kAds; ++i) in.columns.Set(i, in.ads[i]);
    }
    const AuctionPlacement placement = {kSlots, 50000, in.pctr};
    auction->Run(in.columns, {placement}, c.options, result);
  }
  return 1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start) /
         kInstances;
}

double RunSorts(const std::vector<Instance>& instances,
                std::vector<double>* scratch) {
  const int64_t start = absl::GetCurrentTimeNanos();
  for (const Instance& in : instances) {
    *scratch = in.scores;
    std::partial_sort(scratch->begin(), scratch->begin() + kSlots + 1,
                      scratch->end(), std::greater<double>());
  }
  return 1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start) /
         kInstances;
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

void Measure(const Case& c) {
  Rng rng(1);
  std::vector<Instance> instances;
  for (int i = 0; i < kInstances; ++i) {
    instances.push_back(AnInstance(&rng));
    c.change(&rng, &instances.back());
    instances.back().columns = AuctionAds(instances.back().ads);
  }
  Auction auction;
  AuctionResult result;
  std::vector<double> scratch, auctions, sorts;
  for (int round = 0; round < 200; ++round) {
    auctions.push_back(RunAuctions(&instances, c, &auction, &result));
    sorts.push_back(RunSorts(instances, &scratch));
  }
  const double value = Median(auctions), floor = Median(sorts);
  std::printf(
      "{\"name\":\"auction\",\"value\":%.3f,\"unit\":\"us\",\"floor\":%.3f,"
      "\"ratio\":%.2f,\"params\":{\"case\":\"%s\",\"candidates\":%d,"
      "\"slots\":%d,\"floor\":\"partial_sort of scores\"}}\n",
      value, floor, value / floor, c.name, kAds, kSlots);
}

void Main() {
  AuctionOptions gsp;
  gsp.tie_salt = 7;
  Measure({"gsp", gsp});
  AuctionOptions limited = gsp;
  limited.max_ads_per_advertiser = 1;
  Measure({"one ad an advertiser", limited});
  AuctionOptions vcg = gsp;
  vcg.pricing = v1::RankConfig::VCG;
  Measure({"vcg", vcg});
  AuctionOptions squashed = gsp;
  squashed.alpha = 0.5;
  Measure({"alpha 0.5", squashed});
  AuctionOptions weighted = gsp;
  weighted.reserve_kind = v1::RankConfig::QUALITY_WEIGHTED;
  Measure({"quality-weighted reserve", weighted});
  Measure({"a label of 30 on every ad", gsp, [](Rng*, Instance* in) {
             for (int i = 0; i < kAds; ++i) in->ads[i].labels = in->labels[i];
           }});
  Measure({"a tenth CPM, qualities", gsp, [](Rng* rng, Instance* in) {
             for (AuctionAd& ad : in->ads) {
               ad.quality = static_cast<float>(0.5 + rng->Uniform());
               if (!rng->Bernoulli(0.1)) continue;
               ad.bid_type = v1::BID_TYPE_CPM;
               ad.bid_micros /= 100;
             }
           }});
  Measure({"all scores tie", gsp, [](Rng*, Instance* in) {
             for (AuctionAd& ad : in->ads) ad.bid_micros = 500000;
             in->pctr.assign(kAds, 0.01f);
           }});
  Measure({"gsp, columns filled too", gsp, [](Rng*, Instance*) {}, true});
}

}  // namespace
}  // namespace adrank

int main() {
  adrank::Main();
  return 0;
}
