#include "model/kernels/gemm.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gtest/gtest.h"
#include "model/kernels/gemm_kernel.h"

namespace adrank {
namespace {

constexpr float kUntouched = 12345.0f;

// [rows][columns] with leading dimension `ld`, at a chosen misalignment; what
// lies between the rows holds kUntouched.
struct Matrix {
  Matrix(size_t rows, size_t columns, size_t ld, size_t shift)
      : rows(rows),
        columns(columns),
        ld(ld),
        shift(shift),
        all(rows * ld + shift, kUntouched) {}
  float* data() { return all.data() + shift; }
  const float* data() const { return all.data() + shift; }
  float& at(size_t r, size_t c) { return data()[r * ld + c]; }
  float at(size_t r, size_t c) const { return data()[r * ld + c]; }

  size_t rows, columns, ld, shift;
  std::vector<float> all;
};

Matrix ARandom(size_t rows, size_t columns, size_t slack, size_t shift,
               uint64_t seed) {
  Matrix x(rows, columns, columns + slack, shift);
  Rng rng(seed);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      x.at(r, c) = static_cast<float>(rng.Normal());
    }
  }
  return x;
}

Matrix Transposed(const Matrix& x) {
  Matrix t(x.columns, x.rows, x.rows + 3, 1);
  for (size_t r = 0; r < x.rows; ++r) {
    for (size_t c = 0; c < x.columns; ++c) t.at(c, r) = x.at(r, c);
  }
  return t;
}

float ToBf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

Matrix RoundedToBf16(Matrix x) {
  for (size_t r = 0; r < x.rows; ++r) {
    for (size_t c = 0; c < x.columns; ++c) x.at(r, c) = ToBf16(x.at(r, c));
  }
  return x;
}

// The definition: one chain of std::fma over ascending k.
Matrix Chain(const Matrix& a, const Matrix& b, bool accumulate, Matrix c) {
  for (size_t i = 0; i < a.rows; ++i) {
    for (size_t j = 0; j < b.columns; ++j) {
      float sum = accumulate ? c.at(i, j) : 0.0f;
      for (size_t p = 0; p < a.columns; ++p) {
        sum = std::fma(a.at(i, p), b.at(p, j), sum);
      }
      c.at(i, j) = sum;
    }
  }
  return c;
}

// Every element of c within k roundings of the double sum of a b.
void ExpectNear(const Matrix& a, const Matrix& b, const Matrix& c,
                const std::string& what) {
  const double unit = static_cast<double>(a.columns + 1) * 0x1p-24;
  for (size_t i = 0; i < a.rows; ++i) {
    for (size_t j = 0; j < b.columns; ++j) {
      double sum = 0, size = 0;
      for (size_t p = 0; p < a.columns; ++p) {
        const double product = double{a.at(i, p)} * b.at(p, j);
        sum += product;
        size += std::fabs(product);
      }
      ASSERT_NEAR(c.at(i, j), sum, unit * size + 1e-37)
          << what << " at " << i << ", " << j;
    }
  }
}

bool SameBits(const Matrix& x, const Matrix& y) {
  return std::equal(x.all.begin(), x.all.end(), y.all.begin(), y.all.end(),
                    [](float u, float v) {
                      return std::bit_cast<uint32_t>(u) ==
                             std::bit_cast<uint32_t>(v);
                    });
}

std::vector<const GemmKernel*> Kernels() {
  std::vector<const GemmKernel*> kernels;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (const GemmKernel* k = GemmKernelFor(isa)) kernels.push_back(k);
  }
  if (HasFastBf16()) kernels.push_back(&BestGemmKernel());
  return kernels;
}

struct Shape {
  size_t m, n, k;
  std::string Name() const { return absl::StrCat(m, "x", n, "x", k); }
};

// Tails of the tiles (8 rows; 16, 32 and 48 columns), of the blocks (64 rows,
// 128 words of k) and nothing at all.
const Shape kShapes[] = {
    {0, 5, 5},     {5, 0, 5},     {5, 5, 0},     {1, 1, 1},     {2, 3, 2},
    {1, 48, 7},    {3, 15, 8},    {4, 16, 9},    {5, 17, 31},   {6, 31, 64},
    {7, 33, 65},   {8, 47, 127},  {9, 49, 128},  {16, 63, 129}, {17, 64, 130},
    {31, 65, 255}, {33, 95, 256}, {63, 97, 257}, {64, 112, 3},  {65, 113, 100},
    {71, 130, 40}, {130, 50, 301}};

using Product = void (*)(const GemmKernel&, const Matrix&, const Matrix&, bool,
                         Matrix*);

void Plain(const GemmKernel& kernel, const Matrix& a, const Matrix& b,
           bool accumulate, Matrix* c) {
  PackedMatrix packed;
  packed.Pack(b.data(), b.rows, b.columns, b.ld, false);
  Gemm(kernel, a.rows, a.data(), a.ld, packed, accumulate, c->data(), c->ld);
}

void PackedFromTranspose(const GemmKernel& kernel, const Matrix& a,
                         const Matrix& b, bool accumulate, Matrix* c) {
  const Matrix t = Transposed(b);
  PackedMatrix packed;
  packed.Pack(t.data(), b.rows, b.columns, t.ld, true);
  Gemm(kernel, a.rows, a.data(), a.ld, packed, accumulate, c->data(), c->ld);
}

void TransposedA(const GemmKernel& kernel, const Matrix& a, const Matrix& b,
                 bool accumulate, Matrix* c) {
  const Matrix t = Transposed(a);
  std::vector<float> scratch;
  GemmTransposedA(kernel, a.rows, b.columns, a.columns, t.data(), t.ld,
                  b.data(), b.ld, accumulate, c->data(), c->ld, &scratch);
}

void PlainBf16(const GemmKernel& kernel, const Matrix& a, const Matrix& b,
               bool accumulate, Matrix* c) {
  PackedMatrixBf16 packed;
  packed.Pack(b.data(), b.rows, b.columns, b.ld, false);
  GemmBf16(kernel, a.rows, a.data(), a.ld, packed, accumulate, c->data(),
           c->ld);
}

void PackedFromTransposeBf16(const GemmKernel& kernel, const Matrix& a,
                             const Matrix& b, bool accumulate, Matrix* c) {
  const Matrix t = Transposed(b);
  PackedMatrixBf16 packed;
  packed.Pack(t.data(), b.rows, b.columns, t.ld, true);
  GemmBf16(kernel, a.rows, a.data(), a.ld, packed, accumulate, c->data(),
           c->ld);
}

void TransposedABf16(const GemmKernel& kernel, const Matrix& a, const Matrix& b,
                     bool accumulate, Matrix* c) {
  const Matrix t = Transposed(a);
  std::vector<float> scratch;
  GemmTransposedABf16(kernel, a.rows, b.columns, a.columns, t.data(), t.ld,
                      b.data(), b.ld, accumulate, c->data(), c->ld, &scratch);
}

TEST(Gemm, EveryInstructionSetGivesTheBitsOfTheChain) {
  for (const Shape& s : kShapes) {
    for (const size_t slack : {0, 5}) {
      const Matrix a = ARandom(s.m, s.k, slack, slack, 1);
      const Matrix b = ARandom(s.k, s.n, slack, slack, 2);
      const Matrix before = ARandom(s.m, s.n, slack, slack, 3);
      for (const bool accumulate : {false, true}) {
        const Matrix expected = Chain(a, b, accumulate, before);
        for (const GemmKernel* kernel : Kernels()) {
          for (const Product product :
               {Plain, PackedFromTranspose, TransposedA}) {
            Matrix c = before;
            product(*kernel, a, b, accumulate, &c);
            ASSERT_TRUE(SameBits(c, expected))
                << kernel->name << " " << s.Name() << " slack " << slack;
          }
        }
      }
    }
  }
}

TEST(Gemm, IsTheProductUpToOneRoundingAStep) {
  for (const Shape& s : kShapes) {
    const Matrix a = ARandom(s.m, s.k, 0, 0, 4);
    const Matrix b = ARandom(s.k, s.n, 0, 0, 5);
    Matrix c(s.m, s.n, s.n, 0);
    Plain(BestGemmKernel(), a, b, false, &c);
    ExpectNear(a, b, c, s.Name());
  }
}

TEST(Gemm, BitsDoNotDependOnHowRowsAndColumnsAreSplit) {
  const size_t m = 77, n = 131, k = 301;
  const Matrix a = ARandom(m, k, 2, 1, 6);
  const Matrix b = ARandom(k, n, 3, 1, 7);
  const Matrix at = Transposed(a);
  Matrix whole(m, n, n + 1, 0);
  Plain(BestGemmKernel(), a, b, false, &whole);
  std::vector<float> scratch;
  Rng rng(8);
  for (int trial = 0; trial < 50; ++trial) {
    const size_t i = rng.Below(m), rows = 1 + rng.Below(m - i);
    const size_t j = rng.Below(n), columns = 1 + rng.Below(n - j);
    PackedMatrix packed;
    packed.Pack(b.data() + j, k, columns, b.ld, false);
    Matrix part(m, n, n + 1, 0), gradient = part, expected = part;
    Gemm(rows, a.data() + i * a.ld, a.ld, packed, false, &part.at(i, j),
         part.ld);
    GemmTransposedA(rows, columns, k, at.data() + i, at.ld, b.data() + j, b.ld,
                    false, &gradient.at(i, j), gradient.ld, &scratch);
    for (size_t r = i; r < i + rows; ++r) {
      std::copy_n(&whole.at(r, j), columns, &expected.at(r, j));
    }
    ASSERT_TRUE(SameBits(part, expected));
    ASSERT_TRUE(SameBits(gradient, expected));
  }
}

TEST(Gemm, APackedMatrixIsUsedAgainForOtherShapes) {
  PackedMatrix packed;
  PackedMatrixBf16 rounded;
  for (const Shape& s :
       {Shape{9, 100, 80}, Shape{9, 20, 17}, Shape{9, 64, 90}}) {
    const Matrix a = ARandom(s.m, s.k, 0, 0, 9);
    const Matrix b = ARandom(s.k, s.n, 0, 0, 10);
    const Matrix before(s.m, s.n, s.n, 0);
    Matrix c = before, d = before;
    packed.Pack(b.data(), s.k, s.n, b.ld, false);
    Gemm(s.m, a.data(), a.ld, packed, false, c.data(), c.ld);
    EXPECT_TRUE(SameBits(c, Chain(a, b, false, before)));
    rounded.Pack(b.data(), s.k, s.n, b.ld, false);
    GemmBf16(s.m, a.data(), a.ld, rounded, false, d.data(), d.ld);
    ExpectNear(RoundedToBf16(a), RoundedToBf16(b), d, s.Name());
  }
}

TEST(GemmBf16, IsTheProductOfTheRoundedOperands) {
  for (const Shape& s : kShapes) {
    for (const size_t slack : {0, 5}) {
      const Matrix a = ARandom(s.m, s.k, slack, slack, 11);
      const Matrix b = ARandom(s.k, s.n, slack, slack, 12);
      const Matrix zero(s.m, s.n, s.n + slack, slack);
      for (const GemmKernel* kernel : Kernels()) {
        for (const Product product :
             {PlainBf16, PackedFromTransposeBf16, TransposedABf16}) {
          Matrix c = zero;
          product(*kernel, a, b, false, &c);
          ExpectNear(RoundedToBf16(a), RoundedToBf16(b), c,
                     absl::StrCat(kernel->name, " ", s.Name()));
          // Twice the product, and nothing beside it.
          Matrix twice = c;
          product(*kernel, a, b, true, &twice);
          for (size_t i = 0; i < twice.all.size(); ++i) {
            if (c.all[i] == kUntouched) {
              ASSERT_EQ(twice.all[i], kUntouched);
            } else {
              ASSERT_NEAR(twice.all[i], 2 * c.all[i], 1e-3) << kernel->name;
            }
          }
        }
      }
    }
  }
}

TEST(GemmBf16, KernelsWithoutPairInstructionsAgreeToTheBit) {
  const Matrix a = ARandom(13, 301, 0, 0, 13), b = ARandom(301, 70, 0, 0, 14);
  const Matrix zero(13, 70, 70, 0);
  const Matrix expected =
      Chain(RoundedToBf16(a), RoundedToBf16(b), false, zero);
  for (const GemmKernel* kernel : Kernels()) {
    if (kernel == &BestGemmKernel() && HasFastBf16()) continue;
    Matrix c = zero;
    PlainBf16(*kernel, a, b, false, &c);
    EXPECT_TRUE(SameBits(c, expected)) << kernel->name;
  }
}

TEST(GemmBf16, OperandsRoundedBeforeGiveTheSameBits) {
  for (const Shape& s : kShapes) {
    const Matrix a = ARandom(s.m, s.k, 2, 1, 15),
                 b = ARandom(s.k, s.n, 2, 1, 16);
    const Matrix at = Transposed(a);
    Matrix expected = ARandom(s.m, s.n, 1, 0, 17), c = expected, g = expected;
    PlainBf16(BestGemmKernel(), a, b, true, &expected);
    PackedMatrixBf16 packed;
    packed.Pack(b.data(), s.k, s.n, b.ld, false);
    Bf16Matrix ra, rat, rb;
    ra.Assign(a.data(), s.m, s.k, a.ld);
    rat.Assign(at.data(), s.k, s.m, at.ld);
    rb.Assign(b.data(), s.k, s.n, b.ld);
    // In two parts: rows, or columns of a's transpose, from the middle on.
    const size_t half = s.m / 2;
    std::vector<float> scratch;
    for (const auto& [first, m] :
         {std::pair(size_t{0}, half), std::pair(half, s.m - half)}) {
      GemmBf16(m, ra, first, packed, true, c.data() + first * c.ld, c.ld);
      GemmTransposedABf16(m, rat, first, rb, true, g.data() + first * g.ld,
                          g.ld, &scratch);
    }
    EXPECT_TRUE(SameBits(c, expected)) << s.Name();
    EXPECT_TRUE(SameBits(g, expected)) << s.Name();
  }
}

TEST(GemmBf16, RoundsToNearestEvenAndKeepsInfinityAndNan) {
  // 1 + 2^-8 lies between 1 and 1 + 2^-7: to even. 3 x 2^-8: up to even.
  std::vector<float> x = {1.0f,           1 + 0x1p-8f, 1 + 0x1.8p-7f,
                          -1 - 0x1.2p-8f, INFINITY,    -INFINITY,
                          0x1p-130f,      3.4e38f,     -0.0f};
  const std::vector<uint32_t> bits = {0x3f80, 0x3f80, 0x3f82, 0xbf81, 0x7f80,
                                      0xff80, 0x0008, 0x7f80, 0x8000};
  x.resize(40, std::numeric_limits<float>::quiet_NaN());
  for (const GemmKernel* kernel : Kernels()) {
    std::vector<uint16_t> rounded(x.size());
    std::vector<uint32_t> pairs(x.size()), singles(x.size());
    kernel->round(x.data(), x.size(), rounded.data());
    kernel->pair(x.data(), x.data() + 1, x.size() - 1, pairs.data());
    kernel->pair(x.data(), nullptr, x.size(), singles.data());
    for (size_t i = 0; i < x.size(); ++i) {
      if (i < bits.size()) {
        EXPECT_EQ(rounded[i], bits[i]) << kernel->name << " " << x[i];
      } else {
        EXPECT_TRUE(
            std::isnan(std::bit_cast<float>(uint32_t{rounded[i]} << 16)));
      }
      EXPECT_EQ(singles[i], rounded[i]);
      if (i + 1 < x.size()) {
        EXPECT_EQ(pairs[i], rounded[i] | uint32_t{rounded[i + 1]} << 16);
      }
    }
  }
}

}  // namespace
}  // namespace adrank
