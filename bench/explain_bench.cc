// Microseconds to say why one ad is not in an answer, with the exact bid it
// needed: 1,000 candidates, 8 slots, every candidate asked for. The floor is
// the auction of that answer, held once. Lower is better; ratio = value /
// floor.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "server/why_not.h"

namespace adrank {
namespace {

constexpr int kAds = 1000;
constexpr int kRounds = 5;

v1::Catalog ACatalog() {
  Rng rng(1);
  v1::Catalog catalog;
  for (int i = 0; i < kAds; ++i) {
    const std::string n = absl::StrCat(i);
    catalog.add_advertisers()->set_id("v" + n);
    v1::Campaign* c = catalog.add_campaigns();
    c->set_id("c" + n);
    c->set_advertiser_id("v" + n);
    v1::AdGroup* g = catalog.add_ad_groups();
    g->set_id("g" + n);
    g->set_campaign_id("c" + n);
    g->set_bid_micros(100000 + static_cast<int64_t>(rng.Below(2000000)));
    v1::Ad* ad = catalog.add_ads();
    ad->set_id("a" + n);
    ad->set_ad_group_id("g" + n);
  }
  return catalog;
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

double MicrosSince(int64_t start) {
  return 1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start);
}

void Run() {
  const auto index = AdIndex::Build(ACatalog(), 1);
  CHECK(index.ok()) << index.status();
  const ServingSnapshot serving = ServingSnapshot::Of(nullptr, *index);
  const SimulatedClock clock(absl::FromUnixSeconds(1750000000));
  const auto pipeline = RankingPipeline::Create({}, &clock);
  CHECK(pipeline.ok()) << pipeline.status();
  v1::RankRequest request;
  request.set_request_id("r");
  request.add_placements()->set_id("p");
  request.mutable_placements(0)->set_count(8);
  RankTrace trace;
  RankOutcome outcome;
  const absl::Status ranked =
      (*pipeline)->Rank(serving, request, {1, 1, 1}, {}, &trace, &outcome);
  CHECK(ranked.ok()) << ranked;
  const ExplainSources sources;
  WhyNot why(**pipeline, serving, request, "r", sources, &trace);
  std::vector<double> asked, auctions;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 8; i < trace.candidates.size(); ++i) {
      v1::AdExplanation out;
      const std::string id(trace.candidates[i].ad_id);
      int64_t start = absl::GetCurrentTimeNanos();
      why.Explain(id, &out);
      asked.push_back(MicrosSince(start));
      start = absl::GetCurrentTimeNanos();
      (*pipeline)->PrepareAuction(*serving.index, "r", &trace);
      (*pipeline)->HoldAuction(&trace, false);
      auctions.push_back(MicrosSince(start));
    }
  }
  const double value = Median(asked), floor = Median(auctions);
  std::printf(
      "{\"name\": \"explain/why_not\", \"value\": %.1f, \"unit\": \"us\", "
      "\"floor\": %.2f, \"ratio\": %.1f, \"params\": {\"candidates\": %d, "
      "\"slots\": 8}}\n",
      value, floor, value / floor, kAds);
}

}  // namespace
}  // namespace adrank

int main() { adrank::Run(); }
