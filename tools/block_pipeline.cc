#include "tools/block_pipeline.h"

namespace adrank {

void BlockPipeline::Work(
    uint64_t blocks,
    absl::FunctionRef<void(uint64_t block, uint32_t slot)> make) {
  for (;;) {
    uint64_t block = 0;
    uint32_t slot = 0;
    {
      absl::MutexLock lock(&mu_);
      if (stopped_ || next_ == blocks) return;
      block = next_++;
      // The block that used this slot before must be written.
      const auto free = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stopped_ || block < written_ + ready_.size();
      };
      mu_.Await(absl::Condition(&free));
      if (stopped_) return;
      slot = static_cast<uint32_t>(block % ready_.size());
    }
    make(block, slot);
    absl::MutexLock lock(&mu_);
    ready_[slot] = true;
  }
}

absl::Status BlockPipeline::Run(
    uint64_t blocks, uint32_t threads,
    absl::FunctionRef<void(uint64_t block, uint32_t slot)> make,
    absl::FunctionRef<absl::Status(uint32_t slot)> write) {
  {
    absl::MutexLock lock(&mu_);
    next_ = written_ = 0;
    stopped_ = false;
    ready_.assign(Slots(threads), false);
  }
  std::vector<std::thread> workers;
  for (uint32_t i = 0; i < threads; ++i) {
    workers.emplace_back([&] { Work(blocks, make); });
  }
  absl::Status status;
  for (uint64_t block = 0; block < blocks && status.ok(); ++block) {
    uint32_t slot = 0;
    {
      absl::MutexLock lock(&mu_);
      slot = static_cast<uint32_t>(block % ready_.size());
      const auto is_ready = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return bool{ready_[slot]};
      };
      mu_.Await(absl::Condition(&is_ready));
    }
    status = write(slot);
    absl::MutexLock lock(&mu_);
    ready_[slot] = false;
    ++written_;
    stopped_ = !status.ok();
  }
  for (std::thread& worker : workers) worker.join();
  return status;
}

}  // namespace adrank
