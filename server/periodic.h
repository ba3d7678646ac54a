// A background loop that tests can step.
#ifndef ADRANK_SERVER_PERIODIC_H_
#define ADRANK_SERVER_PERIODIC_H_

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace adrank {

// Calls `run_once` on a thread of its own: every `period`, and soon after each
// Notify(). Destruction waits for the call under way and makes no other.
class Periodic {
 public:
  Periodic(absl::Duration period, std::function<void()> run_once);
  ~Periodic();
  Periodic(const Periodic&) = delete;
  Periodic& operator=(const Periodic&) = delete;

  void Notify();

 private:
  void Loop();

  const absl::Duration period_;
  const std::function<void()> run_once_;
  absl::Mutex mu_;
  bool notified_ ABSL_GUARDED_BY(mu_) = false;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: the loop uses the members above
};

}  // namespace adrank

#endif  // ADRANK_SERVER_PERIODIC_H_
