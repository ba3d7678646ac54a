// Microseconds that exploration adds to an auction of 1,000 candidates: 1 and 8
// slots, 20 options a slot. The floor is the same auction without it, taken in
// turns. `value` is the whole auction; lower is better; ratio = value / floor.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/rng.h"
#include "base/textproto.h"
#include "server/rank/auction.h"
#include "server/rank/exploring_slots.h"

namespace adrank {
namespace {

constexpr int kAds = 1000;
// So many that no branch is learnt by heart, so few that they stay in the cache
// as candidates just predicted do.
constexpr int kInstances = 16;

struct Instance : public ExploredAds {
  std::vector<std::string> ids;
  AuctionAds ads;
  std::vector<float> pctr;
  std::vector<float> logit_deviation;

  double Deviation(uint32_t, uint32_t ad) override {
    return ScoreDeviation(1, pctr[ad], logit_deviation[ad]);
  }
  uint32_t Impressions(uint32_t ad) override { return ad; }
};

void Fill(Rng* rng, Instance* in) {
  for (int i = 0; i < kAds; ++i) in->ids.push_back(absl::StrCat("ad", i));
  in->ads.Resize(kAds);
  for (int i = 0; i < kAds; ++i) {
    AuctionAd ad;
    ad.ad_id = in->ids[i];
    ad.advertiser = static_cast<uint32_t>(rng->Below(200));
    ad.bid_micros = static_cast<int64_t>(100000 + rng->Below(2000000));
    in->ads.Set(i, ad);
    in->pctr.push_back(
        std::min(static_cast<float>(0.01 * rng->Exponential()), 1.0f));
    in->logit_deviation.push_back(
        static_cast<float>(0.3 + 0.2 * rng->Exponential()));
  }
}

double Run(std::vector<Instance>* instances, uint32_t slots,
           const ExplorationPolicy* policy, ExploringSlots* exploring,
           Auction* auction, AuctionResult* result) {
  const int64_t start = absl::GetCurrentTimeNanos();
  uint64_t seed = 0;
  for (Instance& in : *instances) {
    AuctionOptions options;
    options.tie_salt = 7;
    if (policy != nullptr) {
      exploring->Begin(policy, &in, ++seed);
      options.policy = exploring;
    }
    const AuctionPlacement placement = {slots, 50000, in.pctr};
    auction->Run(in.ads, {placement}, options, result);
  }
  return 1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start) /
         kInstances;
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

void Measure(std::vector<Instance>* instances, uint32_t slots,
             const char* config) {
  v1::ExplorationConfig proto;
  if (!ParseTextProto(config, "config", &proto).ok()) std::abort();
  const ExplorationPolicy policy = *ExplorationPolicy::Create(proto);
  Auction auction;
  AuctionResult result;
  ExploringSlots exploring;
  std::vector<double> with, without;
  for (int round = 0; round < 200; ++round) {
    with.push_back(
        Run(instances, slots, &policy, &exploring, &auction, &result));
    without.push_back(
        Run(instances, slots, nullptr, &exploring, &auction, &result));
  }
  const double value = Median(with), floor = Median(without);
  std::printf(
      "{\"name\":\"exploration\",\"value\":%.3f,\"unit\":\"us\",\"floor\":%.3f,"
      "\"ratio\":%.2f,\"params\":{\"candidates\":%d,\"slots\":%u,"
      "\"config\":\"%s\",\"floor\":\"the auction without it\"}}\n",
      value, floor, value / floor, kAds, slots, config);
}

void Main() {
  Rng rng(1);
  std::vector<Instance> instances(kInstances);
  for (Instance& in : instances) Fill(&rng, &in);
  for (const uint32_t slots : {1u, 8u}) {
    Measure(&instances, slots, "policy: EPSILON_GREEDY epsilon: 0.02");
    Measure(&instances, slots, "policy: THOMPSON epsilon: 0.02");
    Measure(&instances, slots, "newcomer_boost: 0.5 newcomer_impressions: 500");
  }
}

}  // namespace
}  // namespace adrank

int main() {
  adrank::Main();
  return 0;
}
