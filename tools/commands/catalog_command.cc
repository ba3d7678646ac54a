#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "proto/catalog_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

// Operations of one call. As one version each, so that a catalogue of any size
// stays under the message limit.
constexpr int kOperationsPerCall = 2000;

struct CatalogArgs {
  std::string file;
  std::string type;
  std::string id;
  bool validate_only = false;
  bool partial = false;
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

std::string TypeName(v1::EntityType type) {
  return absl::AsciiStrToLower(
      v1::EntityType_Name(type).substr(12));  // "ENTITY_TYPE_"
}

// Parents first.
std::vector<v1::CatalogOperation> Upserts(const v1::Catalog& catalog) {
  std::vector<v1::CatalogOperation> operations;
  const auto add = [&](auto set, const auto& entities) {
    for (const auto& entity : entities) {
      set(operations.emplace_back().mutable_upsert(), entity);
    }
  };
  using E = v1::CatalogEntity;
  add([](E* e, const auto& x) { *e->mutable_advertiser() = x; },
      catalog.advertisers());
  add([](E* e, const auto& x) { *e->mutable_campaign() = x; },
      catalog.campaigns());
  add([](E* e, const auto& x) { *e->mutable_ad_group() = x; },
      catalog.ad_groups());
  add([](E* e, const auto& x) { *e->mutable_ad() = x; }, catalog.ads());
  return operations;
}

absl::Status Apply(const CatalogArgs& args, const ClientOptions& options) {
  v1::Catalog catalog;
  RETURN_IF_ERROR(ReadMessage(args.file, &catalog));
  const std::vector<v1::CatalogOperation> operations = Upserts(catalog);
  const auto stub = v1::CatalogService::NewStub(Connect(options.admin));
  v1::MutateResponse total;
  int failed = 0;
  for (size_t begin = 0; begin < operations.size();
       begin += kOperationsPerCall) {
    v1::MutateRequest request;
    request.set_partial_failure(args.partial);
    request.set_validate_only(args.validate_only);
    const size_t end = std::min(operations.size(), begin + kOperationsPerCall);
    for (size_t i = begin; i < end; ++i) {
      *request.add_operations() = operations[i];
    }
    grpc::ClientContext context;
    SetDeadline(options, &context);
    v1::MutateResponse response;
    RETURN_IF_ERROR(
        FromGrpc(stub->Mutate(&context, request, &response), options.admin));
    for (const v1::OperationResult& result : response.results()) {
      if (result.error().empty()) continue;
      ++failed;
      *total.add_results() = result;
      absl::FPrintF(stderr, "%s %s: %s\n", TypeName(result.key().type()),
                    result.key().id(), result.error());
    }
    total.set_applied(total.applied() + response.applied());
    total.set_catalog_version(response.catalog_version());
    if (failed > 0 && !args.partial) break;
  }
  if (options.json) {
    absl::PrintF("%s", ToJson(total));
  } else {
    absl::PrintF("%d operations, %d applied, %d failed; catalog version %d\n",
                 operations.size(), total.applied(), failed,
                 total.catalog_version());
  }
  return failed == 0 ? absl::OkStatus()
                     : absl::InvalidArgumentError(
                           absl::StrCat(failed, " operations are wrong"));
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
  const auto stub = v1::CatalogService::NewStub(Connect(options.server));
  v1::ListCatalogRequest request;
  ASSIGN_OR_RETURN(const v1::EntityType type, ParseType(args.type));
  request.set_type(type);
  request.set_id(args.id);
  Table table({"type", "id", "parent", "status", "bid", "name"});
  bool any = false;
  do {
    grpc::ClientContext context;
    SetDeadline(options, &context);
    v1::ListCatalogResponse response;
    RETURN_IF_ERROR(
        FromGrpc(stub->List(&context, request, &response), options.server));
    for (const v1::CatalogEntity& entity : response.entities()) {
      any = true;
      if (options.json) {
        absl::PrintF("%s", ToJson(entity));
      } else if (!args.id.empty()) {
        absl::PrintF("%s", PrintTextProto(entity));
      } else {
        AddRow(entity, &table);
      }
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  if (!args.id.empty() && !any) {
    return absl::NotFoundError(
        absl::StrCat("no ", args.type, " \"", args.id, "\""));
  }
  if (!options.json && args.id.empty()) absl::PrintF("%s", table.Print());
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
  CLI::App* apply =
      add("apply", "insert or replace the entities of a file", Apply);
  apply
      ->add_option("--file", args->file,
                   "adrank.v1.Catalog as text proto or JSON; - is stdin")
      ->required();
  apply->add_flag("--validate-only", args->validate_only,
                  "check and report only");
  apply->add_flag("--partial", args->partial,
                  "apply the good ones although others are wrong");
  add("list", "all entities", List)
      ->add_option("--type", args->type,
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
