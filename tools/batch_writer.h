// Writes batches to an event log while the next one is being made.
#ifndef ADRANK_TOOLS_BATCH_WRITER_H_
#define ADRANK_TOOLS_BATCH_WRITER_H_

#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "storage/event_log.h"

namespace adrank {

// A thread that calls EventLog::Write, in the order of Submit. Records are
// given out again once they are written, because most of the cost of a decision
// is to allocate its strings. One thread submits.
class BatchWriter {
 public:
  explicit BatchWriter(EventLog* log);
  // Drops a batch that was not submitted.
  ~BatchWriter();

  // The batch that is being filled.
  LogBatch& batch() { return filling_; }
  // Appends a record that is as new to batch().
  LogBatch::DecisionRecord& AddDecision();
  // Appends an event to batch().
  void AddEvent(const DecisionId& id, uint32_t position, v1::EventType type,
                int64_t time_ms);
  // Appends the snapshot to batch() unless one that was submitted or is in it
  // has the same content; returns its hash.
  std::string AddAd(const v1::AdSnapshot& ad);

  // Hands batch() over and clears it; waits while another one is written. Not
  // OK once a write has failed: nothing is written from then on.
  absl::Status Submit();
  // Submits and waits until all is written and on disk.
  absl::Status Finish();

 private:
  void Run();

  EventLog* const log_;
  // Only the submitting thread.
  LogBatch filling_;
  std::vector<LogBatch::DecisionRecord> spare_;
  absl::flat_hash_set<std::string> known_ads_;

  absl::Mutex mu_;
  LogBatch writing_ ABSL_GUARDED_BY(mu_);  // Run()'s own while busy_
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_BATCH_WRITER_H_
