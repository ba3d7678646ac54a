// The inner loops of FtrlLearner, once as source, compiled for several
// instruction sets. Every operation is elementwise IEEE float or exact, so all
// of them give the same bits; FtrlKernelFor lets a test compare them.
#ifndef ADRANK_TRAINER_FTRL_KERNEL_H_
#define ADRANK_TRAINER_FTRL_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace adrank {

// State of one coordinate.
struct FtrlSlot {
  float z;
  float n;
};

struct FtrlScale {
  float inv_alpha;
  float beta;
  float l1;
  float l2;
};

// Logits are summed as integer multiples of 2^-30, so that sums are exact in
// any order. A product is cut to [-2^20, 2^20] first.
inline constexpr double kLogitUnit = 0x1.0p-30;

struct FtrlKernel {
  const char* name;

  // sums[i] = sum over e in [offsets[i], offsets[i + 1]) of
  //   round(w(table[rows[e]]) x values[e] / kLogitUnit), i < count.
  // values may be nullptr (all 1).
  void (*logits)(const FtrlSlot* table, const FtrlScale& scale,
                 const uint32_t* rows, const float* values,
                 const uint32_t* offsets, size_t count, int64_t* sums);

  // For i < count in order, for e as above in order: the FTRL step of
  // table[rows[e]] with g = deltas[i] x values[e]. `distinct`: no row occurs
  // twice in one example.
  void (*update)(FtrlSlot* table, const FtrlScale& scale, const uint32_t* rows,
                 const float* values, const uint32_t* offsets,
                 const float* deltas, size_t count, bool distinct);

  // p[i] = sigmoid(sums[i] x kLogitUnit), the same bits on every machine (no
  // libm); within 4e-16 relative of the true value for |logit| <= 40, cut
  // there.
  void (*sigmoid)(const int64_t* sums, size_t count, double* p);

  // Copies the entries whose row belongs to [first, first + span) by
  // FtrlOwnerHash to `out_rows` (and `out_values` from `values`, if not
  // nullptr); returns how many. Room for n + 16 entries is needed.
  size_t (*pick)(const uint32_t* rows, const float* values, size_t n,
                 uint32_t first, uint32_t span, uint32_t* out_rows,
                 float* out_values);
};

// Rows of one cache line stay together: 8 slots of 8 bytes.
inline uint32_t FtrlOwnerHash(uint32_t row) { return (row >> 3) * 0x9e3779b1u; }

// `logit`, cut to [-2^20, 2^20], in kLogitUnit.
int64_t LogitUnits(double logit);

// The bias: a coordinate of value 1 in double without l1 and l2, measured from
// its initial value.
struct FtrlBias {
  double z = 0;
  double n = 0;
  double initial = 0;

  double Weight(double alpha, double beta) const;
  void Step(double alpha, double beta, double g);
};

// nullptr when this machine lacks it.
const FtrlKernel* FtrlKernelFor(Isa isa);
// The fastest that this machine has.
const FtrlKernel& BestFtrlKernel();

// One coordinate's weight and step; the definition that the kernels repeat.
float FtrlWeight(const FtrlScale& scale, const FtrlSlot& slot);
void FtrlStep(const FtrlScale& scale, float g, FtrlSlot* slot);

}  // namespace adrank

#endif  // ADRANK_TRAINER_FTRL_KERNEL_H_
