// Hot path: no allocation, no locks, no logging. Compiled with -fno-math-errno
// and -fno-trapping-math (see CMakeLists.txt), so that sqrt and the select
// vectorize; neither changes a result.
#include "trainer/ftrl_kernel.h"

#include <algorithm>
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

// Lanes worked on together: one AVX-512 or two AVX2 vectors.
constexpr size_t kLanes = 16;
// Entries between the prefetch of a slot and its use: some 20 misses of 100 ns
// in flight at about 1 ns an entry.
constexpr size_t kAhead = 48;

ADRANK_INLINE float Weight(const FtrlScale& s, float z, float n) {
  const float shrunk = z - std::copysign(s.l1, z);
  const float w = -shrunk / ((s.beta + std::sqrt(n)) * s.inv_alpha + s.l2);
  return std::fabs(z) <= s.l1 ? 0.0f : w;
}

ADRANK_INLINE void Step(const FtrlScale& s, float g, float& z, float& n) {
  const float root = std::sqrt(n);
  const float shrunk = z - std::copysign(s.l1, z);
  const float quotient = -shrunk / ((s.beta + root) * s.inv_alpha + s.l2);
  const float w = std::fabs(z) <= s.l1 ? 0.0f : quotient;
  const float next = n + g * g;
  const float sigma = (std::sqrt(next) - root) * s.inv_alpha;
  z += g - sigma * w;
  n = next;
}

// Adding 1.5 x 2^22 to a double leaves the rounded multiple of 2^-30 in its low
// mantissa bits.
constexpr double kRound = 0x1.8p22;

ADRANK_INLINE int64_t Quantized(float product) {
  const float cut = std::min(std::max(product, -0x1p20f), 0x1p20f);
  return std::bit_cast<int64_t>(static_cast<double>(cut) + kRound) -
         std::bit_cast<int64_t>(kRound);
}

ADRANK_INLINE void Logits(const FtrlSlot* table, const FtrlScale& scale,
                          const uint32_t* rows, const float* values,
                          const uint32_t* offsets, size_t count,
                          int64_t* sums) {
  const FtrlScale s = scale;
  const size_t end = offsets[count];
  for (size_t i = 0; i < count; ++i) {
    alignas(64) int64_t lanes[kLanes] = {};
    for (size_t e = offsets[i]; e < offsets[i + 1]; e += kLanes) {
      const size_t n = std::min<size_t>(kLanes, offsets[i + 1] - e);
      alignas(64) FtrlSlot slot[kLanes] = {};
      alignas(64) float x[kLanes];
      const size_t ahead = e + kAhead + n <= end ? n : 0;
      for (size_t j = 0; j < ahead; ++j) {
        __builtin_prefetch(&table[rows[e + kAhead + j]], 1);
      }
      for (size_t j = 0; j < n; ++j) slot[j] = table[rows[e + j]];
      for (size_t j = 0; j < kLanes; ++j) {
        x[j] = Weight(s, slot[j].z, slot[j].n);
      }
      if (values != nullptr) {
        for (size_t j = 0; j < n; ++j) x[j] *= values[e + j];
      }
      // Lanes past n hold weight 0 of an empty slot.
      for (size_t j = 0; j < kLanes; ++j) lanes[j] += Quantized(x[j]);
    }
    int64_t sum = 0;
    for (size_t j = 0; j < kLanes; ++j) sum += lanes[j];
    sums[i] = sum;
  }
}

ADRANK_INLINE void Update(FtrlSlot* table, const FtrlScale& scale,
                          const uint32_t* rows, const float* values,
                          const uint32_t* offsets, const float* deltas,
                          size_t count, bool distinct) {
  const FtrlScale s = scale;
  for (size_t i = 0; i < count; ++i) {
    const float delta = deltas[i];
    if (!distinct) {
      for (size_t e = offsets[i]; e < offsets[i + 1]; ++e) {
        FtrlSlot& slot = table[rows[e]];
        Step(s, values == nullptr ? delta : delta * values[e], slot.z, slot.n);
      }
      continue;
    }
    for (size_t e = offsets[i]; e < offsets[i + 1]; e += kLanes) {
      const size_t n = std::min<size_t>(kLanes, offsets[i + 1] - e);
      alignas(64) FtrlSlot slot[kLanes] = {};
      alignas(64) float g[kLanes];
      for (size_t j = 0; j < kLanes; ++j) g[j] = delta;
      if (values != nullptr) {
        for (size_t j = 0; j < n; ++j) g[j] *= values[e + j];
      }
      for (size_t j = 0; j < n; ++j) slot[j] = table[rows[e + j]];
      for (size_t j = 0; j < kLanes; ++j) Step(s, g[j], slot[j].z, slot[j].n);
      for (size_t j = 0; j < n; ++j) table[rows[e + j]] = slot[j];
    }
  }
}

// exp(-a), a in [0, 40], by exp(-a) = 2^k exp(r), |r| <= ln2/2, and Taylor's
// polynomial of degree 13 (remainder 4e-18). Plain multiplications and
// additions only: the loop over it becomes vector code, which
// model/portable_math.h's PortableExp, with its branches, does not.
ADRANK_INLINE double ExpNegative(double a) {
  constexpr double kShift = 0x1.8p52;
  const double k = (a * -1.4426950408889634 + kShift) - kShift;
  // ln 2 in two parts, the first with zeros at its end, so that k x it is
  // exact.
  const double r = (-a - k * 0x1.62e42fefa0000p-1) - k * 0x1.cf79abc9e3b3ap-40;
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
  p = p * r + 1.0;
  p = p * r + 1.0;
  const int64_t bits = std::bit_cast<int64_t>(k + kShift) << 52;
  return std::bit_cast<double>(std::bit_cast<int64_t>(p) + bits);
}

ADRANK_INLINE void Sigmoid(const int64_t* sums, size_t count, double* p) {
  for (size_t i = 0; i < count; ++i) {
    const double x = static_cast<double>(sums[i]) * kLogitUnit;
    const double e = ExpNegative(std::min(std::fabs(x), 40.0));
    const double numerator = x >= 0 ? 1.0 : e;
    p[i] = numerator / (1.0 + e);
  }
}

ADRANK_INLINE size_t Pick(const uint32_t* rows, const float* values, size_t n,
                          uint32_t first, uint32_t span, uint32_t* out_rows,
                          float* out_values) {
  size_t k = 0;
  for (size_t e = 0; e < n; ++e) {
    out_rows[k] = rows[e];
    if (values != nullptr) out_values[k] = values[e];
    k += FtrlOwnerHash(rows[e]) - first < span ? 1 : 0;
  }
  return k;
}

#define ADRANK_KERNEL(suffix, target)                                         \
  target void Logits##suffix(const FtrlSlot* table, const FtrlScale& scale,   \
                             const uint32_t* rows, const float* values,       \
                             const uint32_t* offsets, size_t count,           \
                             int64_t* sums) {                                 \
    Logits(table, scale, rows, values, offsets, count, sums);                 \
  }                                                                           \
  target void Update##suffix(FtrlSlot* table, const FtrlScale& scale,         \
                             const uint32_t* rows, const float* values,       \
                             const uint32_t* offsets, const float* deltas,    \
                             size_t count, bool distinct) {                   \
    Update(table, scale, rows, values, offsets, deltas, count, distinct);     \
  }                                                                           \
  target void Sigmoid##suffix(const int64_t* sums, size_t count, double* p) { \
    Sigmoid(sums, count, p);                                                  \
  }

ADRANK_KERNEL(Portable, )
size_t PickPortable(const uint32_t* rows, const float* values, size_t n,
                    uint32_t first, uint32_t span, uint32_t* out_rows,
                    float* out_values) {
  return Pick(rows, values, n, first, span, out_rows, out_values);
}
constexpr FtrlKernel kPortable = {"portable", LogitsPortable, UpdatePortable,
                                  SigmoidPortable, PickPortable};
#ifdef ADRANK_X86
ADRANK_KERNEL(Avx2, __attribute__((target("avx2,bmi2"))))
constexpr FtrlKernel kAvx2 = {"avx2", LogitsAvx2, UpdateAvx2, SigmoidAvx2,
                              PickPortable};

#define ADRANK_AVX512 \
  __attribute__((     \
      target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))
ADRANK_KERNEL(Avx512, ADRANK_AVX512)

ADRANK_AVX512 size_t PickCompress(const uint32_t* rows, const float* values,
                                  size_t n, uint32_t first, uint32_t span,
                                  uint32_t* out_rows, float* out_values) {
  const __m512i multiplier = _mm512_set1_epi32(static_cast<int>(0x9e3779b1u));
  const __m512i low = _mm512_set1_epi32(static_cast<int>(first));
  const __m512i width = _mm512_set1_epi32(static_cast<int>(span));
  size_t k = 0;
  for (size_t e = 0; e < n; e += 16) {
    const __mmask16 valid =
        n - e >= 16 ? 0xffff : static_cast<__mmask16>((1u << (n - e)) - 1);
    const __m512i r = _mm512_maskz_loadu_epi32(valid, rows + e);
    const __m512i h =
        _mm512_mullo_epi32(_mm512_maskz_srli_epi32(valid, r, 3), multiplier);
    const __mmask16 own =
        _mm512_mask_cmplt_epu32_mask(valid, _mm512_sub_epi32(h, low), width);
    _mm512_storeu_si512(out_rows + k, _mm512_maskz_compress_epi32(own, r));
    if (values != nullptr) {
      const __m512 v = _mm512_maskz_loadu_ps(valid, values + e);
      _mm512_storeu_ps(out_values + k, _mm512_maskz_compress_ps(own, v));
    }
    k += static_cast<size_t>(__builtin_popcount(own));
  }
  return k;
}
constexpr FtrlKernel kAvx512 = {"avx512", LogitsAvx512, UpdateAvx512,
                                SigmoidAvx512, PickCompress};
#endif

}  // namespace

float FtrlWeight(const FtrlScale& scale, const FtrlSlot& slot) {
  return Weight(scale, slot.z, slot.n);
}

void FtrlStep(const FtrlScale& scale, float g, FtrlSlot* slot) {
  Step(scale, g, slot->z, slot->n);
}

int64_t LogitUnits(double logit) {
  return std::llrint(std::clamp(logit, -0x1p20, 0x1p20) / kLogitUnit);
}

double FtrlBias::Weight(double alpha, double beta) const {
  return z == 0 ? initial : initial - z * alpha / (beta + std::sqrt(n));
}

void FtrlBias::Step(double alpha, double beta, double g) {
  const double next = n + g * g;
  const double sigma = (std::sqrt(next) - std::sqrt(n)) / alpha;
  z += g - sigma * (Weight(alpha, beta) - initial);
  n = next;
}

const FtrlKernel* FtrlKernelFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return &kPortable;
#ifdef ADRANK_X86
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")
                 ? &kAvx2
                 : nullptr;
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") &&
                     __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vl") &&
                     __builtin_cpu_supports("avx512bw")
                 ? &kAvx512
                 : nullptr;
#endif
    default:
      return nullptr;
  }
}

const FtrlKernel& BestFtrlKernel() {
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
    if (const FtrlKernel* kernel = FtrlKernelFor(isa)) return *kernel;
  }
  return kPortable;
}

}  // namespace adrank
