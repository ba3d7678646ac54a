// Who wants to hear of events beside the log.
#ifndef ADRANK_SERVER_EVENT_SINK_H_
#define ADRANK_SERVER_EVENT_SINK_H_

#include "proto/events.pb.h"

namespace adrank {

// Thread-safe.
class EventSink {
 public:
  virtual ~EventSink() = default;

  // An event as its sender reported it: perhaps again, perhaps of a decision
  // that does not exist, not checked. Called on the RPC's thread before the
  // event goes to the log, so that what the sender is told was accepted has
  // been here before.
  virtual void OnReported(const v1::Event& event) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_EVENT_SINK_H_
