// Hot path: no allocation, no locks, no logging.
#include "model/kernels/gemm_kernel.h"

#include <bit>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#define ADRANK_X86 1
#endif

namespace adrank {
namespace {

#define ADRANK_INLINE inline __attribute__((always_inline))

const uint32_t* TileOf(const GemmPanel& x, size_t i) {
  return static_cast<const uint32_t*>(x.a) + i / kTileRows * x.a_tile +
         i % kTileRows * x.a_row;
}

ADRANK_INLINE uint32_t Rounded(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  return nan ? (bits >> 16) | 0x40 : nearest;
}

ADRANK_INLINE void Round(const float* x, size_t n, uint16_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint16_t>(Rounded(x[i]));
}

ADRANK_INLINE void Pair(const float* low, const float* high, size_t n,
                        uint32_t* out) {
  if (high == nullptr) {
    for (size_t i = 0; i < n; ++i) out[i] = Rounded(low[i]);
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    out[i] = Rounded(low[i]) | Rounded(high[i]) << 16;
  }
}

#define ADRANK_ROUNDING(suffix, target)                                   \
  target void Round##suffix(const float* x, size_t n, uint16_t* out) {    \
    Round(x, n, out);                                                     \
  }                                                                       \
  target void Pair##suffix(const float* low, const float* high, size_t n, \
                           uint32_t* out) {                               \
    Pair(low, high, n, out);                                              \
  }

// The definition that the other kernels repeat.
float AddFloat(uint32_t a, uint32_t b, float sum) {
  return std::fma(std::bit_cast<float>(a), std::bit_cast<float>(b), sum);
}

float AddPair(uint32_t a, uint32_t b, float sum) {
  sum = AddFloat(a << 16, b << 16, sum);
  return AddFloat(a & 0xffff0000, b & 0xffff0000, sum);
}

template <float (*kAdd)(uint32_t, uint32_t, float)>
void PanelPortable(const GemmPanel& x) {
  const auto* b = static_cast<const uint32_t*>(x.b);
  for (size_t i = 0; i < x.m; ++i) {
    const uint32_t* a = TileOf(x, i);
    float* c = x.c + i * x.ldc;
    for (size_t j = 0; j < x.n; ++j) {
      float sum = x.accumulate ? c[j] : 0.0f;
      for (size_t p = 0; p < x.k; ++p) {
        sum = kAdd(a[p * x.a_step], b[p * x.width + j], sum);
      }
      c[j] = sum;
    }
  }
}

ADRANK_ROUNDING(Portable, )
constexpr GemmKernel kPortable = {"portable", PanelPortable<AddFloat>,
                                  PanelPortable<AddPair>, RoundPortable,
                                  PairPortable};

}  // namespace

const GemmKernel* GemmKernelFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return &kPortable;
    default:
      return nullptr;
  }
}

const GemmKernel& BestGemmKernel() {
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
    if (const GemmKernel* kernel = GemmKernelFor(isa)) return *kernel;
  }
  return kPortable;
}

bool HasFastBf16() { return false; }

}  // namespace adrank
