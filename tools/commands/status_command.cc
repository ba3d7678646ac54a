#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "proto/catalog_service.grpc.pb.h"
#include "proto/model_service.grpc.pb.h"
#include "tools/commands/commands.h"

namespace adrank {
namespace {

absl::Status Run(const ClientOptions& options) {
  grpc::ClientContext catalog_context, model_context;
  SetDeadline(options, &catalog_context);
  SetDeadline(options, &model_context);
  v1::CatalogStatusResponse catalog;
  v1::ModelStatusResponse model;
  RETURN_IF_ERROR(FromGrpc(v1::CatalogService::NewStub(Connect(options.server))
                               ->Status(&catalog_context, {}, &catalog),
                           options.server));
  RETURN_IF_ERROR(FromGrpc(v1::ModelService::NewStub(Connect(options.admin))
                               ->Status(&model_context, {}, &model),
                           options.admin));
  if (options.json) {
    absl::PrintF("{\"catalog\": %s, \"model\": %s}\n", ToJson(catalog),
                 ToJson(model));
    return absl::OkStatus();
  }
  absl::PrintF(
      "catalog: version %d (serving %d), %d advertisers, %d campaigns, %d ad "
      "groups, %d ads, %d servable\n",
      catalog.catalog_version(), catalog.serving_version(),
      catalog.advertisers(), catalog.campaigns(), catalog.ad_groups(),
      catalog.ads(), catalog.servable_ads());
  absl::PrintF("model %s: serving %d, previous %d, published %d\n",
               model.model_name(), model.serving_version(),
               model.previous_version(), model.published_version());
  if (!model.error().empty()) {
    absl::PrintF("published version is not served: %s\n", model.error());
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatusCommand(const CommandLine& line) {
  line.app->add_subcommand("status", "catalogue and model of a running server")
      ->callback([line] { *line.result = Run(*line.options); });
}

}  // namespace adrank
