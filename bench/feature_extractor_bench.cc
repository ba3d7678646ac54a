// Rows a second that FeatureExtractor makes of 20 context fields, 15 ad fields
// and 4 crosses, ten ads a decision: of messages that are in the cache, as
// those just parsed are, and of messages all over the memory. The floor is the
// rate of the Hash64 calls that such rows cannot do without, on the same
// strings, taken in turns with the measured work.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "features/feature_extractor.h"

namespace adrank {
namespace {

constexpr int kContextFields = 20;
constexpr int kAdFields = 15;
constexpr int kAdsPerDecision = 10;

v1::FeatureSpec BenchSpec() {
  v1::FeatureSpec spec;
  for (int i = 0; i < kContextFields; ++i) {
    v1::Field* field = spec.add_fields();
    field->set_name(absl::StrCat("context_field_", i));
  }
  for (int i = 0; i < kAdFields; ++i) {
    v1::Field* field = spec.add_fields();
    field->set_name(absl::StrCat("ad_field_", i));
    field->set_source(absl::StrCat("ad.ad_field_", i));
  }
  for (int i = 0; i < 4; ++i) {
    v1::Cross* cross = spec.add_crosses();
    cross->set_name(absl::StrCat("cross_", i));
    cross->add_of(absl::StrCat("context_field_", i));
    cross->add_of(absl::StrCat("ad_field_", i));
  }
  return spec;
}

template <typename Message>
Message RandomMessage(const char* prefix, int fields, Rng* rng) {
  Message message;
  for (int i = 0; i < fields; ++i) {
    v1::Attribute* attribute = message.add_attributes();
    attribute->set_name(absl::StrCat(prefix, i));
    attribute->add_text(absl::StrCat("value_", rng->Below(100000)));
  }
  return message;
}

struct Traffic {
  std::vector<v1::Context> contexts;
  std::vector<v1::AdSnapshot> ads;
  std::vector<std::vector<const v1::AdSnapshot*>> shown;
};

Traffic MakeTraffic(int decisions, int ads) {
  Rng rng(1);
  Traffic t;
  for (int i = 0; i < decisions; ++i) {
    t.contexts.push_back(
        RandomMessage<v1::Context>("context_field_", kContextFields, &rng));
  }
  for (int i = 0; i < ads; ++i) {
    t.ads.push_back(
        RandomMessage<v1::AdSnapshot>("ad_field_", kAdFields, &rng));
  }
  for (int i = 0; i < decisions; ++i) {
    std::vector<const v1::AdSnapshot*>& shown = t.shown.emplace_back();
    for (int a = 0; a < kAdsPerDecision; ++a) {
      shown.push_back(&t.ads[rng.Below(t.ads.size())]);
    }
  }
  return t;
}

uint64_t ExtractAll(const FeatureExtractor& extractor, const Traffic& t,
                    bool fingerprint, RequestFeatures* features) {
  uint64_t sum = 0;
  for (size_t d = 0; d < t.contexts.size(); ++d) {
    extractor.Extract(t.contexts[d], "", t.shown[d], {}, features);
    sum += features->crosses.ids.back();
    if (!fingerprint) continue;
    for (size_t i = 0; i < features->candidates(); ++i) {
      sum += FeatureExtractor::Fingerprint(*features, i);
    }
  }
  return sum;
}

template <typename Attributes>
uint64_t HashAttributes(const Attributes& attributes) {
  uint64_t sum = 0;
  for (const v1::Attribute& a : attributes) sum += Hash64(a.text(0), 7);
  return sum;
}

// The hashes of values and one more for each cross.
uint64_t HashAll(const Traffic& t) {
  uint64_t sum = 0;
  for (size_t d = 0; d < t.contexts.size(); ++d) {
    sum += HashAttributes(t.contexts[d].attributes());
    for (const v1::AdSnapshot* ad : t.shown[d]) {
      sum += HashAttributes(ad->attributes());
      for (int i = 0; i < 4; ++i) sum += Hash64(ad->attributes(i).text(0), 9);
    }
  }
  return sum;
}

template <typename Work>
double Rate(const Traffic& t, uint64_t* sum, const Work& work) {
  // Enough decisions a time for the clock.
  const size_t rounds = 1 + 4000 / t.contexts.size();
  const absl::Time start = absl::Now();
  for (size_t i = 0; i < rounds; ++i) *sum += work();
  return static_cast<double>(rounds * t.contexts.size() * kAdsPerDecision) /
         absl::ToDoubleSeconds(absl::Now() - start);
}

template <typename Work>
void Measure(const char* name, const char* messages, const Traffic& t,
             const Work& work) {
  double rate = 0, floor = 0;
  uint64_t sum = 0;
  const absl::Time end = absl::Now() + absl::Seconds(2);
  do {
    floor = std::max(floor, Rate(t, &sum, [&t] { return HashAll(t); }));
    rate = std::max(rate, Rate(t, &sum, work));
  } while (absl::Now() < end);
  CHECK_NE(sum, 0u);
  std::printf(
      "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"rows/s\",\"floor\":%.0f,"
      "\"ratio\":%.3f,\"params\":{\"messages\":\"%s\",\"context_fields\":%d,"
      "\"ad_fields\":%d,\"crosses\":4,\"ads_per_decision\":%d,\"threads\":1}}"
      "\n",
      name, rate, floor, rate / floor, messages, kContextFields, kAdFields,
      kAdsPerDecision);
}

void MeasureAll(const FeatureExtractor& extractor, const char* messages,
                const Traffic& t) {
  RequestFeatures features;
  Measure("feature_extractor.extract", messages, t,
          [&] { return ExtractAll(extractor, t, false, &features); });
  Measure("feature_extractor.extract_and_fingerprint", messages, t,
          [&] { return ExtractAll(extractor, t, true, &features); });
}

int Main() {
  const auto extractor = FeatureExtractor::Create(BenchSpec());
  CHECK(extractor.ok()) << extractor.status();
  MeasureAll(**extractor, "cached", MakeTraffic(20, 100));
  MeasureAll(**extractor, "scattered", MakeTraffic(2000, 5000));
  return 0;
}

}  // namespace
}  // namespace adrank

int main() { return adrank::Main(); }
