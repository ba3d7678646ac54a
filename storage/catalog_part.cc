#include "storage/catalog_part.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "storage/catalog_keys.h"
#include "storage/rocks.h"

namespace adrank {

using catalog::EntityBytes;
using catalog::MakeKey;
using catalog::OwnerBytes;

namespace {

class PartLoader {
 public:
  PartLoader(const CatalogView& view, size_t max_groups)
      : view_(view), max_groups_(max_groups) {
    options_.snapshot = view.snapshot;
    children_.reset(view.db->NewIterator(options_, view.children));
  }

  absl::Status AddChanged(const v1::EntityKey& key) {
    switch (key.type()) {
      case v1::ENTITY_TYPE_ADVERTISER: {
        advertisers_.insert(key.id());
        ASSIGN_OR_RETURN(const auto campaigns, ChildrenOf(key));
        for (const std::string& id : campaigns) {
          RETURN_IF_ERROR(AddChanged(MakeKey(v1::ENTITY_TYPE_CAMPAIGN, id)));
        }
        return absl::OkStatus();
      }
      case v1::ENTITY_TYPE_CAMPAIGN: {
        campaigns_.insert(key.id());
        ASSIGN_OR_RETURN(const auto groups, ChildrenOf(key));
        for (const std::string& id : groups) RETURN_IF_ERROR(AddGroup(id));
        return absl::OkStatus();
      }
      case v1::ENTITY_TYPE_AD_GROUP:
        return AddGroup(key.id());
      default: {
        ASSIGN_OR_RETURN(const auto ad, Get(key));
        return ad.has_value() ? AddGroup(ad->ad().ad_group_id())
                              : absl::OkStatus();
      }
    }
  }

  absl::Status AddGroup(const std::string& id) {
    groups_.insert(id);
    if (groups_.size() <= max_groups_) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(
        view_.name, ": more than ", max_groups_, " ad groups changed"));
  }

  // The groups first: they name campaigns, which name advertisers.
  absl::Status Load(v1::Catalog* part) {
    for (const std::string& id : groups_) RETURN_IF_ERROR(LoadGroup(id, part));
    for (const std::string& id : campaigns_) {
      ASSIGN_OR_RETURN(auto entity, Get(MakeKey(v1::ENTITY_TYPE_CAMPAIGN, id)));
      if (!entity.has_value()) continue;
      advertisers_.insert(entity->campaign().advertiser_id());
      part->add_campaigns()->Swap(entity->mutable_campaign());
    }
    for (const std::string& id : advertisers_) {
      ASSIGN_OR_RETURN(auto entity,
                       Get(MakeKey(v1::ENTITY_TYPE_ADVERTISER, id)));
      if (!entity.has_value()) continue;
      part->add_advertisers()->Swap(entity->mutable_advertiser());
    }
    std::sort(
        part->mutable_ads()->pointer_begin(),
        part->mutable_ads()->pointer_end(),
        [](const v1::Ad* a, const v1::Ad* b) { return a->id() < b->id(); });
    return absl::OkStatus();
  }

 private:
  absl::Status LoadGroup(const std::string& id, v1::Catalog* part) {
    const v1::EntityKey key = MakeKey(v1::ENTITY_TYPE_AD_GROUP, id);
    ASSIGN_OR_RETURN(auto entity, Get(key));
    if (!entity.has_value()) return absl::OkStatus();
    campaigns_.insert(entity->ad_group().campaign_id());
    part->add_ad_groups()->Swap(entity->mutable_ad_group());
    ASSIGN_OR_RETURN(const auto ads, ChildrenOf(key));
    for (const std::string& ad : ads) {
      ASSIGN_OR_RETURN(auto child, Get(MakeKey(v1::ENTITY_TYPE_AD, ad)));
      if (child.has_value()) part->add_ads()->Swap(child->mutable_ad());
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<v1::CatalogEntity>> Get(
      const v1::EntityKey& key) {
    const rocksdb::Status s =
        view_.db->Get(options_, view_.entities, EntityBytes(key), &value_);
    if (s.IsNotFound()) return std::optional<v1::CatalogEntity>();
    RETURN_IF_ERROR(rocks::ToStatus(s, view_.name));
    std::optional<v1::CatalogEntity> entity(std::in_place);
    if (entity->ParseFromString(value_)) return entity;
    return absl::DataLossError(
        absl::StrCat(view_.name, ": the entity \"", key.id(), "\" is damaged"));
  }

  // Ids; an entity has children of one type only.
  absl::StatusOr<std::vector<std::string>> ChildrenOf(
      const v1::EntityKey& key) {
    std::vector<std::string> ids;
    const std::string prefix = OwnerBytes(key);
    for (children_->Seek(prefix);
         children_->Valid() && children_->key().starts_with(prefix);
         children_->Next()) {
      absl::string_view id = rocks::View(children_->key());
      id.remove_prefix(prefix.size() + 1);
      ids.emplace_back(id);
    }
    RETURN_IF_ERROR(rocks::ToStatus(children_->status(), view_.name));
    return ids;
  }

  const CatalogView& view_;
  const size_t max_groups_;
  rocksdb::ReadOptions options_;
  std::unique_ptr<rocksdb::Iterator> children_;
  std::string value_;
  std::set<std::string> groups_, campaigns_, advertisers_;
};

}  // namespace

absl::Status LoadCatalogPart(const CatalogView& view,
                             absl::Span<const v1::EntityKey> changed,
                             const std::vector<std::string>& groups,
                             size_t max_groups, v1::Catalog* part) {
  PartLoader loader(view, max_groups);
  for (const v1::EntityKey& key : changed) {
    RETURN_IF_ERROR(loader.AddChanged(key));
  }
  for (const std::string& id : groups) RETURN_IF_ERROR(loader.AddGroup(id));
  return loader.Load(part);
}

}  // namespace adrank
