// Blocks the products for the caches and packs their operands; the arithmetic
// is gemm_kernel.cc's. Goto and van de Geijn 2008, "Anatomy of high-performance
// matrix multiplication", with the outer loops left to the caller.
#include "model/kernels/gemm.h"

#include <algorithm>
#include <cstring>

#include "model/kernels/gemm_kernel.h"

namespace adrank {
namespace {

// Words of k worked on together: a panel of 48 columns takes 24 KiB of the
// 32 KiB first-level cache and meets kBlockRows rows before it leaves.
constexpr size_t kBlockK = 128;
// A block of the left operand that had to be copied: 32 KiB of stack.
constexpr size_t kBlockRows = 64;
// Rows of c that stay in the second-level cache while all of k passes.
constexpr size_t kStripRows = 128;

using PanelFunction = void (*)(const GemmPanel&);

// Where kernels find rows [i, i + rows) x words [p, p + words) of the left
// operand.
struct Block {
  const void* a;
  size_t tile, row, step;
};

// The rows of a block lie in different pages, where the hardware does not look
// ahead. Fetching what lies past the end does nothing.
constexpr size_t kRowsAhead = 16;

template <typename T>
void Prefetch(const T* x, size_t n) {
  for (size_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(x + i);
}

// The block of `a` itself.
Block BlockInPlace(const uint32_t* a, size_t row, size_t rows, size_t words) {
  for (size_t r = 0; r < rows; ++r) Prefetch(a + r * row, words);
  return {a, kTileRows * row, row, 1};
}

void Clear(size_t m, size_t n, float* c, size_t ldc) {
  for (size_t i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0f);
}

// c = or += block[rows][words] b, for words [p, p + words) of b's k.
void MultiplyBlock(PanelFunction function, size_t rows, size_t n, size_t words,
                   const Block& block, const uint32_t* b, size_t k, size_t p,
                   bool accumulate, float* c, size_t ldc) {
  for (size_t j = 0; j < n;) {
    const size_t width = PanelWidth(n - j);
    function({.m = rows,
              .n = std::min(width, n - j),
              .k = words,
              .a = block.a,
              .a_tile = block.tile,
              .a_row = block.row,
              .a_step = block.step,
              .b = b + j * k + p * width,
              .width = width,
              .accumulate = accumulate,
              .c = c + j,
              .ldc = ldc});
    j += width;
  }
}

// c = or += a b, `block_of(i, rows, p, words)` giving the left operand.
template <typename BlockOf>
void Multiply(PanelFunction function, size_t m, size_t n, size_t k,
              const BlockOf& block_of, const uint32_t* b, bool accumulate,
              float* c, size_t ldc) {
  if (k == 0 && !accumulate) Clear(m, n, c, ldc);
  // Blocks of equal size: a short last one would pay for c and do little.
  const size_t blocks = (k + kBlockK - 1) / kBlockK;
  const size_t step = blocks == 0 ? 0 : (k + blocks - 1) / blocks;
  for (size_t top = 0; top < m; top += kStripRows) {
    const size_t bottom = std::min(m, top + kStripRows);
    for (size_t p = 0; p < k; p += step) {
      const size_t words = std::min(step, k - p);
      for (size_t i = top; i < bottom; i += kBlockRows) {
        const size_t rows = std::min(kBlockRows, bottom - i);
        MultiplyBlock(function, rows, n, words, block_of(i, rows, p, words), b,
                      k, p, accumulate || p > 0, c + i * ldc, ldc);
      }
    }
  }
}

size_t LinesFor(size_t words, size_t n) { return words * ((n + 15) / 16); }

// Calls fill(p, j, count, out) to write words (p, j .. j + count) of each row
// of each panel of a packed [words][n] matrix, and clears what is past n.
template <typename Fill>
void PackPanels(size_t words, size_t n, uint32_t* out, const Fill& fill) {
  for (size_t p = 0; p < words; ++p) {
    for (size_t j = 0; j < n;) {
      const size_t width = PanelWidth(n - j);
      const size_t count = std::min(width, n - j);
      uint32_t* const row = out + j * words + p * width;
      fill(p, j, count, row);
      if (count < width) std::fill(row + count, row + width, 0);
      j += width;
    }
  }
}

// Copies the transpose of b, [n][k] with ld `ldb`, to panels; by squares of 16,
// so that both sides of a square stay in the cache.
void PackTransposed(const uint32_t* b, size_t k, size_t n, size_t ldb,
                    uint32_t* out) {
  constexpr size_t kSide = 16;
  for (size_t j = 0; j < n;) {
    const size_t width = PanelWidth(n - j);
    uint32_t* const panel = out + j * k;
    for (size_t q = 0; q < width; q += kSide) {
      for (size_t p = 0; p < k; p += kSide) {
        const size_t side = std::min(kSide, k - p);
        for (size_t i = q; i < q + kSide; ++i) {
          uint32_t* to = panel + p * width + i;
          const uint32_t* from = b + (j + i) * ldb + p;
          const bool inside = j + i < n;
          for (size_t r = 0; r < side; ++r, to += width) {
            *to = 0;
            if (inside) std::memcpy(to, from + r, sizeof(*to));
          }
        }
      }
    }
    j += width;
  }
}

// Room for [words][n] in `scratch`, aligned to a cache line.
uint32_t* Aligned(size_t words, size_t n, std::vector<float>* scratch) {
  const size_t need = LinesFor(words, n) * 16 + 16;
  if (scratch->size() < need) scratch->resize(need);
  const auto at = reinterpret_cast<uintptr_t>(scratch->data());
  return reinterpret_cast<uint32_t*>((at + 63) / 64 * 64);
}

// c = or += a^T b: `row_a(p, i, count, out)` writes the words (p, i .. i +
// count) of a, `row_b` those of b.
template <typename RowA, typename RowB>
void MultiplyTransposed(PanelFunction function, size_t m, size_t n, size_t k,
                        const RowA& row_a, const RowB& row_b, bool accumulate,
                        float* c, size_t ldc, std::vector<float>* scratch) {
  uint32_t* const b = Aligned(k, n, scratch);
  PackPanels(k, n, b, row_b);
  alignas(64) uint32_t a[kBlockRows * kBlockK];
  const auto block_of = [&](size_t i, size_t rows, size_t p,
                            size_t words) -> Block {
    uint32_t row[kBlockRows] = {};
    for (size_t q = 0; q < words; ++q) {
      row_a(p + q, i, rows, row);
      for (size_t t = 0; t < rows; t += kTileRows) {
        std::memcpy(a + t * words + q * kTileRows, row + t,
                    kTileRows * sizeof(*row));
      }
    }
    return {a, kTileRows * words, 1, kTileRows};
  };
  Multiply(function, m, n, k, block_of, b, accumulate, c, ldc);
}

// Words of rows of a float matrix.
auto FloatRows(const float* x, size_t ld) {
  return [x, ld](size_t p, size_t j, size_t count, uint32_t* out) {
    const float* row = x + p * ld + j;
    Prefetch(row + kRowsAhead * ld, count);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) std::memcpy(out + i, row + i, 64);
    for (; i + 8 <= count; i += 8) std::memcpy(out + i, row + i, 32);
    for (; i < count; ++i) std::memcpy(out + i, row + i, 4);
  };
}

// Pairs of rows of a float matrix of `rows` rows, rounded.
auto RoundedRows(const GemmKernel& kernel, const float* x, size_t rows,
                 size_t ld) {
  return
      [&kernel, x, rows, ld](size_t p, size_t j, size_t count, uint32_t* out) {
        const float* low = x + 2 * p * ld + j;
        Prefetch(low + kRowsAhead * ld, count);
        Prefetch(low + (kRowsAhead + 1) * ld, count);
        kernel.pair(low, 2 * p + 1 < rows ? low + ld : nullptr, count, out);
      };
}

// Pairs of rows of a rounded matrix.
auto PairedRows(const Bf16Matrix& x) {
  return [&x](size_t p, size_t j, size_t count, uint32_t* out) {
    const uint16_t* low = x.data() + 2 * p * x.ld() + j;
    if (2 * p + 1 == x.rows()) {
      for (size_t i = 0; i < count; ++i) out[i] = low[i];
      return;
    }
    const uint16_t* high = low + x.ld();
    Prefetch(low + kRowsAhead * x.ld(), count);
    Prefetch(high + kRowsAhead * x.ld(), count);
    for (size_t i = 0; i < count; ++i) {
      out[i] = low[i] | static_cast<uint32_t>(high[i]) << 16;
    }
  };
}

uint32_t* WordsOf(std::vector<GemmLine>* lines) {
  return reinterpret_cast<uint32_t*>(lines->data());
}

const uint32_t* WordsOf(const std::vector<GemmLine>& lines) {
  return reinterpret_cast<const uint32_t*>(lines.data());
}

}  // namespace

void PackedMatrix::Pack(const float* b, size_t k, size_t n, size_t ldb,
                        bool transposed) {
  k_ = k;
  n_ = n;
  lines_.resize(LinesFor(k, n));
  if (transposed) {
    PackTransposed(reinterpret_cast<const uint32_t*>(b), k, n, ldb,
                   WordsOf(&lines_));
  } else {
    PackPanels(k, n, WordsOf(&lines_), FloatRows(b, ldb));
  }
}

void PackedMatrixBf16::Pack(const float* b, size_t k, size_t n, size_t ldb,
                            bool transposed) {
  k_ = k;
  n_ = n;
  const size_t words = (k + 1) / 2;
  lines_.resize(LinesFor(words, n));
  if (transposed) {
    Bf16Matrix rounded;
    rounded.Assign(b, n, k, ldb);
    PackTransposed(reinterpret_cast<const uint32_t*>(rounded.data()), words, n,
                   rounded.ld() / 2, WordsOf(&lines_));
  } else {
    PackPanels(words, n, WordsOf(&lines_),
               RoundedRows(BestGemmKernel(), b, k, ldb));
  }
}

void Bf16Matrix::Assign(const float* x, size_t rows, size_t columns,
                        size_t ldx) {
  Resize(rows, columns);
  AssignRows(0, rows, x, ldx);
}

void Bf16Matrix::Resize(size_t rows, size_t columns) {
  rows_ = rows;
  columns_ = columns;
  data_.resize(rows * ld());
}

void Bf16Matrix::AssignRows(size_t first, size_t rows, const float* x,
                            size_t ldx) {
  const GemmKernel& kernel = BestGemmKernel();
  for (size_t r = 0; r < rows; ++r) {
    uint16_t* out = data_.data() + (first + r) * ld();
    kernel.round(x + r * ldx, columns_, out);
    if (columns_ % 2 != 0) out[columns_] = 0;
  }
}

void Gemm(const GemmKernel& kernel, size_t m, const float* a, size_t lda,
          const PackedMatrix& b, bool accumulate, float* c, size_t ldc) {
  const auto* in = reinterpret_cast<const uint32_t*>(a);
  const auto block_of = [&](size_t i, size_t rows, size_t p, size_t words) {
    return BlockInPlace(in + i * lda + p, lda, rows, words);
  };
  Multiply(kernel.f32, m, b.n(), b.k(), block_of, WordsOf(b.lines()),
           accumulate, c, ldc);
}

void GemmTransposedA(const GemmKernel& kernel, size_t m, size_t n, size_t k,
                     const float* a, size_t lda, const float* b, size_t ldb,
                     bool accumulate, float* c, size_t ldc,
                     std::vector<float>* scratch) {
  MultiplyTransposed(kernel.f32, m, n, k, FloatRows(a, lda), FloatRows(b, ldb),
                     accumulate, c, ldc, scratch);
}

void GemmBf16(const GemmKernel& kernel, size_t m, const float* a, size_t lda,
              const PackedMatrixBf16& b, bool accumulate, float* c,
              size_t ldc) {
  alignas(64) uint16_t rounded[2 * kBlockRows * kBlockK];
  const auto block_of = [&](size_t i, size_t rows, size_t p,
                            size_t words) -> Block {
    const size_t count = std::min(2 * words, b.k() - 2 * p);
    for (size_t r = 0; r < rows; ++r) {
      uint16_t* out = rounded + r * 2 * words;
      const float* in = a + (i + r) * lda + 2 * p;
      Prefetch(in + 4 * lda, count);
      kernel.round(in, count, out);
      if (count % 2 != 0) out[count] = 0;
    }
    return {rounded, kTileRows * words, words, 1};
  };
  Multiply(kernel.bf16, m, b.n(), (b.k() + 1) / 2, block_of, WordsOf(b.lines()),
           accumulate, c, ldc);
}

void GemmTransposedABf16(const GemmKernel& kernel, size_t m, size_t n, size_t k,
                         const float* a, size_t lda, const float* b, size_t ldb,
                         bool accumulate, float* c, size_t ldc,
                         std::vector<float>* scratch) {
  MultiplyTransposed(
      kernel.bf16, m, n, (k + 1) / 2, RoundedRows(kernel, a, k, lda),
      RoundedRows(kernel, b, k, ldb), accumulate, c, ldc, scratch);
}

void Gemm(size_t m, const float* a, size_t lda, const PackedMatrix& b,
          bool accumulate, float* c, size_t ldc) {
  Gemm(BestGemmKernel(), m, a, lda, b, accumulate, c, ldc);
}

void GemmTransposedA(size_t m, size_t n, size_t k, const float* a, size_t lda,
                     const float* b, size_t ldb, bool accumulate, float* c,
                     size_t ldc, std::vector<float>* scratch) {
  GemmTransposedA(BestGemmKernel(), m, n, k, a, lda, b, ldb, accumulate, c, ldc,
                  scratch);
}

void GemmBf16(size_t m, const float* a, size_t lda, const PackedMatrixBf16& b,
              bool accumulate, float* c, size_t ldc) {
  GemmBf16(BestGemmKernel(), m, a, lda, b, accumulate, c, ldc);
}

void GemmTransposedABf16(size_t m, size_t n, size_t k, const float* a,
                         size_t lda, const float* b, size_t ldb,
                         bool accumulate, float* c, size_t ldc,
                         std::vector<float>* scratch) {
  GemmTransposedABf16(BestGemmKernel(), m, n, k, a, lda, b, ldb, accumulate, c,
                      ldc, scratch);
}

void GemmBf16(size_t m, const Bf16Matrix& a, size_t first_row,
              const PackedMatrixBf16& b, bool accumulate, float* c,
              size_t ldc) {
  const size_t row = a.ld() / 2;
  const auto* in = reinterpret_cast<const uint32_t*>(a.data());
  const auto block_of = [&](size_t i, size_t rows, size_t p, size_t words) {
    return BlockInPlace(in + (first_row + i) * row + p, row, rows, words);
  };
  Multiply(BestGemmKernel().bf16, m, b.n(), row, block_of, WordsOf(b.lines()),
           accumulate, c, ldc);
}

void GemmTransposedABf16(size_t m, const Bf16Matrix& a, size_t first_column,
                         const Bf16Matrix& b, bool accumulate, float* c,
                         size_t ldc, std::vector<float>* scratch) {
  const auto row_a = PairedRows(a);
  MultiplyTransposed(
      BestGemmKernel().bf16, m, b.columns(), (a.rows() + 1) / 2,
      [&](size_t p, size_t i, size_t count, uint32_t* out) {
        row_a(p, first_column + i, count, out);
      },
      PairedRows(b), accumulate, c, ldc, scratch);
}

}  // namespace adrank
