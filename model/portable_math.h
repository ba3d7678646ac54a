// exp, ln and sigmoid with the same bits on every machine of one architecture.
// glibc picks its exp and log by CPU (with or without fused multiply-add) and
// the two differ in the last bit; a bundle's golden answers may not.
#ifndef ADRANK_MODEL_PORTABLE_MATH_H_
#define ADRANK_MODEL_PORTABLE_MATH_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace adrank {

// e^x within 1 unit in the last place for -708 <= x <= 709, 0 below and
// infinity above; NaN for NaN. Cody and Waite 1980: x = k ln 2 + r,
// |r| <= ln(2) / 2, and the Taylor series of e^r, whose first term left out,
// r^14 / 14!, is below 5e-18.
inline double PortableExp(double x) {
  if (!(x >= -708.0)) return x < 0 ? 0.0 : x;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  // ln 2 in two parts: k times the first is exact, its last 21 bits are 0.
  constexpr double kLn2High = 0x1.62e42fee00000p-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  const double k = std::floor(x * 0x1.71547652b82fep+0 + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = 1.0 + (r + (r * r) * p);
  // -1021 <= k <= 1023: 2^k is a normal number.
  const auto exponent = static_cast<uint64_t>(static_cast<int64_t>(k) + 1023);
  return p * std::bit_cast<double>(exponent << 52);
}

// ln x within 2 units in the last place (absolute 1e-16 near x = 1) for normal
// x > 0. x = 2^e m with m in [1/sqrt 2, sqrt 2); ln m = 2 artanh s,
// s = (m - 1) / (m + 1), |s| < 0.172.
inline double PortableLog(double x) {
  int e = 0;
  double m = std::frexp(x, &e);  // exact
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2;
    --e;
  }
  const double s = (m - 1) / (m + 1);
  const double s2 = s * s;
  double series = 0;
  for (int n = 23; n >= 3; n -= 2) series = (series + 1.0 / n) * s2;
  return e * 0x1.a39ef35793c76p-33 + 2 * (s + s * series) +
         e * 0x1.62e42fee00000p-1;
}

// 1 / (1 + e^-z) as a float; NaN for NaN. Non-decreasing over all floats z:
// from one float to the next the exact value moves by at least |z| 3e-8 of
// min(p, 1 - p), far more than the 4e-16 by which the double arithmetic errs,
// unless |z| < 1e-7, where every result rounds to 0.5 or its neighbours in
// order.
inline float Sigmoid(float z) {
  const double e = PortableExp(-std::fabs(static_cast<double>(z)));
  return static_cast<float>((z < 0 ? e : 1.0) / (1.0 + e));
}

}  // namespace adrank

#endif  // ADRANK_MODEL_PORTABLE_MATH_H_
