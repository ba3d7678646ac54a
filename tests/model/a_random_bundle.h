// Random models of several fields on either side, for tests of what depends on
// how a logit is put together.
#ifndef ADRANK_TESTS_MODEL_A_RANDOM_BUNDLE_H_
#define ADRANK_TESTS_MODEL_A_RANDOM_BUNDLE_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "features/feature_extractor.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "model/graph.h"
#include "model/model_bundle.h"
#include "tests/model/a_bundle.h"

namespace adrank::testing {

// Fields c0.. of the context and a0.. of the ad with values "v0".."v5", the
// second of either side multi-valued, the third a number; the placement, the
// position, crosses within a side and of the position with the context.
inline v1::FeatureSpec RandomSpec(Rng* rng, bool mixed) {
  v1::FeatureSpec spec;
  const auto field = [&](const std::string& name, const std::string& source) {
    v1::Field* f = spec.add_fields();
    f->set_name(name);
    f->set_source(source);
    return f;
  };
  const auto side = [&](const std::string& letter, const std::string& source) {
    const int n = 1 + static_cast<int>(rng->Below(4));
    for (int i = 0; i < n; ++i) {
      const std::string name = absl::StrCat(letter, i);
      v1::Field* f = field(name, absl::StrCat(source, ".", name));
      if (i == 1 && rng->Bernoulli(0.5)) f->set_pooling(v1::Field::MEAN);
      if (i == 2) f->set_kind(v1::Field::LOG1P);
    }
    return n;
  };
  const int contexts = side("c", "context"), ads = side("a", "ad");
  if (rng->Bernoulli(0.5)) field("place", "placement");
  const bool position = rng->Bernoulli(0.5);
  if (position) field("pos", "position");
  const auto cross = [&](const std::string& a, const std::string& b) {
    v1::Cross* c = spec.add_crosses();
    c->set_name(absl::StrCat(a, "_", b));
    c->add_of(a);
    c->add_of(b);
  };
  if (contexts > 1 && rng->Bernoulli(0.5)) cross("c0", "c1");
  if (ads > 1 && rng->Bernoulli(0.5)) cross("a0", "a1");
  if (position && rng->Bernoulli(0.5)) cross("pos", "c0");
  if (mixed) cross("c0", "a0");
  return spec;
}

// Attributes of RandomSpec's side `letter`; some are missing.
inline void AddRandomAttributes(
    Rng* rng, const std::string& letter,
    google::protobuf::RepeatedPtrField<v1::Attribute>* to) {
  for (int i = 0; i < 4; ++i) {
    if (rng->Bernoulli(0.1)) continue;
    v1::Attribute* a = to->Add();
    a->set_name(absl::StrCat(letter, i));
    if (i == 2) {
      a->add_number(rng->Uniform() * 20);
      continue;
    }
    std::set<std::string> values;
    for (uint64_t n = 1 + (i == 1 ? rng->Below(3) : 0); n > 0; --n) {
      values.insert(absl::StrCat("v", rng->Below(6)));
    }
    for (const std::string& v : values) a->add_text(v);
  }
}

// With the graph's numbers at random; a logistic model when there is no graph.
// Most ids are known, some fields have a row for the others.
inline std::shared_ptr<const ModelBundle> ARandomBundle(
    Rng* rng, const std::string& graph_text, bool mixed = false,
    const v1::Calibrator& calibrator = {}) {
  BundleContents contents;
  v1::ModelManifest& m = contents.manifest;
  m.set_model_name("ctr");
  m.set_version(1);
  m.set_base_rate(0.1);
  *m.mutable_feature_spec() = RandomSpec(rng, mixed);
  *m.mutable_calibrator() = calibrator;
  const auto extractor = FeatureExtractor::Create(m.feature_spec());
  EXPECT_TRUE(extractor.ok()) << extractor.status();
  std::set<uint64_t> ids;
  for (int i = 0; i < 300; ++i) {
    v1::Context context;
    v1::AdSnapshot ad;
    AddRandomAttributes(rng, "c", context.mutable_attributes());
    AddRandomAttributes(rng, "a", ad.mutable_attributes());
    RequestFeatures features;
    (*extractor)
        ->Extract(context, i % 2 ? "top" : "side", {&ad}, {}, &features);
    for (const FeatureBatch* part :
         {&features.context, &features.ads, &features.crosses}) {
      for (const uint64_t id : part->ids) {
        if (id % 5 != 0) ids.insert(id);
      }
    }
  }
  contents.ids.assign(ids.begin(), ids.end());
  uint32_t rows = static_cast<uint32_t>(ids.size());
  for (size_t f = 0; f < (*extractor)->field_names().size(); ++f) {
    contents.oov_rows.push_back(rng->Bernoulli(0.5) ? rows++ : kNoRow);
  }
  const auto fill = [&](size_t n, double scale) {
    std::vector<float> v(n);
    for (float& x : v) x = static_cast<float>(scale * rng->Normal());
    return v;
  };
  if (graph_text.empty()) {
    contents.weights = fill(rows, 0.5);
    contents.bias = -1;
  } else {
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        graph_text, m.mutable_graph()));
    const auto layout = LayoutOf(m.feature_spec());
    EXPECT_TRUE(layout.ok()) << layout.status();
    const auto graph = Graph::Create(m.graph(), *layout, false);
    EXPECT_TRUE(graph.ok()) << graph.status();
    EmbeddingWeights& w = contents.embedding.emplace();
    w.dim = graph->dim;
    w.vectors = fill(rows * w.dim, 0.4);
    if (graph->linear) w.linear = fill(rows, 0.5);
    w.parameters = fill(graph->parameters, 0.5);
  }
  auto bundle = ModelBundle::FromContents(contents);
  EXPECT_TRUE(bundle.ok()) << bundle.status();
  return bundle.ok() ? *bundle : nullptr;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_MODEL_A_RANDOM_BUNDLE_H_
