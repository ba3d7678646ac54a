#include <cmath>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "tests/testing/graph_specs.h"
#include "trainer/graph_trainer.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::GraphOf;

// A layer with dropout whose output is the constant `b`, seen through the head:
// unit j's weight is 1, the others' 0.
class Dropped {
 public:
  static constexpr uint32_t kUnits = 24;

  Dropped(float rate, bool relu, uint64_t seed, uint32_t threads = 1,
          size_t rows = 200, float b = 0.5f)
      : team_(threads), rows_(rows) {
    v1::ModelGraph spec = GraphOf("dim: 1 streams { layers { units: 24 } }");
    v1::Layer& layer = *spec.mutable_streams(0)->mutable_layers(0);
    layer.set_dropout(rate);
    if (!relu) layer.set_activation(v1::Layer::NONE);
    auto graph = Graph::Create(spec, ALayout(), true);
    CHECK(graph.ok()) << graph.status();
    trainer_ = std::make_unique<GraphTrainer>(
        *graph, GraphTrainer::Options{.seed = seed}, &team_);
    trainer_->Resize(rows);
    std::fill_n(trainer_->input(), rows * graph->input_width(), 0.0f);
    std::fill_n(trainer_->linear(), rows, 0.0f);
    std::fill_n(At("layers[0].b"), kUnits, b);
  }

  float* At(const std::string& name) {
    for (const Tensor& t : trainer_->graph().tensors) {
      if (t.name == "streams[0]." + name) {
        return trainer_->parameters().data() + t.offset;
      }
    }
    CHECK(false) << name;
    return nullptr;
  }
  const float* GradientOf(const std::string& name) {
    return trainer_->gradients().data() +
           (At(name) - trainer_->parameters().data());
  }

  // [rows][units] what comes out in training.
  std::vector<float> Out(uint64_t step) {
    std::vector<float> out(rows_ * kUnits);
    for (uint32_t j = 0; j < kUnits; ++j) {
      std::fill_n(At("head.w"), kUnits, 0.0f);
      At("head.w")[j] = 1;
      trainer_->ParametersChanged();
      trainer_->Forward(true, step);
      for (size_t r = 0; r < rows_; ++r) {
        out[r * kUnits + j] = trainer_->logits()[r];
      }
    }
    return out;
  }

  ThreadTeam team_;
  size_t rows_;
  std::unique_ptr<GraphTrainer> trainer_;
};

TEST(Dropout, KeepsTheShareItSaysAndScalesItUp) {
  for (const float rate : {0.1f, 0.5f, 0.9f}) {
    Dropped d(rate, true, 1);
    size_t dropped = 0;
    const std::vector<float> out = d.Out(7);
    for (const float x : out) {
      if (x == 0) {
        ++dropped;
      } else {
        EXPECT_FLOAT_EQ(x, 0.5f / (1 - rate));
      }
    }
    const double n = static_cast<double>(out.size());
    EXPECT_NEAR(dropped / n, rate, 4 * std::sqrt(rate * (1 - rate) / n));
  }
}

TEST(Dropout, IsAnotherForEveryStepSeedRowAndUnit) {
  Dropped d(0.5f, true, 1), other(0.5f, true, 2);
  const std::vector<float> one = d.Out(1);
  EXPECT_EQ(one, d.Out(1));
  const auto differing = [&](const std::vector<float>& x) {
    size_t n = 0;
    for (size_t i = 0; i < x.size(); ++i) n += x[i] != one[i];
    return n / static_cast<double>(x.size());
  };
  EXPECT_NEAR(differing(d.Out(2)), 0.5, 0.05);
  EXPECT_NEAR(differing(other.Out(1)), 0.5, 0.05);
  std::set<std::vector<float>> rows, columns;
  for (size_t r = 0; r < d.rows_; ++r) {
    rows.emplace(one.begin() + r * Dropped::kUnits,
                 one.begin() + (r + 1) * Dropped::kUnits);
  }
  for (uint32_t j = 0; j < Dropped::kUnits; ++j) {
    std::vector<float> column;
    for (size_t r = 0; r < d.rows_; ++r) {
      column.push_back(one[r * Dropped::kUnits + j]);
    }
    columns.insert(column);
  }
  EXPECT_EQ(rows.size(), d.rows_);
  EXPECT_EQ(columns.size(), Dropped::kUnits);
}

TEST(Dropout, IsTheSameForAnyNumberOfThreads) {
  Dropped one(0.3f, true, 1, 1), three(0.3f, true, 1, 3);
  EXPECT_EQ(one.Out(4), three.Out(4));
}

// Also where a kept output is 0 by itself, as that of an example without
// fields at first: its gradient was lost.
TEST(Dropout, TheGradientPassesWhereTheOutputDid) {
  for (const bool relu : {true, false}) {
    for (const float b : {0.5f, 0.0f}) {
      if (relu && b == 0) continue;  // the slope of ReLU at 0 is 0
      Dropped d(0.4f, relu, 3, 2, 200, b);
      Dropped mask(0.4f, relu, 3);
      const std::vector<float> out = mask.Out(9);
      std::fill_n(d.At("head.w"), Dropped::kUnits, 2.0f);
      d.trainer_->ParametersChanged();
      d.trainer_->Forward(true, 9);
      for (size_t r = 0; r < d.rows_; ++r) {
        d.trainer_->shared_deltas()[r] = d.trainer_->output_deltas(0)[r] =
            0.01f * static_cast<float>(r % 7);
      }
      d.trainer_->Backward();
      for (uint32_t j = 0; j < Dropped::kUnits; ++j) {
        double expected = 0;
        for (size_t r = 0; r < d.rows_; ++r) {
          if (out[r * Dropped::kUnits + j] == 0) continue;
          expected += 0.01 * (r % 7) * 2 / (1 - 0.4);
        }
        EXPECT_NEAR(d.GradientOf("layers[0].b")[j], expected, 1e-4 * expected);
      }
    }
  }
}

}  // namespace
}  // namespace adrank
