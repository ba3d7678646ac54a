#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/rng.h"
#include "gmock/gmock.h"
#include "tests/testing/graph_specs.h"
#include "tests/testing/reference_graph.h"
#include "tests/testing/status_matchers.h"
#include "trainer/graph_trainer.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::GraphOf;
using ::adrank::testing::Graphs;
using ::adrank::testing::NamedGraph;
using ::adrank::testing::PooledBatch;
using ::adrank::testing::ReferenceGraph;
using ::adrank::testing::Vec;

double Softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
}
double Logistic(double x) { return 1 / (1 + std::exp(-x)); }

// A graph with random parameters and a random batch, once for the trainer and
// once for the reference.
class Twins {
 public:
  Twins(const v1::ModelGraph& spec, size_t rows, uint32_t threads,
        const FieldLayout& layout = ALayout(), uint64_t seed = 1)
      : reference(spec, layout), team(threads) {
    auto graph = Graph::Create(spec, layout, true);
    CHECK(graph.ok()) << graph.status();
    trainer = std::make_unique<GraphTrainer>(
        *graph, GraphTrainer::Options{.seed = 5}, &team);
    Rng rng(seed);
    for (const Tensor& t : graph->tensors) {
      const double spread = t.product || t.cols == 1 ? 0.6 : 0.4;
      for (size_t i = 0; i < t.size(); ++i) {
        float& p = trainer->parameters()[t.offset + i];
        p = static_cast<float>(spread * rng.Normal());
        if (absl::StrContains(t.name, "variance")) p = 0.5f + std::fabs(p);
        if (absl::StrContains(t.name, "scale")) p += 1;
      }
    }
    trainer->ParametersChanged();
    reference.Take(*graph, trainer->parameters());
    trainer->Resize(rows);
    batch.x.assign(rows, Vec(reference.width));
    const auto number = [&](double spread, float* to) {
      *to = static_cast<float>(spread * rng.Normal());
      return double{*to};
    };
    for (size_t r = 0; r < rows; ++r) {
      for (size_t j = 0; j < reference.width; ++j) {
        batch.x[r][j] = number(0.7, trainer->input() + r * reference.width + j);
      }
      batch.linear.push_back(number(0.5, trainer->linear() + r));
      batch.square.push_back(number(0.5, trainer->square() + r));
      labels.push_back(rng.Bernoulli(0.4) ? 1 : 0);
    }
  }

  // The mean log loss; with distillation also each stream's against `targets`.
  double Loss(const Vec& targets) const {
    const auto result = reference.Run(batch, ReferenceGraph::Form::kTraining);
    double sum = 0;
    for (size_t r = 0; r < labels.size(); ++r) {
      sum += Softplus(result.logits[r]) - labels[r] * result.logits[r];
      if (targets.empty()) continue;
      for (const Vec& out : result.outputs) {
        const double z = result.shared[r] + out[r];
        sum += Softplus(z) - targets[r] * z;
      }
    }
    return sum / static_cast<double>(labels.size());
  }
  Vec Probabilities() const {
    Vec p;
    for (const double z :
         reference.Run(batch, ReferenceGraph::Form::kTraining).logits) {
      p.push_back(Logistic(z));
    }
    return p;
  }

  // Sets the loss's derivatives in the trainer, as the learner does.
  void Judge(bool distillation) {
    const Graph& g = trainer->graph();
    const double n = static_cast<double>(labels.size());
    for (size_t r = 0; r < labels.size(); ++r) {
      const double p = Logistic(trainer->logits()[r]);
      const double delta = (p - labels[r]) / n;
      double shared = delta;
      for (uint16_t o = 0; o < g.outputs; ++o) {
        double own = delta * (g.mean ? 1.0 / g.outputs : 1.0);
        if (distillation) {
          const double more = (Logistic(trainer->OutputLogit(o, r)) - p) / n;
          own += more;
          shared += more;
        }
        trainer->output_deltas(o)[r] = static_cast<float>(own);
      }
      trainer->shared_deltas()[r] = static_cast<float>(shared);
    }
  }

  ReferenceGraph reference;
  ThreadTeam team;
  std::unique_ptr<GraphTrainer> trainer;
  PooledBatch batch;
  std::vector<double> labels;
};

// How far gradients may be off, relative to the largest of their tensor and to
// the largest of all: those that are zero in theory are sums that cancel.
constexpr double kTolerance = 1e-4;
constexpr double kTiny = 1e-6;
// What the differences themselves are off by: rounding of the loss / step.
constexpr double kRounding = 2e-10;

void ExpectForward(const Twins& t, const std::string& what) {
  const auto expected =
      t.reference.Run(t.batch, ReferenceGraph::Form::kTraining);
  for (size_t r = 0; r < t.labels.size(); ++r) {
    const double bound = 2e-5 * (1 + std::fabs(expected.logits[r]));
    ASSERT_NEAR(t.trainer->logits()[r], expected.logits[r], bound)
        << what << " row " << r;
    for (uint16_t o = 0; o < expected.outputs.size(); ++o) {
      ASSERT_NEAR(t.trainer->OutputLogit(o, r),
                  expected.shared[r] + expected.outputs[o][r], bound)
          << what << " row " << r;
    }
  }
}

// Compares every gradient with central differences of the reference's loss.
void ExpectGradients(Twins* t, bool distillation, const std::string& what) {
  t->trainer->Forward(true, 1);
  ASSERT_NO_FATAL_FAILURE(ExpectForward(*t, what));
  t->Judge(distillation);
  t->trainer->Backward();
  const Vec targets = distillation ? t->Probabilities() : Vec();
  const auto difference = [&](double* at) {
    constexpr double kStep = 1e-5;
    const double before = *at;
    *at = before + kStep;
    const double more = t->Loss(targets);
    *at = before - kStep;
    const double less = t->Loss(targets);
    *at = before;
    return (more - less) / (2 * kStep);
  };
  struct Compared {
    std::string name;
    Vec got, expected;
  };
  std::vector<Compared> all;
  const Graph& graph = t->trainer->graph();
  // Of a large batch some: each is two passes of the reference.
  const bool large = t->labels.size() > 50;
  for (const Tensor& tensor : graph.tensors) {
    Compared c{tensor.name, {}, {}};
    for (size_t i = 0; i < tensor.size(); i += large ? 61 : 1) {
      c.got.push_back(t->trainer->gradients()[tensor.offset + i]);
      c.expected.push_back(difference(&t->reference.p.at(tensor.name)[i]));
    }
    all.push_back(c);
  }
  Compared input{"input", {}, {}};
  const size_t width = t->reference.width;
  for (size_t r = 0; r < t->labels.size(); r += large ? 63 : 1) {
    for (size_t j = 0; j < width; ++j) {
      input.got.push_back(t->trainer->input_gradient()[r * width + j]);
      input.expected.push_back(difference(&t->batch.x[r][j]));
    }
  }
  all.push_back(input);
  double largest = 0;
  for (const Compared& c : all) {
    for (const double g : c.expected) largest = std::max(largest, std::fabs(g));
  }
  for (const Compared& c : all) {
    double of_tensor = 0;
    for (const double g : c.expected) {
      of_tensor = std::max(of_tensor, std::fabs(g));
    }
    const double bound = kTolerance * of_tensor + kTiny * largest + kRounding;
    for (size_t i = 0; i < c.got.size(); ++i) {
      ASSERT_NEAR(c.got[i], c.expected[i], bound)
          << what << ": " << c.name << "[" << i << "]";
    }
  }
}

TEST(GraphGradient, EveryPartAndModelIsTheReferenceAndItsDifferences) {
  for (const NamedGraph& graph : Graphs()) {
    for (const size_t rows : {1, 2, 7}) {
      Twins twins(GraphOf(graph.text), rows, 1);
      ExpectGradients(&twins, false,
                      absl::StrCat(graph.name, ", ", rows, " rows"));
    }
  }
}

// Batches of a chunk of rows less one, and more one.
TEST(GraphGradient, BatchesAroundAChunkOfRowsAreRight) {
  for (const NamedGraph& graph : Graphs()) {
    for (const size_t rows : {127, 129}) {
      Twins twins(GraphOf(graph.text), rows, 2);
      ExpectGradients(&twins, false,
                      absl::StrCat(graph.name, ", ", rows, " rows"));
    }
  }
}

TEST(GraphGradient, SelfDistillationIsTheDifferencesWithTheTargetHeld) {
  for (const char* text :
       {"dim: 3 combine: MEAN streams { layers { units: 4 } } streams {}",
        "dim: 3 linear: true pairwise: FM combine: MEAN "
        "streams { layers { kind: FINT units: 8 } } "
        "streams { layers { kind: FINT units: 6 } } streams {}",
        "dim: 3 combine: MEAN streams { layers { units: 4 } } "
        "streams { layers { units: 6 } } fusion { heads: 2 }"}) {
    Twins twins(GraphOf(text), 9, 1);
    ExpectGradients(&twins, true, text);
  }
}

TEST(GraphGradient, OneFieldAloneIsAGraphToo) {
  const FieldLayout one = {{"only"}, {false}, {false}};
  for (const char* text :
       {"dim: 3 pairwise: FM", "dim: 3 pairwise: FWFM", "dim: 3 pairwise: FVFM",
        "dim: 1 linear: true pairwise: FWFM streams { emit: true }",
        "dim: 3 streams { gate { kind: FIELD } emit: true }",
        "dim: 1 streams { layers { kind: CROSS_TRIANGULAR } }",
        "dim: 128 streams { layers { units: 1 } }"}) {
    Twins twins(GraphOf(text), 5, 1, one);
    ExpectGradients(&twins, false, text);
  }
}

TEST(GraphGradient, TriangularCrossOfContextOrAdAloneIsAFullOne) {
  for (const bool context : {true, false}) {
    const FieldLayout layout = {{"a", "b"}, {context, context}, {false, false}};
    Twins twins(GraphOf("dim: 3 streams { layers { kind: CROSS_TRIANGULAR } }"),
                5, 1, layout);
    ExpectGradients(&twins, false, context ? "context" : "ad");
  }
}

// A second batch finds the first one's activations and gradients in memory.
TEST(GraphGradient, NothingOfTheBatchBeforeIsLeft) {
  for (const NamedGraph& graph : Graphs()) {
    Twins large(GraphOf(graph.text), 140, 2);
    large.trainer->Forward(true, 1);
    large.Judge(false);
    large.trainer->Backward();
    Twins small(GraphOf(graph.text), 3, 1, ALayout(), 7);
    large.trainer->parameters() = small.trainer->parameters();
    large.trainer->ParametersChanged();
    large.trainer->Resize(3);
    const size_t width = small.reference.width;
    std::copy_n(small.trainer->input(), 3 * width, large.trainer->input());
    std::copy_n(small.trainer->linear(), 3, large.trainer->linear());
    std::copy_n(small.trainer->square(), 3, large.trainer->square());
    large.labels = small.labels;
    for (Twins* t : {&large, &small}) {
      t->trainer->Forward(true, 2);
      t->Judge(false);
      t->trainer->Backward();
    }
    EXPECT_EQ(large.trainer->gradients(), small.trainer->gradients())
        << graph.name;
    for (size_t i = 0; i < 3 * width; ++i) {
      ASSERT_EQ(large.trainer->input_gradient()[i],
                small.trainer->input_gradient()[i])
          << graph.name;
    }
  }
}

TEST(GraphTrainer, SameBitsForAnyNumberOfThreads) {
  for (const NamedGraph& graph : Graphs()) {
    for (const size_t rows : {1, 129, 400}) {
      std::vector<float> gradients, input, logits, parameters;
      for (const uint32_t threads : {1, 2, 3}) {
        Twins t(GraphOf(graph.text), rows, threads);
        t.trainer->Forward(true, 3);
        t.Judge(false);
        t.trainer->Backward();
        const std::vector<float> dx(
            t.trainer->input_gradient(),
            t.trainer->input_gradient() + rows * t.reference.width);
        const std::vector<float> z(t.trainer->logits().begin(),
                                   t.trainer->logits().end());
        if (threads == 1) {
          gradients = t.trainer->gradients();
          parameters = t.trainer->parameters();  // with running statistics
          input = dx;
          logits = z;
        }
        EXPECT_EQ(t.trainer->gradients(), gradients) << graph.name;
        EXPECT_EQ(t.trainer->parameters(), parameters) << graph.name;
        EXPECT_EQ(dx, input) << graph.name;
        EXPECT_EQ(z, logits) << graph.name;
      }
    }
  }
}

TEST(GraphTrainer, RunningStatisticsFollowTheBatches) {
  Twins t(GraphOf("dim: 3 streams { layers { units: 4 batch_norm: true } }"),
          37, 2);
  const Graph& graph = t.trainer->graph();
  const auto tensor = [&](const std::string& name) {
    for (const Tensor& x : graph.tensors) {
      if (absl::StrContains(x.name, name))
        return &t.trainer->parameters()[x.offset];
    }
    return static_cast<float*>(nullptr);
  };
  const float* const w = tensor(".W");
  const float* const b = tensor("layers[0].b");
  Vec mean(4), variance(4);
  for (int j = 0; j < 4; ++j) {
    mean[j] = tensor("mean")[j];
    variance[j] = tensor("variance")[j];
  }
  for (int step = 1; step <= 3; ++step) {
    t.trainer->Forward(true, step);
    for (int j = 0; j < 4; ++j) {
      Vec z;
      double sum = 0, squares = 0;
      for (const Vec& x : t.batch.x) {
        double v = b[j];
        for (size_t i = 0; i < x.size(); ++i) v += x[i] * w[i * 4 + j];
        z.push_back(v);
        sum += v;
      }
      for (const double v : z) squares += (v - sum / 37) * (v - sum / 37);
      mean[j] = 0.9 * mean[j] + 0.1 * sum / 37;
      variance[j] = 0.9 * variance[j] + 0.1 * squares / 36;
      EXPECT_NEAR(tensor("mean")[j], mean[j], 1e-5);
      EXPECT_NEAR(tensor("variance")[j], variance[j], 1e-5);
    }
  }
}

TEST(GraphTrainer, EvaluationUsesTheRunningStatisticsAndNoDropout) {
  for (const NamedGraph& graph : Graphs()) {
    v1::ModelGraph spec = GraphOf(graph.text);
    for (v1::Stream& s : *spec.mutable_streams()) {
      for (v1::Layer& l : *s.mutable_layers()) l.set_dropout(0.5);
    }
    Twins t(spec, 21, 1);
    t.trainer->Forward(false, 0);
    const auto expected =
        t.reference.Run(t.batch, ReferenceGraph::Form::kEvaluation);
    for (size_t r = 0; r < 21; ++r) {
      ASSERT_NEAR(t.trainer->logits()[r], expected.logits[r],
                  2e-5 * (1 + std::fabs(expected.logits[r])))
          << graph.name;
    }
  }
}

TEST(GraphTrainer, Bf16IsCloseToFloat) {
  for (const NamedGraph& graph : Graphs()) {
    Twins t(GraphOf(graph.text), 50, 2);
    GraphTrainer rounded(t.trainer->graph(), {5, true}, &t.team);
    rounded.parameters() = t.trainer->parameters();
    rounded.ParametersChanged();
    rounded.Resize(50);
    std::copy_n(t.trainer->input(), 50 * t.reference.width, rounded.input());
    std::copy_n(t.trainer->linear(), 50, rounded.linear());
    std::copy_n(t.trainer->square(), 50, rounded.square());
    t.trainer->Forward(true, 1);
    rounded.Forward(true, 1);
    t.Judge(false);
    rounded.shared_deltas() = t.trainer->shared_deltas();
    for (uint16_t o = 0; o < t.trainer->graph().outputs; ++o) {
      rounded.output_deltas(o) = t.trainer->output_deltas(o);
    }
    t.trainer->Backward();
    rounded.Backward();
    double size = 0, off = 0, logit = 0;
    for (size_t i = 0; i < t.trainer->gradients().size(); ++i) {
      const double g = t.trainer->gradients()[i];
      size += g * g;
      off += std::pow(rounded.gradients()[i] - g, 2);
    }
    for (size_t r = 0; r < 50; ++r) {
      const double z = t.trainer->logits()[r];
      logit += std::pow((rounded.logits()[r] - z) / (1 + std::fabs(z)), 2);
    }
    EXPECT_LT(std::sqrt(off / size), 0.1) << graph.name;
    EXPECT_LT(std::sqrt(logit / 50), 0.05) << graph.name;
  }
}

// Predictions were of rounded products, the published model's are not.
TEST(GraphTrainer, Bf16IsForTrainingAlone) {
  for (const NamedGraph& graph : Graphs()) {
    Twins t(GraphOf(graph.text), 50, 2);
    GraphTrainer rounded(t.trainer->graph(), {5, true}, &t.team);
    rounded.parameters() = t.trainer->parameters();
    rounded.ParametersChanged();
    rounded.Resize(50);
    std::copy_n(t.trainer->input(), 50 * t.reference.width, rounded.input());
    std::copy_n(t.trainer->linear(), 50, rounded.linear());
    std::copy_n(t.trainer->square(), 50, rounded.square());
    rounded.Forward(true, 1);
    rounded.parameters() = t.trainer->parameters();  // running statistics
    t.trainer->Forward(false, 1);
    rounded.Forward(false, 1);
    for (size_t r = 0; r < 50; ++r) {
      EXPECT_EQ(rounded.logits()[r], t.trainer->logits()[r]) << graph.name;
    }
  }
}

}  // namespace
}  // namespace adrank
