// Hot path: no allocation, no locks, no logging. Compiled as ftrl_kernel.cc is.
#include "trainer/fm_kernel.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/rng.h"

namespace adrank {
namespace {

#define ADRANK_INLINE inline __attribute__((always_inline))

// Entries worked on together: their linear weights fill one AVX-512 vector.
constexpr size_t kLanes = 16;
// Entries between the prefetch of a row and its use.
constexpr size_t kAhead = 32;
constexpr size_t kLineFloats = 16;
constexpr size_t kHeadFloats = sizeof(FmHead) / sizeof(float);

ADRANK_INLINE float Weight(const FtrlScale& s, float z, float n) {
  const float shrunk = z - std::copysign(s.l1, z);
  const float w = -shrunk / ((s.beta + std::sqrt(n)) * s.inv_alpha + s.l2);
  return std::fabs(z) <= s.l1 ? 0.0f : w;
}

ADRANK_INLINE void Step(const FtrlScale& s, float g, float& z, float& n) {
  const float w = Weight(s, z, n);
  const float next = n + g * g;
  const float sigma = (std::sqrt(next) - std::sqrt(n)) * s.inv_alpha;
  z += g - sigma * w;
  n = next;
}

// Adding 1.5 x 2^22 to a double leaves the rounded multiple of 2^-30 in its low
// mantissa bits; the sum of n such words is n x kRoundBits too large.
constexpr double kRound = 0x1.8p22;
constexpr uint64_t kRoundBits = std::bit_cast<uint64_t>(kRound);
constexpr float kMaxTerm = 1024;  // its square is 2^20

ADRANK_INLINE uint64_t Rounded(float x) {
  // NaN becomes the lower end, not an undefined word.
  const float low = x > -0x1p20f ? x : -0x1p20f;
  const float cut = low < 0x1p20f ? low : 0x1p20f;
  return std::bit_cast<uint64_t>(static_cast<double>(cut) + kRound);
}

// Vectors of 4 and 8 floats, doubles and words: the compiler's own loops over
// mixed widths are half as fast. Passed by reference, for which there is one
// ABI.
struct Lanes4 {
  typedef float Floats __attribute__((vector_size(16)));
  typedef double Doubles __attribute__((vector_size(32)));
  typedef uint64_t Words __attribute__((vector_size(32)));
};
struct Lanes8 {
  typedef float Floats __attribute__((vector_size(32)));
  typedef double Doubles __attribute__((vector_size(64)));
  typedef uint64_t Words __attribute__((vector_size(64)));
};

// sum += Rounded(x) and squares += Rounded(x^2), x within +-kMaxTerm; NaN is
// -kMaxTerm.
template <typename Lanes>
ADRANK_INLINE void AddTerms(const typename Lanes::Floats& x,
                            typename Lanes::Words& sum,
                            typename Lanes::Words& squares) {
  using Floats = typename Lanes::Floats;
  using Doubles = typename Lanes::Doubles;
  using Words = typename Lanes::Words;
  const Floats limit = Floats{} + kMaxTerm;
  const Floats low = x > -limit ? x : -limit;
  const Floats cut = low < limit ? low : limit;
  const Floats square = cut * cut;
  const Doubles round = Doubles{} + kRound;
  sum += (Words)(__builtin_convertvector(cut, Doubles) + round);
  squares += (Words)(__builtin_convertvector(square, Doubles) + round);
}

ADRANK_INLINE float Fold(const Lanes4::Floats& x) {
  return (x[0] + x[2]) + (x[1] + x[3]);
}
ADRANK_INLINE float Fold(const Lanes8::Floats& x) {
  const Lanes4::Floats low = {x[0], x[1], x[2], x[3]};
  const Lanes4::Floats high = {x[4], x[5], x[6], x[7]};
  return Fold(low + high);
}

ADRANK_INLINE FmHead* Head(float* table, const FmScale& s, uint32_t row) {
  return reinterpret_cast<FmHead*>(table + size_t{row} * s.stride);
}

ADRANK_INLINE void Prefetch(const float* table, const FmScale& s,
                            uint32_t row) {
  const float* state = table + size_t{row} * s.stride;
  for (size_t i = 0; i < s.stride; i += kLineFloats) {
    __builtin_prefetch(state + i, 1);
  }
}

// The kernels are compiled for the common dimensions and, with kDim 0, for any.
template <FmOptimizer kOptimizer, uint32_t kDim>
struct Loops {
  static constexpr uint32_t kRoom = kDim == 0 ? kMaxFmDim : kDim;
  // Coordinates worked on together.
  static constexpr uint32_t kPiece = kDim == 0 ? 4 : 8;
  using Piece = std::conditional_t<kDim == 0, Lanes4, Lanes8>;
  using Floats = typename Piece::Floats;
  using Words = typename Piece::Words;

  ADRANK_INLINE static uint32_t Dim(const FmScale& s) {
    return kDim == 0 ? s.dim : kDim;
  }

  // kPiece coordinates of v, of which kFtrl keeps z and n.
  ADRANK_INLINE static void Vector(const FmScale& s, const float* z,
                                   const float* n, Floats* v) {
    memcpy(v, z, sizeof(*v));
    if constexpr (kOptimizer == FmOptimizer::kFtrl) {
      float a[kPiece], b[kPiece];
      memcpy(a, z, sizeof(a));
      memcpy(b, n, sizeof(b));
      for (uint32_t c = 0; c < kPiece; ++c) {
        a[c] = Weight(s.vector_ftrl, a[c], b[c]);
      }
      memcpy(v, a, sizeof(*v));
    }
  }

  // One example.
  ADRANK_INLINE static void Sum(float* table, const FmScale& s,
                                const uint32_t* rows, const float* values,
                                size_t size, size_t until, int64_t* sums) {
    const uint32_t dim = Dim(s);
    alignas(64) uint64_t linear[kLanes] = {};
    Words vector[kRoom / kPiece] = {};
    Words square[kRoom / kPiece] = {};
    for (size_t e = 0; e < size; e += kLanes) {
      const size_t n = std::min(kLanes, size - e);
      alignas(64) FtrlSlot slot[kLanes] = {};
      alignas(64) float w[kLanes];
      const size_t ahead = e + kAhead + n <= until ? n : 0;
      for (size_t j = 0; j < ahead; ++j) {
        Prefetch(table, s, rows[e + kAhead + j]);
      }
      for (size_t j = 0; j < n; ++j) {
        FmHead* head = Head(table, s, rows[e + j]);
        if (head->learnt == 0) [[unlikely]] {
          FmBegin(s, rows[e + j], reinterpret_cast<float*>(head));
        }
        slot[j] = {head->z, head->n};
        const float* v = reinterpret_cast<const float*>(head) + kHeadFloats;
        const float x = values == nullptr ? 1.0f : values[e + j];
        for (uint32_t p = 0; p < dim / kPiece; ++p) {
          Floats vx;
          Vector(s, v + p * kPiece, v + dim + p * kPiece, &vx);
          vx *= x;
          AddTerms<Piece>(vx, vector[p], square[p]);
        }
      }
      for (size_t j = 0; j < kLanes; ++j) {
        w[j] = Weight(s.linear, slot[j].z, slot[j].n);
      }
      if (values != nullptr) {
        for (size_t j = 0; j < n; ++j) w[j] *= values[e + j];
      }
      // Lanes past n hold weight 0 of an empty slot.
      for (size_t j = 0; j < kLanes; ++j) linear[j] += Rounded(w[j]);
    }
    const size_t chunks = (size + kLanes - 1) / kLanes;
    uint64_t rest = -2 * chunks * kLanes * kRoundBits;
    for (size_t j = 0; j < kLanes; ++j) rest += 2 * linear[j];
    for (uint32_t k = 0; k < dim; ++k) {
      const uint32_t p = k / kPiece, c = k % kPiece;
      rest -= square[p][c] - size * kRoundBits;
      sums[k] = static_cast<int64_t>(vector[p][c] - size * kRoundBits);
    }
    sums[dim] = static_cast<int64_t>(rest);
  }

  ADRANK_INLINE static void Sums(float* table, const FmScale& scale,
                                 const uint32_t* rows, const float* values,
                                 const uint32_t* offsets, size_t count,
                                 int64_t* sums) {
    const FmScale s = scale;
    for (size_t i = 0; i < count; ++i) {
      const size_t begin = offsets[i];
      Sum(table, s, rows + begin, values == nullptr ? nullptr : values + begin,
          offsets[i + 1] - begin, offsets[count] - begin,
          sums + i * (Dim(s) + 1));
    }
  }

  // n <= kLanes entries with different rows.
  ADRANK_INLINE static void UpdateChunk(float* table, const FmScale& s,
                                        const uint32_t* rows,
                                        const float* values, size_t n,
                                        float delta, const float* sum) {
    const uint32_t dim = Dim(s);
    alignas(64) FtrlSlot slot[kLanes] = {};
    alignas(64) float gx[kLanes] = {};
    for (size_t j = 0; j < n; ++j) {
      const FmHead* head = Head(table, s, rows[j]);
      slot[j] = {head->z, head->n};
      gx[j] = values == nullptr ? delta : delta * values[j];
    }
    for (size_t j = 0; j < kLanes; ++j) {
      Step(s.linear, gx[j], slot[j].z, slot[j].n);
    }
    for (size_t j = 0; j < n; ++j) {
      FmHead* head = Head(table, s, rows[j]);
      head->z = slot[j].z;
      head->n = slot[j].n;
    }
    if constexpr (kOptimizer == FmOptimizer::kRowAdagrad) {
      RowAdagrad(table, s, rows, values, n, gx, sum);
    } else {
      for (size_t j = 0; j < n; ++j) {
        float* v =
            reinterpret_cast<float*>(Head(table, s, rows[j])) + kHeadFloats;
        const float x = values == nullptr ? 1.0f : values[j];
        Coordinates(s, gx[j], x, sum, v, v + dim);
      }
    }
  }

  // Copies make plain that nothing overlaps, without which the loops do not
  // become vector code.
  ADRANK_INLINE static void Coordinates(const FmScale& s, float gx, float x,
                                        const float* sum, float* v,
                                        float* state) {
    for (uint32_t p = 0; p < Dim(s); p += kPiece) {
      float a[kPiece], b[kPiece], t[kPiece];
      memcpy(a, v + p, sizeof(a));
      memcpy(b, state + p, sizeof(b));
      memcpy(t, sum + p, sizeof(t));
      for (uint32_t c = 0; c < kPiece; ++c) {
        if constexpr (kOptimizer == FmOptimizer::kFtrl) {
          const float current = Weight(s.vector_ftrl, a[c], b[c]);
          Step(s.vector_ftrl, gx * (t[c] - current * x), a[c], b[c]);
        } else {
          const float g = gx * (t[c] - a[c] * x) + s.l2 * a[c];
          b[c] += g * g;
          a[c] -= s.lr * g / (std::sqrt(b[c]) + s.eps);
        }
      }
      memcpy(v + p, a, sizeof(a));
      memcpy(state + p, b, sizeof(b));
    }
  }

  ADRANK_INLINE static void RowAdagrad(float* table, const FmScale& s,
                                       const uint32_t* rows,
                                       const float* values, size_t n,
                                       const float* gx, const float* sum) {
    const uint32_t dim = Dim(s);
    const float inv_dim = 1.0f / static_cast<float>(dim);
    alignas(64) float g[kLanes][kRoom];
    alignas(64) float total[kLanes] = {};
    alignas(64) float rate[kLanes];
    for (size_t j = 0; j < n; ++j) {
      FmHead* head = Head(table, s, rows[j]);
      const float* v = reinterpret_cast<const float*>(head) + kHeadFloats;
      const float x = values == nullptr ? 1.0f : values[j];
      Floats fold = {};
      for (uint32_t p = 0; p < dim; p += kPiece) {
        Floats a, t;
        memcpy(&a, v + p, sizeof(a));
        memcpy(&t, sum + p, sizeof(t));
        const Floats d = gx[j] * (t - a * x) + s.l2 * a;
        memcpy(&g[j][p], &d, sizeof(d));
        fold += d * d;
      }
      const float square = Fold(fold);
      total[j] = head->g + square * inv_dim;
      head->g = total[j];
    }
    for (size_t j = 0; j < kLanes; ++j) {
      rate[j] = s.lr / (std::sqrt(total[j]) + s.eps);
    }
    for (size_t j = 0; j < n; ++j) {
      float* v =
          reinterpret_cast<float*>(Head(table, s, rows[j])) + kHeadFloats;
      for (uint32_t p = 0; p < dim; p += kPiece) {
        Floats a, d;
        memcpy(&a, v + p, sizeof(a));
        memcpy(&d, &g[j][p], sizeof(d));
        a -= rate[j] * d;
        memcpy(v + p, &a, sizeof(a));
      }
    }
  }

  ADRANK_INLINE static void Update(float* table, const FmScale& scale,
                                   const uint32_t* rows, const float* values,
                                   const uint32_t* offsets, const float* deltas,
                                   const float* sum, size_t count,
                                   bool distinct) {
    const FmScale s = scale;
    const size_t step = distinct ? kLanes : 1;
    for (size_t i = 0; i < count; ++i) {
      if (deltas[i] == 0) continue;
      for (size_t e = offsets[i]; e < offsets[i + 1]; e += step) {
        UpdateChunk(table, s, rows + e,
                    values == nullptr ? nullptr : values + e,
                    std::min<size_t>(step, offsets[i + 1] - e), deltas[i],
                    sum + i * Dim(s));
      }
    }
  }
};

#define ADRANK_FM_CASES(optimizer, call) \
  if (scale.dim == 8) {                  \
    Loops<optimizer, 8>::call;           \
  } else if (scale.dim == 16) {          \
    Loops<optimizer, 16>::call;          \
  } else {                               \
    Loops<optimizer, 0>::call;           \
  }
#define ADRANK_FM_SWITCH(call)                        \
  switch (scale.optimizer) {                          \
    case FmOptimizer::kRowAdagrad:                    \
      ADRANK_FM_CASES(FmOptimizer::kRowAdagrad, call) \
      break;                                          \
    case FmOptimizer::kAdagrad:                       \
      ADRANK_FM_CASES(FmOptimizer::kAdagrad, call)    \
      break;                                          \
    case FmOptimizer::kFtrl:                          \
      ADRANK_FM_CASES(FmOptimizer::kFtrl, call)       \
      break;                                          \
  }
#define ADRANK_FM_KERNEL(suffix, target)                                      \
  target void Sums##suffix(float* table, const FmScale& scale,                \
                           const uint32_t* rows, const float* values,         \
                           const uint32_t* offsets, size_t count,             \
                           int64_t* sums){ADRANK_FM_SWITCH(Sums(              \
      table, scale, rows, values, offsets, count,                             \
      sums))} target void Update##suffix(float* table, const FmScale& scale,  \
                                         const uint32_t* rows,                \
                                         const float* values,                 \
                                         const uint32_t* offsets,             \
                                         const float* deltas, const float* s, \
                                         size_t count, bool distinct) {       \
    ADRANK_FM_SWITCH(Update(table, scale, rows, values, offsets, deltas, s,   \
                            count, distinct))                                 \
  }

ADRANK_FM_KERNEL(Portable, )
constexpr FmKernel kPortable = {"portable", SumsPortable, UpdatePortable};
#if defined(__x86_64__)
ADRANK_FM_KERNEL(Avx2, __attribute__((target("avx2,bmi2"))))
constexpr FmKernel kAvx2 = {"avx2", SumsAvx2, UpdateAvx2};
ADRANK_FM_KERNEL(
    Avx512, __attribute__((target(
                "avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512"))))
constexpr FmKernel kAvx512 = {"avx512", SumsAvx512, UpdateAvx512};
#endif

}  // namespace

uint32_t FmUsed(FmOptimizer optimizer, uint32_t dim) {
  return kHeadFloats + dim * (optimizer == FmOptimizer::kRowAdagrad ? 1 : 2);
}

uint32_t FmStride(FmOptimizer optimizer, uint32_t dim) {
  const uint32_t used = FmUsed(optimizer, dim);
  if (used <= kLineFloats / 2) return kLineFloats / 2;
  return (used + kLineFloats - 1) / kLineFloats * kLineFloats;
}

const FmKernel* FmKernelFor(Isa isa) {
  if (FtrlKernelFor(isa) == nullptr) return nullptr;
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return &kAvx2;
    case Isa::kAvx512:
      return &kAvx512;
#endif
    default:
      return &kPortable;
  }
}

const FmKernel& BestFmKernel() {
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
    if (const FmKernel* kernel = FmKernelFor(isa)) return *kernel;
  }
  return kPortable;
}

void FmBegin(const FmScale& scale, uint32_t row, float* state) {
  FmHead* head = reinterpret_cast<FmHead*>(state);
  head->learnt = 1;
  head->g = scale.initial_accumulator;
  const uint64_t key = MixBits(scale.seed) + row;
  float* v = state + kHeadFloats;
  for (uint32_t j = 0; j < scale.dim; ++j) {
    const uint64_t bits = MixBits(MixBits(key) + j);
    const auto sum =
        static_cast<int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                             (bits >> 32 & 0xffff) + (bits >> 48));
    // Mean 4 x 32767.5; sqrt(3) / 2^16 makes the variance 1.
    const float normal =
        (static_cast<float>(sum) - 131070.0f) * (1.7320508f / 65536.0f);
    const float initial = normal * scale.init_std;
    if (scale.optimizer == FmOptimizer::kFtrl) {
      // The z whose weight at n = 0 is `initial`.
      const FtrlScale& f = scale.vector_ftrl;
      v[j] = -(initial * (f.beta * f.inv_alpha + f.l2) +
               std::copysign(f.l1, initial));
    } else {
      v[j] = initial;
      if (scale.optimizer == FmOptimizer::kAdagrad) {
        v[scale.dim + j] = scale.initial_accumulator;
      }
    }
  }
}

float FmVector(const FmScale& scale, const float* state, uint32_t j) {
  FmHead head;
  memcpy(&head, state, sizeof(head));
  if (head.learnt == 0) return 0;
  const float* v = state + kHeadFloats;
  if (scale.optimizer != FmOptimizer::kFtrl) return v[j];
  return Weight(scale.vector_ftrl, v[j], v[scale.dim + j]);
}

}  // namespace adrank
