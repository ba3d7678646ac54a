#include "trainer/thread_team.h"

namespace adrank {

ThreadTeam::ThreadTeam(uint32_t threads) {
  for (uint32_t t = 1; t < threads; ++t) {
    threads_.emplace_back([this, t] { Loop(t); });
  }
}

ThreadTeam::~ThreadTeam() {
  stop_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::Run(absl::FunctionRef<void(uint32_t)> work) {
  work_ = &work;
  running_.store(size() - 1, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  work(0);
  for (uint32_t left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    running_.wait(left, std::memory_order_acquire);
  }
}

void ThreadTeam::Loop(uint32_t index) {
  for (uint64_t seen = 0;; ++seen) {
    round_.wait(seen, std::memory_order_acquire);
    if (stop_) return;
    (*work_)(index);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      running_.notify_one();
    }
  }
}

}  // namespace adrank
