// Microseconds of one auction: 1,000 candidates of 200 advertisers, 8 slots.
// The floor is std::partial_sort of the bare scores, taken in turns with the
// measured work. Lower is better; ratio = value / floor.
#include <algorithm>
#include <cstdint>
#include <cstdio>
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
  std::vector<AuctionAd> ads;
  std::vector<float> pctr;
  std::vector<double> scores;
};

Instance AnInstance(Rng* rng) {
  Instance in;
  for (int i = 0; i < kAds; ++i) in.ids.push_back(absl::StrCat("ad", i));
  for (int i = 0; i < kAds; ++i) {
    const auto bid = static_cast<int64_t>(100000 + rng->Below(2000000));
    in.ads.push_back({in.ids[i], static_cast<uint32_t>(rng->Below(200)), bid});
    in.pctr.push_back(static_cast<float>(0.01 * rng->Exponential()));
    in.pctr.back() = std::min(in.pctr.back(), 1.0f);
    in.scores.push_back(static_cast<double>(bid) * in.pctr.back());
  }
  return in;
}

double RunAuctions(const std::vector<Instance>& instances, uint32_t limit,
                   Auction* auction, AuctionResult* result) {
  const int64_t start = absl::GetCurrentTimeNanos();
  for (const Instance& in : instances) {
    const AuctionPlacement placement = {kSlots, 50000, in.pctr};
    auction->Run(in.ads, {placement}, {limit, 7}, result);
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

void Measure(const std::vector<Instance>& instances, uint32_t limit) {
  Auction auction;
  AuctionResult result;
  std::vector<double> scratch, auctions, sorts;
  for (int round = 0; round < 200; ++round) {
    auctions.push_back(RunAuctions(instances, limit, &auction, &result));
    sorts.push_back(RunSorts(instances, &scratch));
  }
  const double value = Median(auctions), floor = Median(sorts);
  std::printf(
      "{\"name\":\"auction\",\"value\":%.3f,\"unit\":\"us\",\"floor\":%.3f,"
      "\"ratio\":%.2f,\"params\":{\"candidates\":%d,\"slots\":%d,"
      "\"max_ads_per_advertiser\":%u,\"floor\":\"partial_sort of scores\"}}\n",
      value, floor, value / floor, kAds, kSlots, limit);
}

void Main() {
  Rng rng(1);
  std::vector<Instance> instances;
  for (int i = 0; i < kInstances; ++i) instances.push_back(AnInstance(&rng));
  Measure(instances, 0);
  Measure(instances, 1);
}

}  // namespace
}  // namespace adrank

int main() {
  adrank::Main();
  return 0;
}
