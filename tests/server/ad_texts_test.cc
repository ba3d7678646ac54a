// What AdIndex keeps packed comes out as it went in.
#include "server/trigger/ad_texts.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gtest/gtest.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/id_table.h"
#include "storage/snapshot_bytes.h"
#include "tests/server/random_catalog.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

std::string RandomText(Rng* rng) {
  // Lengths around those where a varint grows by a byte.
  constexpr uint64_t kLengths[] = {0, 1, 15, 16, 127, 128, 129, 300, 20000};
  std::string text(kLengths[rng->Below(9)], '\0');
  for (char& c : text) c = static_cast<char>(rng->Below(256));
  return text;
}

v1::Attribute RandomAttribute(Rng* rng) {
  v1::Attribute a;
  a.set_name(absl::StrCat("n", rng->Below(20)));
  for (uint64_t n = rng->Below(3); n > 0; --n) {
    a.add_text(absl::StrCat("t", rng->Below(300)));
  }
  for (uint64_t n = rng->Below(2); n > 0; --n) a.add_number(rng->Uniform());
  return a;
}

TEST(AdTexts, GivesBackWhatItWasGiven) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    AdTexts texts;
    std::vector<v1::Ad> ads(200);
    std::vector<AdTexts::Handle> handles, plain;
    std::vector<std::string> others;
    for (v1::Ad& ad : ads) {
      ad.set_id(RandomText(&rng));
      ad.set_landing_url(RandomText(&rng));
      for (uint64_t n = rng.Below(200); n > 0; --n) {
        *ad.add_attributes() = RandomAttribute(&rng);
      }
      handles.push_back(texts.AddAd(ad));
      others.push_back(RandomText(&rng));
      plain.push_back(texts.AddText(others.back()));
    }
    texts.EndFilling();
    for (size_t i = 0; i < ads.size(); ++i) {
      ASSERT_EQ(texts.id(handles[i]), ads[i].id());
      ASSERT_EQ(texts.landing_url(handles[i]), ads[i].landing_url());
      ASSERT_EQ(texts.text(plain[i]), others[i]);
      std::string bytes;
      texts.AppendAttributes(handles[i], &bytes);
      v1::AdSnapshot expected;
      *expected.mutable_attributes() = ads[i].attributes();
      ASSERT_EQ(bytes, EncodeAd(expected).bytes);
    }
  }
}

TEST(IdTable, IsAMap) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    std::vector<std::string> ids;
    const auto id_of = [&](uint32_t i) -> absl::string_view { return ids[i]; };
    IdTable table;
    std::map<std::string, uint32_t> expected;
    if (rng.Bernoulli(0.5)) table.Reserve(rng.Below(1000), id_of);
    for (int step = 0; step < 2000; ++step) {
      const std::string id = absl::StrCat(rng.Below(3000));
      const auto number = static_cast<uint32_t>(ids.size());
      const bool added = table.Add(id, number, id_of);
      ASSERT_EQ(added, expected.emplace(id, number).second);
      if (added) ids.push_back(id);
      const std::string other = absl::StrCat(rng.Below(3000));
      const auto it = expected.find(other);
      const std::optional<uint32_t> found = table.Find(other, id_of);
      ASSERT_EQ(found.has_value(), it != expected.end());
      if (found.has_value()) ASSERT_EQ(*found, it->second);
    }
  }
  EXPECT_EQ(IdTable().Find("x", [](uint32_t) { return absl::string_view(); }),
            std::nullopt);
}

// What the log stores of an ad is what the catalogue says of it.
TEST(AdIndex, SnapshotsAreTheCatalogues) {
  Rng rng(2);
  v1::Catalog catalog = testing::RandomCatalog(&rng, 300);
  std::map<std::string, v1::AdSnapshot> expected;
  std::map<std::string, const v1::AdGroup*> groups;
  std::map<std::string, const v1::Campaign*> campaigns;
  for (const v1::AdGroup& g : catalog.ad_groups()) groups[g.id()] = &g;
  for (const v1::Campaign& c : catalog.campaigns()) campaigns[c.id()] = &c;
  for (v1::Ad& ad : *catalog.mutable_ads()) {
    for (uint64_t n = rng.Below(6); n > 0; --n) {
      *ad.add_attributes() = RandomAttribute(&rng);
    }
    if (rng.Bernoulli(0.3)) ad.add_categories(absl::StrCat(rng.Below(4)));
    if (rng.Bernoulli(0.3)) ad.add_exclusion_labels(absl::StrCat(rng.Below(4)));
    const v1::AdGroup& g = *groups.at(ad.ad_group_id());
    v1::AdSnapshot& snapshot = expected[ad.id()];
    snapshot.set_ad_id(ad.id());
    snapshot.set_ad_group_id(g.id());
    snapshot.set_campaign_id(g.campaign_id());
    snapshot.set_advertiser_id(campaigns.at(g.campaign_id())->advertiser_id());
    *snapshot.mutable_attributes() = ad.attributes();
  }
  const auto index = AdIndex::Build(catalog, 1);
  ASSERT_OK(index);
  for (const v1::Ad& ad : catalog.ads()) {
    const uint32_t i = *(*index)->Find(ad.id());
    const EncodedAd encoded = EncodeAd(expected.at(ad.id()));
    ASSERT_EQ((*index)->SnapshotBytes(i), encoded.bytes);
    ASSERT_EQ(EncodedOf((*index)->SnapshotBytes(i)).hash, encoded.hash);
    ASSERT_EQ(EncodeAd((*index)->Snapshot(i)).bytes, encoded.bytes);
    const AdTags tags = AdTags::Of(ad);
    const IndexedAd entry = (*index)->ad(i);
    ASSERT_EQ(entry.tags != nullptr, !tags.empty());
    if (entry.tags == nullptr) continue;
    ASSERT_EQ(entry.tags->labels, tags.labels);
    ASSERT_EQ(entry.tags->categories, tags.categories);
  }
}

}  // namespace
}  // namespace adrank
