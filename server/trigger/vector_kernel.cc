// Hot path: no allocation, no locks, no logging.
#include "server/trigger/vector_kernel.h"

#include <cstring>
#include <initializer_list>

#if defined(__x86_64__)
#include <immintrin.h>
#define ADRANK_X86 1
#endif

namespace adrank {
namespace {

size_t ScanPortable(const VectorScan& x, uint32_t* out) {
  size_t n = 0;
  for (size_t b = 0; b < x.count; ++b) {
    const uint8_t* block = x.blocks + b * x.groups * 64;
    int32_t dots[kVectorBlock];
    for (int32_t& dot : dots) dot = -x.bias;
    for (size_t g = 0; g < x.groups; ++g) {
      for (size_t i = 0; i < 64; ++i) {
        dots[i / 4] += int32_t{block[g * 64 + i]} * x.query[4 * g + i % 4];
      }
    }
    for (size_t j = 0; j < kVectorBlock; ++j) {
      const size_t v = b * kVectorBlock + j;
      const float bound =
          static_cast<float>(dots[j]) * (x.scale * x.scales[v]) +
          x.residuals[v] * x.residual_factor;
      out[n] = static_cast<uint32_t>(v);
      n += bound >= x.threshold;
    }
  }
  return n;
}

#ifdef ADRANK_X86

#define ADRANK_AVX2 __attribute__((target("avx2,fma")))
#define ADRANK_VNNI \
  __attribute__((target("avx512f,avx512vnni,prefer-vector-width=512")))

size_t Append(uint32_t mask, size_t first, size_t n, uint32_t* out) {
  for (; mask != 0; mask &= mask - 1) {
    out[n++] = static_cast<uint32_t>(first) +
               static_cast<uint32_t>(__builtin_ctz(mask));
  }
  return n;
}

int32_t Word(const VectorScan& x, size_t g) {
  int32_t word;
  std::memcpy(&word, x.query + 4 * g, sizeof(word));
  return word;
}

// Bytes are widened to 16 bits before they are multiplied: vpmaddubsw would
// saturate.
ADRANK_AVX2 size_t ScanAvx2(const VectorScan& x, uint32_t* out) {
  const __m256i low = _mm256_set1_epi16(0xff);
  size_t n = 0;
  for (size_t h = 0; h < 2 * x.count; ++h) {  // halves of blocks
    const uint8_t* half = x.blocks + h / 2 * x.groups * 64 + h % 2 * 32;
    __m256i even = _mm256_set1_epi32(-x.bias), odd = _mm256_setzero_si256();
    for (size_t g = 0; g < x.groups; ++g) {
      const __m256i bytes =
          _mm256_load_si256(reinterpret_cast<const __m256i*>(half + g * 64));
      const int8_t* q = x.query + 4 * g;
      const __m256i q02 = _mm256_set1_epi32((q[0] & 0xffff) | q[2] * 65536);
      const __m256i q13 = _mm256_set1_epi32((q[1] & 0xffff) | q[3] * 65536);
      even = _mm256_add_epi32(
          even, _mm256_madd_epi16(_mm256_and_si256(bytes, low), q02));
      odd = _mm256_add_epi32(
          odd, _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), q13));
    }
    const __m256 dots = _mm256_cvtepi32_ps(_mm256_add_epi32(even, odd));
    const __m256 scales = _mm256_mul_ps(_mm256_loadu_ps(x.scales + h * 8),
                                        _mm256_set1_ps(x.scale));
    const __m256 rest = _mm256_mul_ps(_mm256_loadu_ps(x.residuals + h * 8),
                                      _mm256_set1_ps(x.residual_factor));
    const __m256 passes =
        _mm256_cmp_ps(_mm256_fmadd_ps(dots, scales, rest),
                      _mm256_set1_ps(x.threshold), _CMP_GE_OQ);
    n = Append(static_cast<uint32_t>(_mm256_movemask_ps(passes)), h * 8, n,
               out);
  }
  return n;
}

ADRANK_VNNI inline uint32_t Passes(const VectorScan& x, size_t b,
                                   __m512i dots) {
  const __m512 scales = _mm512_mul_ps(
      _mm512_loadu_ps(x.scales + b * kVectorBlock), _mm512_set1_ps(x.scale));
  const __m512 rest =
      _mm512_mul_ps(_mm512_loadu_ps(x.residuals + b * kVectorBlock),
                    _mm512_set1_ps(x.residual_factor));
  // All lanes by mask: the plain intrinsic starts from an undefined register,
  // of which the compiler warns.
  const __m512 products =
      _mm512_maskz_cvtepi32_ps(static_cast<__mmask16>(0xffff), dots);
  return _mm512_cmp_ps_mask(_mm512_fmadd_ps(products, scales, rest),
                            _mm512_set1_ps(x.threshold), _CMP_GE_OQ);
}

// Four blocks at a time: vpdpbusd has a latency of 5, and reads stream.
ADRANK_VNNI size_t ScanVnni(const VectorScan& x, uint32_t* out) {
  constexpr size_t kTogether = 4;
  size_t n = 0, b = 0;
  const size_t stride = x.groups * 64;
  for (; b + kTogether <= x.count; b += kTogether) {
    const uint8_t* block = x.blocks + b * stride;
    __m512i dots[kTogether];
    for (__m512i& d : dots) d = _mm512_set1_epi32(-x.bias);
    for (size_t g = 0; g < x.groups; ++g) {
      const __m512i q = _mm512_set1_epi32(Word(x, g));
      for (size_t i = 0; i < kTogether; ++i) {
        dots[i] = _mm512_dpbusd_epi32(
            dots[i], _mm512_load_si512(block + i * stride + g * 64), q);
      }
    }
    for (size_t i = 0; i < kTogether; ++i) {
      n = Append(Passes(x, b + i, dots[i]), (b + i) * kVectorBlock, n, out);
    }
  }
  for (; b < x.count; ++b) {
    __m512i dots = _mm512_set1_epi32(-x.bias);
    for (size_t g = 0; g < x.groups; ++g) {
      dots = _mm512_dpbusd_epi32(
          dots, _mm512_load_si512(x.blocks + b * stride + g * 64),
          _mm512_set1_epi32(Word(x, g)));
    }
    n = Append(Passes(x, b, dots), b * kVectorBlock, n, out);
  }
  return n;
}
#endif

VectorScanFn Best() {
  static const VectorScanFn best = [] {
    for (const Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
      if (const VectorScanFn scan = VectorScanFor(isa)) return scan;
    }
    return &ScanPortable;
  }();
  return best;
}

}  // namespace

VectorScanFn VectorScanFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return ScanPortable;
#ifdef ADRANK_X86
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                 ? ScanAvx2
                 : nullptr;
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") &&
                     __builtin_cpu_supports("avx512vnni")
                 ? ScanVnni
                 : nullptr;
#endif
    default:
      return nullptr;
  }
}

size_t RunVectorScan(const VectorScan& scan, uint32_t* out) {
  return Best()(scan, out);
}

}  // namespace adrank
