#include "storage/catalog_keys.h"

#include <algorithm>
#include <utility>

#include "absl/base/internal/endian.h"
#include "absl/strings/str_cat.h"
#include "storage/catalog_store.h"

namespace adrank {

using catalog::MakeKey;

v1::EntityKey KeyOf(const v1::CatalogEntity& entity) {
  switch (entity.entity_case()) {
    case v1::CatalogEntity::kAdvertiser:
      return MakeKey(v1::ENTITY_TYPE_ADVERTISER, entity.advertiser().id());
    case v1::CatalogEntity::kCampaign:
      return MakeKey(v1::ENTITY_TYPE_CAMPAIGN, entity.campaign().id());
    case v1::CatalogEntity::kAdGroup:
      return MakeKey(v1::ENTITY_TYPE_AD_GROUP, entity.ad_group().id());
    case v1::CatalogEntity::kAd:
      return MakeKey(v1::ENTITY_TYPE_AD, entity.ad().id());
    case v1::CatalogEntity::ENTITY_NOT_SET:
      break;
  }
  return v1::EntityKey();
}

v1::EntityKey KeyOf(const v1::CatalogOperation& operation) {
  return operation.has_upsert() ? KeyOf(operation.upsert())
                                : operation.remove();
}

namespace catalog {
namespace {

absl::string_view Noun(v1::EntityType type) {
  switch (type) {
    case v1::ENTITY_TYPE_ADVERTISER:
      return "advertiser";
    case v1::ENTITY_TYPE_CAMPAIGN:
      return "campaign";
    case v1::ENTITY_TYPE_AD_GROUP:
      return "ad_group";
    case v1::ENTITY_TYPE_AD:
      return "ad";
    default:
      return "entity";
  }
}

}  // namespace

v1::EntityKey MakeKey(v1::EntityType type, const std::string& id) {
  v1::EntityKey key;
  key.set_type(type);
  key.set_id(id);
  return key;
}

v1::EntityKey ParentOf(const v1::CatalogEntity& entity) {
  switch (entity.entity_case()) {
    case v1::CatalogEntity::kCampaign:
      return MakeKey(v1::ENTITY_TYPE_ADVERTISER,
                     entity.campaign().advertiser_id());
    case v1::CatalogEntity::kAdGroup:
      return MakeKey(v1::ENTITY_TYPE_CAMPAIGN, entity.ad_group().campaign_id());
    case v1::CatalogEntity::kAd:
      return MakeKey(v1::ENTITY_TYPE_AD_GROUP, entity.ad().ad_group_id());
    default:
      return v1::EntityKey();
  }
}

std::string Name(const v1::EntityKey& key) {
  return absl::StrCat(Noun(key.type()), " \"", key.id(), "\"");
}

std::string EntityBytes(const v1::EntityKey& key) {
  return absl::StrCat(std::string(1, static_cast<char>(key.type())), key.id());
}

std::string OwnerBytes(const v1::EntityKey& key) {
  return absl::StrCat(std::string(1, static_cast<char>(key.type())),
                      std::string(1, static_cast<char>(key.id().size())),
                      key.id());
}

std::string ChildBytes(const v1::EntityKey& parent,
                       const v1::EntityKey& child) {
  return OwnerBytes(parent) + EntityBytes(child);
}

v1::EntityKey ChildOf(absl::string_view child_bytes,
                      absl::string_view owner_bytes) {
  child_bytes.remove_prefix(owner_bytes.size());
  return MakeKey(static_cast<v1::EntityType>(child_bytes[0]),
                 std::string(child_bytes.substr(1)));
}

std::string HistoryBytes(const v1::EntityKey& key, int64_t version,
                         uint32_t index) {
  char buffer[12];
  absl::big_endian::Store64(buffer, ~static_cast<uint64_t>(version));
  absl::big_endian::Store32(buffer + 8, ~index);
  return absl::StrCat(OwnerBytes(key),
                      absl::string_view(buffer, sizeof(buffer)));
}

void KeepDistinct(std::vector<v1::EntityKey>* keys) {
  const auto rank = [](const v1::EntityKey& key) {
    return std::make_pair(key.type(), absl::string_view(key.id()));
  };
  std::sort(keys->begin(), keys->end(),
            [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  keys->erase(std::unique(keys->begin(), keys->end(),
                          [&](const auto& a, const auto& b) {
                            return rank(a) == rank(b);
                          }),
              keys->end());
}

void AddEntity(v1::CatalogEntity* entity, v1::Catalog* catalog) {
  switch (entity->entity_case()) {
    case v1::CatalogEntity::kAdvertiser:
      catalog->add_advertisers()->Swap(entity->mutable_advertiser());
      break;
    case v1::CatalogEntity::kCampaign:
      catalog->add_campaigns()->Swap(entity->mutable_campaign());
      break;
    case v1::CatalogEntity::kAdGroup:
      catalog->add_ad_groups()->Swap(entity->mutable_ad_group());
      break;
    case v1::CatalogEntity::kAd:
      catalog->add_ads()->Swap(entity->mutable_ad());
      break;
    case v1::CatalogEntity::ENTITY_NOT_SET:
      break;
  }
}

}  // namespace catalog
}  // namespace adrank
