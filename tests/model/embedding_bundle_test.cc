// Bundles of the embedding family.
#include <string>
#include <vector>

#include "base/files.h"
#include "gmock/gmock.h"
#include "model/bundle_files.h"
#include "model/checksums.h"
#include "model/model_bundle.h"
#include "tests/model/a_bundle.h"
#include "tests/testing/graph_specs.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AnEmbeddingContents;
using ::adrank::testing::AnExample;
using ::adrank::testing::GraphOf;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::HasSubstr;

constexpr char kDeepFm[] =
    "dim: 5 linear: true pairwise: FM "
    "streams { layers { units: 9 } layers { units: 7 } }";
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

std::vector<float> Pctrs(const ModelBundle& bundle, const char* city) {
  const v1::GoldenExample e = AnExample(city, 3);
  std::vector<const v1::AdSnapshot*> ads;
  for (const auto& ad : e.ads()) ads.push_back(&ad);
  RequestFeatures features;
  bundle.extractor().Extract(e.context(), "top", ads, {}, &features);
  std::vector<float> logits(3), pctrs(3);
  PredictScratch scratch;
  bundle.Predict(features, &scratch, absl::MakeSpan(logits),
                 absl::MakeSpan(pctrs));
  return pctrs;
}

// Writes `bytes` in place of a file, with checksums that fit again.
void Replace(const std::string& dir, const std::string& name,
             const std::string& bytes) {
  ASSERT_OK(files::Write(files::Join(dir, name), bytes));
  Checksums checksums;
  const auto names = files::List(dir);
  for (const std::string& file : *names) {
    if (file == kChecksumsFile) continue;
    checksums[file] = Sha256Hex(*files::Read(files::Join(dir, file)));
  }
  ASSERT_OK(files::Write(files::Join(dir, kChecksumsFile),
                         SerializeChecksums(checksums)));
}

TEST(EmbeddingBundle, LoadsAndPredictsAsFromMemoryInEveryStorage) {
  for (const auto storage : {v1::STORE_FP32, v1::STORE_BF16, v1::STORE_INT8}) {
    TempDir root;
    const BundleContents contents = AnEmbeddingContents(kDeepFm, storage);
    ASSERT_OK(WriteBundle(root / "b", contents));
    ASSERT_OK_AND_ASSIGN(const auto loaded, ModelBundle::Load(root / "b"));
    ASSERT_OK_AND_ASSIGN(const auto made, ModelBundle::FromContents(contents));
    EXPECT_EQ(loaded->manifest().family(), "embedding");
    EXPECT_EQ(loaded->logistic(), nullptr);
    EXPECT_EQ(&loaded->model(), loaded->embedding());
    for (const char* city : {"Berlin", "Rome"}) {
      EXPECT_EQ(Pctrs(*loaded, city), Pctrs(*made, city)) << storage;
    }
  }
}

TEST(EmbeddingBundle, RoundedStoragesMoveTheProbabilitiesLittle) {
  const auto pctrs = [](v1::EmbeddingStorage storage) {
    const auto bundle =
        ModelBundle::FromContents(AnEmbeddingContents(kDeepFm, storage));
    EXPECT_OK(bundle);
    return Pctrs(**bundle, "Berlin");
  };
  const auto exact = pctrs(v1::STORE_FP32);
  for (const auto storage : {v1::STORE_BF16, v1::STORE_INT8}) {
    const auto rounded = pctrs(storage);
    for (size_t i = 0; i < exact.size(); ++i) {
      EXPECT_NEAR(rounded[i], exact[i], 0.01 * exact[i]) << storage;
    }
  }
}

TEST(EmbeddingBundle, AFlippedBitInTheWeightsIsDamage) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AnEmbeddingContents(kDeepFm)));
  const std::string path = files::Join(root / "b", kWeightsFile);
  const std::string whole = *files::Read(path);
  for (size_t at = 0; at < whole.size(); at += 61) {
    std::string bytes = whole;
    bytes[at] ^= 1;
    ASSERT_OK(files::Write(path, bytes));
    EXPECT_THAT(ModelBundle::Load(root / "b").status(),
                StatusIs(kDataLoss, HasSubstr(kWeightsFile)));
  }
}

// Whole files of another training: only the golden examples can tell.
TEST(EmbeddingBundle, GoldenExamplesAreReplayed) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AnEmbeddingContents(kDeepFm)));
  BundleContents other = AnEmbeddingContents(kDeepFm);
  other.embedding->parameters[0] += 1e-3f;
  Replace(root / "b", kWeightsFile,
          SerializeEmbedding(*other.embedding, 7, v1::STORE_FP32));
  EXPECT_THAT(ModelBundle::Load(root / "b").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("golden example 0, ad 0: logit is")));
}

TEST(EmbeddingBundle, WeightsOfAnotherGraphAreNamed) {
  BundleContents contents = AnEmbeddingContents(kDeepFm);
  *contents.manifest.mutable_graph() =
      GraphOf("dim: 5 linear: true streams { layers { units: 9 } }");
  EXPECT_THAT(ModelBundle::FromContents(contents).status(),
              StatusIs(kInvalid, HasSubstr("weights.bin")));
  contents = AnEmbeddingContents(kDeepFm);
  contents.embedding->vectors.resize(5 * 6);
  EXPECT_THAT(
      ModelBundle::FromContents(contents).status(),
      StatusIs(kInvalid, HasSubstr("30 numbers of dim 5 and 7 linear weights, "
                                   "the vocabulary has 7 rows")));
}

}  // namespace
}  // namespace adrank
