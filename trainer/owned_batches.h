// Mini-batches learnt by threads that own rows: what FtrlLearner and FmLearner
// share.
#ifndef ADRANK_TRAINER_OWNED_BATCHES_H_
#define ADRANK_TRAINER_OWNED_BATCHES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "trainer/example_blocks.h"
#include "trainer/ftrl_kernel.h"
#include "trainer/thread_team.h"

namespace adrank {

// Consecutive examples of a block, in the order in which they are visited.
struct ExampleBatch {
  const ExampleBlock* block;
  absl::Span<const uint32_t> order;  // empty: the block's own
  size_t first;
  size_t count;

  // Index in the block of the batch's example i.
  size_t example(size_t i) const {
    return order.empty() ? first + i : order[first + i];
  }
};

// The entries of a batch whose rows one thread owns.
struct OwnedEntries {
  const uint32_t* rows = nullptr;
  const float* values = nullptr;  // nullptr: all 1
  // [count + 1]: the batch's example i has [offsets[i], offsets[i + 1]).
  std::vector<uint32_t> offsets;
  // What rows and values point to where they are copies.
  std::vector<uint32_t> own_rows;
  std::vector<float> own_values;
};

// What one of `threads` threads does for a batch. Both functions are called by
// thread t only, for the batches in their order; `parity` alternates.
class BatchWork {
 public:
  virtual ~BatchWork() = default;
  // Writes the share's part of the batch's sums where the other threads find
  // it by (t, parity).
  virtual void Sum(uint32_t t, int parity, const OwnedEntries& share,
                   const ExampleBatch& batch) = 0;
  // The sums of all threads are readable. Learns the share.
  virtual void Learn(uint32_t t, uint32_t threads, int parity,
                     const OwnedEntries& share, const ExampleBatch& batch) = 0;
  // A line that is about to be read.
  virtual void Prefetch(uint32_t row) const = 0;
};

// Cuts blocks into batches: the batch that starts after t examples has
// clamp(isqrt(t) / 4, 1, max_batch) examples, less at the end of an Update.
//
// Threads own rows, not examples: a row's line stays in its owner's cache, and
// a row takes its gradients in the order of the examples however many threads
// there are. They exchange sums, which must be exact in any order. Whether the
// team or one thread alone is faster is measured block by block; it does not
// change what is learnt.
class OwnedBatches {
 public:
  // threads 0: all cores.
  OwnedBatches(uint32_t threads, uint32_t max_batch);

  // InvalidArgument when `order` names an example that the block does not have;
  // then nothing is learnt. `seen`: examples learnt before.
  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order, uint64_t seen,
                      BatchWork* work);

  // Threads of the team; work of Update has t below it.
  uint32_t threads() const { return team_.size(); }
  ThreadTeam& team() { return team_; }

 private:
  // Examples [begin, end) of a block in some order, learnt by `threads`.
  struct Job {
    const ExampleBlock& block;
    absl::Span<const uint32_t> order;
    size_t begin;
    size_t end;
    uint32_t threads;
    uint64_t seen;  // examples before the block's first
    BatchWork* work;
  };
  struct alignas(64) Lane {
    OwnedEntries shares[2];  // of this batch and the next
    // Batches of this job whose sums are readable.
    alignas(64) std::atomic<uint64_t> published{0};
  };
  // Whether the team or one thread alone is faster, by measuring: the exchange
  // per batch makes the team as slow as its slowest thread, and on a machine
  // busy with other work that can be slower than one alone (measured: half).
  class Pace {
   public:
    bool UseTeam() const;
    void Note(bool team, double seconds_per_example);

   private:
    double seconds_[2] = {0, 0};  // an example: alone, team
    uint64_t turn_ = 0;
  };

  size_t BatchAfter(uint64_t seen) const;
  ExampleBatch BatchAt(const Job& job, size_t first) const;
  void Work(const Job& job, uint32_t t);
  void Prepare(const Job& job, uint32_t t, const ExampleBatch& batch,
               OwnedEntries* share) const;
  void PrepareOwn(const Job& job, uint32_t t, const ExampleBatch& batch,
                  OwnedEntries* share) const;

  const uint32_t max_batch_;
  const FtrlKernel& kernel_;
  ThreadTeam team_;
  std::vector<Lane> lanes_;
  const int spins_;
  Pace pace_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_OWNED_BATCHES_H_
