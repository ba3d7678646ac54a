// Rows a second of DeepFM and DCNv2 learning in one pass from packed blocks in
// memory: 39 fields, vocabularies from 10 to 5 million. The floor is the rate
// of the models' matrix products alone (forward, input gradients, weight
// gradients; our kernels, the same shapes and as many threads), measured in the
// same run.
//
//   bench_deep_throughput [--rows=N] [--threads=N] [--only=MODEL]
//       [--batch=N] [--optimizer=adagrad_row|adam_lazy]
//
// MODEL: deepfm, dcnv2 or dcnv2_bf16. Without a choice: all, batches of 2048
// and 4096, both optimizers. `bench/run.sh deep_throughput --torch` measures
// the same models in PyTorch instead (bench/rivals/torch_ctr.py).
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "bench/ctr_market.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemm_kernel.h"
#include "trainer/embedding_learner.h"
#include "trainer/graph_trainer.h"
#include "trainer/thread_team.h"

namespace adrank {
namespace {

using Optimizer = RowTableOptions::Optimizer;

struct Flags {
  uint64_t rows = 300'000;
  uint32_t threads = 2;
  std::string only;
  std::vector<uint32_t> batches = {2048, 4096};
  std::vector<Optimizer> optimizers = {Optimizer::kAdagradRow,
                                       Optimizer::kAdamLazy};
};

struct Contender {
  std::string name;
  bool cross;  // DCNv2, else DeepFM
  bool bf16;
};

v1::ModelGraph GraphOf(const Contender& contender) {
  v1::ModelGraph graph;
  graph.set_dim(16);
  v1::Stream* stream = graph.add_streams();
  if (contender.cross) {
    for (int i = 0; i < 3; ++i) {
      stream->add_layers()->set_kind(v1::Layer::CROSS);
    }
  } else {
    graph.set_linear(true);
    graph.set_pairwise(v1::ModelGraph::FM);
  }
  for (int i = 0; i < 3; ++i) stream->add_layers()->set_units(400);
  return graph;
}

FieldLayout Layout(size_t fields) {
  FieldLayout layout;
  for (size_t f = 0; f < fields; ++f) {
    layout.names.push_back(absl::StrCat("f", f));
  }
  layout.context.resize(fields);
  layout.position.resize(fields);
  return layout;
}

// One product of a layer and its gradients, over batches of `rows`.
class Products {
 public:
  Products(const Tensor& tensor, uint32_t rows, bool bf16)
      : rows_(rows),
        k_(tensor.rows),
        n_(tensor.cols),
        bf16_(bf16),
        x_(size_t{rows} * k_, 0.5f),
        d_(size_t{rows} * n_, 0.25f),
        w_(tensor.size(), 0.125f),
        gradient_(tensor.size()) {
    if (bf16) {
      forward16_.Pack(w_.data(), k_, n_, n_, false);
      backward16_.Pack(w_.data(), n_, k_, n_, true);
      x16_.Assign(x_.data(), rows, k_, k_);
      d16_.Assign(d_.data(), rows, n_, n_);
    } else {
      forward_.Pack(w_.data(), k_, n_, n_, false);
      backward_.Pack(w_.data(), n_, k_, n_, true);
    }
  }

  void Run(ThreadTeam* team) {
    constexpr size_t kRows = 128;
    ParallelFor(team, (rows_ + kRows - 1) / kRows, [&](size_t i, uint32_t) {
      const size_t first = i * kRows, rows = std::min(kRows, rows_ - first);
      float* const x = &x_[first * k_];
      float* const d = &d_[first * n_];
      if (bf16_) {
        GemmBf16(rows, x16_, first, forward16_, false, d, n_);
        GemmBf16(rows, d16_, first, backward16_, false, x, k_);
      } else {
        Gemm(rows, x, k_, forward_, false, d, n_);
        Gemm(rows, d, n_, backward_, false, x, k_);
      }
    });
    team->Run([&](uint32_t t) {
      thread_local std::vector<float> scratch;
      const size_t first = k_ * t / team->size();
      const size_t rows = k_ * (t + 1) / team->size() - first;
      float* const out = &gradient_[first * n_];
      if (bf16_) {
        GemmTransposedABf16(rows, x16_, first, d16_, false, out, n_, &scratch);
      } else {
        GemmTransposedA(rows, n_, rows_, &x_[first], k_, d_.data(), n_, false,
                        out, n_, &scratch);
      }
    });
  }

 private:
  const size_t rows_, k_, n_;
  const bool bf16_;
  std::vector<float> x_, d_, w_, gradient_;
  PackedMatrix forward_, backward_;
  PackedMatrixBf16 forward16_, backward16_;
  Bf16Matrix x16_, d16_;
};

// Rows a second of the products alone.
double Floor(const Graph& graph, bool bf16, uint32_t batch, uint32_t threads) {
  std::vector<Products> products;
  for (const Tensor& tensor : graph.tensors) {
    if (tensor.product && tensor.cols > 1) {
      products.emplace_back(tensor, batch, bf16);
    }
  }
  ThreadTeam team(threads);
  const auto run = [&](int batches) {
    for (int i = 0; i < batches; ++i) {
      for (Products& p : products) p.Run(&team);
    }
  };
  run(2);
  // The median of some turns: a neighbour disturbs one or two.
  constexpr int kTurns = 9, kBatches = 2;
  std::vector<double> seconds;
  for (int i = 0; i < kTurns; ++i) {
    seconds.push_back(SecondsOf([&] { run(kBatches); }));
  }
  std::nth_element(seconds.begin(), seconds.begin() + kTurns / 2,
                   seconds.end());
  return kBatches * static_cast<double>(batch) / seconds[kTurns / 2];
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) +
           1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void Measure(const ExampleBlocks& blocks, const CtrMarket& market,
             const Contender& contender, uint32_t batch, Optimizer optimizer,
             uint32_t threads) {
  EmbeddingOptions options;
  options.graph = GraphOf(contender);
  options.table.optimizer = optimizer;
  const bool adam = optimizer == Optimizer::kAdamLazy;
  options.table.learning_rate = adam ? 0.001f : 0.05f;
  options.batch_size = batch;
  options.bf16 = contender.bf16;
  options.initial_bias = -2.9f;
  options.threads = threads;
  const FieldLayout layout = Layout(market.fields());
  const auto graph = Graph::Create(options.graph, layout, true);
  auto learner = EmbeddingLearner::Create(options, layout, market.rows());
  if (!graph.ok() || !learner.ok()) std::abort();
  const double floor = Floor(*graph, contender.bf16, batch, threads);
  // The first block warms up.
  uint64_t rows = 0;
  double seconds = 0, cpu = 0;
  const absl::Status status = blocks.ForEach([&](const ExampleBlock& block) {
    absl::Status updated;
    const double before = CpuSeconds();
    const double took = SecondsOf([&] { updated = (*learner)->Update(block); });
    if ((*learner)->Progress().examples() > block.examples()) {
      rows += block.examples();
      seconds += took;
      cpu += CpuSeconds() - before;
    }
    return updated;
  });
  if (!status.ok()) std::abort();
  const double rate = static_cast<double>(rows) / seconds;
  const double macs = static_cast<double>(graph->MultiplyAdds());
  const v1::Metrics progress = (*learner)->Progress();
  absl::PrintF(
      "{\"name\":\"deep_throughput/%s\",\"value\":%.0f,\"unit\":\"rows/s\","
      "\"floor\":%.0f,\"ratio\":%.3f,\"params\":{\"batch\":%d,"
      "\"optimizer\":\"%s\",\"threads\":%d,\"rows\":%d,\"table_rows\":%d,"
      "\"gflop_per_s\":%.0f,\"rows_per_cpu_s\":%.0f,\"kernel\":\"%s\","
      "\"progressive_ne\":%.5f,\"progressive_auc\":%.5f}}\n",
      contender.name, rate, floor, rate / floor, batch,
      adam ? "adam_lazy" : "adagrad_row", threads, blocks.examples(),
      market.rows(), 6e-9 * macs * rate, static_cast<double>(rows) / cpu,
      BestGemmKernel().name, progress.normalized_entropy(), progress.auc());
  fflush(stdout);
}

std::optional<Flags> ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&arg, "--rows=")) {
      good = absl::SimpleAtoi(arg, &flags.rows);
    } else if (absl::ConsumePrefix(&arg, "--threads=")) {
      good = absl::SimpleAtoi(arg, &flags.threads) && flags.threads > 0;
    } else if (absl::ConsumePrefix(&arg, "--only=")) {
      flags.only = std::string(arg);
    } else if (absl::ConsumePrefix(&arg, "--batch=")) {
      flags.batches.resize(1);
      good = absl::SimpleAtoi(arg, &flags.batches[0]) && flags.batches[0] > 0;
    } else if (arg == "--optimizer=adagrad_row") {
      flags.optimizers = {Optimizer::kAdagradRow};
    } else if (arg == "--optimizer=adam_lazy") {
      flags.optimizers = {Optimizer::kAdamLazy};
    } else {
      good = false;
    }
    if (!good) {
      absl::FPrintF(stderr, "bad argument: %s\n", argv[i]);
      return std::nullopt;
    }
  }
  return flags;
}

int Main(int argc, char** argv) {
  const std::optional<Flags> flags = ParseFlags(argc, argv);
  if (!flags) return 2;
  const CtrMarket market;
  const ExampleBlocks blocks = DrawExamples(market, flags->rows, 1);
  for (const Contender& contender : {Contender{"deepfm", false, false},
                                     {"dcnv2", true, false},
                                     {"dcnv2_bf16", true, true}}) {
    if (!flags->only.empty() && flags->only != contender.name) continue;
    for (const uint32_t batch : flags->batches) {
      for (const Optimizer optimizer : flags->optimizers) {
        Measure(blocks, market, contender, batch, optimizer, flags->threads);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
