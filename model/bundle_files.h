// Names of the files that every bundle has, and the check of its manifest;
// shared by reader and writer. docs/artifact_format.md describes them.
#ifndef ADRANK_MODEL_BUNDLE_FILES_H_
#define ADRANK_MODEL_BUNDLE_FILES_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/model_manifest.pb.h"

namespace adrank {

inline constexpr char kManifestFile[] = "manifest.textproto";
inline constexpr char kVocabularyFile[] = "vocabulary.bin";
inline constexpr char kWeightsFile[] = "weights.bin";
inline constexpr char kGoldenFile[] = "golden.binpb";
// Optional.
inline constexpr char kUncertaintyFile[] = "uncertainty.bin";

inline constexpr uint32_t kBundleFormatVersion = 1;
inline constexpr char kLogisticFamily[] = "logistic";
inline constexpr char kEmbeddingFamily[] = "embedding";
// Of golden.binpb. Protobuf's own limit is 2^31 - 1 bytes.
inline constexpr size_t kMaxGoldenBytes = 1 << 30;

// The manifest's text. Its first line is "format_version: N" in every format
// there will ever be: FailedPrecondition for a newer one, whose other lines may
// not be understood. InvalidArgument when it is no manifest.
absl::StatusOr<v1::ModelManifest> ParseManifest(absl::string_view text);

// InvalidArgument, naming the field, when a field that does not depend on other
// files is out of range; FailedPrecondition for a format or family that is not
// known.
absl::Status CheckManifest(const v1::ModelManifest& manifest);

}  // namespace adrank

#endif  // ADRANK_MODEL_BUNDLE_FILES_H_
