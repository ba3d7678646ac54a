#include "trainer/fm_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "gtest/gtest.h"

namespace adrank {
namespace {

constexpr FmOptimizer kOptimizers[] = {
    FmOptimizer::kRowAdagrad, FmOptimizer::kAdagrad, FmOptimizer::kFtrl};
constexpr uint32_t kRows = 997;

FmScale AScale(FmOptimizer optimizer, uint32_t dim) {
  FmScale s;
  s.linear = {20.0f, 1.0f, 0.3f, 0.5f};
  s.vector_ftrl = {10.0f, 0.7f, 0.02f, 0.4f};
  s.optimizer = optimizer;
  s.dim = dim;
  s.stride = FmStride(optimizer, dim);
  s.lr = 0.1f;
  s.eps = 0.7f;
  s.initial_accumulator = optimizer == FmOptimizer::kFtrl ? 0.0f : 0.2f;
  s.l2 = 0.01f;
  s.init_std = 0.2f;
  s.seed = 7;
  return s;
}

struct Input {
  FmScale scale;
  std::vector<float> table;
  std::vector<uint32_t> rows;
  std::vector<float> values;
  std::vector<uint32_t> offsets = {0};
  std::vector<float> deltas;
  std::vector<float> s;  // [examples, dim]
  size_t examples() const { return deltas.size(); }
};

// Examples of 0 to `max_width` entries; distinct rows in each where asked. A
// third of the rows have been learnt from.
Input AnInput(const FmScale& scale, size_t max_width, bool distinct) {
  Rng rng(max_width + scale.dim);
  Input in;
  in.scale = scale;
  in.table.resize(size_t{kRows} * scale.stride);
  for (uint32_t r = 0; r < kRows; r += 3) {
    float* state = in.table.data() + size_t{r} * scale.stride;
    FmBegin(scale, r, state);
    state[0] = static_cast<float>(rng.Normal());
    state[1] = static_cast<float>(rng.Exponential());
  }
  for (size_t i = 0; i < 23; ++i) {
    const size_t width = rng.Below(max_width + 1);
    uint32_t row = static_cast<uint32_t>(rng.Below(kRows));
    for (size_t e = 0; e < width; ++e) {
      in.rows.push_back(row);
      // 997 is prime and max_width below it: these are distinct.
      row = distinct ? (row + 31) % kRows : static_cast<uint32_t>(rng.Below(5));
      in.values.push_back(static_cast<float>(rng.Normal()));
    }
    in.offsets.push_back(static_cast<uint32_t>(in.rows.size()));
    in.deltas.push_back(i == 3 ? 0.0f
                               : static_cast<float>(rng.Uniform() - 0.5));
    for (uint32_t j = 0; j < scale.dim; ++j) {
      in.s.push_back(static_cast<float>(rng.Normal()));
    }
  }
  return in;
}

std::vector<Input> AllInputs() {
  std::vector<Input> inputs;
  for (const FmOptimizer optimizer : kOptimizers) {
    for (const uint32_t dim : {4, 8, 12, 16, 20, 64}) {
      for (const size_t width : {0, 1, 3, 15, 16, 17, 33, 39, 100}) {
        for (const bool distinct : {true, false}) {
          inputs.push_back(AnInput(AScale(optimizer, dim), width, distinct));
        }
      }
    }
  }
  return inputs;
}

bool Distinct(const Input& in) {
  for (size_t i = 0; i < in.examples(); ++i) {
    std::vector<uint32_t> rows(in.rows.begin() + in.offsets[i],
                               in.rows.begin() + in.offsets[i + 1]);
    std::sort(rows.begin(), rows.end());
    if (std::adjacent_find(rows.begin(), rows.end()) != rows.end()) {
      return false;
    }
  }
  return true;
}

std::vector<const FmKernel*> Kernels() {
  std::vector<const FmKernel*> kernels;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (const FmKernel* k = FmKernelFor(isa)) kernels.push_back(k);
  }
  return kernels;
}

std::string Describe(const Input& in, const FmKernel* kernel) {
  return absl::StrCat(kernel->name, " dim ", in.scale.dim, " optimizer ",
                      static_cast<int>(in.scale.optimizer), " entries ",
                      in.rows.size());
}

int64_t Units(float x, float limit) {
  return std::llrint(std::clamp(x, -limit, limit) / kLogitUnit);
}

TEST(FmKernel, SumsOfAllInstructionSetsAreTheFormula) {
  for (const Input& in : AllInputs()) {
    const uint32_t dim = in.scale.dim;
    for (const bool with_values : {false, true}) {
      for (const FmKernel* kernel : Kernels()) {
        std::vector<float> table = in.table;
        std::vector<int64_t> sums(in.examples() * (dim + 1), -1);
        kernel->sums(table.data(), in.scale, in.rows.data(),
                     with_values ? in.values.data() : nullptr,
                     in.offsets.data(), in.examples(), sums.data());
        for (size_t i = 0; i < in.examples(); ++i) {
          std::vector<int64_t> expected(dim + 1);
          for (size_t e = in.offsets[i]; e < in.offsets[i + 1]; ++e) {
            const float* state =
                table.data() + size_t{in.rows[e]} * in.scale.stride;
            const float x = with_values ? in.values[e] : 1.0f;
            const float w = FtrlWeight(in.scale.linear, {state[0], state[1]});
            expected[dim] += 2 * Units(w * x, 0x1p20f);
            for (uint32_t j = 0; j < dim; ++j) {
              const float vx = FmVector(in.scale, state, j) * x;
              expected[j] += Units(vx, 1024);
              expected[dim] -= Units(vx * vx, 0x1p20f);
            }
          }
          for (uint32_t j = 0; j <= dim; ++j) {
            ASSERT_EQ(sums[i * (dim + 1) + j], expected[j])
                << Describe(in, kernel) << " at " << j;
          }
        }
      }
    }
  }
}

// One entry by the formulas, in double where the kernel has float.
void StepByFormula(const FmScale& s, float delta, float x, const float* sum,
                   float* state) {
  FtrlSlot slot = {state[0], state[1]};
  FtrlStep(s.linear, delta * x, &slot);
  state[0] = slot.z;
  state[1] = slot.n;
  float* v = state + 4;
  double square = 0;
  std::vector<double> g(s.dim);
  for (uint32_t j = 0; j < s.dim; ++j) {
    const double current = FmVector(s, state, j);
    g[j] = delta * x * (sum[j] - current * x);
    if (s.optimizer != FmOptimizer::kFtrl) g[j] += s.l2 * current;
    square += g[j] * g[j];
  }
  if (s.optimizer == FmOptimizer::kRowAdagrad) {
    state[2] = static_cast<float>(state[2] + square / s.dim);
  }
  for (uint32_t j = 0; j < s.dim; ++j) {
    float& accumulator =
        s.optimizer == FmOptimizer::kRowAdagrad ? state[2] : v[s.dim + j];
    if (s.optimizer == FmOptimizer::kFtrl) {
      FtrlSlot coordinate = {v[j], accumulator};
      FtrlStep(s.vector_ftrl, static_cast<float>(g[j]), &coordinate);
      v[j] = coordinate.z;
      accumulator = coordinate.n;
      continue;
    }
    if (s.optimizer == FmOptimizer::kAdagrad) {
      accumulator = static_cast<float>(accumulator + g[j] * g[j]);
    }
    v[j] = static_cast<float>(
        v[j] - s.lr * g[j] / (std::sqrt(double{accumulator}) + s.eps));
  }
}

TEST(FmKernel, UpdatesAreTheStepsInOrderAndTheSameOnAllInstructionSets) {
  for (Input& in : AllInputs()) {
    // Every row has been through `sums`.
    for (const uint32_t row : in.rows) {
      float* state = in.table.data() + size_t{row} * in.scale.stride;
      if (reinterpret_cast<FmHead*>(state)->learnt == 0) {
        FmBegin(in.scale, row, state);
      }
    }
    for (const bool with_values : {false, true}) {
      std::vector<float> expected = in.table;
      for (size_t i = 0; i < in.examples(); ++i) {
        if (in.deltas[i] == 0) continue;
        for (size_t e = in.offsets[i]; e < in.offsets[i + 1]; ++e) {
          StepByFormula(in.scale, in.deltas[i],
                        with_values ? in.values[e] : 1.0f,
                        in.s.data() + i * in.scale.dim,
                        expected.data() + size_t{in.rows[e]} * in.scale.stride);
        }
      }
      std::vector<float> first;
      for (const FmKernel* kernel : Kernels()) {
        std::vector<float> table = in.table;
        kernel->update(table.data(), in.scale, in.rows.data(),
                       with_values ? in.values.data() : nullptr,
                       in.offsets.data(), in.deltas.data(), in.s.data(),
                       in.examples(), Distinct(in));
        if (first.empty()) first = table;
        ASSERT_EQ(memcmp(table.data(), first.data(), table.size() * 4), 0)
            << Describe(in, kernel);
        for (size_t i = 0; i < table.size(); ++i) {
          if (i % in.scale.stride == 3) continue;  // `learnt`, no float
          ASSERT_NEAR(table[i], expected[i],
                      1e-5 * (1 + std::fabs(expected[i])))
              << Describe(in, kernel) << " float " << i % in.scale.stride;
        }
      }
    }
  }
}

TEST(FmKernel, DistinctOrNotGivesTheSameBits) {
  for (const FmOptimizer optimizer : kOptimizers) {
    const Input in = AnInput(AScale(optimizer, 8), 39, true);
    for (const FmKernel* kernel : Kernels()) {
      std::vector<float> tables[2] = {in.table, in.table};
      std::vector<int64_t> sums(in.examples() * 9);
      for (const bool distinct : {false, true}) {
        float* table = tables[distinct].data();
        kernel->sums(table, in.scale, in.rows.data(), in.values.data(),
                     in.offsets.data(), in.examples(), sums.data());
        kernel->update(table, in.scale, in.rows.data(), in.values.data(),
                       in.offsets.data(), in.deltas.data(), in.s.data(),
                       in.examples(), distinct);
      }
      EXPECT_EQ(
          memcmp(tables[0].data(), tables[1].data(), tables[0].size() * 4), 0)
          << Describe(in, kernel);
    }
  }
}

TEST(FmKernel, HugeTermsAreCutAndNanIsAFiniteSum) {
  const FmScale s = AScale(FmOptimizer::kRowAdagrad, 8);
  for (const float bad : {1e30f, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> table(s.stride);
    FmBegin(s, 0, table.data());
    for (int j = 0; j < 8; ++j) table[4 + j] = bad;
    const uint32_t rows[2] = {0, 0};
    const uint32_t offsets[2] = {0, 2};
    for (const FmKernel* kernel : Kernels()) {
      int64_t sums[9];
      kernel->sums(table.data(), s, rows, nullptr, offsets, 1, sums);
      for (int j = 0; j < 8; ++j) {
        EXPECT_EQ(std::fabs(static_cast<double>(sums[j]) * kLogitUnit), 2048)
            << kernel->name;
      }
      EXPECT_EQ(static_cast<double>(sums[8]) * kLogitUnit, -0x1p24);
    }
  }
}

TEST(FmKernel, InitialVectorsHaveTheDeviationAskedForAndDependOnSeedAndRow) {
  for (const FmOptimizer optimizer : kOptimizers) {
    const FmScale s = AScale(optimizer, 8);
    FmScale other = s;
    other.seed = 8;
    double sum = 0, squares = 0;
    int same = 0;
    std::vector<float> a(s.stride), b(s.stride), c(s.stride);
    constexpr int kTrials = 20000;
    for (uint32_t r = 0; r < kTrials; ++r) {
      FmBegin(s, r, a.data());
      FmBegin(other, r, b.data());
      FmBegin(s, r + 1, c.data());
      for (uint32_t j = 0; j < 8; ++j) {
        const double v = FmVector(s, a.data(), j);
        sum += v;
        squares += v * v;
        same += v == FmVector(s, b.data(), j) ? 1 : 0;
        same += v == FmVector(s, c.data(), j) ? 1 : 0;
      }
    }
    EXPECT_NEAR(sum / (8 * kTrials), 0, 0.002);
    EXPECT_NEAR(std::sqrt(squares / (8 * kTrials)), 0.2, 0.002);
    EXPECT_LT(same, 40);
  }
}

TEST(FmKernel, InitialVectorsAreFrozen) {
  const FmScale s = AScale(FmOptimizer::kAdagrad, 4);
  std::vector<float> state(s.stride);
  FmBegin(s, 12345, state.data());
  // Made by this code when it was first written.
  const float golden[4] = {0.165128f, -0.0550516f, 0.255468f, -0.0364086f};
  for (int j = 0; j < 4; ++j) EXPECT_NEAR(state[4 + j], golden[j], 1e-6);
}

TEST(FmKernel, FtrlWithoutL1IsAdagradWithItsBetaAndL2AddedToTheRoot) {
  // The reason why kFtrl differs from kAdagrad by its l1 alone.
  FmScale f = AScale(FmOptimizer::kFtrl, 4),
          a = AScale(FmOptimizer::kAdagrad, 4);
  f.vector_ftrl = {10.0f, 0.7f, 0, 3.0f};
  a.lr = 0.1f;
  a.eps = 0.7f + 0.1f * 3.0f;
  a.l2 = a.initial_accumulator = 0;
  std::vector<float> x(f.stride), y(a.stride);
  FmBegin(f, 0, x.data());
  FmBegin(a, 0, y.data());
  const uint32_t rows[1] = {0}, offsets[2] = {0, 1};
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    const float delta = static_cast<float>(rng.Uniform() - 0.5);
    float s[4];
    for (float& sum : s) sum = static_cast<float>(rng.Normal());
    const FmKernel& kernel = BestFmKernel();
    kernel.update(x.data(), f, rows, nullptr, offsets, &delta, s, 1, true);
    kernel.update(y.data(), a, rows, nullptr, offsets, &delta, s, 1, true);
    for (uint32_t j = 0; j < 4; ++j) {
      ASSERT_NEAR(FmVector(f, x.data(), j), FmVector(a, y.data(), j), 1e-5);
    }
  }
}

TEST(FmKernel, AStateTakesWholeLines) {
  EXPECT_EQ(FmStride(FmOptimizer::kRowAdagrad, 4), 8);
  EXPECT_EQ(FmStride(FmOptimizer::kRowAdagrad, 8), 16);
  EXPECT_EQ(FmStride(FmOptimizer::kRowAdagrad, 16), 32);
  EXPECT_EQ(FmStride(FmOptimizer::kAdagrad, 4), 16);
  EXPECT_EQ(FmStride(FmOptimizer::kAdagrad, 8), 32);
  EXPECT_EQ(FmStride(FmOptimizer::kFtrl, 16), 48);
}

}  // namespace
}  // namespace adrank
