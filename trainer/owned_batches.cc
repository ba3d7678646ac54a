#include "trainer/owned_batches.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

// Below this batch the exchange costs more than a second thread saves.
constexpr size_t kMinParallelBatch = 32;
constexpr uint32_t kMaxThreads = 64;
// Looks at another thread's counter before it sleeps: some 50 us; none where
// threads share cores.
constexpr int kSpins = 2000;
// Entries of the next batch prefetched; the kernels look ahead from there.
constexpr size_t kAhead = 64;

uint32_t Threads(uint32_t threads) {
  if (threads == 0) threads = std::thread::hardware_concurrency();
  return std::clamp<uint32_t>(threads, 1, kMaxThreads);
}

uint64_t IntegerSqrt(uint64_t t) {
  uint64_t r = static_cast<uint64_t>(std::sqrt(static_cast<double>(t)));
  while (r * r > t) --r;
  while ((r + 1) * (r + 1) <= t) ++r;
  return r;
}

void WaitFor(std::atomic<uint64_t>& counter, uint64_t value, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (counter.load(std::memory_order_acquire) >= value) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  uint64_t now = counter.load(std::memory_order_acquire);
  while (now < value) {
    counter.wait(now, std::memory_order_acquire);
    now = counter.load(std::memory_order_acquire);
  }
}

}  // namespace

bool OwnedBatches::Pace::UseTeam() const {
  // One block in so many tries the other way.
  constexpr uint64_t kTrial = 32;
  const bool faster = seconds_[1] <= seconds_[0] || seconds_[0] == 0;
  return faster != (turn_ % kTrial == kTrial / 8);
}

void OwnedBatches::Pace::Note(bool team, double seconds_per_example) {
  double& average = seconds_[team];
  average = average == 0 ? seconds_per_example
                         : 0.75 * average + 0.25 * seconds_per_example;
  ++turn_;
}

OwnedBatches::OwnedBatches(uint32_t threads, uint32_t max_batch)
    : max_batch_(max_batch),
      kernel_(BestFtrlKernel()),
      team_(Threads(threads)),
      lanes_(team_.size()),
      spins_(team_.size() <= std::thread::hardware_concurrency() ? kSpins : 0) {
}

size_t OwnedBatches::BatchAfter(uint64_t seen) const {
  return std::clamp<uint64_t>(IntegerSqrt(seen) / 4, 1, max_batch_);
}

ExampleBatch OwnedBatches::BatchAt(const Job& job, size_t first) const {
  const size_t count = std::min(BatchAfter(job.seen + first), job.end - first);
  return {&job.block, job.order, first, count};
}

absl::Status OwnedBatches::Update(const ExampleBlock& block,
                                  absl::Span<const uint32_t> order,
                                  uint64_t seen, BatchWork* work) {
  for (const uint32_t i : order) {
    if (i >= block.examples()) {
      return absl::InvalidArgumentError(
          absl::StrCat("order names example ", i, " of ", block.examples()));
    }
  }
  const size_t count = order.empty() ? block.examples() : order.size();
  // Batches grow, so that the small ones come first: those are for one thread.
  size_t split = 0;
  if (team_.size() == 1) split = count;
  while (split < count && BatchAfter(seen + split) < kMinParallelBatch) {
    split += std::min(BatchAfter(seen + split), count - split);
  }
  if (split > 0) Work({block, order, 0, split, 1, seen, work}, 0);
  if (split == count) return absl::OkStatus();
  const bool together = pace_.UseTeam();
  const Job job = {block, order, split, count, together ? team_.size() : 1,
                   seen,  work};
  const auto begin = std::chrono::steady_clock::now();
  if (together) {
    for (Lane& lane : lanes_) lane.published.store(0);
    team_.Run([&](uint32_t t) { Work(job, t); });
  } else {
    Work(job, 0);
  }
  const std::chrono::duration<double> spent =
      std::chrono::steady_clock::now() - begin;
  pace_.Note(together, spent.count() / static_cast<double>(count - split));
  return absl::OkStatus();
}

void OwnedBatches::Work(const Job& job, uint32_t t) {
  Lane& lane = lanes_[t];
  ExampleBatch batch = BatchAt(job, job.begin);
  Prepare(job, t, batch, &lane.shares[0]);
  for (uint64_t i = 0; batch.first < job.end; ++i) {
    const int parity = i & 1;
    const OwnedEntries& share = lane.shares[parity];
    job.work->Sum(t, parity, share, batch);
    if (job.threads > 1) {
      lane.published.store(i + 1, std::memory_order_release);
      lane.published.notify_all();
    }
    ExampleBatch next = {&job.block, job.order, batch.first + batch.count, 0};
    if (next.first < job.end) {
      next = BatchAt(job, next.first);
      Prepare(job, t, next, &lane.shares[1 - parity]);
    }
    if (job.threads > 1) {
      for (uint32_t u = 0; u < job.threads; ++u) {
        WaitFor(lanes_[u].published, i + 1, spins_);
      }
    }
    job.work->Learn(t, job.threads, parity, share, batch);
    batch = next;
  }
}

// The entries of the batch that thread t owns.
void OwnedBatches::Prepare(const Job& job, uint32_t t,
                           const ExampleBatch& batch,
                           OwnedEntries* share) const {
  const ExampleBlock& block = job.block;
  share->offsets.resize(batch.count + 1);
  share->offsets[0] = 0;
  if (job.threads == 1 && job.order.empty()) {
    const size_t begin = block.begin(batch.first);
    share->rows = block.rows() + begin;
    share->values =
        block.values() == nullptr ? nullptr : block.values() + begin;
    for (size_t i = 1; i <= batch.count; ++i) {
      share->offsets[i] =
          static_cast<uint32_t>(block.begin(batch.first + i) - begin);
    }
  } else {
    PrepareOwn(job, t, batch, share);
  }
  const size_t ahead = std::min<size_t>(kAhead, share->offsets[batch.count]);
  for (size_t e = 0; e < ahead; ++e) job.work->Prefetch(share->rows[e]);
}

void OwnedBatches::PrepareOwn(const Job& job, uint32_t t,
                              const ExampleBatch& batch,
                              OwnedEntries* share) const {
  const ExampleBlock& block = job.block;
  size_t room = 16;  // the kernel's
  for (size_t i = 0; i < batch.count; ++i) {
    const size_t e = batch.example(i);
    room += block.begin(e + 1) - block.begin(e);
  }
  if (share->own_rows.size() < room) share->own_rows.resize(room);
  if (block.values() != nullptr && share->own_values.size() < room) {
    share->own_values.resize(room);
  }
  const uint64_t low = (uint64_t{t} << 32) / job.threads;
  const uint64_t span = (uint64_t{t + 1} << 32) / job.threads - low;
  size_t size = 0;
  for (size_t i = 0; i < batch.count; ++i) {
    const size_t e = batch.example(i);
    const size_t begin = block.begin(e);
    const size_t n = block.begin(e + 1) - begin;
    const uint32_t* rows = block.rows() + begin;
    const float* values =
        block.values() == nullptr ? nullptr : block.values() + begin;
    uint32_t* out = share->own_rows.data() + size;
    float* out_values = share->own_values.data() + size;
    if (job.threads == 1) {
      std::copy_n(rows, n, out);
      if (values != nullptr) std::copy_n(values, n, out_values);
      size += n;
    } else {
      size += kernel_.pick(rows, values, n, static_cast<uint32_t>(low),
                           static_cast<uint32_t>(span), out, out_values);
    }
    share->offsets[i + 1] = static_cast<uint32_t>(size);
  }
  share->rows = share->own_rows.data();
  share->values =
      block.values() == nullptr ? nullptr : share->own_values.data();
}

}  // namespace adrank
