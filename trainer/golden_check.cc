#include "trainer/golden_check.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/status_macros.h"
#include "model/slice_reader.h"

namespace adrank {
namespace {

// Enough that the least of them is not a matter of luck.
constexpr int kRounds = 5;

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) * 1e-9;
}

// A bundle with what one thread needs to ask it.
struct Asker {
  explicit Asker(const ModelBundle& bundle) : bundle(bundle) {}

  void Ask(const v1::GoldenExample& request) {
    ads.clear();
    for (const v1::AdSnapshot& ad : request.ads()) ads.push_back(&ad);
    bundle.extractor().Extract(request.context(), request.placement_id(), ads,
                               {}, &features);
    logits.resize(ads.size());
    pctrs.resize(ads.size());
    bundle.Predict(features, &scratch, absl::MakeSpan(logits),
                   absl::MakeSpan(pctrs));
  }

  const ModelBundle& bundle;
  std::vector<const v1::AdSnapshot*> ads;
  RequestFeatures features;
  PredictScratch scratch;
  std::vector<float> logits, pctrs;
};

// Microseconds a candidate.
double MeasureScore(const ModelBundle& bundle,
                    absl::Span<const v1::GoldenExample> requests) {
  Asker asker(bundle);
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    uint64_t candidates = 0;
    const double begin = CpuSeconds();
    for (const v1::GoldenExample& request : requests) {
      asker.Ask(request);
      candidates += asker.logits.size();
    }
    const double seconds = CpuSeconds() - begin;
    least = std::min(least, 1e6 * seconds / static_cast<double>(candidates));
  }
  return least;
}

}  // namespace

absl::StatusOr<v1::GoldenCheck> CheckGolden(
    const ModelBundle& candidate, const Calibrator& calibrator,
    const ModelBundle* live, absl::Span<const v1::GoldenExample> requests) {
  std::optional<SliceReader> slice;
  if (!calibrator.slice_field().empty()) {
    ASSIGN_OR_RETURN(slice, SliceReader::Create(candidate.extractor(),
                                                calibrator.slice_field()));
  }
  Asker ours(candidate);
  std::optional<Asker> theirs;
  if (live != nullptr) theirs.emplace(*live);
  v1::GoldenCheck check;
  check.set_requests(requests.size());
  for (const v1::GoldenExample& request : requests) {
    ours.Ask(request);
    if (theirs) theirs->Ask(request);
    for (size_t i = 0; i < ours.logits.size(); ++i) {
      const float pctr = calibrator.Probability(
          ours.logits[i], slice ? slice->Slice(ours.features, i) : 0);
      check.set_candidates(check.candidates() + 1);
      if (!std::isfinite(ours.logits[i]) || !std::isfinite(pctr)) {
        check.set_non_finite(check.non_finite() + 1);
      } else if (theirs) {
        check.set_largest_change(
            std::max(check.largest_change(),
                     std::fabs(static_cast<double>(pctr) - theirs->pctrs[i])));
      }
    }
  }
  if (check.candidates() > 0) {
    check.set_score_micros(MeasureScore(candidate, requests));
  }
  return check;
}

}  // namespace adrank
