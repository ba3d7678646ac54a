// WriteBundle: contents -> directory.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "model/bundle_files.h"
#include "model/checksums.h"
#include "model/golden.h"
#include "model/model_bundle.h"

namespace adrank {
namespace {

using NamedBytes = std::vector<std::pair<std::string, absl::string_view>>;

absl::Status CheckNames(const NamedBytes& entries) {
  std::set<std::string> seen = {kChecksumsFile};
  for (const auto& [name, bytes] : entries) {
    if (!IsPlainName(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("file name \"", name,
                       "\" is not made of letters, digits, '.', '_', '-'"));
    }
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("file name \"", name, "\" twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteFiles(const std::string& dir, const NamedBytes& entries,
                        const std::function<void(const char*)>& step) {
  Checksums checksums;
  for (const auto& [name, bytes] : entries) {
    if (step) step(name.c_str());
    RETURN_IF_ERROR(files::Write(files::Join(dir, name), bytes));
    checksums[name] = Sha256Hex(bytes);
  }
  if (step) step(kChecksumsFile);
  RETURN_IF_ERROR(files::Write(files::Join(dir, kChecksumsFile),
                               SerializeChecksums(checksums)));
  return files::SyncDirectory(dir);
}

}  // namespace

absl::Status WriteBundle(const std::string& dir, const BundleContents& contents,
                         const std::function<void(const char*)>& step) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const ModelBundle> bundle,
                   ModelBundle::FromContents(contents));
  v1::GoldenExamples golden;
  for (const v1::GoldenExample& example : contents.golden) {
    *golden.add_examples() = example;
  }
  RETURN_IF_ERROR(AnswerGolden(*bundle, &golden));
  // What Load will do, done while the contents can still be named.
  if (const absl::Status s = ReplayGolden(*bundle, golden); !s.ok()) {
    return absl::InvalidArgumentError(s.message());
  }
  const std::string manifest = PrintTextProto(bundle->manifest());
  const std::string golden_bytes = golden.SerializeAsString();
  if (!v1::GoldenExamples().ParseFromString(golden_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(kGoldenFile, ": text that is not UTF-8"));
  }
  if (golden_bytes.size() > kMaxGoldenBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(kGoldenFile, ": ", golden_bytes.size(), " bytes, at most ",
                     kMaxGoldenBytes));
  }
  NamedBytes entries = {{kVocabularyFile, bundle->owned_vocabulary_},
                        {kWeightsFile, bundle->owned_weights_},
                        {kGoldenFile, golden_bytes}};
  if (!bundle->owned_uncertainty_.empty()) {
    entries.emplace_back(kUncertaintyFile, bundle->owned_uncertainty_);
  }
  for (const auto& [name, bytes] : contents.extra_files) {
    entries.emplace_back(name, bytes);
  }
  entries.emplace_back(kManifestFile, manifest);
  RETURN_IF_ERROR(CheckNames(entries));

  if (mkdir(dir.c_str(), 0755) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("create directory ", dir));
  }
  auto remove = absl::MakeCleanup([&] { (void)files::RemoveAll(dir); });
  RETURN_IF_ERROR(WriteFiles(dir, entries, step));
  std::move(remove).Cancel();
  return absl::OkStatus();
}

}  // namespace adrank
