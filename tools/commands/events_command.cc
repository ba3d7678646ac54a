#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "proto/event_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

struct EventsArgs {
  std::string file;
  std::string decision_id;
  std::vector<uint32_t> positions;
  int64_t time_ms = 0;
};

std::string ShortName(v1::EventResult::Code code) {
  return v1::EventResult::Code_Name(code).substr(5);  // "CODE_"
}

absl::Status Send(const v1::LogEventsRequest& request,
                  const ClientOptions& options) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::LogEventsResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::EventService::NewStub(Connect(options.server))
                               ->LogEvents(&context, request, &response),
                           options.server));
  bool failed = false;
  Table table({"decision", "position", "event", "result", "message"});
  for (int i = 0; i < response.results_size(); ++i) {
    const v1::Event& event = request.events(i);
    const v1::EventResult& result = response.results(i);
    failed |= result.code() == v1::EventResult::CODE_INVALID ||
              result.code() == v1::EventResult::CODE_UNAVAILABLE;
    table.Add({event.decision_id(), absl::StrCat(event.position()),
               v1::EventType_Name(event.type()).substr(11),  // "EVENT_TYPE_"
               ShortName(result.code()), result.message()});
  }
  absl::PrintF("%s", options.json ? ToJson(response) : table.Print());
  return failed ? absl::AbortedError("not every event was stored")
                : absl::OkStatus();
}

absl::Status Report(const EventsArgs& args, v1::EventType type,
                    const ClientOptions& options) {
  v1::LogEventsRequest request;
  for (const uint32_t position : args.positions) {
    v1::Event* event = request.add_events();
    event->set_decision_id(args.decision_id);
    event->set_position(position);
    event->set_type(type);
    event->set_time_ms(args.time_ms);
  }
  return Send(request, options);
}

}  // namespace

void AddEventsCommand(const CommandLine& line) {
  CLI::App* verb =
      line.app->add_subcommand("events", "report impressions and clicks");
  verb->require_subcommand(1);
  const auto report = [&](const char* name, const char* about,
                          v1::EventType type) {
    auto args = std::make_shared<EventsArgs>();
    CLI::App* sub = verb->add_subcommand(name, about);
    sub->add_option("decision", args->decision_id, "decision id of a rank")
        ->required();
    sub->add_option("position", args->positions, "position of each ad")
        ->required();
    sub->add_option("--time-ms", args->time_ms, "default: the server's clock");
    sub->callback([line, args, type] {
      *line.result = Report(*args, type, *line.options);
    });
  };
  report("impression", "the ads were seen", v1::EVENT_TYPE_IMPRESSION);
  report("click", "the ads were clicked", v1::EVENT_TYPE_CLICK);
  auto args = std::make_shared<EventsArgs>();
  CLI::App* send = verb->add_subcommand("send", "send a LogEventsRequest");
  send->add_option("--file", args->file, "JSON or text proto; - is stdin")
      ->required();
  send->callback([line, args] {
    v1::LogEventsRequest request;
    *line.result = ReadMessage(args->file, &request);
    if (line.result->ok()) *line.result = Send(request, *line.options);
  });
}

}  // namespace adrank
