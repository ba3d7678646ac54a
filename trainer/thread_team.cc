#include "trainer/thread_team.h"

namespace adrank {

ThreadTeam::ThreadTeam(uint32_t threads) {
  for (uint32_t t = 1; t < threads; ++t) {
    threads_.emplace_back([this, t] { Loop(t); });
  }
}

ThreadTeam::~ThreadTeam() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::Run(absl::FunctionRef<void(uint32_t)> work) {
  if (threads_.empty()) {
    work(0);
    return;
  }
  {
    absl::MutexLock lock(&mu_);
    work_ = &work;
    running_ = static_cast<uint32_t>(threads_.size());
    ++round_;
  }
  work(0);
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(
      +[](uint32_t* running) { return *running == 0; }, &running_));
}

void ThreadTeam::Loop(uint32_t index) {
  uint64_t seen = 0;
  while (true) {
    const absl::FunctionRef<void(uint32_t)>* work;
    {
      absl::MutexLock lock(&mu_);
      const auto ready = [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stop_ || round_ != seen;
      };
      mu_.Await(absl::Condition(&ready));
      if (stop_) return;
      seen = round_;
      work = work_;
    }
    (*work)(index);
    absl::MutexLock lock(&mu_);
    --running_;
  }
}

}  // namespace adrank
