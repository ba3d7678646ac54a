// Catalogue files as the operations they ask for, with where each entity
// stands.
#ifndef ADRANK_TOOLS_CATALOG_FILE_H_
#define ADRANK_TOOLS_CATALOG_FILE_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/catalog.pb.h"

namespace adrank {

// "advertiser", "campaign", "ad_group", "ad".
std::string EntityTypeName(v1::EntityType type);
v1::EntityKey KeyOfEntity(const v1::CatalogEntity& entity);

class CatalogFiles {
 public:
  // Each file is an adrank.v1.Catalog, JSON or text proto; "-" is standard
  // input. InvalidArgument, naming file, line and entity, for what cannot be
  // parsed and for an entity that is there twice.
  static absl::StatusOr<CatalogFiles> Read(
      const std::vector<std::string>& paths);

  CatalogFiles(CatalogFiles&&);
  CatalogFiles& operator=(CatalogFiles&&);
  ~CatalogFiles();

  // Parents before children; of one type in the order of the files.
  const std::vector<v1::CatalogEntity>& entities() const { return entities_; }

  // `error` about entities()[i], as a server words it, behind its place:
  // "ads.textproto:12: ad_group \"g\": bid_micros 0 must be > 0". The line is
  // that of the field which the error begins with, else the entity's.
  std::string Locate(size_t i, absl::string_view error) const;

 private:
  struct File;
  // Where an entity comes from: the `index`th of its type in the file.
  struct Origin {
    size_t file;
    int index;
  };
  CatalogFiles();
  void Take(v1::Catalog* catalog, size_t file);
  absl::Status CheckDistinct() const;

  std::vector<std::unique_ptr<File>> files_;
  std::vector<v1::CatalogEntity> entities_;
  std::vector<Origin> origins_;  // [entities]
};

// Line (1-based) of each object in the lists of the outermost object of a JSON
// text, by the list's name in lower case without underscores.
std::map<std::string, std::vector<int>> JsonObjectLines(absl::string_view json);

}  // namespace adrank

#endif  // ADRANK_TOOLS_CATALOG_FILE_H_
