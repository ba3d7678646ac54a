// A small bundle for tests.
#ifndef ADRANK_TESTS_MODEL_A_BUNDLE_H_
#define ADRANK_TESTS_MODEL_A_BUNDLE_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "features/feature_extractor.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "model/graph.h"
#include "model/model_bundle.h"

namespace adrank::testing {

inline void AddText(google::protobuf::RepeatedPtrField<v1::Attribute>* to,
                    const std::string& name, const std::string& text) {
  v1::Attribute* attribute = to->Add();
  attribute->set_name(name);
  attribute->add_text(text);
}

inline v1::AdSnapshot AnAd(const std::string& id, const std::string& category) {
  v1::AdSnapshot ad;
  ad.set_ad_id(id);
  AddText(ad.mutable_attributes(), "category", category);
  return ad;
}

inline v1::GoldenExample AnExample(const std::string& city, int ads) {
  v1::GoldenExample example;
  example.set_placement_id("top");
  AddText(example.mutable_context()->mutable_attributes(), "city", city);
  for (int i = 0; i < ads; ++i) {
    *example.add_ads() = AnAd(absl::StrCat("ad", i), i % 2 == 0 ? "a" : "b");
  }
  return example;
}

// Fields city, category and their cross; the ids of Berlin x {a, b} are known.
inline BundleContents AContents(int64_t version = 1) {
  BundleContents contents;
  v1::ModelManifest& m = contents.manifest;
  m.set_model_name("ctr");
  m.set_version(version);
  m.set_base_rate(0.1);
  v1::Field* city = m.mutable_feature_spec()->add_fields();
  city->set_name("city");
  city->set_source("context.city");
  v1::Field* category = m.mutable_feature_spec()->add_fields();
  category->set_name("category");
  category->set_source("ad.category");
  v1::Cross* cross = m.mutable_feature_spec()->add_crosses();
  cross->set_name("city_category");
  cross->add_of("city");
  cross->add_of("category");
  m.mutable_calibrator()->set_negative_keep_rate(0.25);
  m.mutable_calibrator()->mutable_platt()->set_slope(0.9);

  contents.golden = {AnExample("Berlin", 2), AnExample("Rome", 1)};
  auto extractor = FeatureExtractor::Create(m.feature_spec());
  EXPECT_TRUE(extractor.ok()) << extractor.status();
  const v1::GoldenExample& known = contents.golden[0];
  RequestFeatures features;
  (*extractor)
      ->Extract(known.context(), "top", {&known.ads(0), &known.ads(1)}, {},
                &features);
  contents.ids = features.context.ids;
  for (uint64_t id : features.ads.ids) contents.ids.push_back(id);
  for (uint64_t id : features.crosses.ids) contents.ids.push_back(id);
  contents.oov_rows = {5, kNoRow, 6};
  contents.weights = {0.5f, -0.25f, 0.125f, 1.5f, -1.0f, 0.3f, -0.7f};
  contents.bias = -1.0f - static_cast<float>(version) / 16;
  contents.extra_files = {{"optimizer.bin", "state"}, {"report.json", "{}\n"}};
  return contents;
}

// The same features, scored by a graph with random numbers.
inline BundleContents AnEmbeddingContents(
    const std::string& graph_text,
    v1::EmbeddingStorage storage = v1::STORE_FP32, int64_t version = 1) {
  BundleContents contents = AContents(version);
  contents.weights.clear();
  contents.bias = 0;
  v1::ModelManifest& m = contents.manifest;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(graph_text,
                                                            m.mutable_graph()));
  m.set_embedding_storage(storage);
  const auto layout = LayoutOf(m.feature_spec());
  EXPECT_TRUE(layout.ok()) << layout.status();
  const auto graph = Graph::Create(m.graph(), *layout, false);
  EXPECT_TRUE(graph.ok()) << graph.status();
  Rng rng(static_cast<uint64_t>(version));
  const auto fill = [&](size_t n) {
    std::vector<float> v(n);
    for (float& x : v) x = static_cast<float>(0.4 * rng.Normal());
    return v;
  };
  constexpr size_t kRows = 7;
  EmbeddingWeights& w = contents.embedding.emplace();
  w.dim = graph->dim;
  w.vectors = fill(kRows * w.dim);
  if (graph->linear) w.linear = fill(kRows);
  w.parameters = fill(graph->parameters);
  return contents;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_MODEL_A_BUNDLE_H_
