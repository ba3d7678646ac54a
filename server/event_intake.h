// The way of events into the server: the log, and who wants to hear of them.
#ifndef ADRANK_SERVER_EVENT_INTAKE_H_
#define ADRANK_SERVER_EVENT_INTAKE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "proto/events.pb.h"
#include "storage/event_log.h"

namespace adrank {

// What is left of an event once the log has taken it over.
struct ReportedEvent {
  std::string decision_id;
  uint32_t position = 0;
  v1::EventType type = v1::EVENT_TYPE_UNSPECIFIED;
};

// Thread-safe.
class EventSink {
 public:
  virtual ~EventSink() = default;

  // Events as their sender reported them: perhaps again, perhaps of decisions
  // that do not exist, not checked. Before the log gets them, so that what the
  // sender is told was accepted has been here before. What it returns comes
  // back to OnLogged.
  virtual int64_t OnReported(absl::Span<const v1::Event> events) = 0;

  // What became of them: results[i] is of events[i]. Once for each OnReported,
  // before the sender is told, usually on the log's thread.
  virtual void OnLogged(int64_t reported,
                        absl::Span<const ReportedEvent> events,
                        absl::Span<const v1::EventResult> results) = 0;
};

// Thread-safe.
class EventIntake {
 public:
  // The pointers must outlive this, and the sinks the log: it calls back.
  EventIntake(EventLog* log, std::vector<EventSink*> sinks)
      : log_(log), sinks_(std::move(sinks)) {}

  // EventLog::AppendEvents, with the sinks around it.
  void Append(std::vector<v1::Event> events,
              std::function<void(std::vector<v1::EventResult>)> done);

 private:
  EventLog* const log_;
  const std::vector<EventSink*> sinks_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_EVENT_INTAKE_H_
