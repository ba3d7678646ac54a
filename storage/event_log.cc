#include "storage/event_log.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/append_queue.h"
#include "storage/log_database.h"
#include "storage/log_format.h"
#include "storage/retention.h"

namespace adrank {

using log_format::EventKey;
using v1::EventResult;
using v1::StorageConfig;

namespace {

constexpr uint32_t kMaxGroupCommitMs = 1000;
constexpr uint32_t kDefaultGroupCommitMs = 2;
constexpr uint32_t kDefaultMaxPending = 65536;
constexpr int64_t kDayMs = 86'400'000;
// One write at most; larger ones only make the memtables overshoot.
constexpr size_t kMaxBatchBytes = 4 << 20;
// Records that retention handles while appends wait: some 20 ms.
constexpr size_t kRetentionChunk = 1 << 15;
// After a failed write: how soon the log tries again.
constexpr absl::Duration kRetryInterval = absl::Milliseconds(100);

absl::Status Validate(const StorageConfig& config) {
  if (config.data_dir().empty()) {
    return absl::InvalidArgumentError("storage: data_dir is required");
  }
  if (config.group_commit_ms() > kMaxGroupCommitMs) {
    return absl::InvalidArgumentError(
        absl::StrCat("storage: group_commit_ms ", config.group_commit_ms(),
                     " not in [0, ", kMaxGroupCommitMs, "]"));
  }
  if (config.node_id() > 0xffff) {
    return absl::InvalidArgumentError(absl::StrCat(
        "storage: node_id ", config.node_id(), " not in [0, 65535]"));
  }
  return absl::OkStatus();
}

AppendQueue::Limits QueueLimits(const StorageConfig& config) {
  AppendQueue::Limits limits;
  limits.max_appends = config.max_pending_appends() == 0
                           ? kDefaultMaxPending
                           : config.max_pending_appends();
  limits.group_wait = absl::Milliseconds(config.group_commit_ms() == 0
                                             ? kDefaultGroupCommitMs
                                             : config.group_commit_ms());
  if (config.durability() == StorageConfig::SYNC_EACH) {
    limits.group_wait = absl::ZeroDuration();
  }
  // Without a sync to share there is nothing that a sender should wait for.
  limits.events_are_urgent = config.durability() == StorageConfig::ASYNC;
  return limits;
}

class EventLogImpl final : public EventLog {
 public:
  EventLogImpl(const StorageConfig& config, const Clock* clock,
               rocksdb::Env* env, std::shared_ptr<LogDatabase> log)
      : config_(config),
        clock_(clock),
        env_(env),
        sync_(config.durability() != StorageConfig::ASYNC),
        queue_(QueueLimits(config)),
        log_(std::move(log)),
        builder_(log_.get()),
        committer_([this] { Run(); }) {}

  ~EventLogImpl() override {
    queue_.Close();
    committer_.join();
  }

  bool AppendDecision(
      const DecisionId& id, const v1::Decision& decision,
      absl::Span<const std::shared_ptr<const EncodedAd>> ads) override;
  void AppendEvents(
      std::vector<v1::Event> events,
      std::function<void(std::vector<EventResult>)> done) override;
  absl::Status Write(const LogBatch& batch) override;
  absl::Status Flush() override;
  absl::Status ApplyRetention() override;
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) override;
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view hash) override;
  absl::Status ForEachEvent(
      int64_t begin_ms,
      const std::function<absl::Status(const StoredEvent&)>& visit) override;
  absl::StatusOr<std::vector<v1::Decision>> NewestDecisions(
      size_t limit) override;
  EventLogStats Stats() override;

 private:
  // How far a group has been written.
  struct Progress {
    size_t decisions = 0, events = 0;
    bool ads = false;
    absl::Status status;  // of the first failure
  };

  void Run();
  void CommitGroup(AppendGroup* group);
  // Writes the next part of the group and moves *progress past it.
  absl::Status CommitPart(AppendGroup* group, Progress* progress);
  absl::Status FillPart(AppendGroup* group, Progress* progress)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);
  void AddQueuedEvents(QueuedEvents* events)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);
  absl::Status CommitBuilder(bool sync)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);
  absl::Status FillFrom(const LogBatch& batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);
  absl::Status SyncAll();

  // OK when the log can be written, perhaps after repairing it.
  absl::Status Recover() ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);
  absl::Status Reopen() ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);
  void Failed(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(commit_mu_);

  absl::Status DropOld(const DecisionId& end, bool* dropped);
  absl::Status SweepSnapshots();

  // Null while the log could not be opened anew.
  std::shared_ptr<LogDatabase> log() const {
    absl::MutexLock lock(&log_mu_);
    return log_;
  }

  absl::StatusOr<std::shared_ptr<LogDatabase>> Readable() const;

  // Constant after construction.
  const StorageConfig config_;
  const Clock* const clock_;
  rocksdb::Env* const env_;
  const bool sync_;

  AppendQueue queue_;
  std::atomic<uint64_t> dropped_{0};  // that the counters do not have yet
  absl::Mutex retention_mu_;          // one at a time

  // Whoever writes holds it. Before log_mu_ and the queue's own.
  absl::Mutex commit_mu_;
  mutable absl::Mutex log_mu_;
  // Changed with both held.
  std::shared_ptr<LogDatabase> log_;
  LogBatchBuilder builder_ ABSL_GUARDED_BY(commit_mu_);
  std::string scratch_ ABSL_GUARDED_BY(commit_mu_);
  // Not OK after a failed write, until the log could be repaired.
  absl::Status failure_ ABSL_GUARDED_BY(commit_mu_);
  absl::Time failed_since_ ABSL_GUARDED_BY(commit_mu_);
  absl::Time retry_at_ ABSL_GUARDED_BY(commit_mu_);
  log_format::Counters last_counters_ ABSL_GUARDED_BY(commit_mu_);
  // While retention sweeps: what decisions of Write refer to.
  std::unique_ptr<absl::flat_hash_set<Hash128Value>> referred_
      ABSL_GUARDED_BY(commit_mu_);

  std::thread committer_;  // last: runs when all else is ready
};

bool EventLogImpl::AppendDecision(
    const DecisionId& id, const v1::Decision& decision,
    absl::Span<const std::shared_ptr<const EncodedAd>> ads) {
  // Encoded here, outside of every lock, so that callers share the work.
  thread_local std::string value;
  value.clear();
  bool good = decision.ads_size() <= static_cast<int>(log_format::kMaxPosition);
  for (const auto& ad : ads) {
    good = good && ad->hash.size() == log_format::kHashBytes;
  }
  if (good) {
    log_format::AppendDecisionValue(decision, &value);
    good = queue_.PushDecision(id, value, ads);
  }
  if (!good) dropped_.fetch_add(1, std::memory_order_relaxed);
  return good;
}

void EventLogImpl::AppendEvents(
    std::vector<v1::Event> events,
    std::function<void(std::vector<EventResult>)> done) {
  QueuedEvents queued;
  queued.done = std::move(done);
  queued.receive_ms = clock_->NowMs();
  queued.results.resize(events.size());
  queued.items.reserve(events.size());
  for (uint32_t i = 0; i < events.size(); ++i) {
    const absl::StatusOr<EventKey> key = EventKey::Of(events[i]);
    if (!key.ok()) {
      queued.results[i].set_code(EventResult::CODE_INVALID);
      queued.results[i].set_message(std::string(key.status().message()));
      continue;
    }
    const int64_t time_ms = events[i].time_ms();
    queued.items.push_back(
        {*key, time_ms == 0 ? queued.receive_ms : time_ms, i});
  }
  const absl::Status pushed = queue_.PushEvents(&queued);
  if (!pushed.ok()) queued.Refuse(pushed.message());
}

void EventLogImpl::Run() {
  AppendGroup group;
  while (queue_.Take(&group)) {
    CommitGroup(&group);
    group.Clear();
  }
}

void EventLogImpl::CommitGroup(AppendGroup* group) {
  Progress progress;
  while (progress.decisions < group->decisions.size() ||
         progress.events < group->events.size()) {
    const Progress before = progress;
    const absl::Status status = CommitPart(group, &progress);
    if (progress.status.ok()) progress.status = status;
    for (size_t i = before.events; i < progress.events; ++i) {
      QueuedEvents& call = group->events[i];
      if (status.ok()) {
        call.done(std::move(call.results));
      } else {
        call.Refuse(status.message());
      }
    }
  }
  if (group->flushes.empty()) return;
  if (progress.status.ok()) progress.status = SyncAll();
  for (const auto& flush : group->flushes) flush(progress.status);
}

absl::Status EventLogImpl::CommitPart(AppendGroup* group, Progress* progress) {
  absl::MutexLock lock(&commit_mu_);
  const Progress before = *progress;
  absl::Status status = Recover();
  if (status.ok()) {
    builder_.Reset(log_.get());
    status = FillPart(group, progress);
    if (status.ok()) status = CommitBuilder(sync_);
  } else {
    // What would follow fails too, and is told at once.
    progress->decisions = group->decisions.size();
    progress->events = group->events.size();
  }
  if (!status.ok()) {
    dropped_.fetch_add(progress->decisions - before.decisions);
  }
  return status;
}

absl::Status EventLogImpl::FillPart(AppendGroup* group, Progress* progress) {
  const bool each = config_.durability() == StorageConfig::SYNC_EACH;
  const auto full = [&] {
    return each ? !builder_.empty() : builder_.bytes() >= kMaxBatchBytes;
  };
  if (!progress->ads) {
    for (const auto& ad : group->ads) builder_.AddSnapshot(ad->hash, ad->bytes);
    progress->ads = true;
  }
  absl::Status status;
  while (progress->decisions < group->decisions.size() && status.ok() &&
         !(full() && progress->decisions > 0)) {
    const auto& decision = group->decisions[progress->decisions++];
    status = builder_.AddDecision(decision.id, group->value(decision));
    if (each) return status;
  }
  while (progress->decisions == group->decisions.size() &&
         progress->events < group->events.size() && status.ok()) {
    if (full()) break;
    AddQueuedEvents(&group->events[progress->events++]);
    if (each) break;
  }
  return status;
}

void EventLogImpl::AddQueuedEvents(QueuedEvents* call) {
  std::vector<QueuedEvents::Item> stored;
  stored.reserve(call->items.size());
  for (const QueuedEvents::Item& item : call->items) {
    const absl::StatusOr<EventResult::Code> code =
        builder_.AddEvent(item.key, item.time_ms, call->receive_ms);
    EventResult& result = call->results[item.result];
    if (!code.ok()) {
      result.set_code(EventResult::CODE_UNAVAILABLE);
      result.set_message(std::string(code.status().message()));
      continue;
    }
    result.set_code(*code);
    if (*code == EventResult::CODE_UNKNOWN_DECISION) {
      result.set_message(absl::StrCat("decision ", item.key.id.ToHex(),
                                      " is not in the log (yet)"));
    }
    stored.push_back(item);
  }
  call->items = std::move(stored);
}

absl::Status EventLogImpl::CommitBuilder(bool sync) {
  const uint64_t dropped = dropped_.exchange(0);
  if (builder_.empty() && dropped == 0) return absl::OkStatus();
  builder_.CountDropped(dropped);
  const absl::Status status = builder_.Commit(sync);
  if (!status.ok()) {
    dropped_.fetch_add(dropped);
    Failed(status);
    return status;
  }
  queue_.AddKnownAds(builder_.ads());
  return absl::OkStatus();
}

void EventLogImpl::Failed(const absl::Status& status) {
  if (failure_.ok()) {
    LOG(ERROR) << status.message() << "; appends are refused until it works";
    failed_since_ = absl::Now();
  }
  failure_ = status;
  retry_at_ = absl::Now() + kRetryInterval;
}

absl::Status EventLogImpl::Recover() {
  if (failure_.ok()) return absl::OkStatus();
  const absl::Time now = absl::Now();
  if (now < retry_at_) return failure_;
  absl::Status status = absl::UnavailableError("not open");
  if (log_ != nullptr) {
    status = rocks::ToStatus(log_->db()->Resume(),
                             absl::StrCat("resume event log ", log_->path()));
  }
  // RocksDB does not resume after a failed write of its write-ahead log;
  // opening it anew reads back what was acknowledged.
  if (!status.ok()) status = Reopen();
  if (!status.ok()) {
    const absl::Duration taken = absl::Now() - now;
    retry_at_ = absl::Now() + std::max(kRetryInterval, 2 * taken);
    return failure_;
  }
  LOG(WARNING) << "event log " << log_->path() << " is written again after "
               << absl::Now() - failed_since_;
  failure_ = absl::OkStatus();
  return failure_;
}

absl::Status EventLogImpl::Reopen() {
  if (absl::Status space = rocks::CheckFreeSpace(config_.data_dir());
      !space.ok()) {
    failure_ = std::move(space);
    return failure_;
  }
  {
    absl::MutexLock lock(&log_mu_);
    if (log_ != nullptr) last_counters_ = log_->counters();
    log_.reset();
  }
  absl::StatusOr<std::unique_ptr<LogDatabase>> opened =
      LogDatabase::Open(config_.data_dir(), env_);
  if (!opened.ok()) {
    failure_ = opened.status();
    return failure_;
  }
  // A disk that lost a write may have lost a snapshot; but a sweep that runs
  // needs to know what it may not remove.
  if (referred_ == nullptr) queue_.ForgetKnownAds();
  absl::MutexLock lock(&log_mu_);
  log_ = *std::move(opened);
  return absl::OkStatus();
}

absl::Status EventLogImpl::SyncAll() {
  absl::MutexLock lock(&commit_mu_);
  RETURN_IF_ERROR(Recover());
  const absl::Status status = rocks::ToStatus(
      log_->db()->SyncWAL(), absl::StrCat("sync event log ", log_->path()));
  if (!status.ok()) Failed(status);
  return status;
}

absl::Status EventLogImpl::FillFrom(const LogBatch& batch) {
  for (const EncodedAd& ad : batch.ads) {
    if (ad.hash.size() != log_format::kHashBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("snapshot hash of ", ad.hash.size(), " bytes, not 16"));
    }
    builder_.AddSnapshot(ad.hash, ad.bytes);
  }
  for (const LogBatch::DecisionRecord& record : batch.decisions) {
    const int ads = record.decision.ads_size();
    if (ads > static_cast<int>(log_format::kMaxPosition)) {
      return absl::InvalidArgumentError(
          absl::StrCat("decision ", record.id.ToHex(), " has ", ads,
                       " ads; at most 255 fit"));
    }
    scratch_.clear();
    log_format::AppendDecisionValue(record.decision, &scratch_);
    RETURN_IF_ERROR(builder_.AddDecision(record.id, scratch_));
    if (referred_ != nullptr) retention::CollectAds(scratch_, referred_.get());
  }
  const int64_t now_ms = clock_->NowMs();
  for (const v1::Event& event : batch.events) {
    const absl::StatusOr<EventKey> key = EventKey::Of(event);
    if (!key.ok()) {
      return Annotate(key.status(), absl::StrCat("event of decision \"",
                                                 event.decision_id(), "\""));
    }
    const int64_t time_ms = event.time_ms() == 0 ? now_ms : event.time_ms();
    RETURN_IF_ERROR(builder_.AddEvent(*key, time_ms, time_ms).status());
  }
  return absl::OkStatus();
}

absl::Status EventLogImpl::Write(const LogBatch& batch) {
  absl::MutexLock lock(&commit_mu_);
  RETURN_IF_ERROR(Recover());
  builder_.Reset(log_.get());
  RETURN_IF_ERROR(FillFrom(batch));
  return CommitBuilder(sync_);
}

absl::Status EventLogImpl::Flush() {
  absl::Notification done;
  absl::Status result;
  RETURN_IF_ERROR(queue_.PushFlush([&](absl::Status status) {
    result = std::move(status);
    done.Notify();
  }));
  done.WaitForNotification();
  return result;
}

absl::Status EventLogImpl::ApplyRetention() {
  if (config_.retention_days() == 0) return absl::OkStatus();
  absl::MutexLock lock(&retention_mu_);
  const int64_t end_ms = clock_->NowMs() - config_.retention_days() * kDayMs;
  if (end_ms <= 0) return absl::OkStatus();
  const DecisionId end{static_cast<uint64_t>(end_ms), 0, 0};
  bool dropped = false;
  RETURN_IF_ERROR(DropOld(end, &dropped));
  if (!dropped) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto log, Readable());
  RETURN_IF_ERROR(retention::FreeSpace(log.get(), end));
  return SweepSnapshots();
}

absl::Status EventLogImpl::DropOld(const DecisionId& end, bool* dropped) {
  for (;;) {
    absl::MutexLock lock(&commit_mu_);
    RETURN_IF_ERROR(Recover());
    ASSIGN_OR_RETURN(const bool more,
                     retention::DropChunk(log_.get(), end, kRetentionChunk));
    if (!more) return absl::OkStatus();
    *dropped = true;
  }
}

// Mark and sweep. A snapshot is in use when a decision in the log refers to it,
// or when it was appended since the sweep began: from then on every appended
// decision brings its snapshots along, and they become known (or referred_)
// in the same critical section that stores the decision.
absl::Status EventLogImpl::SweepSnapshots() {
  queue_.KeepKnownAds(true);
  queue_.ForgetKnownAds();
  {
    absl::MutexLock lock(&commit_mu_);
    referred_ = std::make_unique<absl::flat_hash_set<Hash128Value>>();
  }
  auto end = absl::MakeCleanup([this] {
    queue_.KeepKnownAds(false);
    absl::MutexLock lock(&commit_mu_);
    referred_.reset();
  });
  RETURN_IF_ERROR(Flush());
  ASSIGN_OR_RETURN(const auto log, Readable());
  ASSIGN_OR_RETURN(const absl::flat_hash_set<Hash128Value> used,
                   retention::UsedAds(log.get()));
  bool swept = false;
  std::string position;
  do {
    absl::MutexLock lock(&commit_mu_);
    RETURN_IF_ERROR(Recover());
    const auto is_used = [&](const Hash128Value& hash) {
      return used.contains(hash) || referred_->contains(hash) ||
             queue_.IsKnownAd(hash);
    };
    ASSIGN_OR_RETURN(
        const bool any,
        retention::SweepChunk(log_.get(), is_used, kRetentionChunk, &position));
    swept = swept || any;
  } while (!position.empty());
  return swept ? retention::CompactSnapshots(log.get()) : absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<LogDatabase>> EventLogImpl::Readable() const {
  std::shared_ptr<LogDatabase> log = this->log();
  if (log == nullptr) return absl::UnavailableError("the event log failed");
  return log;
}

absl::StatusOr<v1::Decision> EventLogImpl::GetDecision(const DecisionId& id) {
  ASSIGN_OR_RETURN(const auto log, Readable());
  return log->GetDecision(id);
}

absl::StatusOr<v1::AdSnapshot> EventLogImpl::GetSnapshot(
    absl::string_view hash) {
  ASSIGN_OR_RETURN(const auto log, Readable());
  return log->GetSnapshot(hash);
}

absl::Status EventLogImpl::ForEachEvent(
    int64_t begin_ms,
    const std::function<absl::Status(const StoredEvent&)>& visit) {
  ASSIGN_OR_RETURN(const auto log, Readable());
  return log->ForEachEvent(begin_ms, visit);
}

absl::StatusOr<std::vector<v1::Decision>> EventLogImpl::NewestDecisions(
    size_t limit) {
  const std::shared_ptr<LogDatabase> log = this->log();
  if (log == nullptr) return absl::UnavailableError("the event log failed");
  return log->NewestDecisions(limit);
}

EventLogStats EventLogImpl::Stats() {
  EventLogStats stats;
  stats.pending = queue_.size();
  std::shared_ptr<LogDatabase> log = this->log();
  if (log != nullptr) stats.disk_bytes = log->DiskBytes();
  absl::MutexLock lock(&commit_mu_);
  const log_format::Counters c =
      log_ != nullptr ? log_->counters() : last_counters_;
  stats.decisions = c.decisions;
  stats.events = c.events;
  stats.snapshots = c.snapshots;
  stats.duplicate_events = c.duplicate_events;
  stats.unknown_decisions = c.unknown_decisions;
  stats.dropped_decisions = c.dropped_decisions + dropped_.load();
  stats.commits = c.commits;
  return stats;
}

}  // namespace

std::vector<EventResult> EventLog::AppendEventsAndWait(
    std::vector<v1::Event> events) {
  absl::Notification done;
  std::vector<EventResult> results;
  AppendEvents(std::move(events), [&](std::vector<EventResult> r) {
    results = std::move(r);
    done.Notify();
  });
  done.WaitForNotification();
  return results;
}

absl::StatusOr<std::unique_ptr<EventLog>> EventLog::Open(
    const StorageConfig& config, const Clock* clock, rocksdb::Env* env) {
  RETURN_IF_ERROR(Validate(config));
  ASSIGN_OR_RETURN(std::shared_ptr<LogDatabase> log,
                   LogDatabase::Open(config.data_dir(), env));
  return std::make_unique<EventLogImpl>(config, clock, env, std::move(log));
}

}  // namespace adrank
