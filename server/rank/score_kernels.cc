// Hot path: no allocation, no locks, no logging.
#include "server/rank/score_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/kernels/clones.h"

namespace adrank {
namespace {

// Adding it rounds to a whole number in the low bits of the sum (1.5 x 2^52).
constexpr double kRound = 6755399441055744.0;
constexpr uint64_t kExponentBias = 1023;
constexpr double kLog2E = 1.44269504088896340736;
constexpr double kLn2 = 0.69314718055994530942;

inline uint64_t BitsOf(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

inline double DoubleOf(uint64_t bits) {
  double x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// log2(x) = e + log2(m), m in [sqrt(1/2), sqrt(2)), with log(m) =
// 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716: eleven terms of the series
// leave out less than 2^-58 of it.
inline double Log2(double x) {
  constexpr uint64_t kRootHalf = 0x3fe6a09e667f3bcd;  // sqrt(1/2)
  // The exponent by which m falls into its range.
  const uint64_t shifted = BitsOf(x) - kRootHalf;
  const uint64_t e = shifted >> 52;  // mod 2^12
  const double m = DoubleOf(BitsOf(x) - (e << 52));
  // e as a signed 12-bit number: +2048, then the bits of a double.
  const double exponent = DoubleOf(0x4330000000000000 | ((e + 2048) & 0xfff)) -
                          4503599627370496.0 - 2048.0;
  const double s = (m - 1) / (m + 1), z = s * s;
  double sum = 1.0 / 21;
  sum = sum * z + 1.0 / 19;
  sum = sum * z + 1.0 / 17;
  sum = sum * z + 1.0 / 15;
  sum = sum * z + 1.0 / 13;
  sum = sum * z + 1.0 / 11;
  sum = sum * z + 1.0 / 9;
  sum = sum * z + 1.0 / 7;
  sum = sum * z + 1.0 / 5;
  sum = sum * z + 1.0 / 3;
  sum = sum * z + 1.0;
  return exponent + 2 * kLog2E * (s * sum);
}

// 2^y = 2^k e^(f ln 2), k whole, |f| <= 1/2: thirteen terms of the series leave
// out less than 2^-57 of it.
inline double Exp2(double y) {
  const double rounded = y + kRound;
  const double k = rounded - kRound;
  const double t = (y - k) * kLn2;
  double sum = 1.0 / 6227020800;
  sum = sum * t + 1.0 / 479001600;
  sum = sum * t + 1.0 / 39916800;
  sum = sum * t + 1.0 / 3628800;
  sum = sum * t + 1.0 / 362880;
  sum = sum * t + 1.0 / 40320;
  sum = sum * t + 1.0 / 5040;
  sum = sum * t + 1.0 / 720;
  sum = sum * t + 1.0 / 120;
  sum = sum * t + 1.0 / 24;
  sum = sum * t + 1.0 / 6;
  sum = sum * t + 0.5;
  sum = sum * t + 1;
  sum = sum * t + 1;
  return sum * DoubleOf((BitsOf(rounded) + kExponentBias) << 52);
}

// Without a branch: a choice between two computed values would keep the loop
// below from being vectorised. `of_zero` is 0 or, if power is 0, 1.
inline double PowerOf(double x, double power, double of_zero) {
  constexpr double kTiny = 0x1p-200;  // below any float
  const double keep = x == 0 ? of_zero : 1.0;
  return Exp2(power * Log2(x > kTiny ? x : kTiny)) * keep;
}

// `product` or -1, exactly and without a branch, as above.
inline double Reached(double product, bool reached) {
  const double keep = reached ? 1.0 : 0.0;
  return product * keep - (1 - keep);
}

ADRANK_CLONES void SquashedWeights(const float* pctr, const float* quality,
                                   const float* per_impression, double alpha,
                                   double scale, size_t n, double* weight) {
  const double of_zero = alpha == 0 ? 1 : 0;
  for (size_t i = 0; i < n; ++i) {
    const double squashed =
        PowerOf(static_cast<double>(pctr[i]), alpha, of_zero) * scale;
    // 0 or 1, so that this is one of the two, exactly.
    const auto impression = static_cast<double>(per_impression[i]);
    const double click = impression + (1 - impression) * squashed;
    weight[i] = click * static_cast<double>(quality[i]);
  }
}

ADRANK_CLONES void LinearWeights(const float* pctr, const float* quality,
                                 const float* per_impression, size_t n,
                                 double* weight) {
  for (size_t i = 0; i < n; ++i) {
    const auto impression = static_cast<double>(per_impression[i]);
    const double click =
        impression + (1 - impression) * static_cast<double>(pctr[i]);
    weight[i] = click * static_cast<double>(quality[i]);
  }
}

}  // namespace

double Power(double x, double power) {
  return PowerOf(x, power, power == 0 ? 1 : 0);
}

void Weights(const float* pctr, const float* quality,
             const float* per_impression, double alpha, double scale, size_t n,
             double* weight) {
  if (alpha == 1 && scale == 1) {
    LinearWeights(pctr, quality, per_impression, n, weight);
  } else {
    SquashedWeights(pctr, quality, per_impression, alpha, scale, n, weight);
  }
}

ADRANK_CLONES void Scores(const int64_t* bid, const double* weight,
                          int64_t reserve, size_t n, double* score) {
  for (size_t i = 0; i < n; ++i) {
    const double product = static_cast<double>(bid[i]) * weight[i];
    score[i] = Reached(product, bid[i] >= reserve);
  }
}

ADRANK_CLONES void PlainScores(const int64_t* bid, const float* pctr,
                               int64_t reserve, size_t n, double* score) {
  for (size_t i = 0; i < n; ++i) {
    const double product =
        static_cast<double>(bid[i]) * static_cast<double>(pctr[i]);
    score[i] = Reached(product, bid[i] >= reserve);
  }
}

ADRANK_CLONES void LaneMaxima(const double* score, size_t n, size_t lanes,
                              double* maximum) {
  for (size_t j = 0; j < lanes; ++j) maximum[j] = score[j];
  for (size_t begin = lanes; begin < n; begin += lanes) {
    const double* row = score + begin;
    const size_t width = std::min(lanes, n - begin);
    for (size_t j = 0; j < width; ++j) {
      maximum[j] = row[j] > maximum[j] ? row[j] : maximum[j];
    }
  }
}

ADRANK_CLONES void MarkReached(const double* score, size_t n,
                               uint8_t* reached) {
  for (size_t i = 0; i < n; ++i) {
    reached[i] |= static_cast<uint8_t>(score[i] >= 0);
  }
}

}  // namespace adrank
