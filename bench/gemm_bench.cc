// GFLOP/s of the matrix products of model/kernels/gemm.h, beside oneDNN's where
// it was found when configuring. The floor is the machine's rate of fused
// multiply-adds (of bfloat16 pair products) without memory, taken in turns with
// the measured work. Higher is better; ratio = value / floor.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/rng.h"
#include "bench/gemm_rival.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemm_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace adrank {
namespace {

// Enough rounds for a median that a busy neighbour does not move.
constexpr int kRounds = 9;
constexpr double kSecondsPerTurn = 0.012;

// One thread's share of a product.
struct Work {
  double flop;
  std::function<void()> run;
};

// GFLOP/s of all threads together.
double Turn(const std::vector<Work>& works) {
  std::vector<double> rates(works.size());
  const auto work_on = [&](size_t t) {
    works[t].run();  // caches, and a rival's first call
    double flop = 0;
    const int64_t start = absl::GetCurrentTimeNanos();
    double seconds = 0;
    do {
      works[t].run();
      flop += works[t].flop;
      seconds = 1e-9 * static_cast<double>(absl::GetCurrentTimeNanos() - start);
    } while (seconds < kSecondsPerTurn);
    rates[t] = 1e-9 * flop / seconds;
  };
  std::vector<std::thread> team;
  for (size_t t = 1; t < works.size(); ++t) team.emplace_back(work_on, t);
  work_on(0);
  for (std::thread& thread : team) thread.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

#if defined(__x86_64__)
// 24 independent chains; returns their sum, so that they are kept.
__attribute__((target("avx512f"))) float Fma512(size_t steps, bool pairs) {
  __m512 sum[24];
#pragma GCC unroll 24
  for (int i = 0; i < 24; ++i) sum[i] = _mm512_set1_ps(1e-3f * i);
  __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
  for (size_t s = 0; s < steps; ++s) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) {
      if (pairs) {
        asm("vdpbf16ps %2, %1, %0" : "+v"(sum[i]) : "v"(a), "v"(b));
      } else {
        asm("vfmadd231ps %2, %1, %0" : "+v"(sum[i]) : "v"(a), "v"(b));
      }
    }
  }
  float total = 0;
#pragma GCC unroll 24
  for (int i = 0; i < 24; ++i) total += sum[i][0];
  return total;
}

__attribute__((target("avx2,fma"))) float Fma256(size_t steps) {
  __m256 sum[12];
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) sum[i] = _mm256_set1_ps(1e-3f * i);
  __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
  for (size_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) {
      asm("vfmadd231ps %2, %1, %0" : "+x"(sum[i]) : "x"(a), "x"(b));
    }
  }
  float total = 0;
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) total += sum[i][0];
  return total;
}
#endif

Work Floor(bool bf16) {
  static volatile float sink;
#if defined(__x86_64__)
  constexpr size_t kSteps = 20000;
  if (GemmKernelFor(Isa::kAvx512) != nullptr) {
    const bool pairs = bf16 && HasFastBf16();
    return {kSteps * 24.0 * 32 * (pairs ? 2 : 1),
            [pairs] { sink = Fma512(kSteps, pairs); }};
  }
  if (GemmKernelFor(Isa::kAvx2) != nullptr) {
    return {kSteps * 12.0 * 16, [] { sink = Fma256(kSteps); }};
  }
#endif
  return {1.0, [] { sink = sink + 1; }};
}

std::vector<float> ARandom(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(rng.Uniform() - 0.5);
  return x;
}

struct Product {
  bool transposed_a;
  size_t m, n, k;
};

// Operands and result of one thread.
struct Operands {
  std::vector<float> a, b, c, scratch;
  PackedMatrix packed;
  PackedMatrixBf16 packed_bf16;
  Bf16Matrix a_bf16, b_bf16;
};

std::shared_ptr<Operands> SomeOperands(const Product& x, uint64_t seed) {
  auto o = std::make_shared<Operands>();
  o->a = ARandom(x.m * x.k, seed);
  o->b = ARandom(x.k * x.n, 2);
  o->c.resize(x.m * x.n);
  o->packed.Pack(o->b.data(), x.k, x.n, x.n, false);
  o->packed_bf16.Pack(o->b.data(), x.k, x.n, x.n, false);
  const size_t rows = x.transposed_a ? x.k : x.m;
  o->a_bf16.Assign(o->a.data(), rows, x.m * x.k / rows, x.m * x.k / rows);
  o->b_bf16.Assign(o->b.data(), x.k, x.n, x.n);
  return o;
}

std::function<void()> Own(const Product& x, const std::string& type,
                          std::shared_ptr<Operands> o) {
  float* const c = o->c.data();
  const float *a = o->a.data(), *b = o->b.data();
  if (x.transposed_a) {
    if (type == "f32") {
      return [=] {
        GemmTransposedA(x.m, x.n, x.k, a, x.m, b, x.n, false, c, x.n,
                        &o->scratch);
      };
    }
    if (type == "bf16") {
      return [=] {
        GemmTransposedABf16(x.m, x.n, x.k, a, x.m, b, x.n, false, c, x.n,
                            &o->scratch);
      };
    }
    return [=] {
      GemmTransposedABf16(x.m, o->a_bf16, 0, o->b_bf16, false, c, x.n,
                          &o->scratch);
    };
  }
  if (type == "f32") {
    return [=] { Gemm(x.m, a, x.k, o->packed, false, c, x.n); };
  }
  if (type == "bf16") {
    return [=] { GemmBf16(x.m, a, x.k, o->packed_bf16, false, c, x.n); };
  }
  return [=] { GemmBf16(x.m, o->a_bf16, 0, o->packed_bf16, false, c, x.n); };
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

void Print(const Product& x, const std::string& type, size_t threads,
           const char* by, double value, double floor) {
  std::printf(
      "{\"name\":\"gemm\",\"value\":%.1f,\"unit\":\"GFLOP/s\",\"floor\":%.1f,"
      "\"ratio\":%.3f,\"params\":{\"by\":\"%s\",\"type\":\"%s\","
      "\"transposed_a\":%s,\"m\":%zu,\"n\":%zu,\"k\":%zu,\"threads\":%zu,"
      "\"floor\":\"multiply-adds in registers\"}}\n",
      value, floor, value / floor, by, type.c_str(),
      x.transposed_a ? "true" : "false", x.m, x.n, x.k, threads);
  std::fflush(stdout);
}

// "bf16" rounds float operands as it goes, "bf16_rounded" finds them rounded;
// so does the rival.
void Measure(const Product& x, const std::string& type, size_t threads) {
  const double flop = 2.0 * static_cast<double>(x.m) * x.n * x.k;
  std::vector<Work> floor, own, rival;
  for (size_t t = 0; t < threads; ++t) {
    const std::shared_ptr<Operands> o = SomeOperands(x, 3 + t);
    floor.push_back(Floor(type != "f32"));
    own.push_back({flop, Own(x, type, o)});
    if (type == "bf16") continue;
    auto run =
        GemmRival(x.m, x.n, x.k, x.transposed_a, type != "f32", o->a, o->b);
    if (run != nullptr) rival.push_back({flop, std::move(run)});
  }
  std::vector<double> floors, owns, rivals;
  for (int round = 0; round < kRounds; ++round) {
    floors.push_back(Turn(floor));
    owns.push_back(Turn(own));
    if (!rival.empty()) rivals.push_back(Turn(rival));
  }
  Print(x, type, threads, "adrank", Median(owns), Median(floors));
  if (!rival.empty()) {
    Print(x, type, threads, "oneDNN", Median(rivals), Median(floors));
  }
}

int Main(int argc, char** argv) {
  if (argc > 1) {
    std::fprintf(stderr, "unknown argument: %s\n", argv[1]);
    return 2;
  }
  std::fprintf(stderr, "kernel: %s\n", BestGemmKernel().name);
  if (!HasGemmRival()) {
    std::fprintf(stderr, "oneDNN (libdnnl-dev) was not found: no rival\n");
  }
  // A layer forward, its weight gradient, and requests of few candidates.
  const Product products[] = {
      {false, 256, 624, 624},  {false, 1024, 624, 624}, {false, 4096, 624, 624},
      {false, 256, 400, 624},  {false, 4096, 400, 624}, {false, 256, 400, 400},
      {false, 4096, 400, 400}, {true, 624, 400, 256},   {true, 624, 400, 2048},
      {true, 624, 624, 1024},  {false, 256, 400, 100},  {false, 1, 400, 624},
      {false, 8, 400, 624},    {false, 32, 400, 624},   {false, 10, 400, 100}};
  for (const size_t threads : {size_t{1}, size_t{2}}) {
    for (const Product& x : products) {
      for (const char* type : {"f32", "bf16", "bf16_rounded"}) {
        Measure(x, type, threads);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
