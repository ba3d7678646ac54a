// The unit that is published, verified and swapped: feature spec, vocabulary,
// weights, calibrator, manifest and golden examples of one version, in one
// directory (docs/artifact_format.md).
#ifndef ADRANK_MODEL_MODEL_BUNDLE_H_
#define ADRANK_MODEL_MODEL_BUNDLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/files.h"
#include "features/feature_extractor.h"
#include "model/calibrator.h"
#include "model/logistic_model.h"
#include "model/model.h"
#include "model/vocabulary.h"
#include "proto/model_manifest.pb.h"

namespace adrank {

// Scratch of one thread, so that predicting allocates nothing after warm-up.
struct PredictScratch {
  RequestRows rows;
};

// Immutable and thread-safe. Files are mapped, not parsed.
class ModelBundle {
 public:
  // Verifies everything before it returns: format version, checksums of every
  // byte, spec, sizes, finite weights, and the golden examples bit for bit.
  // The error names the file and the reason; a newer format is
  // FailedPrecondition, damage is DataLoss, no directory is NotFound.
  static absl::StatusOr<std::shared_ptr<const ModelBundle>> Load(
      const std::string& dir);

  const v1::ModelManifest& manifest() const { return manifest_; }
  const FeatureExtractor& extractor() const { return *extractor_; }
  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const Calibrator& calibrator() const { return calibrator_; }
  const LogisticModel& logistic() const { return *model_; }
  uint64_t bytes() const { return bytes_; }

  // Logits and calibrated pctrs of all candidates. Either span may not be empty.
  // REQUIRES: both sizes == features.candidates().
  void Predict(const RequestFeatures& features, PredictScratch* scratch,
               absl::Span<float> logits, absl::Span<float> pctrs) const;

 private:
  ModelBundle() = default;
  absl::Status Verify(const std::string& dir) const;

  v1::ModelManifest manifest_;
  std::vector<files::Mapped> mapped_;
  std::unique_ptr<const FeatureExtractor> extractor_;
  std::unique_ptr<const Vocabulary> vocabulary_;
  std::unique_ptr<const LogisticModel> model_;
  Calibrator calibrator_;
  uint64_t bytes_ = 0;
};

// What a trainer hands over.
struct BundleContents {
  v1::ModelManifest manifest;
  // Vocabulary::Serialize's arguments.
  std::vector<uint64_t> ids;
  std::vector<uint32_t> oov_rows;
  // [rows]
  std::vector<float> weights;
  float bias = 0;
  // Inputs only; WriteBundle computes and stores the answers.
  std::vector<v1::GoldenExample> golden;
  // Files beside the model that are covered by the checksums, for example the
  // optimizer state and report.json: (name, bytes).
  std::vector<std::pair<std::string, std::string>> extra_files;
};

// Writes a whole bundle into the new directory `dir` and syncs it. The bytes are
// a pure function of the contents.
absl::Status WriteBundle(const std::string& dir,
                         const BundleContents& contents);

}  // namespace adrank

#endif  // ADRANK_MODEL_MODEL_BUNDLE_H_
