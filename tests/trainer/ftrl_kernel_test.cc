#include "trainer/ftrl_kernel.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

constexpr FtrlScale kScale = {20.0f, 1.0f, 0.3f, 0.5f};

struct Input {
  std::vector<FtrlSlot> table;
  std::vector<uint32_t> rows;
  std::vector<float> values;
  std::vector<uint32_t> offsets = {0};
  std::vector<float> deltas;
  size_t examples() const { return deltas.size(); }
};

// Examples of 0 to `max_width` entries; distinct rows in each where asked.
Input AnInput(size_t examples, size_t max_width, bool distinct, uint64_t seed) {
  Rng rng(seed);
  Input in;
  in.table.resize(997);
  for (FtrlSlot& slot : in.table) {
    slot.z = static_cast<float>(rng.Normal());
    slot.n = static_cast<float>(rng.Exponential());
    if (rng.Bernoulli(0.2)) slot = {0, 0};
  }
  for (size_t i = 0; i < examples; ++i) {
    const size_t width = rng.Below(max_width + 1);
    uint32_t row = static_cast<uint32_t>(rng.Below(997));
    for (size_t e = 0; e < width; ++e) {
      in.rows.push_back(row);
      // 997 is prime and max_width below it: these are distinct.
      row = distinct ? (row + 31) % 997 : static_cast<uint32_t>(rng.Below(5));
      in.values.push_back(static_cast<float>(rng.Normal()));
    }
    in.offsets.push_back(static_cast<uint32_t>(in.rows.size()));
    in.deltas.push_back(static_cast<float>(rng.Uniform() - 0.5));
  }
  return in;
}

std::vector<const FtrlKernel*> Kernels() {
  std::vector<const FtrlKernel*> kernels;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (const FtrlKernel* k = FtrlKernelFor(isa)) kernels.push_back(k);
  }
  return kernels;
}

// Algorithm 1 in double, for one coordinate.
struct Reference {
  double z, n;
  double Weight(double alpha, double beta, double l1, double l2) const {
    if (std::fabs(z) <= l1) return 0;
    const double sign = z < 0 ? -1 : 1;
    return -(z - sign * l1) / ((beta + std::sqrt(n)) / alpha + l2);
  }
  void Step(double g, double alpha, double beta, double l1, double l2) {
    const double sigma = (std::sqrt(n + g * g) - std::sqrt(n)) / alpha;
    z += g - sigma * Weight(alpha, beta, l1, l2);
    n += g * g;
  }
};

TEST(FtrlKernel, StepIsAlgorithmOne) {
  Rng rng(1);
  for (int trial = 0; trial < 10000; ++trial) {
    FtrlSlot slot = {static_cast<float>(rng.Normal() * 3),
                     static_cast<float>(rng.Exponential() * 5)};
    Reference reference = {slot.z, slot.n};
    const auto g = static_cast<float>(rng.Normal());
    const double alpha = 1.0 / 20;
    ASSERT_NEAR(FtrlWeight(kScale, slot), reference.Weight(alpha, 1, 0.3f, 0.5),
                1e-6);
    FtrlStep(kScale, g, &slot);
    reference.Step(g, alpha, 1, 0.3f, 0.5);
    ASSERT_NEAR(slot.z, reference.z, 2e-5);
    ASSERT_NEAR(slot.n, reference.n, 1e-5);
  }
}

TEST(FtrlKernel, WeightIsZeroUpToL1AndPointsAgainstZ) {
  for (const float z : {-0.3f, -0.1f, 0.0f, 0.1f, 0.3f}) {
    EXPECT_EQ(FtrlWeight(kScale, {z, 2}), 0.0f);
  }
  // -(2 - .3) / ((1 + sqrt 2) 20 + .5)
  EXPECT_NEAR(FtrlWeight(kScale, {2, 2}), -1.7 / (2.41421356 * 20 + 0.5), 1e-8);
  EXPECT_NEAR(FtrlWeight(kScale, {-2, 2}), 1.7 / (2.41421356 * 20 + 0.5), 1e-8);
}

TEST(FtrlKernel, AbsoluteWeightFallsAsL1Grows) {
  Rng rng(2);
  for (int trial = 0; trial < 2000; ++trial) {
    const FtrlSlot slot = {static_cast<float>(rng.Normal() * 3),
                           static_cast<float>(rng.Exponential())};
    float before = INFINITY;
    for (float l1 = 0; l1 < 8; l1 += 0.25f) {
      FtrlScale scale = kScale;
      scale.l1 = l1;
      const float w = std::fabs(FtrlWeight(scale, slot));
      ASSERT_LE(w, before);
      ASSERT_TRUE(w == 0 || w < before);
      before = w;
    }
  }
}

TEST(FtrlKernel, LogitsOfAllInstructionSetsAreTheRoundedSums) {
  for (const size_t width : {0, 1, 3, 7, 15, 16, 17, 31, 33, 39, 64, 100}) {
    for (const bool with_values : {false, true}) {
      const Input in = AnInput(37, width, true, width);
      for (const FtrlKernel* kernel : Kernels()) {
        std::vector<int64_t> sums(in.examples(), -1);
        kernel->logits(in.table.data(), kScale, in.rows.data(),
                       with_values ? in.values.data() : nullptr,
                       in.offsets.data(), in.examples(), sums.data());
        for (size_t i = 0; i < in.examples(); ++i) {
          int64_t sum = 0;
          for (size_t e = in.offsets[i]; e < in.offsets[i + 1]; ++e) {
            float x = FtrlWeight(kScale, in.table[in.rows[e]]);
            if (with_values) x *= in.values[e];
            sum += std::llrint(static_cast<double>(x) / kLogitUnit);
          }
          ASSERT_EQ(sums[i], sum) << kernel->name << " width " << width;
        }
      }
    }
  }
}

TEST(FtrlKernel, HugeProductsAreCutNotWrapped) {
  const FtrlSlot table[1] = {{-1e30f, 1}};
  const uint32_t rows[2] = {0, 0};
  const uint32_t offsets[2] = {0, 2};
  for (const FtrlKernel* kernel : Kernels()) {
    int64_t sum = 0;
    kernel->logits(table, kScale, rows, nullptr, offsets, 1, &sum);
    EXPECT_EQ(static_cast<double>(sum) * kLogitUnit, 0x1p21) << kernel->name;
  }
}

TEST(FtrlKernel, UpdatesOfAllInstructionSetsAreTheStepsInOrder) {
  for (const bool distinct : {true, false}) {
    for (const size_t width : {0, 1, 3, 15, 16, 17, 33, 39, 100}) {
      for (const bool with_values : {false, true}) {
        const Input in = AnInput(41, width, distinct, width);
        std::vector<FtrlSlot> expected = in.table;
        for (size_t i = 0; i < in.examples(); ++i) {
          for (size_t e = in.offsets[i]; e < in.offsets[i + 1]; ++e) {
            const float x = with_values ? in.values[e] : 1.0f;
            FtrlStep(kScale, in.deltas[i] * x, &expected[in.rows[e]]);
          }
        }
        for (const FtrlKernel* kernel : Kernels()) {
          std::vector<FtrlSlot> table = in.table;
          kernel->update(table.data(), kScale, in.rows.data(),
                         with_values ? in.values.data() : nullptr,
                         in.offsets.data(), in.deltas.data(), in.examples(),
                         distinct);
          ASSERT_EQ(memcmp(table.data(), expected.data(),
                           table.size() * sizeof(FtrlSlot)),
                    0)
              << kernel->name << " width " << width;
        }
      }
    }
  }
}

TEST(FtrlKernel, SigmoidIsAccurateAndTheSameOnAllInstructionSets) {
  std::vector<int64_t> sums = {0, 1, -1};
  Rng rng(3);
  for (int i = 0; i < 5000; ++i) {
    sums.push_back(std::llrint(rng.Normal() * 8 / kLogitUnit));
  }
  sums.push_back(int64_t{1} << 60);
  sums.push_back(-(int64_t{1} << 60));
  std::vector<double> first;
  for (const FtrlKernel* kernel : Kernels()) {
    std::vector<double> p(sums.size());
    kernel->sigmoid(sums.data(), sums.size(), p.data());
    for (size_t i = 0; i < sums.size(); ++i) {
      const long double x = std::fmax(
          std::fmin(static_cast<double>(sums[i]) * kLogitUnit, 40.0), -40.0);
      const long double exact = 1 / (1 + std::exp(-x));
      ASSERT_NEAR(static_cast<double>(p[i] / exact), 1.0, 6e-16)
          << kernel->name << " at " << static_cast<double>(x);
    }
    if (first.empty()) first = p;
    ASSERT_EQ(memcmp(p.data(), first.data(), p.size() * 8), 0) << kernel->name;
  }
}

TEST(FtrlKernel, PickGivesEveryEntryToOneOwnerInOrder) {
  Rng rng(4);
  for (const size_t n : {0, 1, 5, 15, 16, 17, 39, 100}) {
    std::vector<uint32_t> rows(n);
    std::vector<float> values(n);
    for (size_t e = 0; e < n; ++e) {
      rows[e] = static_cast<uint32_t>(rng());
      values[e] = static_cast<float>(e);
    }
    for (const FtrlKernel* kernel : Kernels()) {
      size_t total = 0;
      for (uint64_t t = 0; t < 3; ++t) {
        const uint64_t low = (t << 32) / 3, high = ((t + 1) << 32) / 3;
        std::vector<uint32_t> out(n + 16);
        std::vector<float> out_values(n + 16);
        const size_t k = kernel->pick(
            rows.data(), values.data(), n, static_cast<uint32_t>(low),
            static_cast<uint32_t>(high - low), out.data(), out_values.data());
        size_t expected = 0;
        for (size_t e = 0; e < n; ++e) {
          const uint64_t h = FtrlOwnerHash(rows[e]);
          if (h < low || h >= high) continue;
          ASSERT_EQ(out[expected], rows[e]) << kernel->name;
          ASSERT_EQ(out_values[expected], values[e]) << kernel->name;
          ++expected;
        }
        ASSERT_EQ(k, expected) << kernel->name;
        total += k;
      }
      ASSERT_EQ(total, n);
    }
  }
}

}  // namespace
}  // namespace adrank
