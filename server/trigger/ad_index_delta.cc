// AdIndex on a base: what of the base no longer holds, and what the numbers and
// counts become.
#include <algorithm>

#include "server/trigger/ad_index.h"
#include "storage/catalog_store.h"

namespace adrank {

std::vector<std::string> AdIndex::GroupsOf(
    absl::Span<const v1::EntityKey> entities) const {
  std::vector<std::string> ids;
  std::vector<uint8_t> campaigns(campaigns_.size(), 0);
  bool any_campaign = false;
  for (const v1::EntityKey& key : entities) {
    if (key.type() == v1::ENTITY_TYPE_AD) {
      if (const auto ad = LocalAdOf(key.id())) {
        ids.push_back(std::string(group_id(ads_[*ad].group)));
      }
    } else if (key.type() == v1::ENTITY_TYPE_AD_GROUP) {
      if (LocalGroupOf(key.id()).has_value()) ids.push_back(key.id());
    } else if (key.type() == v1::ENTITY_TYPE_CAMPAIGN) {
      const auto campaign = LocalCampaignOf(key.id());
      if (!campaign.has_value()) continue;
      campaigns[*campaign] = any_campaign = true;
    } else {
      const auto advertiser = LocalAdvertiserOf(key.id());
      if (!advertiser.has_value()) continue;
      for (size_t c = 0; c < campaigns_.size(); ++c) {
        if (campaigns_[c].advertiser == *advertiser) {
          campaigns[c] = any_campaign = true;
        }
      }
    }
  }
  for (const GroupEntry& group : groups_) {
    if (!any_campaign) break;
    if (campaigns[group.campaign]) {
      ids.push_back(std::string(texts_.text(group.id)));
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void AdIndex::MakeLocals() {
  for (size_t i = 0; i < ads_.size(); ++i) {
    ad_locals_.emplace(ad_numbers_[i], static_cast<uint32_t>(i));
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    group_locals_.emplace(groups_[i].number, static_cast<uint32_t>(i));
  }
  for (size_t i = 0; i < campaigns_.size(); ++i) {
    campaign_locals_.emplace(campaigns_[i].number, static_cast<uint32_t>(i));
  }
}

void AdIndex::MarkDead(const CatalogChanges& changes) {
  const size_t groups = base_->groups();
  dead_groups_.assign((groups + 63) / 64, 0);
  const auto mark = [&](uint32_t group) {
    dead_groups_[group / 64] |= uint64_t{1} << (group % 64);
  };
  for (const std::string& id : base_->GroupsOf(changes.keys)) {
    mark(*base_->LocalGroupOf(id));
  }
  for (const GroupEntry& group : groups_) {
    if (group.number < groups) mark(group.number);
  }
}

// New ads are numbered in the order of their ids.
void AdIndex::RankNewAds() {
  const auto first = static_cast<uint32_t>(base_->size());
  new_ad_ranks_.resize(numbers_.ads - first);
  const auto& base = base_->ads_;
  for (size_t i = 0; i < ads_.size(); ++i) {
    if (ad_numbers_[i] < first) continue;
    const auto it =
        std::lower_bound(base.begin(), base.end(), texts_.id(ads_[i].text),
                         [this](const AdEntry& ad, absl::string_view id) {
                           return base_->texts_.id(ad.text) < id;
                         });
    new_ad_ranks_[ad_numbers_[i] - first] =
        static_cast<uint32_t>(it - base.begin());
  }
}

// From the counts of this part alone to those of all.
void AdIndex::CountOnBase(const CatalogChanges& changes) {
  const AdIndexStats& base = base_->stats_;
  stats_.live_ad_groups += base.live_ad_groups;
  stats_.ads += base.ads;
  stats_.servable_ads += base.servable_ads;
  for (size_t i = 0; i < base_->groups_.size(); ++i) {
    if (!Has(dead_groups_, static_cast<uint32_t>(i))) continue;
    const GroupEntry& group = base_->groups_[i];
    const uint32_t enabled = group.enabled_ads;
    --stats_.live_ad_groups;
    stats_.ads -= enabled + group.paused_ads;
    if (group.enabled && base_->campaigns_[group.campaign].enabled) {
      stats_.servable_ads -= enabled;
    }
  }
  // Those of both parts are counted once; new ones have numbers of their own.
  stats_.live_campaigns = numbers_.campaigns;
  stats_.live_advertisers = numbers_.advertisers;
  for (const v1::EntityKey& key : changes.keys) {
    if (key.type() == v1::ENTITY_TYPE_CAMPAIGN) {
      stats_.live_campaigns -= base_->LocalCampaignOf(key.id()).has_value() &&
                               !LocalCampaignOf(key.id()).has_value();
    } else if (key.type() == v1::ENTITY_TYPE_ADVERTISER) {
      stats_.live_advertisers -=
          base_->LocalAdvertiserOf(key.id()).has_value() &&
          !LocalAdvertiserOf(key.id()).has_value();
    }
  }
}

}  // namespace adrank
