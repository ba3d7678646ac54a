#include "tools/catalog_diff.h"

#include <google/protobuf/struct.pb.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/catalog_file.h"
#include "tools/client.h"

namespace adrank {
namespace {

constexpr size_t kMaxFields = 1000;  // of one entity

std::string Name(const v1::EntityKey& key) {
  return absl::StrCat(EntityTypeName(key.type()), " \"", key.id(), "\"");
}

// "ad_group.budget" -> "budget": the kind of entity is known already.
std::string WithoutKind(const std::string& path) {
  return path.substr(path.find('.') + 1);
}

std::string FieldLine(const FieldDifference& d) {
  const std::string path = WithoutKind(d.path);
  if (d.left.empty()) return absl::StrCat(path, ": + ", d.right);
  if (d.right.empty()) return absl::StrCat(path, ": - ", d.left);
  return absl::StrCat(path, ": ", d.left, " -> ", d.right);
}

const char* KindName(EntityChange::Kind kind) {
  switch (kind) {
    case EntityChange::kAdded:
      return "added";
    case EntityChange::kChanged:
      return "changed";
    case EntityChange::kRemoved:
      break;
  }
  return "removed";
}

void SetText(const char* name, const std::string& text,
             google::protobuf::Struct* out) {
  (*out->mutable_fields())[name].set_string_value(text);
}

google::protobuf::Struct ToStruct(const EntityChange& change) {
  google::protobuf::Struct out;
  SetText("change", KindName(change.kind), &out);
  SetText("type", EntityTypeName(change.key.type()), &out);
  SetText("id", change.key.id(), &out);
  for (const FieldDifference& d : change.fields) {
    google::protobuf::Struct* field = (*out.mutable_fields())["fields"]
                                          .mutable_list_value()
                                          ->add_values()
                                          ->mutable_struct_value();
    SetText("path", WithoutKind(d.path), field);
    SetText("live", d.left, field);
    SetText("file", d.right, field);
  }
  return out;
}

}  // namespace

CatalogDiff::CatalogDiff(const std::vector<v1::CatalogEntity>& wanted)
    : wanted_(wanted), live_(wanted.size(), 0), fields_(wanted.size()) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const v1::EntityKey key = KeyOfEntity(wanted[i]);
    index_.emplace(Key(key.type(), key.id()), i);
  }
}

void CatalogDiff::Live(const v1::CatalogEntity& entity) {
  const v1::EntityKey key = KeyOfEntity(entity);
  const auto it = index_.find(Key(key.type(), key.id()));
  if (it == index_.end()) {
    only_live_.push_back(key);
    return;
  }
  live_[it->second] = 1;
  std::vector<FieldDifference> fields =
      DiffMessages(entity, wanted_[it->second], kMaxFields);
  same_ += fields.empty();
  fields_[it->second] = std::move(fields);
}

std::vector<EntityChange> CatalogDiff::Finish(bool prune) const {
  std::vector<EntityChange> changes;
  for (size_t i = 0; i < wanted_.size(); ++i) {
    const v1::EntityKey key = KeyOfEntity(wanted_[i]);
    if (live_[i] == 0) {
      changes.push_back({EntityChange::kAdded, key, {}, wanted_[i]});
    } else if (!fields_[i].empty()) {
      changes.push_back({EntityChange::kChanged, key, fields_[i], {}});
    }
  }
  if (!prune) return changes;
  std::vector<v1::EntityKey> gone = only_live_;
  std::stable_sort(gone.begin(), gone.end(),
                   [](const v1::EntityKey& a, const v1::EntityKey& b) {
                     return a.type() > b.type();
                   });
  for (v1::EntityKey& key : gone) {
    changes.push_back({EntityChange::kRemoved, std::move(key), {}, {}});
  }
  return changes;
}

std::string DiffText(const std::vector<EntityChange>& changes) {
  std::string text;
  for (const EntityChange& change : changes) {
    const char sign = change.kind == EntityChange::kAdded     ? '+'
                      : change.kind == EntityChange::kChanged ? '~'
                                                              : '-';
    absl::StrAppend(&text, std::string(1, sign), " ", Name(change.key), "\n");
    for (const FieldDifference& d : change.fields) {
      absl::StrAppend(&text, "    ", FieldLine(d), "\n");
    }
  }
  return text;
}

std::string DiffJson(const std::vector<EntityChange>& changes, size_t only_live,
                     int64_t version) {
  google::protobuf::Struct out;
  auto& fields = *out.mutable_fields();
  auto* list = fields["changes"].mutable_list_value();
  for (const EntityChange& change : changes) {
    *list->add_values()->mutable_struct_value() = ToStruct(change);
  }
  fields["only_live"].set_number_value(static_cast<double>(only_live));
  fields["catalog_version"].set_number_value(static_cast<double>(version));
  return ToJson(out);
}

}  // namespace adrank
