// Catalogues, bundles and clocks of the tests of prediction and the pipeline.
#ifndef ADRANK_TESTS_SERVER_SERVING_TESTING_H_
#define ADRANK_TESTS_SERVER_SERVING_TESTING_H_

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/textproto.h"
#include "model/model_bundle.h"
#include "server/serving_state.h"
#include "tests/model/a_bundle.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank::testing {

template <typename M>
M ParseText(const std::string& text) {
  M message;
  EXPECT_OK(ParseTextProto(text, "test", &message));
  return message;
}

// Writes and loads the contents. Mapped files outlive their names.
inline std::shared_ptr<const ModelBundle> LoadBundle(
    const BundleContents& contents) {
  TempDir dir;
  EXPECT_OK(WriteBundle(dir / "1", contents));
  auto bundle = ModelBundle::Load(dir / "1");
  EXPECT_OK(bundle);
  return bundle.ok() ? *bundle : nullptr;
}

// a_bundle.h's model; `with_placement` adds a field that reads the placement.
inline std::shared_ptr<const ModelBundle> ABundle(bool with_placement = false) {
  BundleContents contents = AContents(3);
  if (with_placement) {
    v1::FeatureSpec* spec = contents.manifest.mutable_feature_spec();
    v1::Field* field = spec->add_fields();
    field->set_name("where");
    field->set_source("placement");
    // Fields city, category, where, then the cross.
    contents.oov_rows = {5, kNoRow, 7, 6};
    contents.ids.push_back(0);
    const auto extractor = FeatureExtractor::Create(*spec);
    RequestFeatures features;
    (*extractor)->Extract({}, "side", {}, {}, &features);
    contents.ids.back() = features.context.ids[0];
    // ids 0..5 and out-of-vocabulary rows 6, 7, 8.
    contents.oov_rows = {6, kNoRow, 7, 8};
    contents.weights = {0.5f, -0.25f, 0.125f, 1.5f, -1.0f,
                        2.0f, 0.3f,   -0.7f,  -0.7f};
  }
  return LoadBundle(contents);
}

// (Berlin, a) has an infinite logit; everything else is finite.
inline std::shared_ptr<const ModelBundle> ABundleThatOverflows() {
  BundleContents contents = AContents(4);
  contents.golden = {AnExample("Rome", 1)};
  contents.weights[0] = 3e38f;  // Berlin
  contents.weights[3] = 3e38f;  // Berlin x a
  return LoadBundle(contents);
}

// Ads ad0..ad<n-1>, each of its own campaign and ad group of advertiser
// v<i % advertisers>, bidding bid(i); even ads have category a, odd ones b.
inline v1::Catalog ACatalogOf(int n, int advertisers, int64_t first_bid,
                              int64_t step) {
  v1::Catalog catalog;
  for (int v = 0; v < advertisers; ++v) {
    catalog.add_advertisers()->set_id(absl::StrCat("v", v));
  }
  for (int i = 0; i < n; ++i) {
    v1::Campaign* c = catalog.add_campaigns();
    c->set_id(absl::StrCat("c", i));
    c->set_advertiser_id(absl::StrCat("v", i % advertisers));
    v1::AdGroup* g = catalog.add_ad_groups();
    g->set_id(absl::StrCat("g", i));
    g->set_campaign_id(c->id());
    g->set_bid_micros(first_bid + i * step);
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat("ad", i));
    ad->set_ad_group_id(g->id());
    ad->set_landing_url(absl::StrCat("https://example.com/", i));
    AddText(ad->mutable_attributes(), "category", i % 2 == 0 ? "a" : "b");
  }
  return catalog;
}

inline std::shared_ptr<const AdIndex> AnIndex(const v1::Catalog& catalog) {
  auto index = AdIndex::Build(catalog, 11);
  EXPECT_OK(index);
  return *index;
}

// Every look at it takes `step`: work that costs time, without waiting.
class TickingClock : public Clock {
 public:
  TickingClock(absl::Time start, absl::Duration step)
      : now_(start), step_(step) {}
  absl::Time Now() const override {
    absl::MutexLock lock(&mu_);
    now_ += step_;
    return now_ - step_;
  }

 private:
  mutable absl::Mutex mu_;
  mutable absl::Time now_ ABSL_GUARDED_BY(mu_);
  const absl::Duration step_;
};

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_SERVING_TESTING_H_
