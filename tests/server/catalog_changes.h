// What CatalogStore::LoadChanges gives, of a catalogue in memory.
#ifndef ADRANK_TESTS_SERVER_CATALOG_CHANGES_H_
#define ADRANK_TESTS_SERVER_CATALOG_CHANGES_H_

#include <map>
#include <set>
#include <string>

#include "proto/catalog.pb.h"
#include "storage/catalog_store.h"

namespace adrank::testing {

// The changes that lead to version 2, `catalog`, when the entities `keys` (by
// id), all in the ad groups `groups`, changed.
inline CatalogChanges ChangesOf(
    const v1::Catalog& catalog,
    const std::map<std::string, v1::EntityKey>& keys,
    const std::set<std::string>& groups) {
  CatalogChanges changes;
  changes.version = 2;
  for (const auto& [id, key] : keys) changes.keys.push_back(key);
  std::set<std::string> campaigns, advertisers;
  for (const v1::Ad& ad : catalog.ads()) {
    if (groups.count(ad.ad_group_id())) *changes.part.add_ads() = ad;
  }
  for (const v1::AdGroup& g : catalog.ad_groups()) {
    if (groups.count(g.id()) == 0) continue;
    *changes.part.add_ad_groups() = g;
    campaigns.insert(g.campaign_id());
  }
  for (const v1::Campaign& c : catalog.campaigns()) {
    if (campaigns.count(c.id()) == 0) continue;
    *changes.part.add_campaigns() = c;
    advertisers.insert(c.advertiser_id());
  }
  for (const v1::Advertiser& a : catalog.advertisers()) {
    if (advertisers.count(a.id())) *changes.part.add_advertisers() = a;
  }
  return changes;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_CATALOG_CHANGES_H_
