// The inner loops of gemm.h, for several instruction sets, and the layout that
// they read. For gemm.cc and the tests.
//
// The kernels work on words of 4 bytes: a float, or two bfloat16 of ascending k
// (the lower half first; the second of an odd k is 0).
//
// A packed matrix of k rows of words and n columns is a sequence of panels of
// PanelWidth columns, each [k][width] words, the columns past n being 0.
#ifndef ADRANK_MODEL_KERNELS_GEMM_KERNEL_H_
#define ADRANK_MODEL_KERNELS_GEMM_KERNEL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "model/kernels/gemm.h"

namespace adrank {

// Columns of the panel at the front of `columns` that remain: 48 (3 AVX-512
// vectors; with 8 rows 24 of the 32 registers hold sums), but 32 and 32 rather
// than 48 and a slow 16.
inline size_t PanelWidth(size_t columns) {
  const size_t vectors = (columns + 15) / 16;
  return 16 * (vectors == 4 ? 2 : std::min<size_t>(vectors, 3));
}

// Rows that a kernel works on together.
inline constexpr size_t kTileRows = 8;

// c[m][n] = a[m][k] b[k][n], or +=, for the first n <= width columns of a
// panel.
struct GemmPanel {
  size_t m, n, k;  // k in words
  // Word (8 t + i, p), i < 8, at index t x a_tile + i x a_row + p x a_step.
  const void* a;
  size_t a_tile, a_row, a_step;
  const void* b;  // [k][width], aligned to 64 bytes
  size_t width;
  bool accumulate;
  float* c;
  size_t ldc;
};

struct GemmKernel {
  const char* name;
  void (*f32)(const GemmPanel& panel);
  void (*bf16)(const GemmPanel& panel);
  // out[i] = x[i] as bfloat16, to nearest even; NaN stays NaN.
  void (*round)(const float* x, size_t n, uint16_t* out);
  // out[i] = the word of low[i] and high[i] rounded; high may be nullptr (0).
  void (*pair)(const float* low, const float* high, size_t n, uint32_t* out);
};

// nullptr when this machine lacks it.
const GemmKernel* GemmKernelFor(Isa isa);
// The fastest that this machine has.
const GemmKernel& BestGemmKernel();

// gemm.h's functions with the kernel given.
void Gemm(const GemmKernel& kernel, size_t m, const float* a, size_t lda,
          const PackedMatrix& b, bool accumulate, float* c, size_t ldc);
void GemmTransposedA(const GemmKernel& kernel, size_t m, size_t n, size_t k,
                     const float* a, size_t lda, const float* b, size_t ldb,
                     bool accumulate, float* c, size_t ldc,
                     std::vector<float>* scratch);
void GemmBf16(const GemmKernel& kernel, size_t m, const float* a, size_t lda,
              const PackedMatrixBf16& b, bool accumulate, float* c, size_t ldc);
void GemmTransposedABf16(const GemmKernel& kernel, size_t m, size_t n, size_t k,
                         const float* a, size_t lda, const float* b, size_t ldb,
                         bool accumulate, float* c, size_t ldc,
                         std::vector<float>* scratch);

}  // namespace adrank

#endif  // ADRANK_MODEL_KERNELS_GEMM_KERNEL_H_
