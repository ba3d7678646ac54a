// Makes numbered blocks on several threads and hands them over in order.
#ifndef ADRANK_TOOLS_BLOCK_PIPELINE_H_
#define ADRANK_TOOLS_BLOCK_PIPELINE_H_

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace adrank {

// Calls make(block number, slot) for blocks [0, blocks) on `threads` threads,
// and write(slot) for each in order on the caller's. A slot is one of 2 x
// threads + 1 places for a block, used again once written; make and write of
// one slot never overlap. Stops at the first write that is not OK and returns
// its status. REQUIRES: threads > 0.
class BlockPipeline {
 public:
  static uint32_t Slots(uint32_t threads) { return 2 * threads + 1; }

  absl::Status Run(uint64_t blocks, uint32_t threads,
                   absl::FunctionRef<void(uint64_t block, uint32_t slot)> make,
                   absl::FunctionRef<absl::Status(uint32_t slot)> write);

 private:
  void Work(uint64_t blocks,
            absl::FunctionRef<void(uint64_t block, uint32_t slot)> make);

  absl::Mutex mu_;
  // Blocks handed out, and written.
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t written_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<bool> ready_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_BLOCK_PIPELINE_H_
