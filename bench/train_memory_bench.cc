// The most memory that training takes, as rows grow: 39 fields a row, of which
// 38 have Zipf vocabularies from 50 to 5 million and one an id that mostly
// comes once, as cookies do. From generated features through the filter, the id
// table, raw blocks, packing and one pass of FTRL to the tables of a bundle,
// within the budget that TrainerConfig.max_memory_bytes would set.
//
//   bench_train_memory [--rows=N] [--max_memory=BYTES] [--filter=BYTES]
//       [--threads=N] [--spill_dir=DIR]      (a disk, not a tmpfs)
//
// Each line has the peak resident size so far; floor is the budget.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "base/log.h"
#include "base/rng.h"
#include "model/vocabulary.h"
#include "trainer/ftrl.h"
#include "trainer/id_filter.h"
#include "trainer/id_table.h"
#include "trainer/memory_budget.h"
#include "trainer/vocabulary_plan.h"

namespace adrank {
namespace {

constexpr size_t kFields = 39;
constexpr uint64_t kChunk = 10'000;    // rows generated at once
constexpr uint64_t kStep = 5'000'000;  // rows between two lines
constexpr uint32_t kMinCount = 2;

struct Flags {
  uint64_t rows = 20'000'000;
  uint64_t max_memory = uint64_t{8} << 30;
  uint64_t filter = uint64_t{1} << 30;
  uint32_t threads = 2;
  std::string spill_dir = "/tmp";
};

// Rows of chunk number `chunk`; the same whenever it is asked for.
class Chunk {
 public:
  explicit Chunk(uint64_t chunk) : rng_(chunk), first_(chunk * kChunk) {
    for (size_t f = 0; f + 1 < kFields; ++f) {
      bits_.push_back(static_cast<float>(5.6 + 16.7 * f / (kFields - 2)));
    }
  }
  // Fills ids[kFields]; whether it was clicked.
  bool Next(uint64_t* ids) {
    float logit = -3.6f;
    for (size_t f = 0; f + 1 < kFields; ++f) {
      const float u = static_cast<float>(rng_() >> 40) * 0x1p-24f;
      ids[f] = MixBits((uint64_t{f} << 40) +
                       static_cast<uint64_t>(std::exp2(u * bits_[f])));
      logit += (static_cast<float>(ids[f] >> 32) * 0x1p-32f - 0.5f) * 0.9f;
    }
    // Seven in eight come once; the others are one of a million.
    const uint64_t once = first_++;
    ids[kFields - 1] = MixBits(
        (uint64_t{kFields} << 40) +
        (once % 8 == 0 ? rng_.Below(1'000'000) : (uint64_t{1} << 38) + once));
    return rng_.Uniform() < 1 / (1 + std::exp(-logit));
  }

 private:
  Rng rng_;
  uint64_t first_;
  std::vector<float> bits_;
};

class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {
    v1::TrainerConfig config;
    config.set_max_memory_bytes(flags.max_memory);
    config.mutable_vocabulary()->set_filter_bytes(flags.filter);
    budget_ = PlanMemory(config);
  }

  void Run() {
    IdFilter filter(flags_.filter);
    Generate("filter", [&](Chunk* chunk, IdCache*, ExampleBlocks*) {
      uint64_t ids[kFields];
      for (uint64_t i = 0; i < kChunk; ++i) {
        chunk->Next(ids);
        for (const uint64_t id : ids) filter.Add(id, 1);
      }
    });
    IdAdmission admission;
    admission.filter = &filter;
    admission.min_counts.assign(kFields, kMinCount);
    auto table = std::make_unique<IdTable>(&admission, budget_.ids);
    table_ = table.get();
    ExampleBlocksOptions options;
    options.max_memory_bytes = budget_.examples;
    options.spill_dir = flags_.spill_dir;
    ExampleBlocks raw(options);
    raw_ = &raw;
    Generate("extract", [&](Chunk* chunk, IdCache* ids, ExampleBlocks* out) {
      Intern(chunk, ids, out);
    });
    CHECK(raw.Finish().ok());
    CHECK(!table->overflowed()) << table->size();
    const uint64_t interned = table->size();
    filter = IdFilter(0);
    Line("id table", table->bytes());
    const VocabularyPlan plan(*table, admission.min_counts, true, nullptr);
    ExampleBlocks packed(options);
    PackOptions pack;
    pack.oov_rate = 0.005;
    CHECK(PackExamples(std::move(raw), *table, plan, pack, &packed).ok());
    table.reset();
    Line("pack", packed.memory_bytes() + packed.spilled_bytes());
    Learn(plan, &packed);
    absl::FPrintF(stderr, "%d ids interned, %d rows of the model\n", interned,
                  plan.rows());
  }

 private:
  // Runs `work` on every chunk, with threads.
  void Generate(
      const char* name,
      const std::function<void(Chunk*, IdCache*, ExampleBlocks*)>& work) {
    for (uint64_t begin = 0; begin < flags_.rows; begin += kStep) {
      const uint64_t end = std::min(flags_.rows, begin + kStep) / kChunk;
      std::vector<std::thread> team;
      for (uint32_t t = 0; t < flags_.threads; ++t) {
        team.emplace_back([&, t] {
          IdCache cache(table_);
          for (uint64_t c = begin / kChunk + t; c < end; c += flags_.threads) {
            Chunk chunk(c);
            work(&chunk, &cache, raw_);
          }
        });
      }
      for (std::thread& thread : team) thread.join();
      Line(name, end * kChunk);
    }
  }

  void Intern(Chunk* chunk, IdCache* ids, ExampleBlocks* out) {
    std::vector<uint32_t> handles(kChunk * kFields);
    std::vector<bool> clicks(kChunk);
    uint64_t row[kFields];
    for (uint64_t i = 0; i < kChunk; ++i) {
      clicks[i] = chunk->Next(row);
      for (uint16_t f = 0; f < kFields; ++f) {
        handles[i * kFields + f] = ids->Intern(row[f], f, 1);
      }
    }
    absl::MutexLock lock(&mu_);
    for (uint64_t i = 0; i < kChunk; ++i) {
      CHECK(out->Add({&handles[i * kFields], kFields}, {}, clicks[i]).ok());
    }
  }

  void Learn(const VocabularyPlan& plan, ExampleBlocks* packed) {
    FtrlOptions options;
    options.threads = flags_.threads;
    options.initial_bias = -3;
    auto learner = FtrlLearner::Create(options, plan.rows());
    CHECK(learner.ok()) << learner.status();
    uint64_t done = 0;
    CHECK(packed
              ->ForEach([&](const ExampleBlock& block) -> absl::Status {
                const absl::Status status = (*learner)->Update(block);
                if ((done + block.examples()) / kStep > done / kStep) {
                  Line("learn", done);
                }
                done += block.examples();
                return status;
              })
              .ok());
    *packed = ExampleBlocks();
    const FrozenLogistic weights = (*learner)->Freeze();
    const std::string state = (*learner)->Save();
    const std::string vocabulary =
        Vocabulary::Serialize(plan.ids(), plan.oov_rows());
    Line("tables",
         weights.weights.size() * 4 + state.size() + vocabulary.size());
    absl::FPrintF(stderr, "NE %.5f\n",
                  (*learner)->Progress().normalized_entropy());
  }

  void Line(const char* step, uint64_t n) {
    const double peak = static_cast<double>(PeakResidentBytes());
    const double budget = static_cast<double>(flags_.max_memory);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_)
            .count();
    absl::PrintF(
        "{\"name\":\"train_memory\",\"value\":%.0f,\"unit\":\"MiB\","
        "\"floor\":%.0f,\"ratio\":%.3f,\"params\":{\"step\":\"%s\",\"%s\":%d,"
        "\"seconds\":%.0f}}\n",
        peak / (1 << 20), budget / (1 << 20), peak / budget, step,
        n % kChunk == 0 || std::string(step) == "learn" ? "rows" : "bytes", n,
        seconds);
    fflush(stdout);
  }

  const Flags flags_;
  const std::chrono::steady_clock::time_point begin_ =
      std::chrono::steady_clock::now();
  MemoryBudget budget_;
  IdTable* table_ = nullptr;
  ExampleBlocks* raw_ = nullptr;
  absl::Mutex mu_;
};

int Main(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    if ((absl::ConsumePrefix(&arg, "--rows=") &&
         absl::SimpleAtoi(arg, &flags.rows)) ||
        (absl::ConsumePrefix(&arg, "--max_memory=") &&
         absl::SimpleAtoi(arg, &flags.max_memory)) ||
        (absl::ConsumePrefix(&arg, "--filter=") &&
         absl::SimpleAtoi(arg, &flags.filter)) ||
        (absl::ConsumePrefix(&arg, "--threads=") &&
         absl::SimpleAtoi(arg, &flags.threads))) {
      continue;
    }
    if (absl::ConsumePrefix(&arg, "--spill_dir=")) {
      flags.spill_dir = std::string(arg);
      continue;
    }
    absl::FPrintF(stderr, "unknown argument: %s\n", argv[i]);
    return 2;
  }
  Bench(flags).Run();
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
