#include "server/rpc/worker.h"

#include <utility>

namespace adrank {

Worker::Worker(size_t max_waiting)
    : max_waiting_(max_waiting), thread_([this] { Run(); }) {}

Worker::~Worker() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  thread_.join();
}

bool Worker::Do(std::function<void()> work) {
  absl::MutexLock lock(&mu_);
  if (stop_ || waiting_.size() >= max_waiting_) return false;
  waiting_.push_back(std::move(work));
  return true;
}

void Worker::Run() {
  for (;;) {
    std::function<void()> work;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &Worker::Woken));
      if (waiting_.empty()) return;  // stopped
      work = std::move(waiting_.front());
      waiting_.pop_front();
    }
    work();
  }
}

}  // namespace adrank
