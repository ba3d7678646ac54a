// One thread for work that is too long for the threads of gRPC, which rank.
#ifndef ADRANK_SERVER_RPC_WORKER_H_
#define ADRANK_SERVER_RPC_WORKER_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace adrank {

// Thread-safe. The destructor waits for the work that was taken.
class Worker {
 public:
  explicit Worker(size_t max_waiting);
  ~Worker();

  // Does it after all taken before. False: too much is waiting, and `work` will
  // not be called.
  bool Do(std::function<void()> work);

 private:
  void Run();
  bool Woken() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return stop_ || !waiting_.empty();
  }

  const size_t max_waiting_;
  absl::Mutex mu_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_WORKER_H_
