#include "model/kernels/vector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

std::vector<const VectorKernel*> Kernels() {
  std::vector<const VectorKernel*> kernels;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (const VectorKernel* k = VectorKernelFor(isa)) kernels.push_back(k);
  }
  return kernels;
}

std::vector<float> ARandom(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(rng.Normal());
  return x;
}

// The order that the header promises, written out.
float DotInOrder(const float* a, const float* b, size_t n) {
  float lane[16];
  for (size_t j = 0; j < 16; ++j) {
    lane[j] = 0;
    for (size_t i = j; i < n; i += 16) lane[j] = std::fma(a[i], b[i], lane[j]);
  }
  const auto four = [&](size_t j) {  // j, j + 4, j + 8, j + 12
    return (lane[j] + lane[j + 8]) + (lane[j + 4] + lane[j + 12]);
  };
  return (four(0) + four(2)) + (four(1) + four(3));
}

TEST(DotFixed, HasTheBitsOfItsOrderOnEveryInstructionSet) {
  for (const size_t n : {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 400,
                         401, 624, 1007}) {
    for (const size_t shift : {0, 1, 3}) {
      const std::vector<float> a = ARandom(n + shift, n + 1);
      const std::vector<float> b = ARandom(n + shift, n + 2);
      const float expected = DotInOrder(a.data() + shift, b.data() + shift, n);
      double exact = 0, size = 0;
      for (size_t i = shift; i < n + shift; ++i) {
        exact += double{a[i]} * b[i];
        size += std::fabs(double{a[i]} * b[i]);
      }
      ASSERT_NEAR(expected, exact, (n / 16 + 6.0) * 0x1p-24 * size);
      for (const VectorKernel* kernel : Kernels()) {
        const float dot = kernel->dot(a.data() + shift, b.data() + shift, n);
        ASSERT_EQ(std::bit_cast<uint32_t>(dot),
                  std::bit_cast<uint32_t>(expected))
            << kernel->name << " " << n;
      }
      ASSERT_EQ(DotFixed(a.data() + shift, b.data() + shift, n), expected);
    }
  }
}

TEST(DotFixed, ATailDoesNotTouchLanesPastIt) {
  // Products that underflow leave -0 in every lane; adding 0 x 0 to the lanes
  // past n would make it +0.
  const std::vector<float> a(17, -1e-30f), b(17, 1e-30f);
  for (const VectorKernel* kernel : Kernels()) {
    EXPECT_TRUE(std::signbit(kernel->dot(a.data(), b.data(), 17)))
        << kernel->name;
  }
}

TEST(SigmoidInPlace, IsTheSigmoidWithinTwoInTenMillion) {
  std::vector<float> x;
  for (float v = -87; v <= 87; v += 0.000977f) x.push_back(v);
  Rng rng(1);
  for (int i = 0; i < 100000; ++i) {
    x.push_back(static_cast<float>(rng.Normal() * 3));
  }
  double worst = 0;
  std::vector<float> p = x;
  SigmoidInPlace(p.data(), p.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = 1 / (1 + std::exp(-double{x[i]}));
    worst = std::max(worst, std::fabs(p[i] / exact - 1));
  }
  EXPECT_LE(worst, 2e-7);
  RecordProperty("worst", std::to_string(worst * 1e9));
}

TEST(SigmoidInPlace, HasTheSameBitsOnEveryInstructionSetAndAtEveryPlace) {
  std::vector<float> x = ARandom(5003, 2);
  for (float& v : x) v *= 20;
  x[0] = 0;
  x[1] = -0.0f;
  std::vector<float> one_by_one = x;
  for (float& v : one_by_one) VectorKernelFor(Isa::kPortable)->sigmoid(&v, 1);
  for (const VectorKernel* kernel : Kernels()) {
    for (const size_t first : {0, 1, 3, 17}) {
      std::vector<float> p = x;
      kernel->sigmoid(p.data(), first);
      kernel->sigmoid(p.data() + first, p.size() - first);
      ASSERT_EQ(memcmp(p.data(), one_by_one.data(), p.size() * 4), 0)
          << kernel->name;
    }
  }
}

TEST(SigmoidInPlace, SaturatesInsideZeroAndOneAndKeepsNan) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-inf, -1e30f, -87, 0, 87, 1e30f, inf, NAN};
  for (const VectorKernel* kernel : Kernels()) {
    std::vector<float> p = x;
    kernel->sigmoid(p.data(), p.size());
    EXPECT_EQ(p[0], p[2]) << kernel->name;
    EXPECT_EQ(p[1], p[2]);
    EXPECT_GT(p[2], 1.6e-38f);
    EXPECT_EQ(p[3], 0.5f);
    EXPECT_EQ(p[4], 1.0f);
    EXPECT_EQ(p[5], 1.0f);
    EXPECT_EQ(p[6], 1.0f);
    EXPECT_TRUE(std::isnan(p[7]));
  }
}

}  // namespace
}  // namespace adrank
