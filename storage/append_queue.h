// What waits for the disk, in the form in which it will be written. Internal to
// storage/.
//
// Hot path: no allocation after warm-up but for events, one lock.
#ifndef ADRANK_STORAGE_APPEND_QUEUE_H_
#define ADRANK_STORAGE_APPEND_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/hash.h"
#include "proto/events.pb.h"
#include "storage/event_log.h"
#include "storage/log_format.h"

namespace adrank {

// One call of AppendEvents.
struct QueuedEvents {
  struct Item {
    log_format::EventKey key;
    int64_t time_ms = 0;
    uint32_t result = 0;  // index into `results`
  };
  std::vector<Item> items;  // the valid ones
  std::vector<v1::EventResult> results;
  std::function<void(std::vector<v1::EventResult>)> done;
  int64_t receive_ms = 0;

  // Calls `done`; valid events that have no result yet get UNAVAILABLE.
  void Refuse(absl::string_view reason);
};

// Appends that are taken from the queue together.
struct AppendGroup {
  struct QueuedDecision {
    DecisionId id;
    uint32_t begin = 0, size = 0;  // of the stored value in `bytes`
  };
  std::string bytes;
  std::vector<QueuedDecision> decisions;
  std::vector<std::shared_ptr<const EncodedAd>> ads;
  std::vector<QueuedEvents> events;
  std::vector<std::function<void(absl::Status)>> flushes;
  size_t appends = 0;

  absl::string_view value(const QueuedDecision& d) const {
    return absl::string_view(bytes).substr(d.begin, d.size);
  }
  bool empty() const { return appends == 0 && flushes.empty(); }
  // Keeps its buffers.
  void Clear();
};

// Thread-safe; one thread takes.
class AppendQueue {
 public:
  struct Limits {
    size_t max_appends = 65536;
    // A group that is this large or old is taken at once. 1 MiB: the buffers
    // stay in the cache, and a sync is far dearer than the rest of a commit.
    size_t group_bytes = 1 << 20;
    absl::Duration group_wait;
    // Events, whose sender waits, are taken at once.
    bool events_are_urgent = false;
  };
  explicit AppendQueue(const Limits& limits) : limits_(limits) {}

  // False when full or closed. `value` is a stored decision.
  bool PushDecision(const DecisionId& id, absl::string_view value,
                    absl::Span<const std::shared_ptr<const EncodedAd>> ads);
  // Not OK when full or closed; then `events` is as it was.
  absl::Status PushEvents(QueuedEvents* events);
  // Not OK when closed; else `done` is called when all before it is on disk.
  absl::Status PushFlush(std::function<void(absl::Status)> done);

  // Waits for a group and swaps it with *group, which must be clear and whose
  // buffers are used again. False when the queue is closed and empty.
  bool Take(AppendGroup* group);
  void Close();
  size_t size() const;

  // Snapshots that are in the log: PushDecision leaves them out.
  void AddKnownAds(const absl::flat_hash_set<Hash128Value>& ads);
  void ForgetKnownAds();
  bool IsKnownAd(const Hash128Value& hash) const;
  // While true, known ads are never forgotten for want of memory.
  void KeepKnownAds(bool keep);

 private:
  bool Full(size_t appends) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Pushed(size_t appends, size_t bytes, bool urgent)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Limits limits_;
  mutable absl::Mutex mu_;
  absl::CondVar changed_;
  // All below guarded by mu_.
  AppendGroup open_ ABSL_GUARDED_BY(mu_);  // grows
  std::deque<AppendGroup> full_ ABSL_GUARDED_BY(mu_);
  std::vector<AppendGroup> spare_ ABSL_GUARDED_BY(mu_);
  size_t appends_ ABSL_GUARDED_BY(mu_) = 0;  // of all groups
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  // The open group is to be taken without delay.
  bool urgent_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool keep_known_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<Hash128Value> known_ads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_APPEND_QUEUE_H_
