// Hot path: PushDecision.
#include "storage/append_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "storage/log_database.h"

namespace adrank {
namespace {

// Values are addressed by 32 bits, and a group must fit one write.
constexpr size_t kMaxQueuedBytes = 256 << 20;
// 17 bytes each in the table: some 100 MB at most.
constexpr size_t kMaxKnownAds = 4 << 20;

}  // namespace

void QueuedEvents::Refuse(absl::string_view reason) {
  for (const Item& item : items) {
    v1::EventResult& result = results[item.result];
    result.set_code(v1::EventResult::CODE_UNAVAILABLE);
    result.set_message(std::string(reason));
  }
  done(std::move(results));
}

void AppendGroup::Clear() {
  bytes.clear();
  decisions.clear();
  ads.clear();
  events.clear();
  flushes.clear();
  appends = 0;
}

bool AppendQueue::Full(size_t appends) const {
  // One large call is let in when nothing waits, else it would never be.
  return group_.appends > 0 && group_.appends + appends > limits_.max_appends;
}

void AppendQueue::Pushed(size_t appends, bool urgent) {
  const bool first = group_.empty();
  const bool was_urgent = urgent_;
  group_.appends += appends;
  urgent_ = urgent_ || urgent || group_.bytes.size() >= limits_.group_bytes;
  if (first || urgent_ != was_urgent) changed_.Signal();
}

bool AppendQueue::PushDecision(
    const DecisionId& id, absl::string_view value,
    absl::Span<const std::shared_ptr<const EncodedAd>> ads) {
  absl::MutexLock lock(&mu_);
  if (closed_ || Full(1) ||
      group_.bytes.size() + value.size() > kMaxQueuedBytes) {
    return false;
  }
  for (const std::shared_ptr<const EncodedAd>& ad : ads) {
    if (!known_ads_.contains(HashKey(ad->hash))) group_.ads.push_back(ad);
  }
  group_.decisions.push_back({id, static_cast<uint32_t>(group_.bytes.size()),
                              static_cast<uint32_t>(value.size())});
  group_.bytes.append(value.data(), value.size());
  Pushed(1, false);
  return true;
}

absl::Status AppendQueue::PushEvents(QueuedEvents* events) {
  absl::MutexLock lock(&mu_);
  if (closed_) return absl::UnavailableError("the event log is closing");
  const size_t appends = std::max<size_t>(events->items.size(), 1);
  if (Full(appends)) {
    return absl::UnavailableError(absl::StrCat(
        "the event log's queue is full: ", group_.appends, " appends wait"));
  }
  group_.events.push_back(std::move(*events));
  Pushed(appends, limits_.events_are_urgent);
  return absl::OkStatus();
}

absl::Status AppendQueue::PushFlush(std::function<void(absl::Status)> done) {
  absl::MutexLock lock(&mu_);
  if (closed_) return absl::UnavailableError("the event log is closing");
  group_.flushes.push_back(std::move(done));
  urgent_ = true;
  changed_.Signal();
  return absl::OkStatus();
}

bool AppendQueue::Take(AppendGroup* group) {
  absl::MutexLock lock(&mu_);
  while (group_.empty() && !closed_) changed_.Wait(&mu_);
  if (group_.empty()) return false;
  const absl::Time deadline = absl::Now() + limits_.group_wait;
  while (!urgent_ && !closed_) {
    if (changed_.WaitWithDeadline(&mu_, deadline)) break;
  }
  std::swap(group_, *group);
  urgent_ = false;
  return true;
}

void AppendQueue::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
  changed_.Signal();
}

size_t AppendQueue::size() const {
  absl::MutexLock lock(&mu_);
  return group_.appends;
}

void AppendQueue::AddKnownAds(const absl::flat_hash_set<Hash128Value>& ads) {
  if (ads.empty()) return;
  absl::MutexLock lock(&mu_);
  if (known_ads_.size() + ads.size() > kMaxKnownAds && !keep_known_) {
    known_ads_.clear();
  }
  known_ads_.insert(ads.begin(), ads.end());
}

void AppendQueue::ForgetKnownAds() {
  absl::MutexLock lock(&mu_);
  known_ads_.clear();
}

bool AppendQueue::IsKnownAd(const Hash128Value& hash) const {
  absl::MutexLock lock(&mu_);
  return known_ads_.contains(hash);
}

void AppendQueue::KeepKnownAds(bool keep) {
  absl::MutexLock lock(&mu_);
  keep_known_ = keep;
}

}  // namespace adrank
