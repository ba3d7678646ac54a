#include "server/periodic.h"

#include <utility>

namespace adrank {

Periodic::Periodic(absl::Duration period, std::function<void()> run_once)
    : period_(period),
      run_once_(std::move(run_once)),
      thread_([this] { Loop(); }) {}

Periodic::~Periodic() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  thread_.join();
}

void Periodic::Notify() {
  absl::MutexLock lock(&mu_);
  notified_ = true;
}

void Periodic::Loop() {
  for (;;) {
    {
      absl::MutexLock lock(&mu_);
      const auto wanted = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return notified_ || stop_;
      };
      mu_.AwaitWithTimeout(absl::Condition(&wanted), period_);
      if (stop_) return;
      notified_ = false;
    }
    run_once_();
  }
}

}  // namespace adrank
