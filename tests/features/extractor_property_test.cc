// Random specs and messages: the fast extractor against the obvious one.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "features/feature_extractor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/features/twin_extractor.h"
#include "tests/testing/status_matchers.h"

namespace {
std::atomic<int64_t> allocations = 0;
}  // namespace

// Counted, for the promise of the hot path.
void* operator new(size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  std::abort();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace adrank {
namespace {

using ::adrank::testing::TwinEntry;
using ::adrank::testing::TwinExtract;
using ::adrank::testing::TwinRow;
using v1::Field;

constexpr int kNames = 8;

// Names of all the lengths that the attribute table treats apart.
std::string AttributeName(uint64_t i) {
  static const char* const kAll[kNames] = {
      "a",
      "ab",
      "abc",
      "five5",
      "eight__8",
      "sixteen__name_16",
      "long_common_prefix_A_common_suffix",
      "long_common_prefix_B_common_suffix"};
  return kAll[i];
}

Field RandomField(int index, Rng* rng) {
  Field f;
  f.set_name(absl::StrCat("field", index));
  static const char* const kTexts[] = {
      "user_id",        "query",          "placement",       "ad.id",
      "ad.ad_group_id", "ad.campaign_id", "ad.advertiser_id"};
  static constexpr Field::Kind kNumbers[] = {
      Field::CATEGORICAL, Field::LOG_SQUARE_BIN, Field::QUANTILE_BIN,
      Field::LOG1P, Field::IDENTITY};
  const uint64_t source = rng->Below(10);
  if (source == 0) {
    f.set_source("time");
    f.set_kind(rng->Bernoulli(0.5) ? Field::HOUR : Field::WEEKDAY);
  } else if (source == 1) {
    f.set_source("position");
    f.set_kind(kNumbers[rng->Below(5)]);
  } else if (source < 4) {
    f.set_source(kTexts[rng->Below(std::size(kTexts))]);
    f.set_kind(rng->Bernoulli(0.5) ? Field::KIND_UNSPECIFIED : Field::TOKENS);
  } else {
    f.set_source(absl::StrCat(source < 7 ? "context." : "ad.",
                              AttributeName(rng->Below(kNames))));
    f.set_kind(rng->Below(6) == 0 ? Field::TOKENS : kNumbers[rng->Below(5)]);
  }
  if (f.kind() == Field::QUANTILE_BIN) {
    for (uint64_t i = 0, n = rng->Below(5); i < n; ++i) {
      f.add_boundaries(static_cast<double>(i) * 3 - 4);
    }
  }
  f.set_pooling(static_cast<Field::Pooling>(rng->Below(3)));
  if (rng->Bernoulli(0.3)) {
    f.set_max_values(1 + static_cast<uint32_t>(rng->Below(4)));
  }
  return f;
}

v1::FeatureSpec RandomSpec(Rng* rng) {
  v1::FeatureSpec spec;
  std::vector<std::string> crossable;
  for (int i = 0, n = 2 + static_cast<int>(rng->Below(12)); i < n; ++i) {
    *spec.add_fields() = RandomField(i, rng);
    const Field& f = spec.fields(i);
    if (f.kind() != Field::LOG1P && f.kind() != Field::IDENTITY) {
      crossable.push_back(f.name());
    }
  }
  for (int i = 0; i < 5 && crossable.size() >= 3; ++i) {
    v1::Cross* cross = spec.add_crosses();
    cross->set_name(absl::StrCat("cross", i));
    const uint64_t first = rng->Below(crossable.size());
    for (uint64_t c = 0, n = 2 + rng->Below(2); c < n; ++c) {
      cross->add_of(crossable[(first + c) % crossable.size()]);
    }
  }
  return spec;
}

std::string RandomText(Rng* rng) {
  static const char* const kTexts[] = {
      "",
      "x",
      "Red shoes",
      "3",
      "-2.5",
      "1e3",
      "nan",
      "inf",
      "Été 買手機",
      "\xff\xfe",
      "a b c a",
      "2.5",
      "0.50",
      "1e999",
      "long text that no small string holds, not at all"};
  return kTexts[rng->Below(std::size(kTexts))];
}

double RandomNumber(Rng* rng) {
  static const double kNumbers[] = {
      0, -0.0, 1, 2, 3, 2.5, -7.25, 1e300, NAN, 1e15, -1e9, INFINITY, 1e-9};
  return rng->Bernoulli(0.5) ? kNumbers[rng->Below(std::size(kNumbers))]
                             : rng->Normal() * 10;
}

template <typename Message>
void AddAttributes(Message* message, Rng* rng) {
  for (uint64_t n = rng->Below(10); n > 0; --n) {
    v1::Attribute* a = message->add_attributes();
    a->set_name(rng->Below(5) == 0 ? "long_common_prefix_C_common_suffix"
                                   : AttributeName(rng->Below(kNames)));
    for (uint64_t t = rng->Below(4); t > 0; --t) a->add_text(RandomText(rng));
    for (uint64_t t = rng->Below(4); t > 0; --t) {
      a->add_number(RandomNumber(rng));
    }
    if (rng->Below(20) == 0) {
      for (int i = 0; i < 80; ++i) a->add_number(i);
    }
  }
}

v1::Context RandomContext(Rng* rng) {
  v1::Context context;
  context.set_time_ms(rng->Below(5) == 0
                          ? 0
                          : static_cast<int64_t>(rng->Below(4000000000000)) -
                                2000000000000);
  context.set_user_id(RandomText(rng));
  context.set_query(RandomText(rng));
  AddAttributes(&context, rng);
  return context;
}

v1::AdSnapshot RandomAd(Rng* rng) {
  v1::AdSnapshot ad;
  ad.set_ad_id(RandomText(rng));
  ad.set_ad_group_id(RandomText(rng));
  ad.set_campaign_id(RandomText(rng));
  ad.set_advertiser_id(RandomText(rng));
  AddAttributes(&ad, rng);
  return ad;
}

void ExpectRow(const FeatureBatch& batch, size_t row,
               const std::vector<TwinEntry>& expected,
               std::vector<std::string>::const_iterator* said) {
  ASSERT_EQ(batch.offsets[row + 1] - batch.offsets[row], expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const size_t e = batch.offsets[row] + i;
    ASSERT_EQ(batch.fields[e], expected[i].field);
    ASSERT_EQ(batch.ids[e], expected[i].id) << expected[i].text;
    ASSERT_FLOAT_EQ(batch.values[e], expected[i].value) << expected[i].text;
    // "label=text"
    const std::string& text = *(*said)++;
    const std::string tail = absl::StrCat("=", expected[i].text);
    ASSERT_TRUE(text.size() > tail.size() &&
                text.compare(text.size() - tail.size(), tail.size(), tail) == 0)
        << text << " vs " << tail;
  }
}

// What the server does, with ads that were extracted before.
RequestFeatures ThreeCalls(const FeatureExtractor& extractor,
                           const v1::Context& context,
                           const std::string& placement,
                           const std::vector<const v1::AdSnapshot*>& ads,
                           const std::vector<uint32_t>& positions) {
  RequestFeatures f;
  FeatureBatch catalogue;
  for (size_t i = ads.size(); i > 0; --i) {
    extractor.ExtractAd(*ads[i - 1], &catalogue);
  }
  extractor.ExtractContext(context, placement, &f.context);
  for (size_t i = 0; i < ads.size(); ++i) {
    extractor.ExtractAd(*ads[i], &f.ads);
    extractor.ExtractCrosses(f.context, 0, catalogue, ads.size() - 1 - i,
                             positions[i], &f.crosses);
  }
  return f;
}

TEST(ExtractorProperty, EqualsTheObviousExtractor) {
  Rng rng(11);
  size_t entries = 0;
  for (int round = 0; round < 1500; ++round) {
    const v1::FeatureSpec spec = RandomSpec(&rng);
    ASSERT_OK_AND_ASSIGN(const auto extractor,
                         FeatureExtractor::Create(spec, true));
    const v1::Context context = RandomContext(&rng);
    const std::string placement = RandomText(&rng);
    const std::vector<v1::AdSnapshot> ads = {RandomAd(&rng), RandomAd(&rng),
                                             RandomAd(&rng)};
    const std::vector<const v1::AdSnapshot*> views = {&ads[0], &ads[1],
                                                      &ads[2]};
    const std::vector<uint32_t> positions = {
        1, static_cast<uint32_t>(rng.Below(4)), 1000000};
    RequestFeatures f;
    extractor->Extract(context, placement, views, positions, &f);
    const RequestFeatures parts =
        ThreeCalls(*extractor, context, placement, views, positions);
    for (size_t i = 0; i < ads.size(); ++i) {
      SCOPED_TRACE(absl::StrCat(
          "round ", round, " ad ", i, "\n", spec.ShortDebugString(), "\n",
          context.ShortDebugString(), "\n", ads[i].ShortDebugString()));
      const TwinRow twin =
          TwinExtract(spec, context, placement, ads[i], positions[i]);
      const std::vector<std::string> said =
          extractor->Describe(context, placement, ads[i], positions[i]);
      ASSERT_EQ(said.size(),
                twin.context.size() + twin.ad.size() + twin.cross.size());
      auto next = said.begin();
      ASSERT_NO_FATAL_FAILURE(ExpectRow(f.context, 0, twin.context, &next));
      ASSERT_NO_FATAL_FAILURE(ExpectRow(f.ads, i, twin.ad, &next));
      ASSERT_NO_FATAL_FAILURE(ExpectRow(f.crosses, i, twin.cross, &next));
      ASSERT_EQ(FeatureExtractor::Fingerprint(f, i),
                FeatureExtractor::Fingerprint(parts, i));
      entries += said.size();
    }
  }
  EXPECT_GT(entries, 20000u);
}

TEST(ExtractorProperty, AllocatesNothingOnceWarm) {
  v1::FeatureSpec spec;
  v1::Context context;
  v1::AdSnapshot ad;
  for (int i = 0; i < kNames; ++i) {
    Field* f = spec.add_fields();
    f->set_name(AttributeName(i));
    f = spec.add_fields();
    f->set_name(absl::StrCat("ad_", AttributeName(i)));
    f->set_source(absl::StrCat("ad.", AttributeName(i)));
    v1::Cross* cross = spec.add_crosses();
    cross->set_name(absl::StrCat("cross", i));
    cross->add_of(AttributeName(i));
    cross->add_of(f->name());
    for (v1::Attribute* a : {context.add_attributes(), ad.add_attributes()}) {
      a->set_name(AttributeName(i));
      a->add_text("some text beyond the small string");
      a->add_number(i + 0.5);
    }
  }
  Field* query = spec.add_fields();
  query->set_name("query");
  query->set_source("query");
  query->set_kind(Field::TOKENS);
  context.set_query("Cheap running shoes for the coming winter season");
  ASSERT_OK_AND_ASSIGN(const auto extractor, FeatureExtractor::Create(spec));
  RequestFeatures f;
  const std::vector<const v1::AdSnapshot*> ads(10, &ad);
  uint64_t sum = 0;
  const auto extract = [&] {
    extractor->Extract(context, "top", ads, {}, &f);
    f.crosses.Clear();
    for (size_t i = 0; i < ads.size(); ++i) {
      extractor->ExtractCrosses(f.context, 0, f.ads, i, 2, &f.crosses);
      sum += FeatureExtractor::Fingerprint(f, i);
    }
  };
  for (int i = 0; i < 3; ++i) extract();
  const int64_t before = allocations;
  for (int i = 0; i < 100; ++i) extract();
  EXPECT_EQ(allocations - before, 0);
  EXPECT_NE(sum, 0u);
}

}  // namespace
}  // namespace adrank
