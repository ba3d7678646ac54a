// Catalogues with caps, and an oracle of frequency caps that is obviously
// right.
#ifndef ADRANK_TESTS_SERVER_CAPS_TESTING_H_
#define ADRANK_TESTS_SERVER_CAPS_TESTING_H_

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "server/caps/frequency_caps.h"
#include "server/trigger/ad_index.h"
#include "storage/cap_window.h"
#include "tests/server/serving_testing.h"

namespace adrank::testing {

inline void AddCap(google::protobuf::RepeatedPtrField<v1::FrequencyCap>* caps,
                   uint32_t impressions, v1::FrequencyCap::Unit unit,
                   uint32_t length = 0) {
  v1::FrequencyCap* cap = caps->Add();
  cap->set_impressions(impressions);
  cap->set_unit(unit);
  cap->set_length(length);
}

// Two campaigns of two ad groups of three ads "a00" to "a11": ad i is of group
// "g<i / 3>" and campaign "c<i / 6>". No caps.
inline v1::Catalog ANestedCatalog() {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("v");
  for (int c = 0; c < 2; ++c) {
    v1::Campaign* campaign = catalog.add_campaigns();
    campaign->set_id(absl::StrCat("c", c));
    campaign->set_advertiser_id("v");
  }
  for (int g = 0; g < 4; ++g) {
    v1::AdGroup* group = catalog.add_ad_groups();
    group->set_id(absl::StrCat("g", g));
    group->set_campaign_id(absl::StrCat("c", g / 2));
    group->set_bid_micros(1'000'000);
  }
  for (int a = 0; a < 12; ++a) {
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat(a < 10 ? "a0" : "a", a));
    ad->set_ad_group_id(absl::StrCat("g", a / 3));
  }
  return catalog;
}

// The same with random caps on some entities of each level.
inline v1::Catalog ARandomCappedCatalog(Rng* rng) {
  v1::Catalog catalog = ANestedCatalog();
  const auto add = [&](auto* caps, uint64_t most, double share) {
    for (uint64_t n = rng->Bernoulli(share) ? 1 + rng->Below(3) : 0; n > 0;
         --n) {
      const auto unit = static_cast<v1::FrequencyCap::Unit>(1 + rng->Below(3));
      AddCap(caps, static_cast<uint32_t>(1 + rng->Below(most)), unit,
             static_cast<uint32_t>(rng->Below(4)));
    }
  };
  for (auto& c : *catalog.mutable_campaigns()) {
    add(c.mutable_frequency_caps(), 12, 0.8);
  }
  for (auto& g : *catalog.mutable_ad_groups()) {
    add(g.mutable_frequency_caps(), 6, 0.5);
  }
  for (auto& a : *catalog.mutable_ads()) {
    add(a.mutable_frequency_caps(), 3, 0.5);
  }
  return catalog;
}

// Every ad that was served and not taken back, and its reports.
class CapsOracle {
 public:
  struct Served {
    DecisionId id;
    uint32_t position = 0;
    std::string user;
    std::string entities[kCapLevels];  // "ad a3", "group g1", "campaign c0"
    bool confirmed = false;
  };

  CapsOracle(const v1::Catalog& catalog, int64_t reservation_ms,
             int64_t late_ms)
      : reservation_ms_(reservation_ms), late_ms_(late_ms) {
    for (const auto& c : catalog.campaigns()) {
      AddCaps("campaign " + c.id(), c.frequency_caps());
    }
    for (const auto& g : catalog.ad_groups()) {
      campaign_of_[g.id()] = g.campaign_id();
      AddCaps("group " + g.id(), g.frequency_caps());
    }
    for (const auto& a : catalog.ads()) {
      group_of_[a.id()] = a.ad_group_id();
      AddCaps("ad " + a.id(), a.frequency_caps());
    }
  }

  // At a cap: `more` do not fit at `at_ms`, seen at `now_ms`.
  bool Full(const std::string& user, const std::string& entity, int64_t at_ms,
            int64_t now_ms, uint32_t more = 1) const {
    const auto caps = caps_.find(entity);
    if (caps == caps_.end()) return false;
    for (const auto& [impressions, window_ms] : caps->second) {
      uint64_t count = more;
      for (const Served& s : served_) {
        if (s.user != user || !Has(s, entity)) continue;
        const auto ms = static_cast<int64_t>(s.id.ms);
        count += ms > at_ms - window_ms && ms < at_ms + window_ms &&
                 (s.confirmed || ms + reservation_ms_ > now_ms);
      }
      if (count > impressions) return true;
    }
    return false;
  }

  Served Serve(const std::string& user, const std::string& ad,
               const DecisionId& id, uint32_t position) const {
    const std::string& group = group_of_.at(ad);
    return {
        id,
        position,
        user,
        {"ad " + ad, "group " + group, "campaign " + campaign_of_.at(group)},
        false};
  }
  // A slot with a cap is remembered by the server, the others are not.
  bool Capped(const Served& s) const {
    return std::any_of(std::begin(s.entities), std::end(s.entities),
                       [&](const auto& e) { return caps_.count(e) != 0; });
  }

  void Add(const Served& served) { served_.push_back(served); }
  void Remove(const DecisionId& id) {
    std::erase_if(served_,
                  [&](const Served& s) { return s.id == id && !s.confirmed; });
  }
  void Report(const DecisionId& id, uint32_t position, int64_t now_ms) {
    for (Served& s : served_) {
      if (s.id == id && s.position == position &&
          static_cast<int64_t>(id.ms) + reservation_ms_ + late_ms_ > now_ms) {
        s.confirmed = true;
      }
    }
  }
  const std::vector<Served>& served() const { return served_; }

  // The worst stretch of any cap: impressions over it; 0: all caps hold. Exact,
  // over all windows, of those served that `counts` accepts.
  template <typename Counts>
  int64_t Excess(const Counts& counts, uint64_t* windows_at_cap) const {
    std::map<std::pair<std::string, std::string>, std::vector<int64_t>> times;
    for (const Served& s : served_) {
      if (!counts(s)) continue;
      for (const std::string& e : s.entities) {
        times[{s.user, e}].push_back(static_cast<int64_t>(s.id.ms));
      }
    }
    int64_t worst = 0;
    *windows_at_cap = 0;
    for (auto& [key, ms] : times) {
      const auto caps = caps_.find(key.second);
      if (caps == caps_.end()) continue;
      std::sort(ms.begin(), ms.end());
      for (const auto& [impressions, window_ms] : caps->second) {
        size_t begin = 0;
        for (size_t end = 0; end < ms.size(); ++end) {
          while (ms[begin] <= ms[end] - window_ms) ++begin;
          const auto count = static_cast<int64_t>(end - begin + 1);
          worst = std::max(worst, count - int64_t{impressions});
          *windows_at_cap += count == int64_t{impressions};
        }
      }
    }
    return worst;
  }

 private:
  void AddCaps(
      const std::string& entity,
      const google::protobuf::RepeatedPtrField<v1::FrequencyCap>& caps) {
    for (const auto& cap : caps) {
      caps_[entity].emplace_back(cap.impressions(),
                                 CapWindowSeconds(cap) * 1000);
    }
  }
  static bool Has(const Served& s, const std::string& entity) {
    return std::find(std::begin(s.entities), std::end(s.entities), entity) !=
           std::end(s.entities);
  }

  const int64_t reservation_ms_, late_ms_;
  std::map<std::string, std::vector<std::pair<uint32_t, int64_t>>> caps_;
  std::map<std::string, std::string> group_of_, campaign_of_;
  std::vector<Served> served_;
};

inline v1::Event AnImpressionEvent(const DecisionId& id, uint32_t position) {
  v1::Event event;
  event.set_decision_id(id.ToHex());
  event.set_position(position);
  event.set_type(v1::EVENT_TYPE_IMPRESSION);
  return event;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_CAPS_TESTING_H_
