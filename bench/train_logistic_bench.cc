// Rows a second of FTRL from packed blocks: 39 fields a row, vocabularies from
// 10 to 5 million, Zipf. The floor is this machine's rate of the same random
// read-modify-writes (one 8-byte slot an entry, prefetched, nothing else),
// measured in the same run on the same rows and as many threads.
//
//   bench_train_logistic [--rows=N] [--batch=N] [--threads=N]
//       [--spill_dir=DIR]
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/rng.h"
#include "trainer/ftrl.h"
#include "trainer/ftrl_kernel.h"
#include "trainer/huge_array.h"

namespace adrank {
namespace {

struct Flags {
  uint64_t rows = 5'000'000;
  uint32_t batch = FtrlOptions().max_batch;
  uint32_t threads = 0;  // 0: 1 and 2
  std::string spill_dir = "/tmp";
};

// 13 bucketed numeric fields and 26 categorical ones, as in display ads.
const std::vector<uint32_t>& Vocabularies() {
  static const auto* sizes = new std::vector<uint32_t>{
      50,     50,     60,      60,      70,      70,      80,     80,
      90,     90,     100,     100,     120,     10,      24,     100,
      300,    500,    600,     1000,    2000,    4000,    5000,   8000,
      10000,  12000,  15000,   20000,   50000,   90000,   130000, 200000,
      300000, 500000, 1100000, 1500000, 2000000, 3000000, 5000000};
  return *sizes;
}

class Market {
 public:
  Market() {
    for (const uint32_t size : Vocabularies()) {
      base_.push_back(rows_);
      rows_ += size;
    }
  }
  uint32_t rows() const { return rows_; }

  // Rank r of a field has probability ~ 1/r; the rows of a field are in no
  // order of frequency. Planted main effects, click rate near 5 %.
  bool Draw(Rng* rng, uint32_t* rows) const {
    float logit = -3.6f;
    for (size_t f = 0; f < base_.size(); ++f) {
      const uint32_t size = Vocabularies()[f];
      const uint64_t bits = (*rng)();
      const float u = static_cast<float>(bits >> 40) * 0x1p-24f;
      const auto rank = static_cast<uint64_t>(
          std::exp2(u * std::log2(static_cast<float>(size))));
      const uint64_t place = (rank - 1) * 0x9e3779b1ull % size;
      rows[f] = base_[f] + static_cast<uint32_t>(place);
      // Uniform in +-0.45: a standard deviation of 0.26 a field.
      const auto h = static_cast<uint32_t>(MixBits(rows[f]));
      logit += (static_cast<float>(h) * 0x1p-32f - 0.5f) * 0.9f;
    }
    return rng->Uniform() < 1 / (1 + std::exp(-logit));
  }

 private:
  std::vector<uint32_t> base_;
  uint32_t rows_ = 0;
};

ExampleBlocks Fill(const Market& market, const Flags& flags, bool on_disk) {
  ExampleBlocksOptions options;
  if (on_disk) {
    options.max_memory_bytes = 1;
    options.spill_dir = flags.spill_dir;
  }
  ExampleBlocks blocks(options);
  Rng rng(1);
  std::vector<uint32_t> rows(Vocabularies().size());
  for (uint64_t i = 0; i < flags.rows; ++i) {
    const bool click = market.Draw(&rng, rows.data());
    if (!blocks.Add(rows, {}, click).ok()) std::abort();
  }
  if (!blocks.Finish().ok()) std::abort();
  return blocks;
}

double Seconds(absl::FunctionRef<void()> work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
      .count();
}

void Touch(const ExampleBlock& block, HugeArray<uint64_t>* table) {
  const uint32_t* rows = block.rows();
  const size_t n = block.entries();
  for (size_t e = 0; e < n; ++e) {
    if (e + 64 < n) __builtin_prefetch(&(*table)[rows[e + 64]], 1);
    std::atomic_ref<uint64_t> slot((*table)[rows[e]]);
    slot.store(slot.load(std::memory_order_relaxed) + 1,
               std::memory_order_relaxed);
  }
}

double Floor(const ExampleBlocks& blocks, uint32_t table_rows,
             uint32_t threads) {
  HugeArray<uint64_t> table(table_rows);
  for (uint32_t r = 0; r < table_rows; ++r) table[r] = 1;  // pages made first
  const double seconds = Seconds([&] {
    std::vector<std::thread> team;
    for (uint32_t t = 0; t < threads; ++t) {
      team.emplace_back([&, t] {
        for (size_t i = t; i < blocks.blocks(); i += threads) {
          Touch(**blocks.Read(i), &table);
        }
      });
    }
    for (std::thread& thread : team) thread.join();
  });
  return static_cast<double>(blocks.examples()) / seconds;
}

void Measure(const ExampleBlocks& blocks, const Market& market,
             const Flags& flags, uint32_t threads, const char* source,
             double floor) {
  FtrlOptions options;
  options.threads = threads;
  options.max_batch = flags.batch;
  auto learner = FtrlLearner::Create(options, market.rows());
  if (!learner.ok()) std::abort();
  const double seconds = Seconds([&] {
    const absl::Status status = blocks.ForEach(
        [&](const ExampleBlock& block) { return (*learner)->Update(block); });
    if (!status.ok()) std::abort();
  });
  const double rate = static_cast<double>(blocks.examples()) / seconds;
  const v1::Metrics progress = (*learner)->Progress();
  absl::PrintF(
      "{\"name\":\"train_logistic\",\"value\":%.0f,\"unit\":\"rows/s\","
      "\"floor\":%.0f,\"ratio\":%.3f,\"params\":{\"threads\":%d,"
      "\"blocks\":\"%s\",\"rows\":%d,\"fields\":%d,\"table_rows\":%d,"
      "\"max_batch\":%d,\"kernel\":\"%s\",\"progressive_ne\":%.5f,"
      "\"progressive_auc\":%.5f}}\n",
      rate, floor, rate / floor, threads, source, blocks.examples(),
      Vocabularies().size(), market.rows(), flags.batch, BestFtrlKernel().name,
      progress.normalized_entropy(), progress.auc());
  fflush(stdout);
}

int Main(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    if (absl::ConsumePrefix(&arg, "--rows=") &&
        absl::SimpleAtoi(arg, &flags.rows)) {
      continue;
    }
    if (absl::ConsumePrefix(&arg, "--batch=") &&
        absl::SimpleAtoi(arg, &flags.batch)) {
      continue;
    }
    if (absl::ConsumePrefix(&arg, "--threads=") &&
        absl::SimpleAtoi(arg, &flags.threads)) {
      continue;
    }
    if (absl::ConsumePrefix(&arg, "--spill_dir=")) {
      flags.spill_dir = std::string(arg);
      continue;
    }
    absl::FPrintF(stderr, "unknown argument: %s\n", argv[i]);
    return 2;
  }
  const Market market;
  const std::vector<uint32_t> counts =
      flags.threads == 0 ? std::vector<uint32_t>{1, 2}
                         : std::vector<uint32_t>{flags.threads};
  std::vector<double> floors;
  {
    const ExampleBlocks memory = Fill(market, flags, false);
    for (const uint32_t threads : counts) {
      floors.push_back(Floor(memory, market.rows(), threads));
      Measure(memory, market, flags, threads, "memory", floors.back());
    }
  }
  const ExampleBlocks disk = Fill(market, flags, true);
  for (size_t i = 0; i < counts.size(); ++i) {
    Measure(disk, market, flags, counts[i], "disk", floors[i]);
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
