// What a ranking cost against the best one, by the planted truth.
#ifndef ADRANK_TOOLS_REGRET_H_
#define ADRANK_TOOLS_REGRET_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "proto/simulate_report.pb.h"
#include "tools/market.h"

namespace adrank {

struct RankedBid {
  uint32_t ad = 0;
  int64_t bid_micros = 0;
  uint32_t position = 1;  // in its placement, 1-based
};

// Sums v1::Regret (its comment is the definition) over decisions. One thread.
class RegretSum {
 public:
  // `market` outlives this.
  explicit RegretSum(const Market* market) : market_(*market) {}

  // REQUIRES: effects.day == visit.day; `served` is not empty, by position.
  void Add(const DayEffects& effects, const Visit& visit,
           absl::Span<const RankedBid> served);

  v1::Regret Finish() const;

 private:
  struct Candidate {
    double logit;  // without the position
    double value;  // bid x ctr at position 1
    double bid_micros;
  };

  const Market& market_;
  v1::Regret sum_;
  EligibleScratch scratch_;
  std::vector<Eligible> eligible_;
  std::vector<Candidate> candidates_;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_REGRET_H_
