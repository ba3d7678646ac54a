// Random catalogues, and the trigger as a person would read it out of
// proto/catalog.proto: the oracle of AdIndex.
#ifndef ADRANK_TESTS_SERVER_RANDOM_CATALOG_H_
#define ADRANK_TESTS_SERVER_RANDOM_CATALOG_H_

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/rng.h"
#include "features/text.h"
#include "proto/catalog.pb.h"
#include "server/trigger/ad_index.h"
#include "tests/server/expressions.h"

namespace adrank::testing {

// 1 to 3 words of "w0".."w11".
inline std::string RandomWords(Rng* rng, uint64_t max) {
  std::string text;
  for (uint64_t n = 1 + rng->Below(max); n > 0; --n) {
    absl::StrAppend(&text, text.empty() ? "" : " ", "w", rng->Below(12));
  }
  return text;
}

inline v1::EntityStatus RandomStatus(Rng* rng) {
  return rng->Bernoulli(0.05)  ? v1::ENTITY_STATUS_PAUSED
         : rng->Bernoulli(0.5) ? v1::ENTITY_STATUS_ENABLED
                               : v1::ENTITY_STATUS_UNSPECIFIED;
}

inline v1::AdGroup RandomGroup(Rng* rng) {
  v1::AdGroup g;
  g.set_status(RandomStatus(rng));
  g.set_bid_micros(1 + static_cast<int64_t>(rng->Below(50)));
  if (rng->Bernoulli(0.4)) *g.mutable_targeting() = RandomExpression(rng, 2);
  if (rng->Bernoulli(0.5)) {
    for (uint64_t n = 1 + rng->Below(6); n > 0; --n) {
      v1::Keyword* k = g.add_keywords();
      k->set_text(RandomWords(rng, 2));
      constexpr v1::MatchType kTypes[] = {
          v1::MATCH_TYPE_UNSPECIFIED, v1::MATCH_TYPE_EXACT,
          v1::MATCH_TYPE_PHRASE, v1::MATCH_TYPE_BROAD};
      k->set_match_type(kTypes[rng->Below(4)]);
      k->set_negative(rng->Bernoulli(0.15));
      if (rng->Bernoulli(0.3)) {
        k->set_bid_micros(1 + static_cast<int64_t>(rng->Below(50)));
      }
    }
  }
  return g;
}

// A random bid type. What bids are worth a click stays within a factor of two,
// at a mean pctr of 0.01, and is often the same: 100 times the bid that was.
inline void MixBidTypes(Rng* rng, v1::AdGroup* g) {
  constexpr v1::BidType kTypes[] = {v1::BID_TYPE_UNSPECIFIED, v1::BID_TYPE_CPC,
                                    v1::BID_TYPE_CPM, v1::BID_TYPE_CPA};
  g->set_bid_type(kTypes[rng->Below(4)]);
  if (g->bid_type() == v1::BID_TYPE_CPA) g->set_conversion_rate(0.1);
  const bool click =
      g->bid_type() != v1::BID_TYPE_CPM && g->bid_type() != v1::BID_TYPE_CPA;
  const auto scaled = [&](int64_t bid) {
    const int64_t factor = click ? 100 : 1000;
    const bool between = rng->Bernoulli(0.3);
    return bid * factor +
           (between ? static_cast<int64_t>(rng->Below(factor)) : 0);
  };
  g->set_bid_micros(scaled(g->bid_micros()));
  for (v1::Keyword& k : *g->mutable_keywords()) {
    if (k.bid_micros() > 0) k.set_bid_micros(scaled(k.bid_micros()));
  }
}

inline void MixBidTypes(Rng* rng, v1::Catalog* catalog) {
  for (v1::AdGroup& g : *catalog->mutable_ad_groups()) MixBidTypes(rng, &g);
  for (v1::Ad& ad : *catalog->mutable_ads()) {
    if (rng->Bernoulli(0.4)) {
      ad.set_quality(0.5 * static_cast<double>(1 + rng->Below(4)));
    }
  }
}

inline v1::Catalog RandomCatalog(Rng* rng, int ads) {
  v1::Catalog catalog;
  const int advertisers = std::max(1, ads / 100),
            campaigns = std::max(1, ads / 30), groups = std::max(1, ads / 5);
  for (int i = 0; i < advertisers; ++i) {
    v1::Advertiser* a = catalog.add_advertisers();
    a->set_id(absl::StrCat("v", i));
    a->set_status(RandomStatus(rng));
  }
  for (int i = 0; i < campaigns; ++i) {
    v1::Campaign* c = catalog.add_campaigns();
    c->set_id(absl::StrCat("c", i));
    c->set_advertiser_id(absl::StrCat("v", rng->Below(advertisers)));
    c->set_status(RandomStatus(rng));
    if (rng->Bernoulli(0.2)) {
      c->set_start_time_ms(static_cast<int64_t>(rng->Below(1000)));
    }
    if (rng->Bernoulli(0.2)) {
      c->set_end_time_ms(1 + static_cast<int64_t>(rng->Below(1000)));
    }
    if (rng->Bernoulli(0.3)) *c->mutable_targeting() = RandomExpression(rng, 2);
    if (rng->Bernoulli(0.1)) c->add_negative_keywords(RandomWords(rng, 2));
  }
  for (int i = 0; i < groups; ++i) {
    *catalog.add_ad_groups() = RandomGroup(rng);
    catalog.mutable_ad_groups(i)->set_id(absl::StrCat("g", i));
    catalog.mutable_ad_groups(i)->set_campaign_id(
        absl::StrCat("c", rng->Below(campaigns)));
  }
  for (int i = 0; i < ads; ++i) {
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat("ad", i));
    ad->set_ad_group_id(absl::StrCat("g", rng->Below(groups)));
    ad->set_status(RandomStatus(rng));
  }
  return catalog;
}

// One ad that a scan of the messages finds.
struct NaiveMatch {
  std::string ad_id;
  int64_t bid_micros;
  double value;
  v1::MatchType match_type;
  std::string keyword;
};

struct NaiveAnswer {
  std::vector<NaiveMatch> matches;  // most worth first, then by id
  uint32_t matched = 0;
  uint32_t filtered = 0;
};

// What a click (an average impression, as clicks) is worth, by the table of
// docs/life_of_a_request.md, bids rounded as the auction's.
inline double NaiveValue(const v1::AdGroup& g, const v1::Ad& ad,
                         int64_t bid_micros, double mean_pctr) {
  double click = static_cast<double>(bid_micros);
  if (g.bid_type() == v1::BID_TYPE_CPM) {
    click = std::floor(click / 1000) / mean_pctr;
  } else if (g.bid_type() == v1::BID_TYPE_CPA) {
    click = std::max(1.0, std::floor(click * g.conversion_rate()));
  }
  return ad.quality() > 0 ? click * ad.quality() : click;
}

class NaiveTrigger {
 public:
  explicit NaiveTrigger(const v1::Catalog& catalog, double mean_pctr = 0.01)
      : catalog_(catalog), mean_pctr_(mean_pctr) {
    for (const auto& a : catalog.advertisers()) advertisers_[a.id()] = &a;
    for (const auto& c : catalog.campaigns()) campaigns_[c.id()] = &c;
    for (const auto& g : catalog.ad_groups()) groups_[g.id()] = &g;
  }

  NaiveAnswer Retrieve(const v1::Context& context,
                       const std::vector<std::string>& blocked) const {
    const std::vector<std::string> query = Tokenize(context.query());
    NaiveAnswer answer;
    for (const v1::Ad& ad : catalog_.ads()) {
      const v1::AdGroup& g = *groups_.at(ad.ad_group_id());
      const v1::Campaign& c = *campaigns_.at(g.campaign_id());
      NaiveMatch match = {ad.id(), g.bid_micros(), 0, v1::MATCH_TYPE_TARGETING,
                          ""};
      if (!Interpret(c.targeting(), context) ||
          !Interpret(g.targeting(), context) || !Positive(g, query, &match)) {
        continue;
      }
      match.value = NaiveValue(g, ad, match.bid_micros, mean_pctr_);
      ++answer.matched;
      const v1::Advertiser& v = *advertisers_.at(c.advertiser_id());
      const bool vetoed =
          Paused(v) || Paused(c) || Paused(g) || Paused(ad) ||
          context.time_ms() < c.start_time_ms() ||
          (c.end_time_ms() != 0 && context.time_ms() >= c.end_time_ms()) ||
          std::count(blocked.begin(), blocked.end(), v.id()) > 0 ||
          Negative(c, g, query);
      if (vetoed) {
        ++answer.filtered;
      } else {
        answer.matches.push_back(match);
      }
    }
    std::sort(answer.matches.begin(), answer.matches.end(),
              [](const NaiveMatch& a, const NaiveMatch& b) {
                return a.value != b.value ? a.value > b.value
                                          : a.ad_id < b.ad_id;
              });
    return answer;
  }

 private:
  template <typename Entity>
  static bool Paused(const Entity& entity) {
    return entity.status() == v1::ENTITY_STATUS_PAUSED;
  }

  static bool Matches(const std::string& text, v1::MatchType type,
                      const std::vector<std::string>& query) {
    const std::vector<std::string> words = Tokenize(text);
    if (words.empty()) return false;
    const std::string k = absl::StrCat(" ", absl::StrJoin(words, " "), " ");
    const std::string q = absl::StrCat(" ", absl::StrJoin(query, " "), " ");
    if (type == v1::MATCH_TYPE_EXACT) return k == q;
    if (type == v1::MATCH_TYPE_PHRASE) return q.find(k) != std::string::npos;
    return std::all_of(words.begin(), words.end(), [&](const std::string& w) {
      return std::count(query.begin(), query.end(), w) > 0;
    });
  }

  static bool Negative(const v1::Campaign& c, const v1::AdGroup& g,
                       const std::vector<std::string>& query) {
    for (const std::string& text : c.negative_keywords()) {
      if (Matches(text, v1::MATCH_TYPE_BROAD, query)) return true;
    }
    for (const v1::Keyword& k : g.keywords()) {
      if (k.negative() && Matches(k.text(), k.match_type(), query)) return true;
    }
    return false;
  }

  static bool Positive(const v1::AdGroup& g,
                       const std::vector<std::string>& query,
                       NaiveMatch* match) {
    bool any = false, found = false;
    for (const v1::MatchType wanted :
         {v1::MATCH_TYPE_EXACT, v1::MATCH_TYPE_PHRASE, v1::MATCH_TYPE_BROAD}) {
      for (const v1::Keyword& k : g.keywords()) {
        if (k.negative()) continue;
        any = true;
        const v1::MatchType type = k.match_type() == v1::MATCH_TYPE_UNSPECIFIED
                                       ? v1::MATCH_TYPE_BROAD
                                       : k.match_type();
        if (type != wanted || !Matches(k.text(), type, query)) continue;
        const int64_t bid =
            k.bid_micros() != 0 ? k.bid_micros() : g.bid_micros();
        if (found && (match->match_type != type || bid <= match->bid_micros)) {
          continue;
        }
        found = true;
        match->match_type = type;
        match->keyword = k.text();
        match->bid_micros = bid;
      }
    }
    return found || !any;
  }

  const v1::Catalog& catalog_;
  const double mean_pctr_;
  std::map<std::string, const v1::Advertiser*> advertisers_;
  std::map<std::string, const v1::Campaign*> campaigns_;
  std::map<std::string, const v1::AdGroup*> groups_;
};

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_RANDOM_CATALOG_H_
