#include "model/model_bundle.h"

#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "base/rng.h"
#include "base/textproto.h"
#include "google/protobuf/stubs/logging.h"
#include "model/bundle_files.h"
#include "model/checksums.h"
#include "model/weights_file.h"
#include "tests/model/a_bundle.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AContents;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

// name -> bytes of a whole bundle.
std::map<std::string, std::string> ReadAll(const std::string& dir) {
  std::map<std::string, std::string> all;
  const auto names = files::List(dir);
  for (const std::string& name : *names) {
    all[name] = *files::Read(files::Join(dir, name));
  }
  return all;
}

// Without sync, and as a new file (some file systems flush one that was cut to
// 0 bytes): the tests below write thousands.
void WriteQuickly(const std::string& path, absl::string_view bytes) {
  unlink(path.c_str());
  FILE* file = fopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  ASSERT_EQ(fclose(file), 0);
}

// A bundle whose files a test may change, with checksums that fit again.
class Tampered {
 public:
  explicit Tampered(const BundleContents& contents = AContents())
      : dir_(root_ / "b") {
    EXPECT_OK(WriteBundle(dir_, contents));
  }
  const std::string& dir() const { return dir_; }
  std::string Get(const char* name) { return *files::Read(dir_ + "/" + name); }
  void Set(const std::string& name, const std::string& bytes) {
    WriteQuickly(files::Join(dir_, name), bytes);
    Checksums checksums;
    for (const auto& [file, content] : ReadAll(dir_)) {
      if (file != kChecksumsFile) checksums[file] = Sha256Hex(content);
    }
    WriteQuickly(files::Join(dir_, kChecksumsFile),
                 SerializeChecksums(checksums));
  }
  void SetManifest(const std::function<void(v1::ModelManifest*)>& change) {
    v1::ModelManifest manifest;
    ASSERT_OK(ParseTextProto(Get(kManifestFile), "", &manifest));
    change(&manifest);
    Set(kManifestFile, PrintTextProto(manifest));
  }
  absl::Status Load() { return ModelBundle::Load(dir_).status(); }

 private:
  TempDir root_;
  const std::string dir_;
};

TEST(ModelBundle, LoadGivesBackWhatWasWritten) {
  TempDir root;
  const BundleContents contents = AContents();
  ASSERT_OK(WriteBundle(root / "b", contents));
  ASSERT_OK_AND_ASSIGN(const auto bundle, ModelBundle::Load(root / "b"));
  EXPECT_EQ(bundle->manifest().format_version(), 1u);
  EXPECT_EQ(bundle->manifest().family(), "logistic");
  EXPECT_EQ(bundle->manifest().vocabulary_rows(), 7u);
  EXPECT_EQ(bundle->vocabulary().Ids(), contents.ids);
  EXPECT_EQ(bundle->logistic()->bias(), contents.bias);
  for (uint32_t row = 0; row < 7; ++row) {
    EXPECT_EQ(bundle->logistic()->weight(row), contents.weights[row]);
  }
  EXPECT_EQ(&bundle->model(), bundle->logistic());
  uint64_t bytes = 0;
  for (const auto& [name, content] : ReadAll(root / "b")) {
    if (name != kChecksumsFile) bytes += content.size();
  }
  EXPECT_EQ(bundle->bytes(), bytes);
}

// By hand: Berlin, ad category a: bias + city + category + cross.
TEST(ModelBundle, PredictsByHandComputedNumbers) {
  ASSERT_OK_AND_ASSIGN(const auto bundle,
                       ModelBundle::FromContents(AContents()));
  const auto predict = [&](const v1::GoldenExample& e) {
    std::vector<const v1::AdSnapshot*> ads;
    for (const auto& ad : e.ads()) ads.push_back(&ad);
    RequestFeatures features;
    bundle->extractor().Extract(e.context(), "top", ads, {}, &features);
    std::vector<float> logits(ads.size()), pctrs(ads.size());
    PredictScratch scratch;
    bundle->Predict(features, &scratch, absl::MakeSpan(logits),
                    absl::MakeSpan(pctrs));
    for (size_t i = 0; i < ads.size(); ++i) {
      EXPECT_EQ(pctrs[i], bundle->calibrator().Probability(logits[i]));
    }
    return logits;
  };
  EXPECT_THAT(predict(testing::AnExample("Berlin", 2)),
              ::testing::ElementsAre(-1.0625f + 0.5f - 0.25f + 1.5f,
                                     -1.0625f + 0.5f + 0.125f - 1.0f));
  // Rome is unknown: the out-of-vocabulary rows of city and of the cross.
  EXPECT_THAT(predict(testing::AnExample("Rome", 1)),
              ::testing::ElementsAre(
                  ::testing::FloatEq(-1.0625f + 0.3f - 0.25f - 0.7f)));
  EXPECT_THAT(predict(testing::AnExample("Rome", 0)), ::testing::IsEmpty());
}

TEST(ModelBundle, StaysUsableWhenItsDirectoryIsRemoved) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  ASSERT_OK_AND_ASSIGN(const auto bundle, ModelBundle::Load(root / "b"));
  ASSERT_OK(files::RemoveAll(root / "b"));
  EXPECT_EQ(bundle->vocabulary().Ids(), AContents().ids);
}

TEST(ModelBundle, TheSameContentsGiveTheSameBytes) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "a", AContents()));
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  EXPECT_EQ(ReadAll(root / "a"), ReadAll(root / "b"));
}

TEST(ModelBundle, ChecksumsAreThoseOfSha256sum) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  EXPECT_EQ(std::system(("cd " + (root / "b") +
                         " && sha256sum --strict --quiet -c checksums.sha256 &&"
                         " sha256sum $(ls | grep -v checksums) |"
                         " LC_ALL=C sort -k2 | cmp - checksums.sha256")
                            .c_str()),
            0);
}

TEST(ModelBundle, AFlippedByteAtEveryOffsetOfEveryFileIsRefused) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  Rng rng(1);
  int tried = 0;
  for (const auto& [name, good] : ReadAll(root / "b")) {
    const std::string path = files::Join(root / "b", name);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bytes = good;
      bytes[at] ^= static_cast<char>(1 + rng.Below(255));
      WriteQuickly(path, bytes);
      ASSERT_THAT(ModelBundle::Load(root / "b"),
                  StatusIs(kDataLoss, HasSubstr(root / "b")))
          << name << " at " << at;
      ++tried;
    }
    WriteQuickly(path, good);
  }
  EXPECT_GT(tried, 1300);
  EXPECT_OK(ModelBundle::Load(root / "b"));
}

// The case of a hexadecimal digit is the one flip that leaves its value.
TEST(ModelBundle, EveryFlippedBitOfTheChecksumsIsRefused) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  const std::string path = files::Join(root / "b", kChecksumsFile);
  const std::string good = *files::Read(path);
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bytes = good;
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    WriteQuickly(path, bytes);
    ASSERT_THAT(ModelBundle::Load(root / "b"),
                StatusIs(kDataLoss, HasSubstr("")));
  }
}

TEST(ModelBundle, EveryTruncationOfEveryFileIsRefused) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  for (const auto& [name, good] : ReadAll(root / "b")) {
    const std::string path = files::Join(root / "b", name);
    for (size_t n = 0; n < good.size(); ++n) {
      WriteQuickly(path, good.substr(0, n));
      ASSERT_THAT(ModelBundle::Load(root / "b"),
                  StatusIs(kDataLoss, HasSubstr(root / "b")));
    }
    WriteQuickly(path, good + "\n");
    ASSERT_THAT(ModelBundle::Load(root / "b"),
                StatusIs(kDataLoss, HasSubstr("")));
    WriteQuickly(path, good);
  }
}

// Whatever subset of files a copy has reached.
TEST(ModelBundle, EveryHalfCopiedDirectoryIsRefused) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  const auto all = ReadAll(root / "b");
  for (unsigned subset = 0; subset + 1 < (1u << all.size()); ++subset) {
    const std::string dir = root / absl::StrCat("copy", subset);
    ASSERT_OK(files::MakeDirectories(dir));
    unsigned index = 0;
    for (const auto& [name, bytes] : all) {
      if ((subset >> index++) & 1) WriteQuickly(files::Join(dir, name), bytes);
    }
    ASSERT_THAT(ModelBundle::Load(dir),
                StatusIs(kDataLoss, AllOf(HasSubstr(dir),
                                          AnyOf(HasSubstr("missing"),
                                                HasSubstr("not listed")))));
  }
}

TEST(ModelBundle, StrangersInTheDirectoryAreRefused) {
  Tampered b;
  WriteQuickly(files::Join(b.dir(), "notes.txt"), "hello");
  EXPECT_THAT(b.Load(),
              StatusIs(kDataLoss, HasSubstr("notes.txt: not listed")));
  ASSERT_OK(files::RemoveAll(files::Join(b.dir(), "notes.txt")));
  ASSERT_OK(b.Load());
  ASSERT_OK(files::MakeDirectories(files::Join(b.dir(), "sub")));
  EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("sub: not listed")));
}

TEST(ModelBundle, LinksAndPipesAreNoFiles) {
  Tampered b;
  const std::string path = files::Join(b.dir(), "report.json");
  const std::string elsewhere = b.dir() + ".elsewhere";
  WriteQuickly(elsewhere, b.Get("report.json"));
  ASSERT_OK(files::RemoveAll(path));
  ASSERT_EQ(symlink(elsewhere.c_str(), path.c_str()), 0);
  EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("not a regular file")));
  ASSERT_OK(files::RemoveAll(path));
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("not a regular file")));
}

TEST(ModelBundle, NoDirectoryIsNotFound) {
  TempDir root;
  EXPECT_THAT(ModelBundle::Load(root / "absent"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
}

TEST(ModelBundle, AFutureFormatIsToldFromDamage) {
  Tampered b;
  const std::string manifest = b.Get(kManifestFile);
  ASSERT_EQ(manifest.rfind("format_version: 1\n", 0), 0u);
  b.Set(kManifestFile, "format_version: 2\nfield_of_tomorrow { x: 1 }\n" +
                           manifest.substr(18));
  EXPECT_THAT(b.Load(), StatusIs(kPrecondition,
                                 HasSubstr("manifest.textproto: format_version "
                                           "2, this program reads up to 1")));
  b.Set(kManifestFile, manifest.substr(18));
  EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("the first line")));
  b.Set(kManifestFile, manifest + "format_versions: 2\n");
  EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("format_versions")));
}

TEST(ModelBundle, FutureBinaryFilesAndFamiliesAreToldFromDamage) {
  for (const char* name : {kVocabularyFile, kWeightsFile}) {
    Tampered b;
    std::string bytes = b.Get(name);
    bytes[12] = 2;
    b.Set(name, bytes);
    EXPECT_THAT(b.Load(),
                StatusIs(kPrecondition, AllOf(HasSubstr(name),
                                              HasSubstr("format version 2"))));
  }
  Tampered b;
  b.SetManifest([](auto* m) { m->set_family("forest"); });
  EXPECT_THAT(b.Load(),
              StatusIs(kPrecondition, HasSubstr("family \"forest\"")));
}

TEST(ModelBundle, GoldenMismatchNamesTheExampleAndBothValues) {
  const auto change = [](auto edit) {
    Tampered b;
    v1::GoldenExamples golden;
    EXPECT_TRUE(golden.ParseFromString(b.Get(kGoldenFile)));
    edit(&golden);
    b.Set(kGoldenFile, golden.SerializeAsString());
    return b.Load();
  };
  const auto next = [](float f) {
    return std::bit_cast<float>(std::bit_cast<uint32_t>(f) + 1);
  };
  EXPECT_OK(change([](auto* g) {}));
  EXPECT_THAT(
      change([&](auto* g) {
        auto* e = g->mutable_examples(0);
        e->set_logit(1, next(e->logit(1)));
      }),
      StatusIs(kPrecondition,
               AllOf(HasSubstr("golden.binpb: golden example 0, ad 1: logit is "
                               "-1.4375 ("),
                     HasSubstr("the bundle says -1.43750012 ("))));
  EXPECT_THAT(
      change([&](auto* g) {
        auto* e = g->mutable_examples(1);
        e->set_pctr(0, next(e->pctr(0)));
      }),
      StatusIs(kPrecondition, HasSubstr("golden example 1, ad 0: pctr is ")));
  EXPECT_THAT(
      change(
          [&](auto* g) { g->mutable_examples(0)->set_fingerprint(0, 0xabc); }),
      StatusIs(kPrecondition, HasSubstr("the bundle says 0000000000000abc")));
  EXPECT_THAT(
      change([&](auto* g) { g->mutable_examples(0)->add_logit(1); }),
      StatusIs(kDataLoss, HasSubstr("golden example 0: 2 ads, 2 fingerprints, "
                                    "3 logits, 2 pctrs")));
  EXPECT_THAT(change([&](auto* g) { g->Clear(); }),
              StatusIs(kDataLoss, HasSubstr("no golden example has an ad")));
}

TEST(ModelBundle, AnotherWeightIsCaughtByTheGoldenExamples) {
  Tampered b;
  LogisticWeights weights;
  BundleContents contents = AContents();
  contents.weights[6] = std::nextafterf(contents.weights[6], 1);
  b.Set(kWeightsFile, SerializeWeights({contents.bias, contents.weights}));
  EXPECT_THAT(b.Load(), StatusIs(kPrecondition,
                                 HasSubstr("golden example 1, ad 0: logit")));
}

TEST(ModelBundle, NonFiniteNumbersAreNamed) {
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    Tampered b;
    BundleContents contents = AContents();
    contents.weights[3] = bad;
    EXPECT_THAT(WriteBundle(b.dir() + "2", contents),
                StatusIs(kInvalid, HasSubstr("weights.bin: weight[3] is ")));
    b.Set(kWeightsFile, SerializeWeights({contents.bias, contents.weights}));
    EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("weight[3] is ")));
    contents = AContents();
    contents.bias = bad;
    EXPECT_THAT(WriteBundle(b.dir() + "2", contents),
                StatusIs(kInvalid, HasSubstr("weights.bin: bias is ")));
    b.Set(kWeightsFile, SerializeWeights({contents.bias, contents.weights}));
    EXPECT_THAT(b.Load(), StatusIs(kDataLoss, HasSubstr("bias is ")));
    b.SetManifest([&](auto* m) {
      m->mutable_calibrator()->mutable_platt()->set_intercept(bad);
    });
    EXPECT_THAT(b.Load(),
                StatusIs(kDataLoss, HasSubstr("calibrator: platt: intercept")));
  }
}

TEST(ModelBundle, PartsThatContradictEachOtherAreRefused) {
  const auto manifest =
      [](const std::function<void(v1::ModelManifest*)>& edit) {
        Tampered b;
        b.SetManifest(edit);
        return b.Load();
      };
  EXPECT_THAT(manifest([](auto* m) { m->set_vocabulary_rows(8); }),
              StatusIs(kDataLoss, HasSubstr("vocabulary_rows 8")));
  EXPECT_THAT(manifest([](auto* m) { m->add_field_coverage(0.5); }),
              StatusIs(kDataLoss, HasSubstr("field_coverage of 1 fields")));
  EXPECT_THAT(manifest([](auto* m) {
                m->mutable_feature_spec()->mutable_fields(0)->clear_name();
              }),
              StatusIs(kDataLoss, HasSubstr("feature_spec")));
  EXPECT_THAT(
      manifest([](auto* m) { m->mutable_feature_spec()->clear_crosses(); }),
      StatusIs(kDataLoss, HasSubstr("rows of 3 fields")));
  Tampered b;
  b.Set(kWeightsFile, SerializeWeights({0, std::vector<float>(6)}));
  EXPECT_THAT(b.Load(),
              StatusIs(kDataLoss, HasSubstr("6 weights, the vocabulary "
                                            "has 7 rows")));
}

TEST(WriteBundle, RefusesWhatLoadWouldRefuse) {
  TempDir root;
  const auto refuse = [&](auto edit, const char* message) {
    BundleContents contents = AContents();
    edit(&contents);
    EXPECT_THAT(WriteBundle(root / "b", contents),
                StatusIs(kInvalid, HasSubstr(message)));
    EXPECT_FALSE(files::Exists(root / "b"));
  };
  refuse([](auto* c) { c->golden.clear(); }, "no golden example has an ad");
  {
    const google::protobuf::LogSilencer silence;
    refuse([](auto* c) { c->golden[1].set_placement_id("\xff"); },
           "golden.binpb: text that is not UTF-8");
  }
  refuse([](auto* c) { c->weights.pop_back(); }, "6 weights");
  refuse([](auto* c) { c->ids[1] = c->ids[0]; }, "twice");
  refuse([](auto* c) { c->oov_rows[0] = 99; }, "row 99 of field 0");
  refuse([](auto* c) { c->oov_rows = {5, 6}; }, "the feature spec has 3");
  refuse([](auto* c) { c->manifest.set_version(0); }, "version 0");
  refuse([](auto* c) { c->manifest.set_model_name("../x"); }, "model_name");
  refuse([](auto* c) { c->manifest.set_base_rate(NAN); }, "base_rate");
  refuse([](auto* c) { c->manifest.mutable_feature_spec()->clear_fields(); },
         "feature_spec");
  refuse([](auto* c) { c->extra_files[0].first = "weights.bin"; }, "twice");
  refuse([](auto* c) { c->extra_files[0].first = kChecksumsFile; }, "twice");
  for (const char* name : {"", ".x", "a/b", "a b", "a\nb", "..", "\\a"}) {
    refuse([&](auto* c) { c->extra_files[0].first = name; }, "file name");
  }
  refuse(
      [](auto* c) {
        for (float& w : c->weights) w = 3e38f;
        c->bias = 3e38f;
      },
      "golden example 0, ad 0: logit is inf");
}

TEST(WriteBundle, DoesNotWriteIntoWhatIsThere) {
  TempDir root;
  ASSERT_OK(WriteBundle(root / "b", AContents()));
  EXPECT_THAT(
      WriteBundle(root / "b", AContents()),
      StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(root / "b")));
  EXPECT_OK(ModelBundle::Load(root / "b"));
  EXPECT_THAT(WriteBundle(root / "no/b", AContents()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/b")));
}

// Behind valid checksums, so that the parsers themselves are met.
TEST(ModelBundle, RandomMutationsBehindValidChecksumsAreRefusedOrHarmless) {
  const google::protobuf::LogSilencer silence;  // it reports invalid UTF-8
  Tampered b;
  const auto good = ReadAll(b.dir());
  Rng rng(7);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    const char* names[] = {kManifestFile, kVocabularyFile, kWeightsFile,
                           kGoldenFile};
    const char* name = names[rng.Below(4)];
    std::string bytes = good.at(name);
    for (uint64_t m = 1 + rng.Below(3); m > 0 && !bytes.empty(); --m) {
      const size_t at = rng.Below(bytes.size());
      switch (rng.Below(4)) {
        case 0:
          bytes[at] = static_cast<char>(rng());
          break;
        case 1:
          bytes[at] ^= static_cast<char>(1 << rng.Below(8));
          break;
        case 2:
          bytes.erase(at, 1 + rng.Below(16));
          break;
        default:
          bytes.insert(at, bytes, rng.Below(bytes.size()), rng.Below(16));
      }
    }
    b.Set(name, bytes);
    const absl::Status status = b.Load();
    if (!status.ok()) {
      ++refused;
      EXPECT_TRUE(status.code() == kDataLoss || status.code() == kPrecondition)
          << status;
    }
    WriteQuickly(files::Join(b.dir(), name), good.at(name));
  }
  // What is left are changes without meaning: an unread number, a blank.
  EXPECT_GT(refused, 2400);
}

}  // namespace
}  // namespace adrank
