// Products of dense float matrices, for training and serving alike.
//
// All matrices are row-major with a leading dimension ("ld": elements from one
// row to the next, >= the number of columns). No function keeps a pointer.
// Thread-safe and single-threaded: a caller with several threads gives each its
// own rows (or, for gradients, its own columns) of the result.
//
// The float products: each element of c is ONE chain of fused multiply-adds
// over ascending k that starts from 0, or from c's old value with `accumulate`.
// Its bits depend on its row of a and its column of b only: not on m or n, not
// on how rows and columns are split over calls, not on the CPU.
//
// The bf16 products round the multiplicands to bfloat16 (to nearest even) and
// sum in float. Their bits do not depend on m, n or the split either, but they
// do on the CPU (see HasFastBf16): for training, not for scores.
#ifndef ADRANK_MODEL_KERNELS_GEMM_H_
#define ADRANK_MODEL_KERNELS_GEMM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace adrank {

// Memory of the kernels' operands, aligned to a cache line.
struct alignas(64) GemmLine {
  std::byte bytes[64];
};

// The right operand of a product, [k][n], packed for the kernels.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // b is [k][n] with ld `ldb`; transposed: b is [n][k], and its transpose is
  // packed. Reuses this object's memory.
  void Pack(const float* b, size_t k, size_t n, size_t ldb, bool transposed);
  size_t k() const { return k_; }
  size_t n() const { return n_; }
  const std::vector<GemmLine>& lines() const { return lines_; }

 private:
  size_t k_ = 0, n_ = 0;
  std::vector<GemmLine> lines_;  // layout: gemm_kernel.h
};

// c[m][n] = a[m][k] b, or += with `accumulate`. c may overlap neither operand.
void Gemm(size_t m, const float* a, size_t lda, const PackedMatrix& b,
          bool accumulate, float* c, size_t ldc);

// c[m][n] = a^T b, or +=, with a [k][m] and b [k][n]: the gradient of a weight
// matrix from k examples. `scratch` grows as needed; one per thread.
void GemmTransposedA(size_t m, size_t n, size_t k, const float* a, size_t lda,
                     const float* b, size_t ldb, bool accumulate, float* c,
                     size_t ldc, std::vector<float>* scratch);

// True where the CPU multiplies bfloat16 pairs (AVX-512 BF16), about twice as
// fast as float. Elsewhere the bf16 functions widen to float: right, no faster
// than float, and other bits.
bool HasFastBf16();

// As PackedMatrix, rounded to bfloat16.
class PackedMatrixBf16 {
 public:
  PackedMatrixBf16() = default;
  void Pack(const float* b, size_t k, size_t n, size_t ldb, bool transposed);
  size_t k() const { return k_; }
  size_t n() const { return n_; }
  const std::vector<GemmLine>& lines() const { return lines_; }

 private:
  size_t k_ = 0, n_ = 0;
  std::vector<GemmLine> lines_;
};

// A left operand rounded once for several products: the activations of a layer
// go forward and into the weight gradient, its output gradients backward and
// into the weight gradient.
class Bf16Matrix {
 public:
  Bf16Matrix() = default;
  // Rounds x, [rows][columns] with ld `ldx`. Reuses this object's memory.
  void Assign(const float* x, size_t rows, size_t columns, size_t ldx);
  // The same in parts: room for [rows][columns], then rows [first, first +
  // rows) of it, different ones by different threads.
  void Resize(size_t rows, size_t columns);
  void AssignRows(size_t first, size_t rows, const float* x, size_t ldx);
  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  // Row r starts at data() + r x ld(); ld() is even, the element past an odd
  // number of columns is 0.
  size_t ld() const { return (columns_ + 1) / 2 * 2; }
  const uint16_t* data() const { return data_.data(); }

 private:
  size_t rows_ = 0, columns_ = 0;
  std::vector<uint16_t> data_;
};

// Gemm and GemmTransposedA of rounded multiplicands.
void GemmBf16(size_t m, const float* a, size_t lda, const PackedMatrixBf16& b,
              bool accumulate, float* c, size_t ldc);
void GemmTransposedABf16(size_t m, size_t n, size_t k, const float* a,
                         size_t lda, const float* b, size_t ldb,
                         bool accumulate, float* c, size_t ldc,
                         std::vector<float>* scratch);

// The same bits from operands rounded before: rows [first_row, first_row + m)
// of a; columns [first_column, first_column + m) of a against all of b.
// REQUIRES: a.columns() == b.k(), or a.rows() == b.rows().
void GemmBf16(size_t m, const Bf16Matrix& a, size_t first_row,
              const PackedMatrixBf16& b, bool accumulate, float* c, size_t ldc);
void GemmTransposedABf16(size_t m, const Bf16Matrix& a, size_t first_column,
                         const Bf16Matrix& b, bool accumulate, float* c,
                         size_t ldc, std::vector<float>* scratch);

}  // namespace adrank

#endif  // ADRANK_MODEL_KERNELS_GEMM_H_
