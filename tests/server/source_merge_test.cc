// Quotas of sources, against sets.
#include "server/trigger/source_merge.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

bool Better(const AdMatch& a, const AdMatch& b) {
  return a.value != b.value ? a.value > b.value : a.ad < b.ad;
}

using List = std::vector<AdMatch>;

AdMatch A(uint32_t ad, v1::MatchType type, int64_t bid, float similarity = 0) {
  AdMatch m;
  m.ad = ad;
  m.match_type = type;
  m.bid_micros = bid;
  m.value = static_cast<double>(bid);
  m.similarity = similarity;
  return m;
}

std::vector<uint32_t> Ads(const List& list) {
  std::vector<uint32_t> ads;
  for (const AdMatch& m : list) ads.push_back(m.ad);
  return ads;
}

// As the header says it, with sets.
List Slow(const List lists[4], const uint32_t quotas[4], size_t limit) {
  std::map<uint32_t, AdMatch> all;
  std::map<uint32_t, float> similarity;
  for (const AdMatch& m : lists[1]) similarity[m.ad] = m.similarity;
  for (int s = 0; s < 4; ++s) {
    for (const AdMatch& m : lists[s]) all.emplace(m.ad, m);
  }
  for (auto& [ad, m] : all) {
    if (similarity.count(ad)) m.similarity = similarity[ad];
  }
  const uint64_t sum = uint64_t{quotas[0]} + quotas[1] + quotas[2] + quotas[3];
  std::set<uint32_t> taken;
  for (int s = 0; s < 4; ++s) {
    uint64_t share = sum > limit ? quotas[s] * limit / sum : quotas[s];
    for (const AdMatch& m : lists[s]) {
      if (share > 0 && taken.insert(m.ad).second) --share;
    }
  }
  List rest, out;
  for (const auto& [ad, m] : all) (taken.count(ad) ? out : rest).push_back(m);
  std::sort(rest.begin(), rest.end(), Better);
  for (const AdMatch& m : rest) {
    if (out.size() < limit) out.push_back(m);
  }
  std::sort(out.begin(), out.end(), Better);
  return out;
}

TEST(MergeSources, IsWhatTheHeaderSaysThousandsOfCases) {
  constexpr v1::MatchType kTypes[4] = {
      v1::MATCH_TYPE_BROAD, v1::MATCH_TYPE_EMBEDDING, v1::MATCH_TYPE_MODEL,
      v1::MATCH_TYPE_TARGETING};
  MergeScratch scratch;
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const uint32_t ads = 1 + static_cast<uint32_t>(rng.Below(40));
    List lists[4];
    for (int s = 0; s < 4; ++s) {
      const double share = rng.Uniform();
      for (uint32_t ad = 0; ad < ads; ++ad) {
        if (!rng.Bernoulli(share)) continue;
        lists[s].push_back(
            A(ad, kTypes[s], 1 + static_cast<int64_t>(rng.Below(5)),
              s == 1 || s == 2 ? static_cast<float>(rng.Uniform()) : 0));
      }
      if (s == 1 || s == 2) {
        std::sort(lists[s].begin(), lists[s].end(),
                  [](const AdMatch& a, const AdMatch& b) {
                    return a.similarity > b.similarity;
                  });
      } else {
        std::sort(lists[s].begin(), lists[s].end(), Better);
      }
    }
    uint32_t quotas[4];
    for (uint32_t& q : quotas) {
      q = rng.Bernoulli(0.3) ? 0 : static_cast<uint32_t>(rng.Below(20));
    }
    const size_t limit = 1 + rng.Below(50);
    List out;
    // Model before targeting, as evidence; the structs name it last.
    const size_t found =
        MergeSources({lists[0], lists[1], lists[3], lists[2]},
                     {quotas[0], quotas[1], quotas[3], quotas[2]}, limit,
                     Better, &scratch, &out);
    const List expected = Slow(lists, quotas, limit);
    ASSERT_EQ(Ads(out), Ads(expected));
    std::set<uint32_t> distinct;
    for (const List& list : lists) {
      for (const AdMatch& m : list) distinct.insert(m.ad);
    }
    ASSERT_EQ(found, distinct.size());
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i].match_type, expected[i].match_type);
      ASSERT_EQ(out[i].similarity, expected[i].similarity);
      ASSERT_EQ(out[i].bid_micros, expected[i].bid_micros);
    }
  }
}

TEST(MergeSources, AnAdOfSeveralSourcesIsOnceWithTheStrongestEvidence) {
  const List keyword = {A(1, v1::MATCH_TYPE_PHRASE, 5)};
  const List embedding = {A(1, v1::MATCH_TYPE_EMBEDDING, 4, 0.9f),
                          A(2, v1::MATCH_TYPE_EMBEDDING, 4, 0.8f)};
  const List targeting = {A(2, v1::MATCH_TYPE_TARGETING, 4)};
  MergeScratch scratch;
  List out;
  EXPECT_EQ(MergeSources({keyword, embedding, targeting}, {}, 10, Better,
                         &scratch, &out),
            2u);
  ASSERT_EQ(Ads(out), (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(out[0].match_type, v1::MATCH_TYPE_PHRASE);
  EXPECT_EQ(out[0].bid_micros, 5);
  EXPECT_EQ(out[0].similarity, 0.9f);
  EXPECT_EQ(out[1].match_type, v1::MATCH_TYPE_EMBEDDING);
}

TEST(MergeSources, WhatOneSourceLeavesTheOthersTake) {
  const List keyword = {A(1, v1::MATCH_TYPE_BROAD, 1)};
  const List targeting = {
      A(5, v1::MATCH_TYPE_TARGETING, 9), A(6, v1::MATCH_TYPE_TARGETING, 8),
      A(7, v1::MATCH_TYPE_TARGETING, 7), A(8, v1::MATCH_TYPE_TARGETING, 6)};
  MergeScratch scratch;
  List out;
  // The keyword's one stays although all others bid more; its second place
  // goes on.
  MergeSources({keyword, {}, targeting}, {2, 0, 1}, 3, Better, &scratch, &out);
  EXPECT_EQ(Ads(out), (std::vector<uint32_t>{5, 6, 1}));
}

TEST(SourceQuota, MoreThanMaxCandidatesIsRefused) {
  v1::TriggerConfig config;
  config.mutable_quota()->set_keyword(1500);
  config.mutable_quota()->set_targeting(600);
  EXPECT_EQ(SourceQuota::Create(config, 2000).status().message(),
            "trigger.quota: 2100 in all exceed the 2000 of "
            "limits.max_candidates");
  EXPECT_OK(SourceQuota::Create(config, 2100));
}

}  // namespace
}  // namespace adrank
