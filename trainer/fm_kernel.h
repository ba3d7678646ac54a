// The inner loops of FmLearner, once as source, compiled for several
// instruction sets. As in ftrl_kernel.h every operation is elementwise IEEE
// float, in a fixed order, or exact, so all of them give the same bits.
#ifndef ADRANK_TRAINER_FM_KERNEL_H_
#define ADRANK_TRAINER_FM_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "trainer/ftrl_kernel.h"

namespace adrank {

inline constexpr uint32_t kMaxFmDim = 64;

// How vectors step along their gradient g, [dim]:
enum class FmOptimizer {
  // One accumulator a row: G += mean_j g_j^2; v -= lr g / (sqrt(G) + eps).
  kRowAdagrad,
  // One a coordinate: G_j += g_j^2; v_j -= lr g_j / (sqrt(G_j) + eps).
  kAdagrad,
  // FTRL-Proximal for each coordinate, as FtrlLearner's (alphaFM's choice).
  // Without l1 it is kAdagrad with G_j from 0 and eps = beta + lr l2.
  kFtrl,
};

// State of one row: this head, then f32 v[dim] (kAdagrad: then G[dim];
// kFtrl: z[dim], then n[dim]), then zeros to the stride.
struct FmHead {
  float z;  // of the linear weight
  float n;
  float g;          // kRowAdagrad's G
  uint32_t learnt;  // 0: never met in an Update; all other bytes are 0
};
static_assert(sizeof(FmHead) == 16);

struct FmScale {
  FtrlScale linear;
  // kFtrl: its alpha, beta, l1 and l2.
  FtrlScale vector_ftrl;
  FmOptimizer optimizer;
  uint32_t dim;     // a multiple of 4 up to kMaxFmDim
  uint32_t stride;  // floats from row to row
  float lr;
  float eps;
  float initial_accumulator;
  float l2;
  float init_std;
  uint64_t seed;
};

// The fewest whole cache lines that hold a row's state, in floats; half a line
// where that is enough.
uint32_t FmStride(FmOptimizer optimizer, uint32_t dim);
// Floats of a row's state without the zeros at its end.
uint32_t FmUsed(FmOptimizer optimizer, uint32_t dim);

struct FmKernel {
  const char* name;

  // With r(x) = x rounded to units of kLogitUnit, t_j = v_j x cut to
  // [-2^10, 2^10] and u = w x cut to [-2^20, 2^20], over e in
  // [offsets[i], offsets[i + 1]), x = values[e]:
  //   sums[i][j]   = sum r(t_j), j < dim
  //   sums[i][dim] = sum 2 r(u) - sum_j r(t_j^2)
  // so that 2 logit = sums[i][dim] + sum_j sums[i][j]^2. `sums` is
  // [count, dim + 1]. values may be nullptr (all 1). Rows met for the first
  // time get their initial vector.
  void (*sums)(float* table, const FmScale& scale, const uint32_t* rows,
               const float* values, const uint32_t* offsets, size_t count,
               int64_t* sums);

  // For i < count in order, for e as above in order: the steps of row rows[e],
  // w along deltas[i] x, v along deltas[i] x (s[i] - v x) (+ l2 v). `s`:
  // [count, dim], the vector sum of all entries of the example. `distinct`: no
  // row occurs twice in one example. Examples with delta 0 teach nothing.
  // REQUIRES: each row has been through `sums`.
  void (*update)(float* table, const FmScale& scale, const uint32_t* rows,
                 const float* values, const uint32_t* offsets,
                 const float* deltas, const float* s, size_t count,
                 bool distinct);
};

// nullptr when this machine lacks it.
const FmKernel* FmKernelFor(Isa isa);
// The fastest that this machine has.
const FmKernel& BestFmKernel();

// Makes a row's state of the first time: v_j ~ init_std x the sum of four
// uniforms, scaled to a variance of 1, a pure function of (seed, row, j) on
// every machine.
void FmBegin(const FmScale& scale, uint32_t row, float* state);

// v_j of a row's state; 0 where it has never been learnt from.
float FmVector(const FmScale& scale, const float* state, uint32_t j);

}  // namespace adrank

#endif  // ADRANK_TRAINER_FM_KERNEL_H_
