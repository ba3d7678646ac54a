#include "server/event_intake.h"

#include "absl/container/inlined_vector.h"

namespace adrank {

void EventIntake::Append(
    std::vector<v1::Event> events,
    std::function<void(std::vector<v1::EventResult>)> done) {
  std::vector<ReportedEvent> reported;
  reported.reserve(events.size());
  for (const v1::Event& event : events) {
    reported.push_back({event.decision_id(), event.position(), event.type()});
  }
  absl::InlinedVector<int64_t, 2> tokens;
  for (EventSink* sink : sinks_) tokens.push_back(sink->OnReported(events));
  log_->AppendEvents(
      std::move(events),
      [this, tokens, reported = std::move(reported),
       done = std::move(done)](std::vector<v1::EventResult> results) {
        for (size_t i = 0; i < sinks_.size(); ++i) {
          sinks_[i]->OnLogged(tokens[i], reported, results);
        }
        done(std::move(results));
      });
}

}  // namespace adrank
