// Hot path: no allocation, no locks, no logging. Compiled with -fno-math-errno
// and -fno-trapping-math (see model/CMakeLists.txt), so that the select
// vectorizes; neither changes a result.
#include "model/kernels/vector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#define ADRANK_X86 1
#endif

namespace adrank {
namespace {

#define ADRANK_INLINE inline __attribute__((always_inline))

// e^-a for a in [0, 87]: 2^k e^r, |r| <= ln(2) / 2, and Taylor's polynomial of
// degree 7 (remainder 5e-9).
ADRANK_INLINE float ExpNegative(float a) {
  constexpr float kShift = 0x1.8p23f;  // leaves an integer in the low bits
  const float shifted = std::fma(a, -0x1.715476p+0f, kShift);
  const float k = shifted - kShift;
  // ln 2 in two parts, the first of 15 bits: k times it is exact.
  float r = std::fma(k, -0x1.62e4p-1f, -a);
  r = std::fma(k, -0x1.7f7d1cp-20f, r);
  float p = 1.0f / 5040;
  p = std::fma(p, r, 1.0f / 720);
  p = std::fma(p, r, 1.0f / 120);
  p = std::fma(p, r, 1.0f / 24);
  p = std::fma(p, r, 1.0f / 6);
  p = std::fma(p, r, 0.5f);
  p = std::fma(p, r, 1.0f);
  p = std::fma(p, r, 1.0f);
  // k >= -126: 2^k is a normal number.
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) + 127;
  return p * std::bit_cast<float>(exponent << 23);
}

ADRANK_INLINE void Sigmoid(float* x, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float e = ExpNegative(std::min(std::fabs(x[i]), 87.0f));
    const float numerator = x[i] >= 0 ? 1.0f : e;
    x[i] = numerator / (1.0f + e);
  }
}

ADRANK_INLINE float SumOfTree(float* lanes) {
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

float DotPortable(const float* a, const float* b, size_t n) {
  float lanes[16] = {};
  for (size_t i = 0; i < n; ++i) {
    lanes[i % 16] = std::fma(a[i], b[i], lanes[i % 16]);
  }
  return SumOfTree(lanes);
}

void SigmoidPortable(float* x, size_t n) { Sigmoid(x, n); }

constexpr VectorKernel kPortable = {"portable", DotPortable, SigmoidPortable};

#ifdef ADRANK_X86
#define ADRANK_AVX2 __attribute__((target("avx2,fma")))
#define ADRANK_AVX512 __attribute__((target("avx512f,prefer-vector-width=512")))

ADRANK_AVX2 float DotAvx2(const float* a, const float* b, size_t n) {
  __m256 low = _mm256_setzero_ps(), high = low;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    low = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), low);
    high = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8),
                           _mm256_loadu_ps(b + i + 8), high);
  }
  alignas(32) float lanes[16];
  _mm256_store_ps(lanes, low);
  _mm256_store_ps(lanes + 8, high);
  for (size_t j = 0; i < n; ++i, ++j) lanes[j] = std::fma(a[i], b[i], lanes[j]);
  return SumOfTree(lanes);
}

ADRANK_AVX512 float DotAvx512(const float* a, const float* b, size_t n) {
  __m512 sum = _mm512_setzero_ps();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    sum = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sum);
  }
  const auto rest = static_cast<__mmask16>((1u << (n - i)) - 1);
  // Lanes past n keep their sum, which adding 0 would not (-0).
  sum = _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(rest, a + i),
                              _mm512_maskz_loadu_ps(rest, b + i), sum, rest);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, sum);
  return SumOfTree(lanes);
}

ADRANK_AVX2 void SigmoidAvx2(float* x, size_t n) { Sigmoid(x, n); }
ADRANK_AVX512 void SigmoidAvx512(float* x, size_t n) { Sigmoid(x, n); }

constexpr VectorKernel kAvx2 = {"avx2", DotAvx2, SigmoidAvx2};
constexpr VectorKernel kAvx512 = {"avx512", DotAvx512, SigmoidAvx512};
#endif

const VectorKernel& Best() {
  static const VectorKernel* const best = [] {
    for (const Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
      if (const VectorKernel* kernel = VectorKernelFor(isa)) return kernel;
    }
    return &kPortable;
  }();
  return *best;
}

}  // namespace

const VectorKernel* VectorKernelFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return &kPortable;
#ifdef ADRANK_X86
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                 ? &kAvx2
                 : nullptr;
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") ? &kAvx512 : nullptr;
#endif
    default:
      return nullptr;
  }
}

float DotFixed(const float* a, const float* b, size_t n) {
  return Best().dot(a, b, n);
}

void SigmoidInPlace(float* x, size_t n) { Best().sigmoid(x, n); }

}  // namespace adrank
