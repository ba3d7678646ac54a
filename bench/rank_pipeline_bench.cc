// Microseconds of one Rank of the pipeline (no RPC, no log): a catalogue of
// 5,000 ads of which 500 match, a logistic model of 39 fields (20 context, 15
// ad, 4 crosses) and a million rows, 8 slots. The floor is what no sharing
// avoids: looking up the cross features of the 500 candidates and summing
// their weights, from features that are extracted already. Lower is better;
// ratio = value / floor.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "server/ranking_pipeline.h"

namespace adrank {
namespace {

constexpr int kContextFields = 20;
constexpr int kAdFields = 15;
constexpr int kCrosses = 4;
constexpr int kAds = 5000;
constexpr int kMatching = 500;
constexpr int kRows = 1 << 20;
constexpr int kRequests = 64;

std::string RandomValue(Rng* rng) {
  return absl::StrCat("value_", rng->Below(1000));
}

v1::FeatureSpec ASpec() {
  v1::FeatureSpec spec;
  for (int i = 0; i < kContextFields; ++i) {
    spec.add_fields()->set_name(absl::StrCat("context_field_", i));
  }
  for (int i = 0; i < kAdFields; ++i) {
    v1::Field* field = spec.add_fields();
    field->set_name(absl::StrCat("ad_field_", i));
    field->set_source(absl::StrCat("ad.ad_field_", i));
  }
  for (int i = 0; i < kCrosses; ++i) {
    v1::Cross* cross = spec.add_crosses();
    cross->set_name(absl::StrCat("cross_", i));
    cross->add_of(absl::StrCat("context_field_", i));
    cross->add_of(absl::StrCat("ad_field_", i));
  }
  return spec;
}

// Ads of one advertiser in ten; every tenth ad group targets country 0.
v1::Catalog ACatalog(Rng* rng) {
  v1::Catalog catalog;
  for (int i = 0; i < kAds; ++i) {
    if (i < kAds / 10) {
      catalog.add_advertisers()->set_id(absl::StrCat("v", i));
    }
    v1::Campaign* c = catalog.add_campaigns();
    c->set_id(absl::StrCat("c", i));
    c->set_advertiser_id(absl::StrCat("v", i % (kAds / 10)));
  }
  for (int i = 0; i < kAds; ++i) {
    v1::AdGroup* g = catalog.add_ad_groups();
    g->set_id(absl::StrCat("g", i));
    g->set_campaign_id(absl::StrCat("c", i));
    g->set_bid_micros(100000 + static_cast<int64_t>(rng->Below(2000000)));
    auto* country = g->mutable_targeting()->mutable_in_set();
    country->set_attribute("country");
    country->add_values(absl::StrCat(i % (kAds / kMatching)));
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat("a", i));
    ad->set_ad_group_id(g->id());
    for (int f = 0; f < kAdFields; ++f) {
      v1::Attribute* attribute = ad->add_attributes();
      attribute->set_name(absl::StrCat("ad_field_", f));
      attribute->add_text(RandomValue(rng));
    }
  }
  return catalog;
}

v1::RankRequest ARequest(Rng* rng) {
  v1::RankRequest request;
  const auto add = [&](const std::string& name, const std::string& value) {
    v1::Attribute* attribute = request.mutable_context()->add_attributes();
    attribute->set_name(name);
    attribute->add_text(value);
  };
  for (int i = 0; i < kContextFields; ++i) {
    add(absl::StrCat("context_field_", i), RandomValue(rng));
  }
  add("country", "0");
  v1::Placement* placement = request.add_placements();
  placement->set_id("top");
  placement->set_count(8);
  return request;
}

void AddIds(const FeatureBatch& batch, absl::flat_hash_set<uint64_t>* known,
            std::vector<uint64_t>* ids) {
  for (const uint64_t id : batch.ids) {
    if (known->insert(id).second) ids->push_back(id);
  }
}

// A million rows: those the requests need (half of the crosses) and others.
BundleContents AContents(const AdIndex& index,
                         const std::vector<v1::RankRequest>& requests,
                         Rng* rng) {
  BundleContents contents;
  contents.manifest.set_model_name("ctr");
  contents.manifest.set_version(1);
  *contents.manifest.mutable_feature_spec() = ASpec();
  const auto extractor =
      *FeatureExtractor::Create(contents.manifest.feature_spec());
  absl::flat_hash_set<uint64_t> known;
  std::vector<v1::AdSnapshot> snapshots;
  std::vector<const v1::AdSnapshot*> ads;
  snapshots.reserve(index.size());
  for (uint32_t i = 0; i < index.size(); ++i) {
    snapshots.push_back(index.Snapshot(i));
    ads.push_back(&snapshots.back());
  }
  RequestFeatures features;
  for (size_t r = 0; r < requests.size(); ++r) {
    extractor->Extract(requests[r].context(), "top", ads, {}, &features);
    AddIds(features.context, &known, &contents.ids);
    if (r == 0) AddIds(features.ads, &known, &contents.ids);
    if (r % 2 == 0) AddIds(features.crosses, &known, &contents.ids);
    if (contents.ids.size() > kRows / 2) break;
  }
  while (contents.ids.size() < kRows) {
    const uint64_t id = (*rng)() | 1;
    if (known.insert(id).second) contents.ids.push_back(id);
  }
  contents.oov_rows.assign(kContextFields + kAdFields + kCrosses, kNoRow);
  for (size_t i = 0; i < contents.ids.size(); ++i) {
    contents.weights.push_back(static_cast<float>(0.1 * rng->Normal()));
  }
  contents.bias = -4;
  v1::GoldenExample& golden = contents.golden.emplace_back();
  *golden.mutable_context() = requests[0].context();
  *golden.add_ads() = *ads[0];
  golden.set_placement_id("top");
  return contents;
}

std::shared_ptr<const ModelBundle> ABundle(const BundleContents& contents) {
  char dir[] = "/tmp/adrank_bench.XXXXXX";
  CHECK(mkdtemp(dir) != nullptr);
  const std::string path = absl::StrCat(dir, "/1");
  const absl::Status written = WriteBundle(path, contents);
  CHECK(written.ok()) << written;
  auto bundle = ModelBundle::Load(path);
  std::filesystem::remove_all(dir);
  CHECK(bundle.ok()) << bundle.status();
  return *bundle;
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

double MicrosSince(int64_t start) {
  return 1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start);
}

struct Samples {
  std::vector<double> total, trigger, predict, rank, floor;
};

class Bench {
 public:
  Bench() : rng_(1) {
    const auto index = AdIndex::Build(ACatalog(&rng_), 1);
    CHECK(index.ok()) << index.status();
    for (int i = 0; i < kRequests; ++i) requests_.push_back(ARequest(&rng_));
    const auto bundle = ABundle(AContents(**index, requests_, &rng_));
    const int64_t start = absl::GetCurrentTimeNanos();
    serving_ = ServingSnapshot::Of(bundle, *index);
    cache_us_ = MicrosSince(start);
    auto pipeline = RankingPipeline::Create({}, Clock::Real());
    CHECK(pipeline.ok()) << pipeline.status();
    pipeline_ = *std::move(pipeline);
  }

  void Run() {
    for (int round = 0; round < 40; ++round) {
      for (size_t r = 0; r < requests_.size(); ++r) {
        RankOne(requests_[r], round > 0);
        if (r % 8 == 0) Floor(round > 0);
      }
    }
    Print();
  }

 private:
  void RankOne(const v1::RankRequest& request, bool keep) {
    RankOutcome outcome;
    const int64_t start = absl::GetCurrentTimeNanos();
    const absl::Status status =
        pipeline_->Rank(serving_, request, {1, 2, 3}, {}, &trace_, &outcome);
    const double us = MicrosSince(start);
    CHECK(status.ok()) << status;
    CHECK_EQ(outcome.response.counts().predicted(), kMatching);
    if (!keep) return;
    samples_.total.push_back(us);
    const v1::Timings& t = outcome.response.timings();
    samples_.trigger.push_back(t.trigger_us());
    samples_.predict.push_back(t.predict_us());
    samples_.rank.push_back(t.rank_us());
  }

  // Of the request just ranked.
  void Floor(bool keep) {
    const int64_t start = absl::GetCurrentTimeNanos();
    float sum = 0;
    for (size_t i = 0; i < kMatching; i += Prediction::kChunk) {
      const Prediction::Scored s = trace_.prediction.scored(0, i);
      rows_.context = s.rows.context;
      rows_.ads = s.rows.ads;
      rows_.crosses.clear();
      for (size_t e = 0; e < s.features.crosses.ids.size(); ++e) {
        rows_.crosses.push_back(serving_.bundle->vocabulary().Row(
            s.features.crosses.fields[e], s.features.crosses.ids[e]));
      }
      logits_.resize(s.features.candidates());
      serving_.bundle->logistic()->Logits(s.features, rows_,
                                         absl::MakeSpan(logits_));
      sum += logits_[0];
    }
    const double us = MicrosSince(start);
    CHECK_NE(sum, 0);
    if (keep) samples_.floor.push_back(us);
  }

  void Print() const {
    const double total = Median(samples_.total), floor = Median(samples_.floor);
    std::printf(
        "{\"name\":\"rank_pipeline\",\"value\":%.1f,\"unit\":\"us/request\","
        "\"floor\":%.1f,\"ratio\":%.2f,\"params\":{\"candidates\":%d,"
        "\"fields\":%d,\"catalogue\":%d,\"rows\":%d,\"slots\":8,"
        "\"trigger_us\":%.0f,\"predict_us\":%.0f,\"rank_us\":%.0f,"
        "\"candidates_per_ms\":%.0f,"
        "\"floor\":\"cross lookups and logits alone\"}}\n",
        total, floor, total / floor, kMatching,
        kContextFields + kAdFields + kCrosses, kAds, kRows,
        Median(samples_.trigger), Median(samples_.predict),
        Median(samples_.rank), 1000.0 * kMatching / total);
    std::printf(
        "{\"name\":\"ad_feature_cache_build\",\"value\":%.2f,"
        "\"unit\":\"us/ad\",\"floor\":null,\"ratio\":null,"
        "\"params\":{\"ads\":%d,\"bytes_per_ad\":%.0f}}\n",
        cache_us_ / kAds, kAds,
        static_cast<double>(serving_.ad_features->bytes()) / kAds);
  }

  Rng rng_;
  std::vector<v1::RankRequest> requests_;
  ServingSnapshot serving_;
  std::unique_ptr<const RankingPipeline> pipeline_;
  RankTrace trace_;
  RequestRows rows_;
  std::vector<float> logits_;
  Samples samples_;
  double cache_us_ = 0;
};

}  // namespace
}  // namespace adrank

int main() {
  adrank::Bench().Run();
  return 0;
}
