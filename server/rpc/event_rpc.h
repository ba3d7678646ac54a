// EventService over gRPC: events go to the log, results come back when they are
// as durable as configured.
#ifndef ADRANK_SERVER_RPC_EVENT_RPC_H_
#define ADRANK_SERVER_RPC_EVENT_RPC_H_

#include <utility>
#include <vector>

#include "proto/event_service.grpc.pb.h"
#include "server/event_sink.h"
#include "server/metrics.h"
#include "storage/event_log.h"

namespace adrank {

// Messages come as bytes: see raw_message.h.
class EventRpc : public v1::EventService::WithRawCallbackMethod_LogEvents<
                     v1::EventService::WithRawCallbackMethod_StreamEvents<
                         v1::EventService::Service>> {
 public:
  // The pointers must outlive the service. A call with more than `max_events`
  // is InvalidArgument. Each event goes to the sinks first.
  EventRpc(EventLog* log, std::vector<EventSink*> sinks, uint32_t max_events,
           Metrics* metrics)
      : log_(log),
        sinks_(std::move(sinks)),
        max_events_(max_events),
        metrics_(metrics) {}

  grpc::ServerUnaryReactor* LogEvents(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamEvents(
      grpc::CallbackServerContext* context) override;

 private:
  EventLog* const log_;
  const std::vector<EventSink*> sinks_;
  const uint32_t max_events_;
  Metrics* const metrics_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_EVENT_RPC_H_
