// A planted market for the benches of the learners: 39 fields, vocabularies
// from 10 to 5 million, Zipf, main and low-rank pair effects, a click rate near
// 5 %.
#ifndef ADRANK_BENCH_CTR_MARKET_H_
#define ADRANK_BENCH_CTR_MARKET_H_

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/rng.h"
#include "trainer/example_blocks.h"

namespace adrank {

class CtrMarket {
 public:
  CtrMarket() {
    for (const uint32_t size : Vocabularies()) {
      base_.push_back(rows_);
      rows_ += size;
    }
  }

  // 13 bucketed numeric fields and 26 categorical ones, as in display ads.
  static const std::vector<uint32_t>& Vocabularies() {
    static const auto* sizes = new std::vector<uint32_t>{
        50,     50,     60,      60,      70,      70,      80,     80,
        90,     90,     100,     100,     120,     10,      24,     100,
        300,    500,    600,     1000,    2000,    4000,    5000,   8000,
        10000,  12000,  15000,   20000,   50000,   90000,   130000, 200000,
        300000, 500000, 1100000, 1500000, 2000000, 3000000, 5000000};
    return *sizes;
  }
  static size_t fields() { return Vocabularies().size(); }
  uint32_t rows() const { return rows_; }

  // Rank r of a field has probability ~ 1/r; the rows of a field are in no
  // order of frequency. Fills rows[fields()], returns the logit of a click.
  float Draw(Rng* rng, uint32_t* rows) const {
    float s[kDim] = {}, squares = 0, main = 0;
    for (size_t f = 0; f < base_.size(); ++f) {
      const uint32_t size = Vocabularies()[f];
      const uint64_t bits = (*rng)();
      const float u = static_cast<float>(bits >> 40) * 0x1p-24f;
      const auto rank = static_cast<uint64_t>(
          std::exp2(u * std::log2(static_cast<float>(size))));
      const uint64_t place = (rank - 1) * 0x9e3779b1ull % size;
      rows[f] = base_[f] + static_cast<uint32_t>(place);
      const uint64_t effects = MixBits(rows[f]);
      main += Centred(static_cast<uint32_t>(effects)) * kMain;
      const uint64_t vector = MixBits(effects);
      for (int j = 0; j < kDim; ++j) {
        const float v =
            Centred(static_cast<uint32_t>(vector >> 16 * j) << 16) * kPair;
        s[j] += v;
        squares += v * v;
      }
    }
    float pairs = -squares;
    for (const float x : s) pairs += x * x;
    return kBias + main + pairs / 2;
  }

 private:
  static constexpr int kDim = 4;
  static constexpr float kBias = -3.95f;
  // Standard deviations: 0.26 a field for the main effects, 1.6 together; 0.14
  // a coordinate for the vectors, which makes 1 for all pairs together.
  static constexpr float kMain = 0.9f;
  static constexpr float kPair = 0.48f;
  static float Centred(uint32_t bits) {
    return static_cast<float>(bits) * 0x1p-32f - 0.5f;
  }

  std::vector<uint32_t> base_;
  uint32_t rows_ = 0;
};

inline double Sigmoid(double logit) { return 1 / (1 + std::exp(-logit)); }

// Examples [0, count) of the market of that seed; `visit` of each logit.
inline ExampleBlocks DrawExamples(
    const CtrMarket& market, uint64_t count, uint64_t seed,
    const ExampleBlocksOptions& options = {},
    absl::FunctionRef<void(float, bool)> visit = [](float, bool) {}) {
  ExampleBlocks blocks(options);
  Rng rng(seed);
  std::vector<uint32_t> rows(market.fields());
  for (uint64_t i = 0; i < count; ++i) {
    const float logit = market.Draw(&rng, rows.data());
    const bool click = rng.Bernoulli(Sigmoid(logit));
    visit(logit, click);
    if (!blocks.Add(rows, {}, click).ok()) std::abort();
  }
  if (!blocks.Finish().ok()) std::abort();
  return blocks;
}

inline double SecondsOf(absl::FunctionRef<void()> work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
      .count();
}

}  // namespace adrank

#endif  // ADRANK_BENCH_CTR_MARKET_H_
