#include "tools/batch_writer.h"

#include <iterator>
#include <string>
#include <utility>

#include "base/status_macros.h"

namespace adrank {
namespace {

// Snapshots that need not be sent again. Beyond it all are forgotten: the log
// itself knows what it has.
constexpr size_t kMaxKnownAds = 1 << 20;

// Clear() would free the context with all its texts.
void Recycle(v1::Decision* decision) {
  v1::Context* const context = decision->release_context();
  decision->Clear();
  if (context == nullptr) return;
  context->Clear();
  decision->set_allocated_context(context);
}

}  // namespace

BatchWriter::BatchWriter(EventLog* log)
    : log_(log), thread_([this] { Run(); }) {}

BatchWriter::~BatchWriter() {
  {
    absl::MutexLock lock(&mu_);
    closed_ = true;
  }
  thread_.join();
}

LogBatch::DecisionRecord& BatchWriter::AddDecision() {
  if (spare_.empty()) {
    filling_.decisions.emplace_back();
  } else {
    filling_.decisions.push_back(std::move(spare_.back()));
    spare_.pop_back();
    Recycle(&filling_.decisions.back().decision);
  }
  return filling_.decisions.back();
}

void BatchWriter::AddEvent(const DecisionId& id, uint32_t position,
                           v1::EventType type, int64_t time_ms) {
  v1::Event& event = filling_.events.emplace_back();
  event.set_decision_id(id.ToHex());
  event.set_position(position);
  event.set_type(type);
  event.set_time_ms(time_ms);
}

std::string BatchWriter::AddAd(const v1::AdSnapshot& ad) {
  EncodedAd encoded = EncodeAd(ad);
  if (known_ads_.size() > kMaxKnownAds) known_ads_.clear();
  if (known_ads_.insert(encoded.hash).second) {
    filling_.ads.push_back(encoded);
  }
  return std::move(encoded.hash);
}

absl::Status BatchWriter::Submit() {
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](bool* busy) { return !*busy; }, &busy_));
    RETURN_IF_ERROR(status_);
    std::swap(writing_, filling_);
    busy_ = true;
  }
  // What was written before.
  spare_.insert(spare_.end(),
                std::make_move_iterator(filling_.decisions.begin()),
                std::make_move_iterator(filling_.decisions.end()));
  filling_.decisions.clear();
  filling_.ads.clear();
  filling_.events.clear();
  return absl::OkStatus();
}

absl::Status BatchWriter::Finish() {
  RETURN_IF_ERROR(Submit());
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](bool* busy) { return !*busy; }, &busy_));
    RETURN_IF_ERROR(status_);
  }
  return log_->Flush();
}

void BatchWriter::Run() {
  absl::MutexLock lock(&mu_);
  for (;;) {
    mu_.Await(absl::Condition(
        +[](BatchWriter* w) ABSL_EXCLUSIVE_LOCKS_REQUIRED(w->mu_) {
          return w->busy_ || w->closed_;
        },
        this));
    if (!busy_) return;
    if (status_.ok()) {
      const LogBatch* const batch = &writing_;  // nobody else's while busy_
      mu_.Unlock();
      absl::Status status = log_->Write(*batch);
      mu_.Lock();
      status_ = std::move(status);
    }
    busy_ = false;
  }
}

}  // namespace adrank
