#include "storage/catalog_history.h"

#include <algorithm>
#include <memory>

#include "absl/base/internal/endian.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "storage/catalog_keys.h"
#include "storage/rocks.h"

namespace adrank {

using catalog::AddEntity;

namespace {

constexpr size_t kSuffixBytes = 12;  // be64(~version) be32(~index)

template <typename Entities>
void SortById(Entities* entities) {
  std::sort(entities->begin(), entities->end(),
            [](const auto& a, const auto& b) { return a.id() < b.id(); });
}

}  // namespace

absl::StatusOr<v1::Catalog> CatalogAt(rocksdb::DB* db,
                                      rocksdb::ColumnFamilyHandle* family,
                                      const rocksdb::ReadOptions& options,
                                      const std::string& path,
                                      int64_t version) {
  v1::Catalog catalog;
  bool reached = false;
  std::string decided;  // entity whose state at `version` is known already
  std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, family));
  v1::CatalogChange change;
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    const absl::string_view key = rocks::View(it->key());
    const auto damaged = [&] {
      return absl::DataLossError(
          absl::StrCat("catalogue ", path, ": the change with key ",
                       it->key().ToString(/*hex=*/true), " is damaged"));
    };
    if (key.size() <= kSuffixBytes) return damaged();
    const absl::string_view entity = key.substr(0, key.size() - kSuffixBytes);
    const auto made = static_cast<int64_t>(
        ~absl::big_endian::Load64(key.data() + entity.size()));
    // Newest first: the first that is not after `version` decides.
    if (made > version) continue;
    reached = reached || made == version;
    if (entity == decided) continue;
    decided = std::string(entity);
    if (!change.ParseFromArray(it->value().data(),
                               static_cast<int>(it->value().size()))) {
      return damaged();
    }
    if (change.operation().has_upsert()) {
      AddEntity(change.mutable_operation()->mutable_upsert(), &catalog);
    }
  }
  RETURN_IF_ERROR(
      rocks::ToStatus(it->status(), absl::StrCat("catalogue ", path)));
  if (!reached) {
    return absl::FailedPreconditionError(
        absl::StrCat("catalogue ", path,
                     ": its history has no change of "
                     "version ",
                     version));
  }
  SortById(catalog.mutable_advertisers());
  SortById(catalog.mutable_campaigns());
  SortById(catalog.mutable_ad_groups());
  SortById(catalog.mutable_ads());
  return catalog;
}

}  // namespace adrank
