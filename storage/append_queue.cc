// Hot path: PushDecision.
#include "storage/append_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "storage/log_database.h"

namespace adrank {
namespace {

constexpr size_t kMaxQueuedBytes = 256 << 20;
constexpr size_t kMaxSpareGroups = 8;
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
  return appends_ > 0 && appends_ + appends > limits_.max_appends;
}

void AppendQueue::Pushed(size_t appends, size_t bytes, bool urgent) {
  const bool wake = open_.empty() || (urgent && !urgent_);
  open_.appends += appends;
  appends_ += appends;
  bytes_ += bytes;
  urgent_ = urgent_ || urgent;
  if (open_.bytes.size() >= limits_.group_bytes) {
    full_.push_back(std::move(open_));
    open_ = AppendGroup();
    urgent_ = false;
    if (!spare_.empty()) {
      open_ = std::move(spare_.back());
      spare_.pop_back();
    }
    changed_.Signal();
  } else if (wake) {
    changed_.Signal();
  }
}

bool AppendQueue::PushDecision(
    const DecisionId& id, absl::string_view value,
    absl::Span<const std::shared_ptr<const EncodedAd>> ads) {
  absl::MutexLock lock(&mu_);
  if (closed_ || Full(1) || bytes_ + value.size() > kMaxQueuedBytes) {
    return false;
  }
  for (const std::shared_ptr<const EncodedAd>& ad : ads) {
    if (!known_ads_.contains(HashKey(ad->hash))) open_.ads.push_back(ad);
  }
  open_.decisions.push_back({id, static_cast<uint32_t>(open_.bytes.size()),
                             static_cast<uint32_t>(value.size())});
  open_.bytes.append(value.data(), value.size());
  Pushed(1, value.size(), false);
  return true;
}

absl::Status AppendQueue::PushEvents(QueuedEvents* events) {
  absl::MutexLock lock(&mu_);
  if (closed_) return absl::UnavailableError("the event log is closing");
  const size_t appends = std::max<size_t>(events->items.size(), 1);
  if (Full(appends)) {
    return absl::UnavailableError(absl::StrCat(
        "the event log's queue is full: ", appends_, " appends wait"));
  }
  open_.events.push_back(std::move(*events));
  Pushed(appends, 0, limits_.events_are_urgent);
  return absl::OkStatus();
}

absl::Status AppendQueue::PushFlush(std::function<void(absl::Status)> done) {
  absl::MutexLock lock(&mu_);
  if (closed_) return absl::UnavailableError("the event log is closing");
  open_.flushes.push_back(std::move(done));
  urgent_ = true;
  changed_.Signal();
  return absl::OkStatus();
}

bool AppendQueue::Take(AppendGroup* group) {
  absl::MutexLock lock(&mu_);
  while (full_.empty() && open_.empty() && !closed_) changed_.Wait(&mu_);
  const absl::Time deadline = absl::Now() + limits_.group_wait;
  while (full_.empty() && !open_.empty() && !urgent_ && !closed_) {
    if (changed_.WaitWithDeadline(&mu_, deadline)) break;
  }
  if (!full_.empty()) {
    if (spare_.size() < kMaxSpareGroups) spare_.push_back(std::move(*group));
    *group = std::move(full_.front());
    full_.pop_front();
  } else if (!open_.empty()) {
    std::swap(open_, *group);
    urgent_ = false;
  } else {
    return false;
  }
  appends_ -= group->appends;
  bytes_ -= group->bytes.size();
  return true;
}

void AppendQueue::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
  changed_.Signal();
}

size_t AppendQueue::size() const {
  absl::MutexLock lock(&mu_);
  return appends_;
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
