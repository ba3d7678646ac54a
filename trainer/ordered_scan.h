// The join, on many threads, with the results of one.
#ifndef ADRANK_TRAINER_ORDERED_SCAN_H_
#define ADRANK_TRAINER_ORDERED_SCAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "storage/event_log_reader.h"

namespace adrank {

// A copy of some consecutive records of a cursor.
class RecordBatch {
 public:
  // Replaces the content by the next records, up to a fixed number of bytes and
  // ads; where a batch ends depends on the records alone. False: there was
  // none.
  bool Fill(JoinCursor* cursor);

  size_t size() const { return entries_.size(); }
  // Valid until the next Fill.
  JoinedRecord record(size_t i) const;

 private:
  struct Entry {
    DecisionId id;
    size_t offset;
    size_t bytes;
    bool has_decision;
    uint32_t ads;
    size_t first_event;
    size_t events;
  };
  std::string bytes_;
  std::vector<JoinedEvent> events_;
  std::vector<Entry> entries_;
};

// Reads `cursor` to its end in batches; process(worker, batch, output) runs on
// `threads` workers at once (worker < threads; each worker is one thread), and
// merge(output) is called for every batch in the order of the log, one at a
// time. What is merged is therefore the same for any number of threads. Outputs
// are used again: process must clear what it gets. Stops at the first error, in
// the order of the log; the cursor's own status comes last.
template <typename Output>
class OrderedScan {
 public:
  using Process =
      std::function<absl::Status(size_t, const RecordBatch&, Output*)>;
  using Merge = std::function<absl::Status(Output*)>;

  static absl::Status Run(JoinCursor* cursor, size_t threads, Process process,
                          Merge merge) {
    OrderedScan scan(cursor, threads, std::move(process), std::move(merge));
    std::vector<std::thread> pool;
    for (size_t w = 1; w < threads; ++w) {
      pool.emplace_back([&scan, w] { scan.Work(w); });
    }
    scan.Work(0);
    for (std::thread& thread : pool) thread.join();
    absl::MutexLock lock(&scan.cursor_mu_);
    absl::MutexLock order_lock(&scan.mu_);
    return scan.status_.ok() ? cursor->status() : scan.status_;
  }

 private:
  struct Task {
    uint64_t sequence = 0;
    RecordBatch batch;
    Output output;
    absl::Status status;
  };

  OrderedScan(JoinCursor* cursor, size_t threads, Process process, Merge merge)
      : process_(std::move(process)),
        merge_(std::move(merge)),
        max_in_flight_(4 * threads),
        cursor_(cursor) {}

  void Work(size_t worker) {
    while (std::unique_ptr<Task> task = Take()) {
      task->status = process_(worker, task->batch, &task->output);
      Complete(std::move(task));
    }
  }

  // An idle task, once few enough are under way; null after an error.
  std::unique_ptr<Task> Idle() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    const auto may_start = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return !status_.ok() || in_flight_ < max_in_flight_;
    };
    mu_.Await(absl::Condition(&may_start));
    if (!status_.ok()) return nullptr;
    ++in_flight_;
    if (idle_.empty()) return std::make_unique<Task>();
    std::unique_ptr<Task> task = std::move(idle_.back());
    idle_.pop_back();
    return task;
  }

  // A task with the next batch; null at the end.
  std::unique_ptr<Task> Take() ABSL_LOCKS_EXCLUDED(cursor_mu_, mu_) {
    std::unique_ptr<Task> task = Idle();
    if (task == nullptr) return nullptr;
    {
      absl::MutexLock lock(&cursor_mu_);
      if (task->batch.Fill(cursor_)) {
        task->sequence = taken_++;
        return task;
      }
    }
    absl::MutexLock lock(&mu_);
    --in_flight_;
    return nullptr;
  }

  // Hands the task over; merges all that are next in order, unless another
  // worker is doing so.
  void Complete(std::unique_ptr<Task> done) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::ReleasableMutexLock lock(&mu_);
    waiting_[done->sequence] = std::move(done);
    if (merging_) return;
    merging_ = true;
    while (!waiting_.empty() && waiting_.begin()->first == merged_) {
      std::unique_ptr<Task> task = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      absl::Status status = status_.ok() ? task->status : status_;
      if (status.ok()) {
        mu_.Unlock();
        status = merge_(&task->output);
        mu_.Lock();
      }
      if (status_.ok()) status_ = status;
      ++merged_;
      --in_flight_;
      idle_.push_back(std::move(task));
    }
    merging_ = false;
  }

  // Constant after construction.
  const Process process_;
  const Merge merge_;
  const size_t max_in_flight_;

  absl::Mutex cursor_mu_;
  JoinCursor* const cursor_ ABSL_PT_GUARDED_BY(cursor_mu_);
  uint64_t taken_ ABSL_GUARDED_BY(cursor_mu_) = 0;

  absl::Mutex mu_;
  std::map<uint64_t, std::unique_ptr<Task>> waiting_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Task>> idle_ ABSL_GUARDED_BY(mu_);
  uint64_t merged_ ABSL_GUARDED_BY(mu_) = 0;
  size_t in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  bool merging_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_ORDERED_SCAN_H_
