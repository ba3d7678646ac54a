#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "proto/catalog_service.grpc.pb.h"
#include "tools/catalog_client.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

struct CatalogArgs {
  std::string type;
  std::string id;
  uint32_t limit = 100;
};

absl::StatusOr<v1::EntityType> ParseType(const std::string& text) {
  v1::EntityType type = v1::ENTITY_TYPE_UNSPECIFIED;
  if (text.empty()) return type;
  if (!v1::EntityType_Parse(
          absl::StrCat("ENTITY_TYPE_", absl::AsciiStrToUpper(text)), &type)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "type \"", text, "\" is none of advertiser, campaign, ad_group, ad"));
  }
  return type;
}

void AddRow(const v1::CatalogEntity& entity, Table* table) {
  const auto status = [](v1::EntityStatus s) {
    return s == v1::ENTITY_STATUS_PAUSED ? "paused" : "enabled";
  };
  switch (entity.entity_case()) {
    case v1::CatalogEntity::kAdvertiser: {
      const auto& a = entity.advertiser();
      table->Add({"advertiser", a.id(), "", status(a.status()), "", a.name()});
      break;
    }
    case v1::CatalogEntity::kCampaign: {
      const auto& c = entity.campaign();
      table->Add({"campaign", c.id(), c.advertiser_id(), status(c.status()), "",
                  c.name()});
      break;
    }
    case v1::CatalogEntity::kAdGroup: {
      const auto& g = entity.ad_group();
      table->Add({"ad_group", g.id(), g.campaign_id(), status(g.status()),
                  FormatMicros(g.bid_micros()), g.name()});
      break;
    }
    case v1::CatalogEntity::kAd: {
      const auto& a = entity.ad();
      table->Add(
          {"ad", a.id(), a.ad_group_id(), status(a.status()), "", a.name()});
      break;
    }
    case v1::CatalogEntity::ENTITY_NOT_SET:
      break;
  }
}

absl::Status List(const CatalogArgs& args, const ClientOptions& options) {
  v1::ListCatalogRequest request;
  ASSIGN_OR_RETURN(const v1::EntityType type, ParseType(args.type));
  request.set_type(type);
  request.set_id(args.id);
  Table table({"type", "id", "parent", "status", "bid", "name"});
  v1::ListCatalogResponse all;
  bool any = false;
  RETURN_IF_ERROR(
      ForEachEntity(options, request, [&](v1::CatalogEntity* entity) {
        any = true;
        if (options.json) {
          all.add_entities()->Swap(entity);
        } else if (!args.id.empty()) {
          absl::PrintF("%s", PrintTextProto(*entity));
        } else {
          AddRow(*entity, &table);
        }
      }));
  if (!args.id.empty() && !any) {
    return absl::NotFoundError(
        absl::StrCat("no ", args.type, " \"", args.id, "\""));
  }
  if (options.json) {
    // One entity, or one document with all of them.
    absl::PrintF("%s", args.id.empty() ? ToJson(all) : ToJson(all.entities(0)));
  } else if (args.id.empty()) {
    absl::PrintF("%s", table.Print());
  }
  return absl::OkStatus();
}

absl::Status History(const CatalogArgs& args, const ClientOptions& options) {
  v1::CatalogHistoryRequest request;
  ASSIGN_OR_RETURN(const v1::EntityType type, ParseType(args.type));
  request.mutable_key()->set_type(type);
  request.mutable_key()->set_id(args.id);
  request.set_limit(args.limit);
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::CatalogHistoryResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::CatalogService::NewStub(Connect(options.server))
                               ->History(&context, request, &response),
                           options.server));
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
    return absl::OkStatus();
  }
  for (const v1::CatalogChange& change : response.changes()) {
    absl::PrintF("# version %d, %s\n%s", change.catalog_version(),
                 absl::FormatTime(absl::FromUnixMillis(change.time_ms()),
                                  absl::UTCTimeZone()),
                 PrintTextProto(change.operation()));
  }
  return absl::OkStatus();
}

absl::Status Remove(const CatalogArgs& args, const ClientOptions& options) {
  v1::MutateRequest request;
  v1::EntityKey* key = request.add_operations()->mutable_remove();
  ASSIGN_OR_RETURN(const v1::EntityType type, ParseType(args.type));
  key->set_type(type);
  key->set_id(args.id);
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::MutateResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::CatalogService::NewStub(Connect(options.admin))
                               ->Mutate(&context, request, &response),
                           options.admin));
  if (response.results_size() == 1 && !response.results(0).error().empty()) {
    return absl::InvalidArgumentError(response.results(0).error());
  }
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
    return absl::OkStatus();
  }
  absl::PrintF("removed; catalog version %d\n", response.catalog_version());
  return absl::OkStatus();
}

}  // namespace

void AddCatalogCommand(const CommandLine& line) {
  CLI::App* verb = line.app->add_subcommand(
      "catalog", "advertisers, campaigns, ad groups and ads");
  verb->require_subcommand(1);
  auto args = std::make_shared<CatalogArgs>();
  const auto add = [&](const char* name, const char* about, auto run) {
    CLI::App* sub = verb->add_subcommand(name, about);
    sub->callback(
        [line, args, run] { *line.result = run(*args, *line.options); });
    return sub;
  };
  const auto add_key = [&](CLI::App* sub) {
    sub->add_option("type", args->type, "advertiser, campaign, ad_group or ad")
        ->required();
    sub->add_option("id", args->id)->required();
  };
  AddCatalogFileCommands(line, verb);
  CLI::App* list = add("list", "all entities, or all of one type", List);
  list->add_option("type,--type", args->type,
                   "only advertiser, campaign, ad_group or ad");
  add_key(add("get", "one entity as text proto", List));
  add_key(add("remove", "remove an entity without children", Remove));
  CLI::App* history =
      add("history", "every change of an entity, newest first", History);
  add_key(history);
  history->add_option("--limit", args->limit, "changes at most")
      ->capture_default_str();
}

}  // namespace adrank
