#include "model/model_bundle.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/bundle_files.h"
#include "model/checksums.h"
#include "model/golden.h"
#include "model/weights_file.h"

namespace adrank {
namespace {

using MappedFiles = std::map<std::string, files::Mapped>;

absl::StatusOr<absl::string_view> BytesOf(const MappedFiles& mapped,
                                          const char* name) {
  const auto it = mapped.find(name);
  if (it == mapped.end()) {
    return absl::DataLossError(absl::StrCat(name, ": missing"));
  }
  return it->second.bytes();
}

// Whole by its checksums and yet no bundle: for the reader that is damage too.
absl::Status AsDamage(const absl::Status& status) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  return absl::DataLossError(status.message());
}

absl::Status CheckFields(const v1::ModelManifest& manifest, size_t fields,
                         size_t oov_rows) {
  if (oov_rows != 0 && oov_rows != fields) {
    return absl::InvalidArgumentError(
        absl::StrCat(kVocabularyFile, ": out-of-vocabulary rows of ", oov_rows,
                     " fields, the feature spec has ", fields));
  }
  const int coverage = manifest.field_coverage_size();
  if (coverage != 0 && static_cast<size_t>(coverage) != fields) {
    return absl::InvalidArgumentError(
        absl::StrCat(kManifestFile, ": field_coverage of ", coverage,
                     " fields, the feature spec has ", fields));
  }
  return absl::OkStatus();
}

absl::Status CheckRows(const v1::ModelManifest& manifest, uint64_t rows,
                       uint64_t weights) {
  if (manifest.vocabulary_rows() != rows) {
    return absl::InvalidArgumentError(absl::StrCat(
        kManifestFile, ": vocabulary_rows ", manifest.vocabulary_rows(),
        ", the vocabulary has ", rows));
  }
  if (weights != rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(kWeightsFile, ": ", weights,
                     " weights, the vocabulary has ", rows, " rows"));
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const EmbeddingWeights& weights, uint64_t rows) {
  if (weights.vectors.size() == rows * weights.dim &&
      (weights.linear.empty() || weights.linear.size() == rows)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      kWeightsFile, ": ", weights.vectors.size(), " numbers of dim ",
      weights.dim, " and ", weights.linear.size(),
      " linear weights, the vocabulary has ", rows, " rows"));
}

v1::ModelManifest Complete(const BundleContents& contents, uint64_t rows) {
  v1::ModelManifest manifest = contents.manifest;
  if (manifest.format_version() == 0) {
    manifest.set_format_version(kBundleFormatVersion);
  }
  if (manifest.family().empty()) {
    manifest.set_family(contents.embedding ? kEmbeddingFamily
                                           : kLogisticFamily);
  }
  if (manifest.vocabulary_rows() == 0) manifest.set_vocabulary_rows(rows);
  return manifest;
}

uint64_t RowsOf(const BundleContents& contents) {
  uint64_t rows = contents.ids.size();
  for (uint64_t row : contents.oov_rows) {
    if (row != kNoRow) rows = std::max(rows, row + 1);
  }
  return rows;
}

}  // namespace

absl::Status ModelBundle::Assemble(v1::ModelManifest manifest,
                                   absl::string_view vocabulary,
                                   absl::string_view weights,
                                   const absl::string_view* uncertainty) {
  manifest_ = std::move(manifest);
  RETURN_IF_ERROR(Annotate(CheckManifest(manifest_), kManifestFile));
  auto extractor = FeatureExtractor::Create(manifest_.feature_spec());
  if (!extractor.ok()) {
    return Annotate(extractor.status(),
                    absl::StrCat(kManifestFile, ": feature_spec"));
  }
  extractor_ = *std::move(extractor);
  auto calibrator = Calibrator::Create(manifest_.calibrator());
  if (!calibrator.ok()) {
    return Annotate(calibrator.status(),
                    absl::StrCat(kManifestFile, ": calibrator"));
  }
  calibrator_ = *std::move(calibrator);
  if (!calibrator_.slice_field().empty()) {
    auto slice = SliceReader::Create(*extractor_, calibrator_.slice_field());
    if (!slice.ok()) {
      return Annotate(slice.status(),
                      absl::StrCat(kManifestFile, ": calibrator.slice_bias"));
    }
    slice_ = *slice;
  }
  auto parsed_vocabulary = Vocabulary::Parse(vocabulary);
  if (!parsed_vocabulary.ok()) {
    return Annotate(parsed_vocabulary.status(), kVocabularyFile);
  }
  vocabulary_ = *parsed_vocabulary;
  RETURN_IF_ERROR(CheckFields(manifest_, extractor_->field_names().size(),
                              vocabulary_->oov_rows().size()));
  RETURN_IF_ERROR(manifest_.family() == kEmbeddingFamily
                      ? AssembleEmbedding(weights)
                      : AssembleLogistic(weights));
  if (uncertainty == nullptr) return absl::OkStatus();
  auto parsed = Uncertainty::Parse(*uncertainty, vocabulary_->rows());
  if (!parsed.ok()) return Annotate(parsed.status(), kUncertaintyFile);
  uncertainty_ = *parsed;
  return absl::OkStatus();
}

absl::Status ModelBundle::AssembleLogistic(absl::string_view weights) {
  auto parsed = ParseWeights(weights);
  if (!parsed.ok()) return Annotate(parsed.status(), kWeightsFile);
  RETURN_IF_ERROR(
      CheckRows(manifest_, vocabulary_->rows(), parsed->weights.size()));
  auto logistic =
      std::make_unique<const LogisticModel>(parsed->bias, parsed->weights);
  logistic_ = logistic.get();
  model_ = std::move(logistic);
  return absl::OkStatus();
}

absl::Status ModelBundle::AssembleEmbedding(absl::string_view weights) {
  auto parsed = EmbeddingView::Parse(weights);
  if (!parsed.ok()) return Annotate(parsed.status(), kWeightsFile);
  RETURN_IF_ERROR(CheckRows(manifest_, vocabulary_->rows(), parsed->rows()));
  ASSIGN_OR_RETURN(const FieldLayout layout,
                   LayoutOf(manifest_.feature_spec()));
  auto embedding = EmbeddingModel::Create(manifest_.graph(), layout, *parsed);
  if (!embedding.ok()) {
    return Annotate(embedding.status(),
                    absl::StrCat(kManifestFile, ", ", kWeightsFile));
  }
  embedding_ = embedding->get();
  model_ = *std::move(embedding);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ModelBundle>> ModelBundle::Load(
    const std::string& dir) {
  std::shared_ptr<ModelBundle> bundle(new ModelBundle);
  ASSIGN_OR_RETURN(bundle->mapped_, MapVerified(dir));
  const auto verify = [&]() -> absl::Status {
    const MappedFiles& mapped = bundle->mapped_;
    ASSIGN_OR_RETURN(const absl::string_view text,
                     BytesOf(mapped, kManifestFile));
    auto manifest = ParseManifest(text);
    if (!manifest.ok()) return Annotate(manifest.status(), kManifestFile);
    ASSIGN_OR_RETURN(const absl::string_view vocabulary,
                     BytesOf(mapped, kVocabularyFile));
    ASSIGN_OR_RETURN(const absl::string_view weights,
                     BytesOf(mapped, kWeightsFile));
    ASSIGN_OR_RETURN(const absl::string_view golden_bytes,
                     BytesOf(mapped, kGoldenFile));
    const auto uncertainty = mapped.find(kUncertaintyFile);
    absl::string_view variances;
    if (uncertainty != mapped.end()) variances = uncertainty->second.bytes();
    RETURN_IF_ERROR(
        bundle->Assemble(*std::move(manifest), vocabulary, weights,
                         uncertainty == mapped.end() ? nullptr : &variances));
    v1::GoldenExamples golden;
    if (golden_bytes.size() > kMaxGoldenBytes ||
        !golden.ParseFromArray(golden_bytes.data(),
                               static_cast<int>(golden_bytes.size()))) {
      return absl::DataLossError(
          absl::StrCat(kGoldenFile, ": not a GoldenExamples message"));
    }
    return Annotate(ReplayGolden(*bundle, golden), kGoldenFile);
  };
  RETURN_IF_ERROR(Annotate(AsDamage(verify()), dir));
  for (const auto& [name, file] : bundle->mapped_) {
    bundle->bytes_ += file.bytes().size();
  }
  return std::shared_ptr<const ModelBundle>(std::move(bundle));
}

absl::StatusOr<std::shared_ptr<const ModelBundle>> ModelBundle::FromContents(
    const BundleContents& contents) {
  RETURN_IF_ERROR(Annotate(Vocabulary::Check(contents.ids, contents.oov_rows),
                           "vocabulary"));
  std::shared_ptr<ModelBundle> bundle(new ModelBundle);
  bundle->owned_vocabulary_ =
      Vocabulary::Serialize(contents.ids, contents.oov_rows);
  const uint64_t rows = RowsOf(contents);
  if (contents.embedding) {
    RETURN_IF_ERROR(CheckSizes(*contents.embedding, rows));
    bundle->owned_weights_ = SerializeEmbedding(
        *contents.embedding, rows, contents.manifest.embedding_storage());
  } else {
    bundle->owned_weights_ =
        SerializeWeights({contents.bias, contents.weights});
  }
  if (!contents.variances.empty()) {
    bundle->owned_uncertainty_ =
        Uncertainty::Serialize(contents.prior_variance, contents.variances);
  }
  const absl::string_view uncertainty = bundle->owned_uncertainty_;
  RETURN_IF_ERROR(bundle->Assemble(
      Complete(contents, rows), bundle->owned_vocabulary_,
      bundle->owned_weights_, uncertainty.empty() ? nullptr : &uncertainty));
  bundle->bytes_ =
      bundle->owned_vocabulary_.size() + bundle->owned_weights_.size() +
      bundle->owned_uncertainty_.size();
  return std::shared_ptr<const ModelBundle>(std::move(bundle));
}

void ModelBundle::Predict(const RequestFeatures& features,
                          PredictScratch* scratch, absl::Span<float> logits,
                          absl::Span<float> pctrs) const {
  DCHECK_EQ(logits.size(), pctrs.size());
  vocabulary_->Lookup(features, &scratch->rows);
  model_->Logits(features, scratch->rows, logits);
  Calibrate(features, logits, pctrs);
}

void ModelBundle::Calibrate(const RequestFeatures& features,
                            absl::Span<const float> logits,
                            absl::Span<float> pctrs) const {
  for (size_t i = 0; i < logits.size(); ++i) {
    pctrs[i] = calibrator_.Probability(logits[i],
                                       slice_ ? slice_->Slice(features, i) : 0);
  }
}

}  // namespace adrank
