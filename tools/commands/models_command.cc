#include <google/protobuf/struct.pb.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "model/feature_names.h"
#include "model/model_bundle.h"
#include "model/model_store.h"
#include "proto/model_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"
#include "tools/top_features.h"

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
               "bytes", "data until (UTC)", "retrieval", "error"});
  for (const v1::ModelVersion& v : response.versions()) {
    const v1::ModelManifest& m = v.manifest();
    table.Add({absl::StrCat(v.version()),
               v1::ModelState_Name(v.state()).substr(12),  // "MODEL_STATE_"
               m.family(), absl::StrCat(m.examples()), absl::StrCat(m.clicks()),
               absl::StrCat(m.vocabulary_rows()), absl::StrCat(v.bytes()),
               Day(m.last_example_ms()), v.retrieval(), v.error()});
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

struct TopOptions {
  std::string model_dir;
  std::string name = "ctr";
  int64_t version = 0;
  std::string field;
  uint64_t min_rows = 5;
  size_t n = 30;
};

// Reads the files: no server is asked.
absl::Status Top(const ClientOptions& options, const TopOptions& top) {
  const ModelStore store(top.model_dir, top.name);
  int64_t version = top.version;
  if (version == 0) {
    ASSIGN_OR_RETURN(version, store.Published());
  }
  const std::string dir = store.VersionDir(version);
  ASSIGN_OR_RETURN(const auto bundle, ModelBundle::Load(dir));
  ASSIGN_OR_RETURN(const std::string bytes,
                   files::Read(files::Join(dir, kFeatureNamesFile)));
  ASSIGN_OR_RETURN(const auto names, ParseFeatureNames(bytes));
  const std::vector<TopFeature> features =
      TopFeatures(*bundle, names, top.field, top.min_rows, top.n);
  if (options.json) {
    google::protobuf::Struct all;
    auto& list = *(*all.mutable_fields())["features"].mutable_list_value();
    for (const TopFeature& f : features) {
      auto& line = *list.add_values()->mutable_struct_value()->mutable_fields();
      line["feature"].set_string_value(f.text);
      line["weight"].set_number_value(f.weight);
      line["odds"].set_number_value(std::exp(f.weight));
      line["norm"].set_number_value(f.norm);
      line["rows"].set_number_value(static_cast<double>(f.rows));
    }
    absl::PrintF("%s", ToJson(all));
    return absl::OkStatus();
  }
  Table table({"feature", "weight", "x odds", "|vector|", "rows"});
  for (const TopFeature& f : features) {
    table.Add({f.text, absl::StrFormat("%+.4f", f.weight),
               absl::StrFormat("%.3f", std::exp(f.weight)),
               absl::StrFormat("%.4f", f.norm), absl::StrCat(f.rows)});
  }
  absl::PrintF("%s", table.Print());
  return absl::OkStatus();
}

void AddTop(const CommandLine& line, CLI::App* verb) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* top = verb->add_subcommand(
      "top", "the named features of the largest weights; reads --model_dir");
  top->add_option("--model_dir", options->model_dir, "as in the configs")
      ->required();
  top->add_option("--model_name", options->name, "default ctr");
  top->add_option("--version", options->version, "default: the published one");
  top->add_option("--field", options->field, "of this field or cross only");
  top->add_option("--min_rows", options->min_rows,
                  "rows of the trainer's sample that have it; default 5");
  top->add_option("-n", options->n, "features at most; default 30");
  top->callback(
      [line, options] { *line.result = Top(*line.options, *options); });
}

}  // namespace

void AddModelsCommand(const CommandLine& line) {
  CLI::App* verb = line.app->add_subcommand(
      "models", "list, promote and roll back model versions (admin port)");
  verb->require_subcommand(1);
  AddTop(line, verb);
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
