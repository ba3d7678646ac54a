#include "trainer/row_table.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "model/model.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using Optimizer = RowTableOptions::Optimizer;

constexpr Optimizer kAll[] = {Optimizer::kAdagradRow, Optimizer::kAdagrad,
                              Optimizer::kAdam, Optimizer::kAdamLazy};

RowTableOptions OptionsOf(Optimizer optimizer, uint32_t dim = 5) {
  RowTableOptions o;
  o.optimizer = optimizer;
  o.dim = dim;
  o.seed = 3;
  o.initial_std = 0.1f;
  return o;
}

// The formulas, in double, one row.
struct PlainRow {
  PlainRow(const RowTableOptions& options, const float* weights) : o(options) {
    w.assign(weights, weights + o.dim + (o.linear ? 1 : 0));
    average = w;
    m.assign(w.size(), 0);
    v.assign(w.size(), 0);
    sum.assign(w.size(), o.initial_accumulator);
  }
  bool adam() const {
    return o.optimizer == Optimizer::kAdam ||
           o.optimizer == Optimizer::kAdamLazy;
  }
  // `examples` of them name the row in this step; 0: it is not touched.
  void Step(double rate, uint64_t t, std::vector<double> g, uint32_t examples) {
    touched += examples;
    const bool decays =
        examples > 0 || (o.optimizer == Optimizer::kAdam && !o.l2_by_frequency);
    const double share = o.l2_by_frequency && touched > 0 ? 1.0 / touched : 1;
    double mean = 0;
    for (size_t j = 0; j < w.size(); ++j) {
      const bool linear = j == o.dim;
      if (decays) g[j] += (linear ? o.linear_l2 : o.l2) * share * w[j];
      if (!linear) mean += g[j] * g[j] / o.dim;
    }
    if (o.optimizer == Optimizer::kAdagradRow && o.dim > 0) sum[0] += mean;
    for (size_t j = 0; j < w.size(); ++j) {
      if (adam()) {
        const double b1 = 0.9f, b2 = 0.999f;
        m[j] = b1 * m[j] + (1 - b1) * g[j];
        v[j] = b2 * v[j] + (1 - b2) * g[j] * g[j];
        w[j] -= rate * m[j] / (1 - std::pow(b1, t)) /
                (std::sqrt(v[j] / (1 - std::pow(b2, t))) + 1e-8);
      } else if (o.optimizer == Optimizer::kAdagrad || j == o.dim) {
        sum[j] += g[j] * g[j];
        w[j] -= rate * g[j] / (std::sqrt(sum[j]) + 1e-8);
      } else {
        w[j] -= rate * g[j] / (std::sqrt(sum[0]) + 1e-8);
      }
    }
  }
  void Average(double t) {
    const double keep = std::min<double>(o.average_decay, (1 + t) / (10 + t));
    for (size_t j = 0; j < w.size(); ++j) {
      average[j] = keep * average[j] + (1 - keep) * w[j];
    }
  }

  RowTableOptions o;
  std::vector<double> w, average, m, v, sum;
  double touched = 0;
};

// A step of the table in which examples[r] name row r.
void StepTable(RowTable* table, const std::vector<uint32_t>& examples,
               const std::vector<std::vector<float>>& gradients) {
  const bool dense = table->options().optimizer == Optimizer::kAdam;
  for (uint64_t r = 0; r < table->rows(); ++r) {
    if (examples[r] == 0) continue;
    table->CatchUp(r);
    if (dense) {
      table->AddGradient(r, gradients[r].data(), examples[r]);
    } else {
      table->Step(r, gradients[r].data(), examples[r]);
    }
  }
  if (dense) {
    table->Regularize(0, table->rows());
    table->StepAll(0, table->rows(), 1);
  }
}

struct Touches {
  std::vector<uint32_t> examples;             // [rows]
  std::vector<std::vector<float>> gradients;  // [rows][stride]
};

Touches RandomTouches(const RowTable& table, double share, Rng* rng) {
  Touches t;
  for (uint64_t r = 0; r < table.rows(); ++r) {
    // Row r is touched ever less often, the last almost never.
    const bool touched = rng->Bernoulli(share / (1 + static_cast<double>(r)));
    t.examples.push_back(touched ? static_cast<uint32_t>(1 + rng->Below(3))
                                 : 0);
    std::vector<float> g(table.stride());
    const uint32_t n = table.dim() + (table.options().linear ? 1 : 0);
    for (uint32_t j = 0; j < n; ++j) {
      g[j] = static_cast<float>(0.1 * rng->Normal());
    }
    t.gradients.push_back(g);
  }
  return t;
}

double WarmUpThenDecay(int step, int steps) {
  const double at = static_cast<double>(step) / steps;
  return at < 0.2 ? at / 0.2 : 1 - 0.9 * (at - 0.2) / 0.8;
}

void ExpectIsThePlainFormula(const RowTableOptions& options) {
  constexpr int kRows = 7, kSteps = 60;
  RowTable table(options, kRows);
  std::vector<PlainRow> plain;
  for (int r = 0; r < kRows; ++r) plain.emplace_back(options, table.row(r));
  Rng rng(11);
  for (int step = 1; step <= kSteps; ++step) {
    const double factor = WarmUpThenDecay(step, kSteps);
    table.BeginStep(static_cast<float>(factor));
    const Touches t = RandomTouches(table, 1, &rng);
    StepTable(&table, t.examples, t.gradients);
    for (int r = 0; r < kRows; ++r) {
      if (t.examples[r] > 0 || plain[r].adam()) {
        std::vector<double> g(plain[r].w.size());
        if (t.examples[r] > 0) {
          g.assign(t.gradients[r].begin(),
                   t.gradients[r].begin() + static_cast<ptrdiff_t>(g.size()));
        }
        plain[r].Step(options.learning_rate * factor, step, g, t.examples[r]);
      }
      plain[r].Average(step);
    }
  }
  table.Settle(0, kRows);
  for (int r = 0; r < kRows; ++r) {
    for (size_t j = 0; j < plain[r].w.size(); ++j) {
      ASSERT_NEAR(table.row(r)[j], plain[r].w[j], 2e-5) << r << " " << j;
      if (options.average_decay == 0) continue;
      ASSERT_NEAR(table.evaluated(r)[j], plain[r].average[j], 2e-5)
          << r << " " << j;
    }
  }
}

TEST(RowTable, EveryOptimizerIsItsPlainFormula) {
  for (const Optimizer optimizer : kAll) {
    for (const uint32_t dim : {0, 1, 3, 4, 16, 128}) {
      for (const bool linear : {true, false}) {
        if (dim == 0 && !linear) continue;
        RowTableOptions o = OptionsOf(optimizer, dim);
        o.linear = linear;
        ExpectIsThePlainFormula(o);
        o.average_decay = 0.6f;  // from step 12 on; younger before
        ExpectIsThePlainFormula(o);
      }
    }
  }
}

TEST(RowTable, L2IsInTheGradient) {
  for (const Optimizer optimizer : kAll) {
    // Lazy Adam decays in touched rows only, as a plain row that is not
    // touched does here.
    RowTableOptions o = OptionsOf(optimizer);
    o.l2 = 0.3f;
    o.linear_l2 = 0.1f;
    ExpectIsThePlainFormula(o);
  }
}

TEST(RowTable, L2ByFrequencyIsDividedByTheExamplesThatTouchedTheRow) {
  for (const Optimizer optimizer : kAll) {
    RowTableOptions o = OptionsOf(optimizer);
    o.l2 = 0.3f;
    o.linear_l2 = 0.1f;
    o.l2_by_frequency = true;
    ExpectIsThePlainFormula(o);
  }
}

TEST(RowTable, LinearFtrlStepsTheLinearWeightAlone) {
  for (const Optimizer optimizer : kAll) {
    RowTableOptions o = OptionsOf(optimizer);
    RowTable plain(o, 4);
    o.linear_ftrl = true;
    o.ftrl = {10, 1, 0.05f, 0.2f};
    RowTable table(o, 4);
    std::vector<FtrlSlot> slots(4, FtrlSlot{0, 0});
    Rng rng(2);
    for (int step = 1; step < 50; ++step) {
      table.BeginStep(1);
      plain.BeginStep(1);
      const Touches t = RandomTouches(table, 1, &rng);
      StepTable(&table, t.examples, t.gradients);
      StepTable(&plain, t.examples, t.gradients);
      for (int r = 0; r < 4; ++r) {
        if (t.examples[r] > 0) FtrlStep(o.ftrl, t.gradients[r][5], &slots[r]);
      }
    }
    table.Settle(0, 4);
    plain.Settle(0, 4);
    for (int r = 0; r < 4; ++r) {
      EXPECT_EQ(table.row(r)[5], FtrlWeight(o.ftrl, slots[r]));
      for (int d = 0; d < 5; ++d) {
        EXPECT_EQ(table.row(r)[d], plain.row(r)[d]);
      }
    }
  }
}

// With gaps of up to thousands of steps, warm-up, decay and averages.
void ExpectLazyIsAdam(float average_decay, int steps,
                      const std::vector<float>& factors) {
  constexpr int kRows = 40;
  RowTableOptions o = OptionsOf(Optimizer::kAdam, 6);
  o.average_decay = average_decay;
  RowTable adam(o, kRows);
  o.optimizer = Optimizer::kAdamLazy;
  RowTable lazy(o, kRows);
  Rng rng(5);
  for (int step = 0; step < steps; ++step) {
    adam.BeginStep(factors[step]);
    lazy.BeginStep(factors[step]);
    const Touches t = RandomTouches(adam, 0.5, &rng);
    StepTable(&adam, t.examples, t.gradients);
    StepTable(&lazy, t.examples, t.gradients);
    for (int r = 0; r < kRows; ++r) {
      if (t.examples[r] == 0) continue;
      for (int j = 0; j < 7; ++j) {
        ASSERT_NEAR(lazy.row(r)[j], adam.row(r)[j], 2e-6) << step << " " << r;
      }
    }
  }
  lazy.Settle(0, kRows);
  adam.Settle(0, kRows);
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < 7; ++j) {
      ASSERT_NEAR(lazy.row(r)[j], adam.row(r)[j], 2e-6) << r;
      ASSERT_NEAR(lazy.evaluated(r)[j], adam.evaluated(r)[j], 2e-5) << r;
    }
  }
}

TEST(RowTable, LazyAdamIsAdam) {
  constexpr int kSteps = 3000;
  std::vector<float> constant(kSteps, 1.0f), schedule;
  for (int s = 0; s < kSteps; ++s) {
    schedule.push_back(static_cast<float>(WarmUpThenDecay(s, kSteps)));
  }
  for (const float decay : {0.0f, 0.9f, 0.999f}) {
    ExpectLazyIsAdam(decay, kSteps, constant);
    ExpectLazyIsAdam(decay, kSteps, schedule);
  }
}

// The steps that a row missed were given up at the first that moved nothing:
// of a rate of 0, as that at which a warm-up begins.
TEST(RowTable, LazyAdamGoesOnAfterAStepOfRateZero) {
  ExpectLazyIsAdam(0, 40, [] {
    std::vector<float> factors(40, 1.0f);
    for (const int s : {0, 1, 2, 9, 10, 20}) factors[s] = 0;
    return factors;
  }());
}

TEST(RowTable, NewRowsAreANormalSampleOfSeedAndRow) {
  RowTableOptions o = OptionsOf(Optimizer::kAdagrad, 16);
  o.initial_std = 0.5f;
  const RowTable table(o, 2000), again(o, 1000);
  o.seed = 4;
  const RowTable other(o, 1);
  double sum = 0, squares = 0;
  for (int r = 0; r < 2000; ++r) {
    for (int d = 0; d < 16; ++d) {
      sum += table.row(r)[d];
      squares += double{table.row(r)[d]} * table.row(r)[d];
      if (r < 1000) {
        ASSERT_EQ(table.row(r)[d], again.row(r)[d]);
      }
    }
    EXPECT_EQ(table.row(r)[16], 0);  // linear
  }
  EXPECT_NEAR(sum / 32000, 0, 0.01);
  EXPECT_NEAR(std::sqrt(squares / 32000), 0.5, 0.01);
  EXPECT_NE(table.row(0)[0], other.row(0)[0]);
}

// All kinds of state there are.
std::vector<RowTableOptions> AllStates() {
  std::vector<RowTableOptions> all;
  for (const Optimizer optimizer : kAll) {
    all.push_back(OptionsOf(optimizer));
    all.push_back(OptionsOf(optimizer));
    all.back().average_decay = 0.99f;
    all.push_back(all.back());
    all.back().l2_by_frequency = true;
    all.back().l2 = 0.1f;
    all.back().linear_ftrl = true;
  }
  return all;
}

void Learn(RowTable* table, int steps, Rng* rng) {
  for (int s = 0; s < steps; ++s) {
    table->BeginStep(0.7f);
    const Touches t = RandomTouches(*table, 0.8, rng);
    StepTable(table, t.examples, t.gradients);
  }
}

std::string Saved(const RowTable& table) {
  std::string state;
  table.Save(&state);
  return state;
}

TEST(RowTable, RestoredItGoesOnBitForBit) {
  for (const RowTableOptions& o : AllStates()) {
    RowTable table(o, 9), twin(o, 2);
    Rng rng(1), same(1);
    Learn(&table, 20, &rng);
    const std::string middle = Saved(table) + "rest";
    absl::string_view in = middle;
    ASSERT_OK(twin.Restore(&in));
    EXPECT_EQ(in, "rest");
    EXPECT_EQ(twin.rows(), 9);
    EXPECT_EQ(twin.step(), 20);
    same = rng;
    Learn(&table, 20, &rng);
    Learn(&twin, 20, &same);
    table.Settle(0, 9);
    twin.Settle(0, 9);
    EXPECT_TRUE(Saved(table) == Saved(twin));
  }
}

// It used to be left half restored.
TEST(RowTable, AStateCutAnywhereChangesNothing) {
  for (const RowTableOptions& o : AllStates()) {
    RowTable table(o, 3), other(o, 4);
    Rng rng(1);
    Learn(&table, 5, &rng);
    Learn(&other, 8, &rng);
    const std::string state = Saved(table), before = Saved(other);
    for (size_t n = 0; n < state.size(); ++n) {
      absl::string_view in(state.data(), n);
      const absl::Status status = other.Restore(&in);
      ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << n;
      ASSERT_EQ(other.rows(), 4);
      ASSERT_EQ(other.step(), 8);
    }
    EXPECT_TRUE(Saved(other) == before);
    Learn(&other, 1, &rng);  // and it still works
  }
}

TEST(RowTable, AStateWithWildNumbersIsRefused) {
  const RowTableOptions o = OptionsOf(Optimizer::kAdamLazy);
  RowTable table(o, 3);
  Rng rng(1);
  Learn(&table, 5, &rng);
  const std::string good = Saved(table);
  for (size_t word = 0; word < 8; ++word) {
    for (const uint64_t wild :
         {uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
      std::string state = good;
      std::memcpy(&state[word * 8], &wild, 8);
      absl::string_view in = state;
      EXPECT_FALSE(table.Restore(&in).ok()) << word;
    }
  }
  // A row ahead of the table.
  std::string state = good;
  const uint32_t ahead = 6;
  std::memcpy(&state[state.size() - 4], &ahead, 4);
  absl::string_view in = state;
  EXPECT_THAT(table.Restore(&in),
              StatusIs(absl::StatusCode::kDataLoss,
                       ::testing::HasSubstr("row 2 has reached step 6 of 5")));
  EXPECT_TRUE(Saved(table) == good);
}

TEST(RowTable, AnotherKindOfTableIsRefused) {
  const std::vector<RowTableOptions> all = AllStates();
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string state = Saved(RowTable(all[i], 3));
    for (size_t j = 0; j < all.size(); ++j) {
      RowTable table(all[j], 2);
      absl::string_view in = state;
      EXPECT_EQ(table.Restore(&in).code(),
                i == j ? absl::StatusCode::kOk
                       : absl::StatusCode::kFailedPrecondition);
    }
  }
}

TEST(RowTable, RemapMovesARowWithItsState) {
  for (const RowTableOptions& o : AllStates()) {
    RowTable table(o, 6), moved(o, 6);
    Rng rng(1), same(1);
    Learn(&table, 10, &rng);
    Learn(&moved, 10, &same);
    const std::vector<uint32_t> source = {5, kNoRow, 0, 0, 2};
    moved.Remap(source);
    ASSERT_EQ(moved.rows(), 5);
    const RowTable fresh(o, 5);
    for (size_t j = 0; j < table.stride(); ++j) {
      EXPECT_EQ(moved.row(1)[j], fresh.row(1)[j]);
      EXPECT_EQ(moved.evaluated(1)[j], fresh.row(1)[j]);
    }
    // Both go on from where they were.
    std::vector<std::vector<float>> g(6, std::vector<float>(table.stride()));
    for (int j = 0; j < 6; ++j) g[5][j] = g[0][j] = g[2][j] = 0.01f * (j + 1);
    table.BeginStep(1);
    moved.BeginStep(1);
    StepTable(&table, {1, 0, 1, 0, 0, 1}, g);
    StepTable(&moved, {1, 0, 1, 1, 1}, {g[5], g[1], g[0], g[0], g[2]});
    table.Settle(0, 6);
    moved.Settle(0, 5);
    for (const size_t r : {0, 2, 3, 4}) {
      for (size_t j = 0; j < table.stride(); ++j) {
        EXPECT_EQ(moved.row(r)[j], table.row(source[r])[j]);
        EXPECT_EQ(moved.evaluated(r)[j], table.evaluated(source[r])[j]);
      }
    }
  }
}

TEST(RowTable, TheFirstRowThatIsNotFiniteIsFound) {
  for (const Optimizer optimizer : kAll) {
    RowTable table(OptionsOf(optimizer), 6);
    EXPECT_EQ(table.FirstNotFinite(), 6);
    std::vector<float> g(table.stride());
    g[2] = std::numeric_limits<float>::quiet_NaN();
    table.BeginStep(1);
    StepTable(&table, {0, 0, 0, 0, 1, 0}, {g, g, g, g, g, g});
    EXPECT_EQ(table.FirstNotFinite(), 4);
  }
}

}  // namespace
}  // namespace adrank
