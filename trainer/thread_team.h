// A fixed set of threads that do one thing together, again and again.
#ifndef ADRANK_TRAINER_THREAD_TEAM_H_
#define ADRANK_TRAINER_THREAD_TEAM_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace adrank {

// One caller at a time. Atomics that wait, not absl::Mutex: Debian's Abseil is
// built without ThreadSanitizer, which cannot see the order its locks make.
class ThreadTeam {
 public:
  // REQUIRES: threads >= 1. The caller of Run is one of them.
  explicit ThreadTeam(uint32_t threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  uint32_t size() const { return static_cast<uint32_t>(threads_.size()) + 1; }

  // Calls work(t) for every t < size(), all at the same time, and waits for
  // all.
  void Run(absl::FunctionRef<void(uint32_t)> work);

 private:
  void Loop(uint32_t index);

  // Written before round_ rises, read after.
  const absl::FunctionRef<void(uint32_t)>* work_ = nullptr;
  bool stop_ = false;
  std::atomic<uint64_t> round_{0};
  // Threads that have not finished the round.
  std::atomic<uint32_t> running_{0};
  std::vector<std::thread> threads_;  // constant after construction
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_THREAD_TEAM_H_
