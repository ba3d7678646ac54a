#include "tools/catalog_file.h"

#include <algorithm>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/textproto_lines.h"
#include "tools/client.h"

namespace adrank {
namespace {

const char* ListName(v1::EntityType type) {
  switch (type) {
    case v1::ENTITY_TYPE_ADVERTISER:
      return "advertisers";
    case v1::ENTITY_TYPE_CAMPAIGN:
      return "campaigns";
    case v1::ENTITY_TYPE_AD_GROUP:
      return "ad_groups";
    default:
      return "ads";
  }
}

std::string Squeezed(absl::string_view name) {
  std::string squeezed = absl::AsciiStrToLower(name);
  squeezed.erase(std::remove(squeezed.begin(), squeezed.end(), '_'),
                 squeezed.end());
  return squeezed;
}

// What the error is about, behind the entity's name: "ad_group \"g\":
// budget.daily_micros -1 must..." -> "budget.daily_micros".
absl::string_view FieldPath(absl::string_view error) {
  const size_t colon = error.find("\": ");
  if (colon != absl::string_view::npos) error.remove_prefix(colon + 3);
  return FieldOfError(error);
}

}  // namespace

std::string EntityTypeName(v1::EntityType type) {
  return absl::AsciiStrToLower(
      v1::EntityType_Name(type).substr(12));  // "ENTITY_TYPE_"
}

v1::EntityKey KeyOfEntity(const v1::CatalogEntity& entity) {
  v1::EntityKey key;
  const auto set = [&key](v1::EntityType type, const std::string& id) {
    key.set_type(type);
    key.set_id(id);
  };
  if (entity.has_advertiser()) {
    set(v1::ENTITY_TYPE_ADVERTISER, entity.advertiser().id());
  } else if (entity.has_campaign()) {
    set(v1::ENTITY_TYPE_CAMPAIGN, entity.campaign().id());
  } else if (entity.has_ad_group()) {
    set(v1::ENTITY_TYPE_AD_GROUP, entity.ad_group().id());
  } else if (entity.has_ad()) {
    set(v1::ENTITY_TYPE_AD, entity.ad().id());
  }
  return key;
}

std::map<std::string, std::vector<int>> JsonObjectLines(
    absl::string_view json) {
  std::map<std::string, std::vector<int>> lines;
  int line = 1, depth = 0;
  std::string list;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '\n') ++line;
    if (c == '"') {
      const size_t begin = ++i;
      for (; i < json.size() && json[i] != '"'; ++i) {
        if (json[i] == '\\') ++i;
      }
      if (depth == 1) list = Squeezed(json.substr(begin, i - begin));
    } else if (c == '{' || c == '[') {
      if (c == '{' && depth == 2) lines[list].push_back(line);
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return lines;
}

// Places are only worked out when an error asks for them.
struct CatalogFiles::File {
  std::string name;
  std::string text;
  std::optional<std::map<std::string, std::vector<int>>> json;
  std::optional<TextProtoLines> lines;

  // 1-based; 0 when it is not known.
  int Line(v1::EntityType type, int index, absl::string_view error) {
    return IsJson(text) ? JsonLine(type, index) : TextLine(type, index, error);
  }

  int JsonLine(v1::EntityType type, int index) {
    if (!json.has_value()) json = JsonObjectLines(text);
    const std::vector<int>& lines = (*json)[Squeezed(ListName(type))];
    return index < static_cast<int>(lines.size()) ? lines[index] : 0;
  }

  int TextLine(v1::EntityType type, int index, absl::string_view error) {
    if (!lines.has_value()) lines.emplace(text, v1::Catalog());
    return lines->Of(
        absl::StrCat(ListName(type), "[", index, "].", FieldPath(error)));
  }
};

CatalogFiles::CatalogFiles() = default;
CatalogFiles::CatalogFiles(CatalogFiles&&) = default;
CatalogFiles& CatalogFiles::operator=(CatalogFiles&&) = default;
CatalogFiles::~CatalogFiles() = default;

void CatalogFiles::Take(v1::Catalog* catalog, size_t file) {
  const auto take = [&](auto* list, auto set) {
    for (int i = 0; i < list->size(); ++i) {
      set(&entities_.emplace_back(), &(*list)[i]);
      origins_.push_back({file, i});
    }
  };
  using E = v1::CatalogEntity;
  take(catalog->mutable_advertisers(),
       [](E* e, v1::Advertiser* x) { e->mutable_advertiser()->Swap(x); });
  take(catalog->mutable_campaigns(),
       [](E* e, v1::Campaign* x) { e->mutable_campaign()->Swap(x); });
  take(catalog->mutable_ad_groups(),
       [](E* e, v1::AdGroup* x) { e->mutable_ad_group()->Swap(x); });
  take(catalog->mutable_ads(),
       [](E* e, v1::Ad* x) { e->mutable_ad()->Swap(x); });
}

absl::StatusOr<CatalogFiles> CatalogFiles::Read(
    const std::vector<std::string>& paths) {
  CatalogFiles files;
  std::vector<v1::Catalog> catalogs;
  for (const std::string& path : paths) {
    auto file = std::make_unique<File>();
    file->name = std::string(InputName(path));
    ASSIGN_OR_RETURN(file->text, ReadInput(path));
    RETURN_IF_ERROR(
        ParseMessage(file->text, file->name, &catalogs.emplace_back()));
    files.files_.push_back(std::move(file));
    files.Take(&catalogs.back(), files.files_.size() - 1);
  }
  // Parents first, over all files.
  std::vector<size_t> order(files.entities_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&files](size_t a, size_t b) {
    return files.entities_[a].entity_case() < files.entities_[b].entity_case();
  });
  std::vector<v1::CatalogEntity> entities;
  std::vector<Origin> origins;
  for (const size_t i : order) {
    entities.push_back(std::move(files.entities_[i]));
    origins.push_back(files.origins_[i]);
  }
  files.entities_ = std::move(entities);
  files.origins_ = std::move(origins);
  RETURN_IF_ERROR(files.CheckDistinct());
  return files;
}

absl::Status CatalogFiles::CheckDistinct() const {
  absl::flat_hash_map<std::pair<int, std::string>, size_t> seen;
  for (size_t i = 0; i < entities_.size(); ++i) {
    const v1::EntityKey key = KeyOfEntity(entities_[i]);
    const auto [it, added] = seen.try_emplace({key.type(), key.id()}, i);
    if (added) continue;
    const std::string name =
        absl::StrCat(EntityTypeName(key.type()), " \"", key.id(), "\"");
    const std::string first = Locate(it->second, "");
    return absl::InvalidArgumentError(
        Locate(i, absl::StrCat(name, " is in the files twice, first at ",
                               first.substr(0, first.size() - 2))));
  }
  return absl::OkStatus();
}

std::string CatalogFiles::Locate(size_t i, absl::string_view error) const {
  File& file = *files_[origins_[i].file];
  const int line =
      file.Line(KeyOfEntity(entities_[i]).type(), origins_[i].index, error);
  return line == 0 ? absl::StrCat(file.name, ": ", error)
                   : absl::StrCat(file.name, ":", line, ": ", error);
}

}  // namespace adrank
