// Synthetic ads in the shape of the published data sets of Boolean matching
// (PS-Tree, PVLDB; A-Tree, SIGMOD 2021): 122 attributes, 20 of them in a
// request, about 8 predicates an ad, a tenth negated, everything Zipf.
#ifndef ADRANK_BENCH_TRIGGER_WORKLOAD_H_
#define ADRANK_BENCH_TRIGGER_WORKLOAD_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/huge_pages.h"
#include "base/rng.h"
#include "server/trigger/predicates.h"

namespace adrank {

// 0..n-1 with probability proportional to 1 / (i + 1), by a table of n * 16
// equally likely places.
class ZipfSampler {
 public:
  explicit ZipfSampler(uint32_t n) {
    double total = 0;
    for (uint32_t i = 0; i < n; ++i) total += 1.0 / (i + 1);
    const size_t places = size_t{n} * 16;
    double sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
      sum += 1.0 / (i + 1) / total;
      table_.resize(
          std::max(table_.size() + 1, static_cast<size_t>(std::lround(
                                          sum * static_cast<double>(places)))),
          i);
    }
  }
  uint32_t operator()(Rng* rng) const {
    return table_[rng->Below(table_.size())];
  }

 private:
  std::vector<uint32_t> table_;
};

class TargetingWorkload {
 public:
  static constexpr uint32_t kAttributes = 122;
  static constexpr uint32_t kPresent = 20;

  explicit TargetingWorkload(uint64_t seed)
      : rng_(seed), attribute_(kAttributes) {
    constexpr uint32_t kValues[] = {2, 5, 20, 50, 200, 1000};
    for (uint32_t a = 0; a < kAttributes; ++a) {
      predicates_.AddAttribute();
      first_symbol_.push_back(static_cast<uint32_t>(predicates_.symbols()));
      const uint32_t n = kValues[a % 6];
      for (uint32_t v = 0; v < n; ++v) predicates_.AddSymbol(a);
      values_.emplace_back(n);
    }
  }

  const PredicateSet& predicates() const { return predicates_; }

  // Between `least` and 16 - least conditions on as many attributes.
  void AppendAd(uint32_t least, HugeVector<Literal>* literals) {
    const auto n = static_cast<uint32_t>(least + rng_.Below(17 - 2 * least));
    Attributes(n);
    for (const uint32_t a : chosen_) {
      const Literal literal = Literal::OfSymbol(Symbol(a));
      literals->push_back(rng_.Bernoulli(0.1) ? literal.Negation() : literal);
    }
  }

  std::vector<uint32_t> ARequest() {
    Attributes(kPresent);
    std::vector<uint32_t> symbols;
    for (const uint32_t a : chosen_) symbols.push_back(Symbol(a));
    return symbols;
  }

  int64_t ABid() { return 10000 + static_cast<int64_t>(rng_.Below(5000000)); }

 private:
  void Attributes(uint32_t n) {
    chosen_.clear();
    while (chosen_.size() < n) {
      const uint32_t a = attribute_(&rng_);
      if (std::find(chosen_.begin(), chosen_.end(), a) == chosen_.end()) {
        chosen_.push_back(a);
      }
    }
  }
  uint32_t Symbol(uint32_t a) { return first_symbol_[a] + values_[a](&rng_); }

  Rng rng_;
  ZipfSampler attribute_;
  PredicateSet predicates_;
  std::vector<uint32_t> first_symbol_;  // [attributes]
  std::vector<ZipfSampler> values_;     // [attributes]
  std::vector<uint32_t> chosen_;
};

}  // namespace adrank

#endif  // ADRANK_BENCH_TRIGGER_WORKLOAD_H_
