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

// A word, whichever type wrote it.
template <typename T>
ADRANK_INLINE T Load(const uint32_t* word) {
  T value;
  std::memcpy(&value, word, sizeof(value));
  return value;
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
        sum = kAdd(Load<uint32_t>(a + p * x.a_step),
                   Load<uint32_t>(b + p * x.width + j), sum);
      }
      c[j] = sum;
    }
  }
}

ADRANK_ROUNDING(Portable, )
constexpr GemmKernel kPortable = {"portable", PanelPortable<AddFloat>,
                                  PanelPortable<AddPair>, RoundPortable,
                                  PairPortable};

#ifdef ADRANK_X86

// All of a panel, in tiles of kRows x kColumns whose sums are kept in
// registers.
template <typename Tiles>
void PanelOfTiles(const GemmPanel& x) {
  for (size_t i = 0; i < x.m; i += Tiles::kRows) {
    const uint32_t* a = TileOf(x, i);
    const size_t rows = std::min(Tiles::kRows, x.m - i);
    for (size_t j = 0; j < x.n; j += Tiles::kColumns) {
      Tiles::Run(x, rows, a, j, x.c + i * x.ldc + j);
    }
  }
}

#define ADRANK_AVX2 __attribute__((target("avx2,fma")))

struct Avx2Float {
  ADRANK_AVX2 static ADRANK_INLINE __m256 Add(__m256 a, __m256 b, __m256 sum) {
    return _mm256_fmadd_ps(a, b, sum);
  }
};

struct Avx2Pair {
  ADRANK_AVX2 static ADRANK_INLINE __m256 Low(__m256 x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 16));
  }
  ADRANK_AVX2 static ADRANK_INLINE __m256 High(__m256 x) {
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm256_and_ps(x, _mm256_castsi256_ps(mask));
  }
  ADRANK_AVX2 static ADRANK_INLINE __m256 Add(__m256 a, __m256 b, __m256 sum) {
    sum = _mm256_fmadd_ps(Low(a), Low(b), sum);
    return _mm256_fmadd_ps(High(a), High(b), sum);
  }
};

// 4 rows x 2 vectors: 8 sums, as many as 2 units of latency 4 need; 4 divides
// kTileRows, 6 would not.
template <typename Math, int R>
ADRANK_AVX2 void Avx2Tile(const GemmPanel& x, const uint32_t* a, size_t j,
                          float* c) {
  const float* b = static_cast<const float*>(x.b) + j;
  const size_t row = x.a_row, step = x.a_step, width = x.width;
  const auto left = static_cast<int>(x.n - j);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask[2] = {
      _mm256_cmpgt_epi32(_mm256_set1_epi32(left), lane),
      _mm256_cmpgt_epi32(_mm256_set1_epi32(left - 8), lane)};
  __m256 sum[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      sum[r][v] = x.accumulate
                      ? _mm256_maskload_ps(c + r * x.ldc + 8 * v, mask[v])
                      : _mm256_setzero_ps();
    }
  }
  for (size_t p = 0; p < x.k; ++p, a += step, b += width) {
    const __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256 ar = _mm256_set1_ps(Load<float>(a + r * row));
      sum[r][0] = Math::Add(ar, b0, sum[r][0]);
      sum[r][1] = Math::Add(ar, b1, sum[r][1]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      _mm256_maskstore_ps(c + r * x.ldc + 8 * v, mask[v], sum[r][v]);
    }
  }
}

template <typename Math>
struct Avx2Tiles {
  static constexpr size_t kRows = 4, kColumns = 16;
  static void Run(const GemmPanel& x, size_t rows, const uint32_t* a, size_t j,
                  float* c) {
    constexpr decltype(&Avx2Tile<Math, 1>) kTiles[] = {
        Avx2Tile<Math, 1>, Avx2Tile<Math, 2>, Avx2Tile<Math, 3>,
        Avx2Tile<Math, 4>};
    kTiles[rows - 1](x, a, j, c);
  }
};

ADRANK_ROUNDING(Avx2, ADRANK_AVX2)
constexpr GemmKernel kAvx2 = {"avx2", PanelOfTiles<Avx2Tiles<Avx2Float>>,
                              PanelOfTiles<Avx2Tiles<Avx2Pair>>, RoundAvx2,
                              PairAvx2};

#define ADRANK_AVX512 \
  __attribute__((     \
      target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))

struct Avx512Float {
  ADRANK_AVX512 static ADRANK_INLINE __m512 Add(__m512 a, __m512 b,
                                                __m512 sum) {
    return _mm512_fmadd_ps(a, b, sum);
  }
};

struct Avx512Pair {
  ADRANK_AVX512 static ADRANK_INLINE __m512 Low(__m512 x) {
    return _mm512_castsi512_ps(
        _mm512_maskz_slli_epi32(0xffff, _mm512_castps_si512(x), 16));
  }
  ADRANK_AVX512 static ADRANK_INLINE __m512 High(__m512 x) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(x),
                         _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  ADRANK_AVX512 static ADRANK_INLINE __m512 Add(__m512 a, __m512 b,
                                                __m512 sum) {
    sum = _mm512_fmadd_ps(Low(a), Low(b), sum);
    return _mm512_fmadd_ps(High(a), High(b), sum);
  }
};

// Where the CPU has AVX-512 BF16. As assembly, so that it fits the template
// that the others share: a template cannot change its target by its parameter.
struct Avx512FastPair {
  ADRANK_AVX512 static ADRANK_INLINE __m512 Add(__m512 a, __m512 b,
                                                __m512 sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

// R rows x V vectors of 16 columns, the whole panel's width.
template <typename Math, int R, int V>
ADRANK_AVX512 void Avx512Tile(const GemmPanel& x, const uint32_t* a, float* c) {
  const auto* b = static_cast<const float*>(x.b);
  const size_t row = x.a_row, step = x.a_step;
  if (!x.accumulate) {
    // The first touch of this part of c; the stores come k steps later.
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        __builtin_prefetch(c + r * x.ldc + 16 * v, 1);
      }
    }
  }
  const __mmask16 last =
      static_cast<__mmask16>((2u << (x.n - 16 * (V - 1) - 1)) - 1);
  __m512 sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      const __mmask16 mask = v == V - 1 ? last : 0xffff;
      sum[r][v] = x.accumulate
                      ? _mm512_maskz_loadu_ps(mask, c + r * x.ldc + 16 * v)
                      : _mm512_setzero_ps();
    }
  }
  for (size_t p = 0; p < x.k; ++p, a += step, b += 16 * V) {
    __m512 bp[V];
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) bp[v] = _mm512_load_ps(b + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 ar = _mm512_set1_ps(Load<float>(a + r * row));
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = Math::Add(ar, bp[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      const __mmask16 mask = v == V - 1 ? last : 0xffff;
      _mm512_mask_storeu_ps(c + r * x.ldc + 16 * v, mask, sum[r][v]);
    }
  }
}

template <typename Math>
struct Avx512Tiles {
  static constexpr size_t kRows = kTileRows, kColumns = 48;
  using Tile = void (*)(const GemmPanel&, const uint32_t*, float*);
  template <int V>
  static constexpr Tile kTiles[] = {
      Avx512Tile<Math, 1, V>, Avx512Tile<Math, 2, V>, Avx512Tile<Math, 3, V>,
      Avx512Tile<Math, 4, V>, Avx512Tile<Math, 5, V>, Avx512Tile<Math, 6, V>,
      Avx512Tile<Math, 7, V>, Avx512Tile<Math, 8, V>};
  static void Run(const GemmPanel& x, size_t rows, const uint32_t* a, size_t,
                  float* c) {
    const Tile* tiles = x.width == 48   ? kTiles<3>
                        : x.width == 32 ? kTiles<2>
                                        : kTiles<1>;
    tiles[rows - 1](x, a, c);
  }
};

ADRANK_ROUNDING(Avx512, ADRANK_AVX512)
constexpr GemmKernel kAvx512 = {
    "avx512", PanelOfTiles<Avx512Tiles<Avx512Float>>,
    PanelOfTiles<Avx512Tiles<Avx512Pair>>, RoundAvx512, PairAvx512};
constexpr GemmKernel kAvx512Bf16 = {
    "avx512_bf16", PanelOfTiles<Avx512Tiles<Avx512Float>>,
    PanelOfTiles<Avx512Tiles<Avx512FastPair>>, RoundAvx512, PairAvx512};
#endif

}  // namespace

const GemmKernel* GemmKernelFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return &kPortable;
#ifdef ADRANK_X86
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
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

bool HasFastBf16() {
#ifdef ADRANK_X86
  return GemmKernelFor(Isa::kAvx512) != nullptr &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const GemmKernel& BestGemmKernel() {
#ifdef ADRANK_X86
  if (HasFastBf16()) return kAvx512Bf16;
#endif
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
    if (const GemmKernel* kernel = GemmKernelFor(isa)) return *kernel;
  }
  return kPortable;
}

}  // namespace adrank
