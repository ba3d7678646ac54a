// Chance comes in by the door too. Abseil's generators are salted per process;
// this one gives the same numbers for the same seed on every machine, for ever.
#ifndef ADRANK_BASE_RNG_H_
#define ADRANK_BASE_RNG_H_

#include <cmath>
#include <cstdint>

namespace adrank {

// SplitMix64's output function (Steele, Lea, Flood 2014): a bijection of 64-bit
// words whose output bits all depend on all input bits.
inline uint64_t MixBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// xoshiro256++ (Blackman and Vigna 2021), seeded through SplitMix64. Satisfies
// UniformRandomBitGenerator; but do not feed it to the standard distributions,
// whose results differ between libraries. Not thread-safe: one owner each.
class Rng {
 public:
  using result_type = uint64_t;
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~0ull; }

  explicit Rng(uint64_t seed) {
    for (uint64_t& word : s_) {
      word = MixBits(seed);
      seed += 0x9e3779b97f4a7c15ull;
    }
  }

  uint64_t operator()() {
    const uint64_t result = Rotl(s_[0] + s_[3], 23) + s_[0];
    const uint64_t t = s_[1] << 17;
    s_[2] ^= s_[0];
    s_[3] ^= s_[1];
    s_[1] ^= s_[2];
    s_[0] ^= s_[3];
    s_[2] ^= t;
    s_[3] = Rotl(s_[3], 45);
    return result;
  }

  // Uniform in [0, n). REQUIRES: n > 0. Bias below n / 2^64.
  uint64_t Below(uint64_t n) {
    return static_cast<uint64_t>(
        (static_cast<unsigned __int128>((*this)()) * n) >> 64);
  }
  // Uniform in [0, 1), 53 bits.
  double Uniform() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }
  // True with probability p.
  bool Bernoulli(double p) { return Uniform() < p; }
  // Normal(0, 1) by Box-Muller.
  double Normal() {
    const double u = 1.0 - Uniform();  // in (0, 1]
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * Uniform());
  }
  // Exponential with mean 1.
  double Exponential() { return -std::log(1.0 - Uniform()); }

 private:
  static uint64_t Rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
  uint64_t s_[4];
};

}  // namespace adrank

#endif  // ADRANK_BASE_RNG_H_
