#include "model/bundle_files.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "model/checksums.h"

namespace adrank {
namespace {

absl::Status CheckFormat(uint32_t version) {
  if (version == 0) {
    return absl::InvalidArgumentError("format_version is 0");
  }
  if (version > kBundleFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("format_version ", version, ", this program reads up to ",
                     kBundleFormatVersion));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ModelManifest> ParseManifest(absl::string_view text) {
  absl::string_view line = text.substr(0, text.find('\n'));
  uint32_t version = 0;
  if (!absl::ConsumePrefix(&line, "format_version: ") ||
      !absl::SimpleAtoi(line, &version)) {
    return absl::InvalidArgumentError(
        "the first line is not \"format_version: <number>\"");
  }
  RETURN_IF_ERROR(CheckFormat(version));
  v1::ModelManifest manifest;
  RETURN_IF_ERROR(ParseTextProto(text, kManifestFile, &manifest));
  return manifest;
}

absl::Status CheckManifest(const v1::ModelManifest& manifest) {
  RETURN_IF_ERROR(CheckFormat(manifest.format_version()));
  if (manifest.family() != kLogisticFamily &&
      manifest.family() != kEmbeddingFamily) {
    return absl::FailedPreconditionError(absl::StrCat(
        "family \"", manifest.family(), "\", this program knows \"",
        kLogisticFamily, "\" and \"", kEmbeddingFamily, "\""));
  }
  if (manifest.has_graph() != (manifest.family() == kEmbeddingFamily)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "graph: the embedding family has one, \"", manifest.family(), "\" ",
        manifest.has_graph() ? "has none" : "lacks it"));
  }
  if (!IsPlainName(manifest.model_name())) {
    return absl::InvalidArgumentError(
        absl::StrCat("model_name \"", manifest.model_name(),
                     "\" is not made of letters, digits, '.', '_', '-'"));
  }
  if (manifest.version() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("version ", manifest.version(), " is not above 0"));
  }
  const double rate = manifest.base_rate();
  if (!(rate >= 0 && rate <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("base_rate ", rate, " not in [0, 1]"));
  }
  for (int i = 0; i < manifest.field_coverage_size(); ++i) {
    const float share = manifest.field_coverage(i);
    if (!(share >= 0 && share <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("field_coverage[", i, "] ", share, " not in [0, 1]"));
    }
  }
  return absl::OkStatus();
}

}  // namespace adrank
