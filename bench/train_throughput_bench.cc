// Rows a second of the one-pass learners from packed blocks of 39 fields: FTRL
// logistic regression and factorization machines. "memory": learning only;
// "disk": read, check and learn, table made, as in a whole process. The floor
// is this machine's rate of the same random read-modify-writes (the lines of
// one row's state an entry, prefetched, nothing else), measured in the same run
// on the same rows and as many threads.
//
//   bench_train_throughput [--rows=N] [--batch=N] [--threads=N] [--only=MODEL]
//       [--optimizer=row_adagrad|adagrad|ftrl] [--spill_dir=DIR]
//
// MODEL: logistic, fm8 or fm16. DIR is /dev/shm where there is one: a cold file
// measures the disk, not us.
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "bench/ctr_market.h"
#include "trainer/fm.h"
#include "trainer/ftrl.h"
#include "trainer/huge_array.h"

namespace adrank {
namespace {

struct Flags {
  uint64_t rows = 5'000'000;
  uint32_t batch = FtrlOptions().max_batch;
  uint32_t threads = 0;  // 0: 1 and 2
  std::string only;
  FmOptimizer optimizer = FmOptions().optimizer;
  std::string spill_dir;
};

struct Contender {
  std::string name;
  uint32_t dim;            // 0: logistic
  uint32_t stride_floats;  // of a row's state
};

void Touch(const ExampleBlock& block, uint32_t stride,
           HugeArray<uint32_t>* table) {
  const uint32_t* rows = block.rows();
  const size_t n = block.entries();
  for (size_t e = 0; e < n; ++e) {
    const size_t ahead = e + 64 < n ? rows[e + 64] : rows[e];
    for (uint32_t i = 0; i < stride; i += 16) {
      __builtin_prefetch(&(*table)[ahead * stride + i], 1);
    }
    for (uint32_t i = 0; i < stride; i += 16) {
      std::atomic_ref<uint32_t> word((*table)[size_t{rows[e]} * stride + i]);
      word.store(word.load(std::memory_order_relaxed) + 1,
                 std::memory_order_relaxed);
    }
  }
}

double Floor(const ExampleBlocks& blocks, size_t table_rows, uint32_t stride,
             uint32_t threads) {
  HugeArray<uint32_t> table(table_rows * stride);
  // Pages made first.
  for (size_t i = 0; i < table.size(); i += 1024) table[i] = 1;
  const double seconds = SecondsOf([&] {
    std::vector<std::thread> team;
    for (uint32_t t = 0; t < threads; ++t) {
      team.emplace_back([&, t] {
        for (size_t i = t; i < blocks.blocks(); i += threads) {
          Touch(**blocks.Read(i), stride, &table);
        }
      });
    }
    for (std::thread& thread : team) thread.join();
  });
  return static_cast<double>(blocks.examples()) / seconds;
}

std::unique_ptr<Learner> ALearner(const Contender& contender,
                                  const Flags& flags, uint32_t threads,
                                  uint64_t rows) {
  FmOptions options;
  options.linear.threads = threads;
  options.linear.max_batch = flags.batch;
  if (contender.dim == 0) {
    return *FtrlLearner::Create(options.linear, rows);
  }
  options.dim = contender.dim;
  options.optimizer = flags.optimizer;
  return *FmLearner::Create(options, rows);
}

void Measure(const ExampleBlocks& blocks, const CtrMarket& market,
             const Flags& flags, const Contender& contender, uint32_t threads,
             double floor) {
  std::unique_ptr<Learner> learner;
  const auto make = [&] {
    learner = ALearner(contender, flags, threads, market.rows());
  };
  const bool disk = blocks.spilled_bytes() > 0;
  if (!disk) make();
  const double seconds = SecondsOf([&] {
    if (disk) make();
    const absl::Status status = blocks.ForEach(
        [&](const ExampleBlock& block) { return learner->Update(block); });
    if (!status.ok()) std::abort();
  });
  const double rate = static_cast<double>(blocks.examples()) / seconds;
  const v1::Metrics progress = learner->Progress();
  absl::PrintF(
      "{\"name\":\"train_throughput\",\"value\":%.0f,\"unit\":\"rows/s\","
      "\"floor\":%.0f,\"ratio\":%.3f,\"params\":{\"model\":\"%s\","
      "\"threads\":%d,\"blocks\":\"%s\",\"rows\":%d,\"fields\":%d,"
      "\"table_rows\":%d,\"state_bytes\":%d,\"max_batch\":%d,"
      "\"kernel\":\"%s\",\"progressive_ne\":%.5f,"
      "\"progressive_auc\":%.5f}}\n",
      rate, floor, rate / floor, contender.name, threads,
      disk ? "disk" : "memory", blocks.examples(), market.fields(),
      market.rows(), contender.stride_floats * 4, flags.batch,
      BestFmKernel().name, progress.normalized_entropy(), progress.auc());
  fflush(stdout);
}

std::optional<Flags> ParseFlags(int argc, char** argv) {
  Flags flags;
  struct stat info;
  flags.spill_dir = stat("/dev/shm", &info) == 0 ? "/dev/shm" : "/tmp";
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&arg, "--rows=")) {
      good = absl::SimpleAtoi(arg, &flags.rows);
    } else if (absl::ConsumePrefix(&arg, "--batch=")) {
      good = absl::SimpleAtoi(arg, &flags.batch);
    } else if (absl::ConsumePrefix(&arg, "--threads=")) {
      good = absl::SimpleAtoi(arg, &flags.threads);
    } else if (absl::ConsumePrefix(&arg, "--only=")) {
      flags.only = std::string(arg);
    } else if (absl::ConsumePrefix(&arg, "--spill_dir=")) {
      flags.spill_dir = std::string(arg);
    } else if (arg == "--optimizer=row_adagrad") {
      flags.optimizer = FmOptimizer::kRowAdagrad;
    } else if (arg == "--optimizer=adagrad") {
      flags.optimizer = FmOptimizer::kAdagrad;
    } else if (arg == "--optimizer=ftrl") {
      flags.optimizer = FmOptimizer::kFtrl;
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
  const std::vector<uint32_t> counts =
      flags->threads == 0 ? std::vector<uint32_t>{1, 2}
                          : std::vector<uint32_t>{flags->threads};
  std::vector<Contender> contenders;
  for (const uint32_t dim : {0, 8, 16}) {
    const std::string name = dim == 0 ? "logistic" : absl::StrCat("fm", dim);
    if (!flags->only.empty() && flags->only != name) continue;
    contenders.push_back(
        {name, dim, dim == 0 ? 2 : FmStride(flags->optimizer, dim)});
  }
  std::vector<double> floors;
  {
    const ExampleBlocks memory = DrawExamples(market, flags->rows, 1);
    for (const Contender& contender : contenders) {
      for (const uint32_t threads : counts) {
        floors.push_back(
            Floor(memory, market.rows(), contender.stride_floats, threads));
        Measure(memory, market, *flags, contender, threads, floors.back());
      }
    }
  }
  ExampleBlocksOptions options;
  options.max_memory_bytes = 1;
  options.spill_dir = flags->spill_dir;
  const ExampleBlocks disk = DrawExamples(market, flags->rows, 1, options);
  size_t i = 0;
  for (const Contender& contender : contenders) {
    for (const uint32_t threads : counts) {
      Measure(disk, market, *flags, contender, threads, floors[i++]);
    }
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
