#include "model/golden.h"

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

v1::GoldenExample Answer(const ModelBundle& bundle,
                         const v1::GoldenExample& input) {
  std::vector<const v1::AdSnapshot*> ads;
  for (const v1::AdSnapshot& ad : input.ads()) ads.push_back(&ad);
  RequestFeatures features;
  bundle.extractor().Extract(input.context(), input.placement_id(), ads, {},
                             &features);
  std::vector<float> logits(ads.size());
  std::vector<float> pctrs(ads.size());
  PredictScratch scratch;
  bundle.Predict(features, &scratch, absl::MakeSpan(logits),
                 absl::MakeSpan(pctrs));
  v1::GoldenExample answer;
  for (size_t i = 0; i < ads.size(); ++i) {
    answer.add_fingerprint(FeatureExtractor::Fingerprint(features, i));
    answer.add_logit(logits[i]);
    answer.add_pctr(pctrs[i]);
  }
  return answer;
}

absl::Status Differs(int example, int ad, absl::string_view what,
                     absl::string_view found, absl::string_view stored) {
  return absl::FailedPreconditionError(
      absl::StrCat("golden example ", example, ", ad ", ad, ": ", what, " is ",
                   found, ", the bundle says ", stored));
}

// Decimal for people, hexadecimal for every bit.
std::string Show(float f) { return absl::StrFormat("%.9g (%a)", f, f); }

bool SameBits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

absl::Status Compare(int example, const v1::GoldenExample& found,
                     const v1::GoldenExample& stored) {
  for (int i = 0; i < found.logit_size(); ++i) {
    if (found.fingerprint(i) != stored.fingerprint(i)) {
      return Differs(example, i, "fingerprint",
                     absl::StrFormat("%016x", found.fingerprint(i)),
                     absl::StrFormat("%016x", stored.fingerprint(i)));
    }
    if (!SameBits(found.logit(i), stored.logit(i))) {
      return Differs(example, i, "logit", Show(found.logit(i)),
                     Show(stored.logit(i)));
    }
    if (!SameBits(found.pctr(i), stored.pctr(i))) {
      return Differs(example, i, "pctr", Show(found.pctr(i)),
                     Show(stored.pctr(i)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AnswerGolden(const ModelBundle& bundle,
                          v1::GoldenExamples* golden) {
  for (int e = 0; e < golden->examples_size(); ++e) {
    v1::GoldenExample* const example = golden->mutable_examples(e);
    v1::GoldenExample answer = Answer(bundle, *example);
    for (int i = 0; i < answer.logit_size(); ++i) {
      if (std::isfinite(answer.logit(i))) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("golden example ", e, ", ad ", i, ": logit is ",
                       answer.logit(i), ", not finite"));
    }
    example->mutable_fingerprint()->Swap(answer.mutable_fingerprint());
    example->mutable_logit()->Swap(answer.mutable_logit());
    example->mutable_pctr()->Swap(answer.mutable_pctr());
  }
  return absl::OkStatus();
}

absl::Status ReplayGolden(const ModelBundle& bundle,
                          const v1::GoldenExamples& golden) {
  int ads = 0;
  for (int e = 0; e < golden.examples_size(); ++e) {
    const v1::GoldenExample& stored = golden.examples(e);
    if (stored.fingerprint_size() != stored.ads_size() ||
        stored.logit_size() != stored.ads_size() ||
        stored.pctr_size() != stored.ads_size()) {
      return absl::DataLossError(absl::StrCat(
          "golden example ", e, ": ", stored.ads_size(), " ads, ",
          stored.fingerprint_size(), " fingerprints, ", stored.logit_size(),
          " logits, ", stored.pctr_size(), " pctrs"));
    }
    RETURN_IF_ERROR(Compare(e, Answer(bundle, stored), stored));
    ads += stored.ads_size();
  }
  if (ads == 0) return absl::DataLossError("no golden example has an ad");
  return absl::OkStatus();
}

}  // namespace adrank
