// Hot path: no allocation, no locks, no logging.
#include "server/trigger/vector_search_cost.h"

#include <algorithm>
#include <cmath>

namespace adrank {
namespace {

// Below so many vectors nothing is chosen: all are read.
constexpr size_t kFew = 4096;
// Ads that are asked to learn what share is eligible.
constexpr size_t kSample = 64;
// Nanoseconds, roughly: a component read, an ad's targeting evaluated, an ad
// found by targeting, its cosine. They choose between two exact ways, no more.
constexpr double kComponentNs = 0.06, kEvaluateNs = 200, kWalkNs = 40,
                 kCosineNs = 30;
// Of a search in lists beside one of all.
constexpr double kApproximateShare = 0.15;

bool ReadingAllIsCheaper(double vectors, double components, double share,
                         double best, bool approximate) {
  const double eligible = std::max(1.0, vectors * share);
  // In random order the i-th eligible one is among the best with probability
  // best / i.
  const double wanted =
      std::min(eligible, best * (1 + std::log(std::max(1.0, eligible / best))));
  const double all = vectors * components * kComponentNs *
                         (approximate ? kApproximateShare : 1) +
                     wanted / share * kEvaluateNs;
  const double among = eligible * (kWalkNs + kCosineNs) + wanted * kEvaluateNs;
  return all <= among;
}

}  // namespace

bool ReadAllVectors(const VectorIndex& vectors, size_t best,
                    absl::FunctionRef<bool(size_t i)> eligible) {
  const size_t n = vectors.size();
  if (n <= kFew) return true;
  size_t found = 0;
  for (size_t s = 0; s < kSample; ++s) found += eligible(s * n / kSample);
  return ReadingAllIsCheaper(
      static_cast<double>(n), static_cast<double>(vectors.dims()),
      (static_cast<double>(found) + 0.5) / (kSample + 1),
      static_cast<double>(std::max<size_t>(1, best)), vectors.approximate());
}

}  // namespace adrank
