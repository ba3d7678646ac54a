// EventService over gRPC: events go to the log, results come back when they are
// as durable as configured.
#ifndef ADRANK_SERVER_RPC_EVENT_RPC_H_
#define ADRANK_SERVER_RPC_EVENT_RPC_H_

#include <cstdint>

#include "proto/event_service.grpc.pb.h"
#include "server/event_intake.h"
#include "server/metrics.h"

namespace adrank {

// Messages come as bytes: see raw_message.h.
class EventRpc : public v1::EventService::WithRawCallbackMethod_LogEvents<
                     v1::EventService::WithRawCallbackMethod_StreamEvents<
                         v1::EventService::Service>> {
 public:
  // The pointers must outlive the service. A call with more than `max_events`
  // is InvalidArgument.
  EventRpc(EventIntake* intake, uint32_t max_events, Metrics* metrics)
      : intake_(intake), max_events_(max_events), metrics_(metrics) {}

  grpc::ServerUnaryReactor* LogEvents(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamEvents(
      grpc::CallbackServerContext* context) override;

 private:
  EventIntake* const intake_;
  const uint32_t max_events_;
  Metrics* const metrics_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_EVENT_RPC_H_
