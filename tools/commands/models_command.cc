#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "proto/model_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

using Stub = v1::ModelService::Stub;

std::string Day(int64_t ms) {
  return ms == 0 ? "-"
                 : absl::FormatTime("%Y-%m-%d %H:%M", absl::FromUnixMillis(ms),
                                    absl::UTCTimeZone());
}

absl::Status List(const ClientOptions& options) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::ListModelsResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::ModelService::NewStub(Connect(options.admin))
                               ->List(&context, {}, &response),
                           options.admin));
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
    return absl::OkStatus();
  }
  Table table({"version", "state", "family", "examples", "clicks", "rows",
               "bytes", "data until (UTC)", "error"});
  for (const v1::ModelVersion& v : response.versions()) {
    const v1::ModelManifest& m = v.manifest();
    table.Add({absl::StrCat(v.version()),
               v1::ModelState_Name(v.state()).substr(12),  // "MODEL_STATE_"
               m.family(), absl::StrCat(m.examples()), absl::StrCat(m.clicks()),
               absl::StrCat(m.vocabulary_rows()), absl::StrCat(v.bytes()),
               Day(m.last_example_ms()), v.error()});
  }
  absl::PrintF("%s", table.Print());
  return absl::OkStatus();
}

// The three calls that answer with a status.
absl::Status ShowStatus(const ClientOptions& options,
                        grpc::Status (*call)(Stub*, grpc::ClientContext*,
                                             int64_t, v1::ModelStatusResponse*),
                        int64_t version) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::ModelStatusResponse response;
  const auto stub = v1::ModelService::NewStub(Connect(options.admin));
  RETURN_IF_ERROR(
      FromGrpc(call(stub.get(), &context, version, &response), options.admin));
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
    return absl::OkStatus();
  }
  absl::PrintF("model %s: serving %d, previous %d, published %d\n",
               response.model_name(), response.serving_version(),
               response.previous_version(), response.published_version());
  if (!response.error().empty()) {
    absl::PrintF("published version is not served: %s\n", response.error());
  }
  return absl::OkStatus();
}

}  // namespace

void AddModelsCommand(const CommandLine& line) {
  CLI::App* verb = line.app->add_subcommand(
      "models", "list, promote and roll back model versions (admin port)");
  verb->require_subcommand(1);
  verb->add_subcommand("list", "all versions, newest first")->callback([line] {
    *line.result = List(*line.options);
  });
  verb->add_subcommand("status", "which versions are served and published")
      ->callback([line] {
        *line.result = ShowStatus(
            *line.options,
            [](Stub* stub, grpc::ClientContext* context, int64_t,
               v1::ModelStatusResponse* response) {
              return stub->Status(context, {}, response);
            },
            0);
      });
  auto version = std::make_shared<int64_t>(0);
  CLI::App* promote =
      verb->add_subcommand("promote", "serve and publish a version");
  promote->add_option("version", *version)->required();
  promote->callback([line, version] {
    *line.result = ShowStatus(
        *line.options,
        [](Stub* stub, grpc::ClientContext* context, int64_t wanted,
           v1::ModelStatusResponse* response) {
          v1::PromoteRequest request;
          request.set_version(wanted);
          return stub->Promote(context, request, response);
        },
        *version);
  });
  verb->add_subcommand("rollback", "promote the version served before")
      ->callback([line] {
        *line.result = ShowStatus(
            *line.options,
            [](Stub* stub, grpc::ClientContext* context, int64_t,
               v1::ModelStatusResponse* response) {
              return stub->Rollback(context, {}, response);
            },
            0);
      });
}

}  // namespace adrank
