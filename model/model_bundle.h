// The unit that is published, verified and swapped: feature spec, vocabulary,
// weights, calibrator, manifest and golden examples of one version, in one
// directory (docs/artifact_format.md).
#ifndef ADRANK_MODEL_MODEL_BUNDLE_H_
#define ADRANK_MODEL_MODEL_BUNDLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/files.h"
#include "features/feature_extractor.h"
#include "model/calibrator.h"
#include "model/embedding_model.h"
#include "model/embedding_weights.h"
#include "model/logistic_model.h"
#include "model/model.h"
#include "model/slice_reader.h"
#include "model/uncertainty.h"
#include "model/vocabulary.h"
#include "proto/model_manifest.pb.h"

namespace adrank {

// Scratch of one thread, so that predicting allocates nothing after warm-up.
// After Predict, `rows` are those of its features (for Explain()).
struct PredictScratch {
  RequestRows rows;
};

// What a trainer hands over.
struct BundleContents {
  // format_version, family and vocabulary_rows may be left 0: they are filled
  // in. `graph` (and `embedding_storage`) belong to the embedding family.
  v1::ModelManifest manifest;
  // Vocabulary::Serialize's arguments. oov_rows is empty or has one a field of
  // the spec (FeatureExtractor::field_names()).
  std::vector<uint64_t> ids;
  std::vector<uint32_t> oov_rows;
  // The logistic family's: [rows].
  std::vector<float> weights;
  float bias = 0;
  // What is known of the weights' variance (model/uncertainty.h): [rows] and
  // the prior's; empty: nothing.
  std::vector<float> variances;
  float prior_variance = 0;
  // The embedding family's; then `weights` is empty.
  std::optional<EmbeddingWeights> embedding;
  // Inputs only; WriteBundle computes and stores the answers. At least one with
  // at least one ad.
  std::vector<v1::GoldenExample> golden;
  // Files beside the model that are covered by the checksums, for example the
  // optimizer state and report.json: (name, bytes). Names as IsPlainName()
  // (checksums.h).
  std::vector<std::pair<std::string, std::string>> extra_files;
};

// Immutable and thread-safe. Files are mapped, not parsed.
class ModelBundle {
 public:
  // Verifies everything before it returns: checksums of every byte, format
  // version, spec, sizes, finite weights, and the golden examples bit for bit.
  // The error names the file and the reason. NotFound: no directory. DataLoss:
  // damage; an incomplete directory, a file that does not belong there and
  // contents that contradict each other count as damage. FailedPrecondition:
  // whole, but not for this program: a newer format, another family, golden
  // answers that this program does not reproduce.
  // The directory may be removed while the bundle lives, but its files never
  // written to.
  static absl::StatusOr<std::shared_ptr<const ModelBundle>> Load(
      const std::string& dir);

  // The bundle that Load would give once these contents were written, from
  // memory: what a trainer evaluates before it publishes. Does not look at
  // `golden` and `extra_files`. InvalidArgument, naming the part, when they are
  // no bundle.
  static absl::StatusOr<std::shared_ptr<const ModelBundle>> FromContents(
      const BundleContents& contents);

  const v1::ModelManifest& manifest() const { return manifest_; }
  const FeatureExtractor& extractor() const { return *extractor_; }
  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const Calibrator& calibrator() const { return calibrator_; }
  const Model& model() const { return *model_; }
  // The model by its family; null for the other one.
  const LogisticModel* logistic() const { return logistic_; }
  const EmbeddingModel* embedding() const { return embedding_; }
  // Null: the bundle does not say how sure it is (older ones, and embeddings).
  const Uncertainty* uncertainty() const {
    return uncertainty_ ? &*uncertainty_ : nullptr;
  }
  // Of all files; of vocabulary and weights when made from contents.
  uint64_t bytes() const { return bytes_; }

  // pctrs[i] is calibrated from logits[i] and the slice of candidate i.
  // REQUIRES: both sizes == features.candidates().
  void Calibrate(const RequestFeatures& features,
                 absl::Span<const float> logits, absl::Span<float> pctrs) const;

  // Logits and calibrated pctrs of all candidates. Neither span is optional.
  // REQUIRES: both sizes == features.candidates().
  void Predict(const RequestFeatures& features, PredictScratch* scratch,
               absl::Span<float> logits, absl::Span<float> pctrs) const;

 private:
  friend absl::Status WriteBundle(const std::string& dir,
                                  const BundleContents& contents,
                                  const std::function<void(const char*)>& step);

  ModelBundle() = default;
  // Sets all of the below but mapped_, owned_ and bytes_. The bytes must live
  // as long as the bundle. The error names the file.
  // `uncertainty` null: there is none.
  absl::Status Assemble(v1::ModelManifest manifest,
                        absl::string_view vocabulary, absl::string_view weights,
                        const absl::string_view* uncertainty);
  absl::Status AssembleLogistic(absl::string_view weights);
  absl::Status AssembleEmbedding(absl::string_view weights);

  v1::ModelManifest manifest_;
  std::unique_ptr<const FeatureExtractor> extractor_;
  std::optional<Vocabulary> vocabulary_;
  std::unique_ptr<const Model> model_;
  // model_, by its own type
  const LogisticModel* logistic_ = nullptr;
  const EmbeddingModel* embedding_ = nullptr;
  Calibrator calibrator_;
  std::optional<SliceReader> slice_;  // of the calibrator's slice field
  std::optional<Uncertainty> uncertainty_;
  uint64_t bytes_ = 0;
  // Where the bytes live: files by name, or strings.
  std::map<std::string, files::Mapped> mapped_;
  std::string owned_vocabulary_;
  std::string owned_weights_;
  std::string owned_uncertainty_;  // empty: none
};

// Writes a whole bundle into the new directory `dir` and syncs it. The bytes
// are a pure function of the contents. InvalidArgument, naming the part, when
// Load would refuse them; AlreadyExists when there is something at `dir`.
// Leaves nothing behind when it fails. `step` is called with the name of each
// file before it is written.
absl::Status WriteBundle(const std::string& dir, const BundleContents& contents,
                         const std::function<void(const char*)>& step = {});

}  // namespace adrank

#endif  // ADRANK_MODEL_MODEL_BUNDLE_H_
