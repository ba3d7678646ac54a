// A fixed set of threads that do one thing together, again and again.
#ifndef ADRANK_TRAINER_THREAD_TEAM_H_
#define ADRANK_TRAINER_THREAD_TEAM_H_

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace adrank {

// One caller at a time.
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
  void Run(absl::FunctionRef<void(uint32_t)> work) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop(uint32_t index);

  absl::Mutex mu_;
  const absl::FunctionRef<void(uint32_t)>* work_ ABSL_GUARDED_BY(mu_) = nullptr;
  uint64_t round_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // constant after construction
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_THREAD_TEAM_H_
