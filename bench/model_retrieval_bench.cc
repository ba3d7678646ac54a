// The 100 ads of 1e5 and 1e6 that an FM of 16 components puts first, found by
// its embeddings (one thread): exactly, and approximately in lists; among all
// ads, and among those that a targeting expression lets through. The rival
// scores all eligible ads by the predictor, which is what finds the same ads
// without vectors; beside it the trigger alone, the best by bid
// (trigger_alone). Then what a swap of the model and what a change of the
// catalogue cost.
//
//   bench/run.sh model_retrieval [largest number of ads]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "features/feature_extractor.h"
#include "model/graph.h"
#include "server/predict/predictor.h"
#include "server/serving_state.h"
#include "storage/catalog_store.h"

namespace adrank {
namespace {

constexpr size_t kBest = 100, kQueries = 40, kDim = 16;
constexpr int kAdFields = 5, kContextFields = 12, kValues = 2000;

double Now() { return 1e-9 * static_cast<double>(absl::GetCurrentTimeNanos()); }

void AddText(google::protobuf::RepeatedPtrField<v1::Attribute>* to,
             const std::string& name, const std::string& text) {
  v1::Attribute* a = to->Add();
  a->set_name(name);
  a->add_text(text);
}

std::string Value(Rng* rng) {
  // Some values are common.
  const double u = rng->Uniform();
  return absl::StrCat("v", static_cast<int>(kValues * u * u * u));
}

v1::FeatureSpec Spec() {
  v1::FeatureSpec spec;
  const auto add = [&](const std::string& name, const std::string& source) {
    v1::Field* f = spec.add_fields();
    f->set_name(name);
    f->set_source(source);
  };
  for (int i = 0; i < kContextFields; ++i) {
    add(absl::StrCat("c", i), absl::StrCat("context.c", i));
  }
  for (int i = 0; i < kAdFields; ++i) {
    add(absl::StrCat("a", i), absl::StrCat("ad.a", i));
  }
  add("ad", "ad.id");
  return spec;
}

v1::Context AContext(Rng* rng) {
  v1::Context context;
  context.set_time_ms(1);
  for (int i = 0; i < kContextFields; ++i) {
    AddText(context.mutable_attributes(), absl::StrCat("c", i), Value(rng));
  }
  return context;
}

// Campaign i % 1000 is shown to segment s when i % 1000 < 1000 s.
v1::Catalog ACatalog(size_t n, Rng* rng) {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("v");
  for (int i = 0; i < 1000; ++i) {
    v1::Campaign* c = catalog.add_campaigns();
    c->set_id(absl::StrCat("c", i));
    c->set_advertiser_id("v");
    auto* in = c->mutable_targeting()->mutable_in_set();
    in->set_attribute("segment");
    for (const double share : {1.0, 0.1, 0.01}) {
      if (i < 1000 * share) in->add_values(absl::StrCat("s", share));
    }
  }
  const size_t groups = n / 4;
  for (size_t g = 0; g < groups; ++g) {
    v1::AdGroup* group = catalog.add_ad_groups();
    group->set_id(absl::StrCat("g", g));
    group->set_campaign_id(absl::StrCat("c", rng->Below(1000)));
    group->set_bid_micros(static_cast<int64_t>(1e5 * std::exp(rng->Normal())));
  }
  for (size_t i = 0; i < n; ++i) {
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat("ad", i));
    ad->set_ad_group_id(absl::StrCat("g", i % groups));
    for (int f = 0; f < kAdFields; ++f) {
      AddText(ad->mutable_attributes(), absl::StrCat("a", f), Value(rng));
    }
  }
  return catalog;
}

// Of random numbers: every value of an attribute, and every tenth ad, is known.
std::shared_ptr<const ModelBundle> ABundle(const v1::Catalog& catalog,
                                           Rng* rng) {
  BundleContents contents;
  v1::ModelManifest& m = contents.manifest;
  m.set_model_name("ctr");
  m.set_version(1);
  m.set_base_rate(0.01);
  *m.mutable_feature_spec() = Spec();
  m.mutable_graph()->set_dim(kDim);
  m.mutable_graph()->set_linear(true);
  m.mutable_graph()->set_pairwise(v1::ModelGraph::FM);
  const auto extractor = FeatureExtractor::Create(Spec());
  CHECK(extractor.ok());
  std::set<uint64_t> ids;
  RequestFeatures features;
  for (int v = 0; v < kValues; ++v) {
    v1::Context context;
    v1::AdSnapshot ad;
    for (int i = 0; i < kContextFields; ++i) {
      AddText(context.mutable_attributes(), absl::StrCat("c", i),
              absl::StrCat("v", v));
    }
    for (int i = 0; i < kAdFields; ++i) {
      AddText(ad.mutable_attributes(), absl::StrCat("a", i),
              absl::StrCat("v", v));
    }
    (*extractor)->Extract(context, "", {&ad}, {}, &features);
    ids.insert(features.context.ids.begin(), features.context.ids.end());
    ids.insert(features.ads.ids.begin(), features.ads.ids.end());
  }
  FeatureBatch ads;
  for (int i = 0; i < catalog.ads_size(); i += 10) {
    v1::AdSnapshot ad;
    ad.set_ad_id(catalog.ads(i).id());
    (*extractor)->ExtractAd(ad, &ads);
  }
  ids.insert(ads.ids.begin(), ads.ids.end());
  contents.ids.assign(ids.begin(), ids.end());
  EmbeddingWeights& w = contents.embedding.emplace();
  w.dim = kDim;
  const auto fill = [&](size_t n, double scale) {
    std::vector<float> v(n);
    for (float& x : v) x = static_cast<float>(scale * rng->Normal());
    return v;
  };
  w.linear = fill(ids.size(), 0.3);
  w.vectors = fill(ids.size() * kDim, 0.08);
  w.parameters = {-4};
  auto bundle = ModelBundle::FromContents(contents);
  CHECK(bundle.ok()) << bundle.status();
  return *bundle;
}

struct Times {
  double median, p99;
};

template <typename F>
Times Measure(size_t times, F f) {
  std::vector<double> us;
  for (size_t q = 0; q < times; ++q) {
    const double start = Now();
    f(q);
    us.push_back(1e6 * (Now() - start));
  }
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us[us.size() * 99 / 100]};
}

AdIndexOptions Options(size_t approximate_from) {
  AdIndexOptions options;
  options.by_model = true;
  options.approximate_from = approximate_from;
  return options;
}

class Bench {
 public:
  Bench(size_t n, Rng* rng) : n_(n), catalog_(ACatalog(n, rng)) {
    bundle_ = ABundle(catalog_, rng);
  }

  void Run() {
    Prepare(size_t{1} << 40, "exact");
    for (const double share : {1.0, 0.1, 0.01}) {
      std::vector<std::set<uint32_t>> truth;
      const Times exact = Find(share, &truth);
      const Times all = ScoreAll(share);
      Print("exact", share, exact, all.median, 1);
      Print("score_all_eligible", share, all, all.median, 1);
      Print("trigger_alone", share, ByBid(share), all.median, -1);
      truth_[share] = std::move(truth);
    }
    Change();
    Prepare(1, "approximate");
    for (const double share : {1.0, 0.1, 0.01}) {
      std::vector<std::set<uint32_t>> found;
      const Times t = Find(share, &found);
      double both = 0, wanted = 0;
      for (size_t q = 0; q < kQueries; ++q) {
        for (const uint32_t ad : truth_[share][q]) both += found[q].count(ad);
        wanted += static_cast<double>(truth_[share][q].size());
      }
      Print("approximate", share, t, ScoreAll(share).median, both / wanted);
    }
  }

 private:
  void Print(const char* name, double share, Times t, double floor,
             double recall) {
    std::printf(
        "{\"name\":\"model_retrieval/%s\",\"value\":%.1f,\"unit\":\"us\","
        "\"floor\":%.1f,\"ratio\":%.4f,\"params\":{\"ads\":%zu,\"best\":%zu,"
        "\"eligible\":%g,\"p99_us\":%.1f",
        name, t.median, floor, t.median / floor, n_, kBest, share, t.p99);
    if (recall >= 0) std::printf(",\"recall\":%.4f", recall);
    std::printf("}}\n");
    std::fflush(stdout);
  }

  // The index, and what a swap of the model costs with it.
  void Prepare(size_t approximate_from, const char* name) {
    const auto index = AdIndex::Build(catalog_, 1, Options(approximate_from));
    CHECK(index.ok()) << index.status();
    index_ = *index;
    double start = Now();
    const auto features = AdFeatureCache::Build(*bundle_, *index_);
    const double features_s = Now() - start;
    start = Now();
    const auto vectors = ModelVectors::Build(bundle_, *index_, *features);
    const double vectors_s = Now() - start;
    CHECK(vectors.ok()) << vectors.status();
    serving_ = ServingSnapshot();
    serving_.bundle = bundle_;
    serving_.index = index_;
    serving_.ad_features = features;
    serving_.model_vectors = *vectors;
    std::printf(
        "{\"name\":\"model_retrieval/swap_%s\",\"value\":%.3f,\"unit\":\"s\","
        "\"floor\":%.3f,\"ratio\":%.2f,\"params\":{\"ads\":%zu,\"floor_is\":"
        "\"the ads' features\",\"bytes_per_ad\":%.0f,\"dims\":%zu}}\n",
        name, vectors_s, features_s, vectors_s / features_s, n_,
        static_cast<double>((*vectors)->bytes()) / static_cast<double>(n_),
        (*vectors)->dims());
    std::fflush(stdout);
  }

  v1::Context Query(size_t q, double share) const {
    Rng rng(1000 + q);
    v1::Context context = AContext(&rng);
    AddText(context.mutable_attributes(), "segment", absl::StrCat("s", share));
    return context;
  }

  Times Find(double share, std::vector<std::set<uint32_t>>* found) {
    found->assign(kQueries, {});
    ModelVectors::Query query;
    RetrieveScratch scratch;
    Retrieval out;
    SourceQuota quota;
    quota.model = kBest;
    return Measure(kQueries, [&](size_t q) {
      const v1::Context context = Query(q, share);
      CHECK(serving_.model_vectors->Prepare(context, "", 1, &query));
      RetrieveRequest request;
      request.context = &context;
      request.model = serving_.model_vectors.get();
      request.model_vector = query.vector;
      index_->RetrieveSources(request, quota, 0, kBest, &scratch, &out);
      for (const AdMatch& m : out.matches) (*found)[q].insert(m.ad);
    });
  }

  Times ByBid(double share) {
    RetrieveScratch scratch;
    Retrieval out;
    return Measure(kQueries, [&](size_t q) {
      const v1::Context context = Query(q, share);
      RetrieveRequest request;
      request.context = &context;
      index_->Retrieve(request, kBest, &scratch, &out);
    });
  }

  Times ScoreAll(double share) {
    RetrieveScratch scratch;
    Retrieval out;
    Prediction prediction;
    const absl::string_view placement = "p";
    return Measure(5, [&](size_t q) {
      const v1::Context context = Query(q, share);
      RetrieveRequest request;
      request.context = &context;
      index_->Retrieve(request, n_ + 1, &scratch, &out);
      std::vector<PredictItem> items;
      for (const AdMatch& m : out.matches) {
        items.push_back({m.ad, nullptr});
      }
      prediction.Begin(serving_, 0.01, context, {&placement, 1}, items);
      while (prediction.Step()) {
      }
    });
  }

  // 100 ad groups bid something else.
  void Change() {
    CatalogChanges changes;
    changes.version = 2;
    std::map<std::string, const v1::Campaign*> campaigns;
    for (const v1::Campaign& c : catalog_.campaigns()) campaigns[c.id()] = &c;
    std::set<std::string> used, groups;
    *changes.part.mutable_advertisers() = catalog_.advertisers();
    for (int i = 0; i < 100; ++i) {
      v1::AdGroup g = catalog_.ad_groups(i * (catalog_.ad_groups_size() / 100));
      g.set_bid_micros(g.bid_micros() + 1);
      groups.insert(g.id());
      if (used.insert(g.campaign_id()).second) {
        *changes.part.add_campaigns() = *campaigns[g.campaign_id()];
      }
      v1::EntityKey& key = changes.keys.emplace_back();
      key.set_type(v1::ENTITY_TYPE_AD_GROUP);
      key.set_id(g.id());
      *changes.part.add_ad_groups() = g;
    }
    for (const v1::Ad& ad : catalog_.ads()) {
      if (groups.count(ad.ad_group_id())) *changes.part.add_ads() = ad;
    }
    const auto on = AdIndex::BuildOn(index_, changes);
    CHECK(on.ok()) << on.status();
    const auto features =
        AdFeatureCache::Build(*bundle_, **on, serving_.ad_features);
    const Times t = Measure(20, [&](size_t) {
      CHECK(
          ModelVectors::Build(bundle_, **on, *features, serving_.model_vectors)
              .ok());
    });
    std::printf(
        "{\"name\":\"model_retrieval/change\",\"value\":%.1f,\"unit\":\"us\","
        "\"params\":{\"ads\":%zu,\"changed_ads\":%d}}\n",
        t.median, n_, changes.part.ads_size());
    std::fflush(stdout);
  }

  const size_t n_;
  const v1::Catalog catalog_;
  std::shared_ptr<const ModelBundle> bundle_;
  std::shared_ptr<const AdIndex> index_;
  ServingSnapshot serving_;
  std::map<double, std::vector<std::set<uint32_t>>> truth_;
};

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  const double largest = argc > 1 ? std::atof(argv[1]) : 1e6;
  adrank::Rng rng(7);
  for (const size_t n : {100000, 1000000}) {
    if (static_cast<double>(n) <= largest) adrank::Bench(n, &rng).Run();
  }
  return 0;
}
