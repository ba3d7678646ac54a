#include "server/rpc/event_rpc.h"

#include <deque>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/raw_message.h"
#include "server/rpc/rpc_scope.h"

namespace adrank {
namespace {

// Events of one stream that wait for the log; more are not read until results
// were written, so that a fast sender is slowed down instead of filling memory.
constexpr size_t kMaxOutstanding = 4096;

// One bidirectional stream. Reads run ahead of the log; results are written in
// the order of the events. The log calls back on its own thread, gRPC on
// others: everything is under mu_, and each operation keeps the object alive by
// being counted.
class StreamReactor
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  StreamReactor(EventIntake* intake, Metrics* metrics)
      : intake_(intake),
        metrics_(metrics),
        scope_(Rpc::kStreamEvents, metrics) {
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      absl::MutexLock lock(&mu_);
      reading_ = false;
      no_more_ = true;
      MaybeFinish();
      return;
    }
    v1::Event event;
    const absl::Status parsed = ParseRaw(incoming_, &event);
    Slot* slot;
    {
      absl::MutexLock lock(&mu_);
      slot = &slots_.emplace_back();
      slot->type = event.type();
      ++in_log_;
    }
    parsed.ok() ? Append(std::move(event), slot) : Refuse(parsed, slot);
    absl::MutexLock lock(&mu_);
    if (slots_.size() < kMaxOutstanding && !cancelled_) {
      incoming_.Clear();
      StartRead(&incoming_);
    } else {
      reading_ = false;  // OnWriteDone starts it again
      MaybeFinish();
    }
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    slots_.pop_front();
    if (!ok) cancelled_ = true;
    if (!reading_ && !no_more_ && !cancelled_ &&
        slots_.size() < kMaxOutstanding / 2) {
      reading_ = true;
      incoming_.Clear();
      StartRead(&incoming_);
    }
    MaybeWrite();
    MaybeFinish();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    cancelled_ = true;
    MaybeFinish();
  }

  // The log's thread may still be on its way out of the lock under which it
  // finished the call: gRPC knows of its own threads only.
  void OnDone() override {
    { absl::MutexLock lock(&mu_); }
    delete this;
  }

 private:
  struct Slot {
    v1::EventType type;
    v1::EventResult result;
    bool done = false;
  };

  // A deque keeps the addresses of its elements while others come and go at
  // its ends; the slot is only popped after it is done.
  void Append(v1::Event event, Slot* slot) {
    std::vector<v1::Event> events;
    events.push_back(std::move(event));
    intake_->Append(std::move(events),
                    [this, slot](std::vector<v1::EventResult> results) {
                      OnLogged(slot, std::move(results[0]));
                    });
  }

  void Refuse(const absl::Status& status, Slot* slot) {
    v1::EventResult result;
    result.set_code(v1::EventResult::CODE_INVALID);
    result.set_message(std::string(status.message()));
    OnLogged(slot, std::move(result));
  }

  void OnLogged(Slot* slot, v1::EventResult result) {
    metrics_->EventHandled(slot->type, result.code());
    absl::MutexLock lock(&mu_);
    slot->result = std::move(result);
    slot->done = true;
    --in_log_;
    MaybeWrite();
    MaybeFinish();
  }

  void MaybeWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || cancelled_ || slots_.empty() || !slots_.front().done) {
      return;
    }
    writing_ = true;
    // Two numbers and a text that we wrote: serialises.
    SerializeRaw(slots_.front().result, &outgoing_).IgnoreError();
    StartWrite(&outgoing_);
  }

  // Ends the call when the client has said all and been told all, or has gone;
  // never while the log may still call back, nor while a read is under way,
  // which may bring an event even after the client has gone.
  void MaybeFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || writing_ || reading_ || in_log_ != 0) return;
    if (!cancelled_ && (!no_more_ || !slots_.empty())) return;
    finished_ = true;
    Finish(scope_.Done(cancelled_ ? absl::CancelledError("client has gone")
                                  : absl::OkStatus()));
  }

  EventIntake* const intake_;
  Metrics* const metrics_;
  const RpcScope scope_;
  grpc::ByteBuffer incoming_;  // only between StartRead and OnReadDone
  absl::Mutex mu_;
  // Only between StartWrite and OnWriteDone.
  grpc::ByteBuffer outgoing_ ABSL_GUARDED_BY(mu_);
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mu_);
  size_t in_log_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = true;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool no_more_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* EventRpc::LogEvents(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const RpcScope scope(Rpc::kLogEvents, metrics_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  v1::LogEventsRequest parsed;
  absl::Status status = ParseRaw(*request, &parsed);
  if (status.ok() &&
      static_cast<uint32_t>(parsed.events_size()) > max_events_) {
    status = absl::InvalidArgumentError(
        absl::StrCat("events: ", parsed.events_size(), " exceeds the limit of ",
                     max_events_));
  }
  if (!status.ok()) {
    reactor->Finish(scope.Done(status));
    return reactor;
  }
  std::vector<v1::EventType> types;
  for (const v1::Event& event : parsed.events()) {
    types.push_back(event.type());
  }
  std::vector<v1::Event> events(
      std::make_move_iterator(parsed.mutable_events()->begin()),
      std::make_move_iterator(parsed.mutable_events()->end()));
  // The response lives until Finish.
  intake_->Append(std::move(events),
                  [this, scope, types = std::move(types), response,
                   reactor](std::vector<v1::EventResult> results) {
                    v1::LogEventsResponse answer;
                    for (size_t i = 0; i < results.size(); ++i) {
                      metrics_->EventHandled(types[i], results[i].code());
                      *answer.add_results() = std::move(results[i]);
                    }
                    reactor->Finish(scope.Done(SerializeRaw(answer, response)));
                  });
  return reactor;
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
EventRpc::StreamEvents(grpc::CallbackServerContext*) {
  return new StreamReactor(intake_, metrics_);
}

}  // namespace adrank
