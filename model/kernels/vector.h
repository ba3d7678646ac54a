// Loops over float arrays that give the same bits on every CPU: IEEE
// operations and fused multiply-adds in one defined order, no libm.
// Thread-safe.
#ifndef ADRANK_MODEL_KERNELS_VECTOR_H_
#define ADRANK_MODEL_KERNELS_VECTOR_H_

#include <cstddef>

#include "base/isa.h"

namespace adrank {

// Sum of a[i] b[i], i < n. Lane j < 16 is a chain of fused multiply-adds from 0
// over ascending i = j mod 16; the lanes are then added as a tree: j and j + 8,
// j and j + 4, j and j + 2, j and j + 1.
float DotFixed(const float* a, const float* b, size_t n);

// x[i] = 1 / (1 + e^-x[i]), within 2e-7 relative for |x[i]| <= 87; beyond that
// as at +-87. NaN stays NaN.
void SigmoidInPlace(float* x, size_t n);

// The two for one instruction set, for tests; nullptr when this machine lacks
// it.
struct VectorKernel {
  const char* name;
  float (*dot)(const float* a, const float* b, size_t n);
  void (*sigmoid)(float* x, size_t n);
};
const VectorKernel* VectorKernelFor(Isa isa);

}  // namespace adrank

#endif  // ADRANK_MODEL_KERNELS_VECTOR_H_
