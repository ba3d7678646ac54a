#include "features/feature_extractor.h"

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "base/hash.h"
#include "base/textproto.h"
#include "features/feature_id.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

template <typename M>
M Text(const std::string& text) {
  M message;
  const absl::Status status = ParseTextProto(text, "test", &message);
  EXPECT_TRUE(status.ok()) << status;
  return message;
}
v1::Context Context(const std::string& text) { return Text<v1::Context>(text); }
v1::AdSnapshot Ad(const std::string& text) {
  return Text<v1::AdSnapshot>(text);
}

std::unique_ptr<const FeatureExtractor> Extractor(const std::string& spec,
                                                  bool unlearnt = false) {
  auto extractor =
      FeatureExtractor::Create(Text<v1::FeatureSpec>(spec), unlearnt);
  EXPECT_OK(extractor);
  return *std::move(extractor);
}

std::vector<std::string> Say(const std::string& spec,
                             const v1::Context& context,
                             const v1::AdSnapshot& ad = {}) {
  return Extractor(spec)->Describe(context, "", ad, 1);
}

FeatureBatch ContextRow(const std::string& spec, const v1::Context& context) {
  FeatureBatch batch;
  Extractor(spec, true)->ExtractContext(context, "", &batch);
  return batch;
}

TEST(FeatureExtractor, AWholeRowInItsParts) {
  const auto extractor = Extractor(
      "fields { name: 'city' } "
      "fields { name: 'category' source: 'ad.category' } "
      "fields { name: 'position' source: 'position' } "
      "fields { name: 'slot' source: 'placement' } "
      "fields { name: 'advertiser' source: 'ad.advertiser_id' } "
      "crosses { name: 'city_slot' of: ['city', 'slot'] } "
      "crosses { name: 'cc' of: ['city', 'category'] } "
      "crosses { name: 'adv' of: ['advertiser', 'category'] } "
      "crosses { name: 'pos' of: ['position', 'slot'] } ");
  const v1::Context context =
      Context("attributes { name: 'city' text: 'Berlin' }");
  const v1::AdSnapshot ad =
      Ad("ad_id: 'x' advertiser_id: 'acme' "
         "attributes { name: 'category' text: 'shoes' text: 'sale' }");
  RequestFeatures f;
  extractor->Extract(context, "top", {&ad}, {3}, &f);
  EXPECT_THAT(f.context.fields, ElementsAre(0, 3, 5));
  EXPECT_THAT(f.ads.fields, ElementsAre(1, 1, 4, 7, 7));
  EXPECT_THAT(f.crosses.fields, ElementsAre(2, 6, 6, 8));
  const uint64_t berlin = Hash64("Berlin", Hash64("city"));
  EXPECT_EQ(f.context.ids[0], berlin);
  EXPECT_EQ(f.crosses.ids[1],
            CrossEnd(CrossNext(CrossNext(CrossStart(Hash64("cc")), berlin),
                               Hash64("shoes", Hash64("category")))));
  EXPECT_THAT(
      extractor->Describe(context, "top", ad, 3),
      ElementsAre("city=Berlin", "slot=top", "city x slot=Berlin x top",
                  "category=shoes", "category=sale", "advertiser=acme",
                  "advertiser x category=acme x shoes",
                  "advertiser x category=acme x sale", "position=3",
                  "city x category=Berlin x shoes",
                  "city x category=Berlin x sale", "position x slot=3 x top"));
}

// Written down from the first version: a bundle's golden examples and every
// logged fingerprint depend on them.
TEST(FeatureExtractor, IsFrozen) {
  const auto extractor = Extractor(
      "time_zone: 'Europe/Berlin' "
      "fields { name: 'city' } "
      "fields { name: 'hour' source: 'time' kind: HOUR } "
      "fields { name: 'query' source: 'query' kind: TOKENS pooling: MEAN } "
      "fields { name: 'price' source: 'ad.price' kind: LOG_SQUARE_BIN } "
      "fields { name: 'age' source: 'ad.age' kind: LOG1P } "
      "crosses { name: 'city_price' of: ['city', 'price'] } ");
  const v1::Context context = Context(
      "time_ms: 1700000000000 query: 'Red SHOES' "
      "attributes { name: 'city' text: 'Berlin' }");
  const v1::AdSnapshot ad =
      Ad("attributes { name: 'price' number: 19.9 } "
         "attributes { name: 'age' number: 3 }");
  RequestFeatures f;
  extractor->Extract(context, "", {&ad}, {}, &f);
  EXPECT_THAT(f.context.ids,
              ElementsAre(0x6c62c561ef63de0bull, 0xdfc3e0ae96fccd22ull,
                          0xcbfbfad940a96842ull, 0xe21feaeeec7b80feull));
  EXPECT_THAT(f.context.values, ElementsAre(1, 1, 0.5f, 0.5f));
  EXPECT_THAT(f.ads.ids,
              ElementsAre(0x09171c81b665825dull, 0x1cdebbbeddf76ed8ull));
  EXPECT_THAT(f.ads.values, ElementsAre(1, std::log(4.0f)));
  EXPECT_THAT(f.crosses.ids, ElementsAre(0x38d6ab86b3a686b4ull));
  EXPECT_EQ(FeatureExtractor::Fingerprint(f, 0), 0x77691e69853d8e53ull);
}

TEST(FeatureExtractor, MissingIsAbsent) {
  const std::string spec =
      "fields { name: 'a' } fields { name: 'u' source: 'user_id' } "
      "fields { name: 'q' source: 'query' kind: TOKENS } "
      "fields { name: 'h' source: 'time' kind: HOUR } "
      "fields { name: 'n' kind: LOG1P } fields { name: 'b' } "
      "crosses { name: 'ab' of: ['a', 'b'] } ";
  EXPECT_THAT(Say(spec, Context("")), IsEmpty());
  EXPECT_THAT(Say(spec, Context("attributes { name: 'a' }")), IsEmpty());
  EXPECT_THAT(Say(spec, Context("attributes { name: 'a' text: '' } "
                                "attributes { name: 'other' text: 'x' }")),
              IsEmpty());
  EXPECT_THAT(Say(spec, Context("query: ' ?! ' "
                                "attributes { name: 'a' text: '' text: 'x' } "
                                "attributes { name: 'n' text: 'much' }")),
              ElementsAre("a=x"));
}

TEST(FeatureExtractor, OfTwoAttributesOfOneNameTheFirstCounts) {
  EXPECT_THAT(Say("fields { name: 'a' }",
                  Context("attributes { name: 'a' text: 'x' } "
                          "attributes { name: 'a' text: 'y' }")),
              ElementsAre("a=x"));
}

TEST(FeatureExtractor, TwoFieldsMayReadOneAttribute) {
  EXPECT_THAT(Say("fields { name: 'a' } fields { name: 'b' "
                  "source: 'context.a' kind: LOG_SQUARE_BIN }",
                  Context("attributes { name: 'a' number: 10 }")),
              ElementsAre("a=10", "b:bin=8"));
}

TEST(FeatureExtractor, NonFiniteNumbersAreAbsent) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const char* kind :
       {"CATEGORICAL", "LOG_SQUARE_BIN", "QUANTILE_BIN boundaries: 1", "LOG1P",
        "IDENTITY", "TOKENS"}) {
    v1::Context context;
    v1::Attribute* a = context.add_attributes();
    a->set_name("a");
    for (double v : {std::nan(""), inf, -inf}) a->add_number(v);
    const std::string spec =
        absl::StrCat("fields { name: 'a' kind: ", kind, "}");
    EXPECT_THAT(Say(spec, context), IsEmpty()) << kind;
    a->add_number(5);
    EXPECT_THAT(Say(spec, context), SizeIs(1)) << kind;
  }
  EXPECT_THAT(Say("fields { name: 'a' kind: IDENTITY }",
                  Context("attributes { name: 'a' number: 1e300 }")),
              IsEmpty());
  EXPECT_THAT(Say("fields { name: 'a' kind: IDENTITY }",
                  Context("attributes { name: 'a' text: 'nan' text: 'inf' }")),
              IsEmpty());
}

TEST(FeatureExtractor, ANumberIsItsShortestText) {
  const std::string spec = "fields { name: 'a' }";
  EXPECT_EQ(
      ContextRow(spec, Context("attributes { name: 'a' number: 3.0 }")).ids,
      ContextRow(spec, Context("attributes { name: 'a' text: '3' }")).ids);
  EXPECT_THAT(Say(spec, Context("attributes { name: 'a' number: 0.1 "
                                "number: 100000 number: -0.0 }")),
              ElementsAre("a=0.1", "a=100000", "a=0"));
}

TEST(FeatureExtractor, InvalidUtf8IsJustBytesOrReplaced) {
  v1::Context context;
  context.set_query("caf\xe9 x");
  v1::Attribute* a = context.add_attributes();
  a->set_name("a");
  a->add_text("\xff");
  a->add_text("\xfe");
  const std::string spec =
      "fields { name: 'a' } fields { name: 'q' source: 'query' kind: TOKENS }";
  const FeatureBatch row = ContextRow(spec, context);
  EXPECT_THAT(row.fields, ElementsAre(0, 0, 1, 1));
  EXPECT_EQ(row.ids[0], Hash64("\xff", Hash64("a")));
  EXPECT_EQ(row.ids[2], Hash64("caf", Hash64("q")));
}

TEST(FeatureExtractor, ValuesAreDistinctInOrderAndLimited) {
  const v1::Context context = Context(
      "attributes { name: 'a' text: ['z', 'y', 'z', '', 'x', 'y', 'w'] }");
  EXPECT_THAT(Say("fields { name: 'a' }", context),
              ElementsAre("a=z", "a=y", "a=x", "a=w"));
  EXPECT_THAT(Say("fields { name: 'a' max_values: 3 }", context),
              ElementsAre("a=z", "a=y", "a=x"));
  EXPECT_THAT(
      ContextRow("fields { name: 'a' max_values: 3 pooling: MEAN }", context)
          .values,
      Each(1.0f / 3));
  EXPECT_THAT(ContextRow("fields { name: 'a' pooling: SUM }", context).values,
              Each(1));
}

TEST(FeatureExtractor, BinsOfSeveralNumbersAreDistinctToo) {
  EXPECT_THAT(Say("fields { name: 'a' kind: QUANTILE_BIN boundaries: [0, 10] }",
                  Context("attributes { name: 'a' text: '5' "
                          "number: [1, -3, 10, 12] }")),
              ElementsAre("a:bin=1", "a:bin=0", "a:bin=2"));
}

TEST(FeatureExtractor, NumbersPoolIntoOneEntry) {
  const v1::Context context =
      Context("attributes { name: 'a' number: [1, 2, 6, 100] }");
  const FeatureBatch sum =
      ContextRow("fields { name: 'a' kind: IDENTITY max_values: 3 }", context);
  EXPECT_THAT(sum.values, ElementsAre(9));
  EXPECT_THAT(sum.ids, ElementsAre(NumberId(Hash64("a"))));
  EXPECT_THAT(ContextRow("fields { name: 'a' kind: IDENTITY max_values: 3 "
                         "pooling: MEAN }",
                         context)
                  .values,
              ElementsAre(3));
  EXPECT_THAT(Say("fields { name: 'a' kind: LOG1P }",
                  Context("attributes { name: 'a' number: 0 }")),
              ElementsAre("a:log1p=0"));
}

TEST(FeatureExtractor, UnlearntBinsAreAbsent) {
  EXPECT_THAT(ContextRow("fields { name: 'a' kind: QUANTILE_BIN }"
                         "fields { name: 'b' }"
                         "crosses { name: 'ab' of: ['a', 'b'] }",
                         Context("attributes { name: 'a' number: 1 } "
                                 "attributes { name: 'b' number: 1 }"))
                  .fields,
              ElementsAre(1));
}

TEST(FeatureExtractor, TokensOfAllTextsAreNormalised) {
  EXPECT_THAT(Say("fields { name: 'a' kind: TOKENS }",
                  Context("attributes { name: 'a' text: 'Été à PARIS' "
                          "text: 'paris, 2.5' number: 2.5 }")),
              ElementsAre("a=ete", "a=a", "a=paris", "a=2.5"));
}

std::vector<std::string> TimesIn(const std::string& zone, absl::CivilSecond utc,
                                 int64_t extra_ms = 0) {
  v1::Context context;
  context.set_time_ms(
      absl::ToUnixMillis(absl::FromCivil(utc, absl::UTCTimeZone())) + extra_ms);
  return Say(absl::StrCat("time_zone: '", zone,
                          "' fields { name: 'h' source: 'time' kind: HOUR } "
                          "fields { name: 'd' source: 'time' kind: WEEKDAY }"),
             context);
}

TEST(FeatureExtractor, HoursFollowTheZoneAndItsSummerTime) {
  using S = absl::CivilSecond;
  EXPECT_THAT(TimesIn("", S(2024, 2, 29, 23, 59, 59)),
              ElementsAre("h=23", "d=Thu"));
  // Berlin: +1, from 2024-03-31 01:00 UTC on +2, until 2024-10-27 01:00 UTC.
  EXPECT_THAT(TimesIn("Europe/Berlin", S(2024, 3, 31, 0, 59, 59), 999),
              ElementsAre("h=1", "d=Sun"));
  EXPECT_THAT(TimesIn("Europe/Berlin", S(2024, 3, 31, 1, 0, 0)),
              ElementsAre("h=3", "d=Sun"));
  EXPECT_THAT(TimesIn("Europe/Berlin", S(2024, 10, 27, 0, 30, 0)),
              ElementsAre("h=2", "d=Sun"));
  EXPECT_THAT(TimesIn("Europe/Berlin", S(2024, 10, 27, 1, 30, 0)),
              ElementsAre("h=2", "d=Sun"));
  EXPECT_THAT(TimesIn("Europe/Berlin", S(2024, 7, 1, 22, 0, 0)),
              ElementsAre("h=0", "d=Tue"));
  EXPECT_THAT(TimesIn("Asia/Kolkata", S(2024, 1, 1, 18, 30, 0)),
              ElementsAre("h=0", "d=Tue"));
  // Before 1970, where milliseconds are negative.
  EXPECT_THAT(TimesIn("UTC", S(1969, 12, 31, 23, 59, 59), 500),
              ElementsAre("h=23", "d=Wed"));
}

TEST(FeatureExtractor, ExtremeTimesAreHarmless) {
  for (int64_t t : {std::numeric_limits<int64_t>::min(),
                    std::numeric_limits<int64_t>::max()}) {
    v1::Context context;
    context.set_time_ms(t);
    EXPECT_THAT(Say("time_zone: 'America/New_York' fields { name: 'h' source: "
                    "'time' kind: HOUR }",
                    context),
                SizeIs(1));
  }
}

TEST(FeatureExtractor, PositionIsOneWhenServingAndAbsentWhenUnknown) {
  const auto extractor = Extractor(
      "fields { name: 'p' source: 'position' kind: IDENTITY }"
      "fields { name: 'c' source: 'position' }");
  const v1::AdSnapshot ad;
  RequestFeatures f;
  extractor->Extract({}, "", {&ad, &ad}, {}, &f);
  EXPECT_THAT(f.crosses.values, Each(1));
  EXPECT_EQ(f.crosses.ids[1], Hash64("1", Hash64("c")));
  EXPECT_THAT(f.crosses.offsets, ElementsAre(0, 2, 4));
  extractor->Extract({}, "", {&ad, &ad}, {7, 0}, &f);
  EXPECT_THAT(f.crosses.values, ElementsAre(7, 1));
  EXPECT_THAT(f.crosses.offsets, ElementsAre(0, 2, 2));
}

TEST(FeatureExtractor, CrossesMultiplyValuesAndMeans) {
  const FeatureBatch row = ContextRow(
      "fields { name: 'a' pooling: MEAN } fields { name: 'b' } "
      "fields { name: 'c' pooling: MEAN } "
      "crosses { name: 'x' of: ['a', 'b', 'c'] }",
      Context("attributes { name: 'a' text: ['1', '2'] } "
              "attributes { name: 'b' text: ['1', '2', '3'] } "
              "attributes { name: 'c' text: ['1', '2', '3', '4'] }"));
  ASSERT_EQ(row.ids.size(), 2u + 3 + 4 + 24);
  for (size_t e = 9; e < row.ids.size(); ++e) {
    EXPECT_EQ(row.values[e], 0.5f * 0.25f);
  }
  EXPECT_EQ(std::set<uint64_t>(row.ids.begin(), row.ids.end()).size(), 33u);
}

TEST(FeatureExtractor, CrossesAreCapped) {
  v1::Context context;
  for (const char* name : {"a", "b"}) {
    v1::Attribute* a = context.add_attributes();
    a->set_name(name);
    for (int i = 0; i < 64; ++i) a->add_number(i);
  }
  const std::vector<std::string> said =
      Say("fields { name: 'a' } fields { name: 'b' } "
          "crosses { name: 'x' of: ['a', 'b'] }",
          context);
  ASSERT_THAT(said, SizeIs(64 + 64 + 1024));
  EXPECT_EQ(said.back(), "a x b=15 x 63");
}

TEST(FeatureExtractor, ExtractClearsAndTheThreeCallsAppend) {
  const auto extractor = Extractor(
      "fields { name: 'a' } fields { name: 'b' source: 'ad.id' } "
      "crosses { name: 'x' of: ['a', 'b'] }");
  const v1::Context context = Context("attributes { name: 'a' text: '1' }");
  const v1::AdSnapshot ad = Ad("ad_id: '7'"), other = Ad("ad_id: '8'");
  RequestFeatures f;
  extractor->Extract(context, "", {&ad, &other}, {}, &f);
  extractor->Extract(context, "", {&ad, &other}, {}, &f);
  EXPECT_EQ(f.context.rows(), 1u);
  EXPECT_EQ(f.candidates(), 2u);
  EXPECT_EQ(f.crosses.rows(), 2u);
  extractor->Extract(context, "", {}, {}, &f);
  EXPECT_EQ(f.candidates(), 0u);
  FeatureBatch batch;
  extractor->ExtractAd(ad, &batch);
  extractor->ExtractAd(other, &batch);
  EXPECT_EQ(batch.rows(), 2u);
}

TEST(FeatureExtractor, KnowsItsSpecAndNames) {
  const auto extractor = Extractor(
      "fields { name: 'a' } fields { name: 'b' } "
      "crosses { name: 'x' of: ['a', 'b'] }");
  EXPECT_THAT(extractor->field_names(), ElementsAre("a", "b", "x"));
  EXPECT_EQ(extractor->spec().fields(1).name(), "b");
}

TEST(Fingerprint, ChangesWithEveryEntry) {
  RequestFeatures f;
  for (FeatureBatch* part : {&f.context, &f.ads, &f.crosses}) {
    for (uint16_t e = 0; e < 5; ++e) part->Add(e, 100 + e, 1.0f);
    part->EndRow();
  }
  std::set<uint64_t> seen = {FeatureExtractor::Fingerprint(f, 0)};
  size_t variants = 1;
  for (FeatureBatch* part : {&f.context, &f.ads, &f.crosses}) {
    for (size_t e = 0; e < 5; ++e, variants += 3) {
      part->ids[e] ^= 1ull << (e * 13);
      seen.insert(FeatureExtractor::Fingerprint(f, 0));
      part->ids[e] ^= 1ull << (e * 13);
      part->fields[e] ^= 1;
      seen.insert(FeatureExtractor::Fingerprint(f, 0));
      part->fields[e] ^= 1;
      part->values[e] = std::nextafter(1.0f, 2.0f);
      seen.insert(FeatureExtractor::Fingerprint(f, 0));
      part->values[e] = 1.0f;
    }
    std::swap(part->ids[1], part->ids[3]);
    seen.insert(FeatureExtractor::Fingerprint(f, 0));
    std::swap(part->ids[1], part->ids[3]);
    ++variants;
  }
  f.context.Clear();
  f.context.EndRow();
  seen.insert(FeatureExtractor::Fingerprint(f, 0));
  ++variants;
  EXPECT_EQ(seen.size(), variants);
  EXPECT_EQ(seen.count(0), 0u);
}

}  // namespace
}  // namespace adrank
