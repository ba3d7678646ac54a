#include "tools/alias_table.h"

#include <cmath>
#include <numeric>

namespace adrank {

AliasTable::AliasTable(absl::Span<const double> weights)
    : keep_(weights.size()), alias_(weights.size()) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const uint32_t n = static_cast<uint32_t>(weights.size());
  std::vector<uint32_t> small, large;
  for (uint32_t i = 0; i < n; ++i) {
    keep_[i] = weights[i] / total * n;
    alias_[i] = i;
    (keep_[i] < 1 ? small : large).push_back(i);
  }
  while (!small.empty() && !large.empty()) {
    const uint32_t s = small.back(), l = large.back();
    small.pop_back();
    alias_[s] = l;
    keep_[l] -= 1 - keep_[s];
    if (keep_[l] < 1) {
      large.pop_back();
      small.push_back(l);
    }
  }
  // What is left differs from 1 by rounding only.
  for (uint32_t i : small) keep_[i] = 1;
  for (uint32_t i : large) keep_[i] = 1;
}

AliasTable AliasTable::Zipf(uint32_t n, double exponent) {
  std::vector<double> weights(n);
  for (uint32_t i = 0; i < n; ++i) weights[i] = std::pow(i + 1.0, -exponent);
  return AliasTable(weights);
}

}  // namespace adrank
