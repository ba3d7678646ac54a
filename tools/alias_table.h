// Draws from a fixed discrete distribution in constant time.
#ifndef ADRANK_TOOLS_ALIAS_TABLE_H_
#define ADRANK_TOOLS_ALIAS_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/rng.h"

namespace adrank {

// Vose's alias method (1991). Immutable and thread-safe after construction.
class AliasTable {
 public:
  AliasTable() = default;
  // REQUIRES: weights are >= 0 and not all 0; fewer than 2^32 of them.
  explicit AliasTable(absl::Span<const double> weights);

  // weights[i] = (i + 1)^-exponent.
  static AliasTable Zipf(uint32_t n, double exponent);

  uint32_t size() const { return static_cast<uint32_t>(keep_.size()); }

  // Index i with probability weights[i] / their sum. REQUIRES: size() > 0.
  uint32_t Draw(Rng* rng) const {
    const uint32_t i = static_cast<uint32_t>(rng->Below(keep_.size()));
    return rng->Uniform() < keep_[i] ? i : alias_[i];
  }

 private:
  std::vector<double> keep_;     // [n] probability of i itself in column i
  std::vector<uint32_t> alias_;  // [n] the other index of column i
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_ALIAS_TABLE_H_
