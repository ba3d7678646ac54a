#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "proto/catalog_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

// What the server's admin port takes: a file is one call, so that it is applied
// whole or not at all.
constexpr size_t kMaxCallBytes = 256 << 20;

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

// Adds the entities of one type; each may be in the file once.
template <typename Entities, typename Set>
absl::Status AddUpserts(const char* type, Entities* entities, const Set& set,
                        v1::MutateRequest* request) {
  absl::flat_hash_set<std::string> ids;
  for (auto& entity : *entities) {
    if (!ids.insert(entity.id()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(type, " \"", entity.id(), "\" is in the file twice"));
    }
    set(request->add_operations()->mutable_upsert(), std::move(entity));
  }
  return absl::OkStatus();
}

// Parents first.
absl::Status AddAllUpserts(v1::Catalog* catalog, v1::MutateRequest* request) {
  using E = v1::CatalogEntity;
  RETURN_IF_ERROR(AddUpserts(
      "advertiser", catalog->mutable_advertisers(),
      [](E* e, v1::Advertiser x) { e->mutable_advertiser()->Swap(&x); },
      request));
  RETURN_IF_ERROR(AddUpserts(
      "campaign", catalog->mutable_campaigns(),
      [](E* e, v1::Campaign x) { e->mutable_campaign()->Swap(&x); }, request));
  RETURN_IF_ERROR(AddUpserts(
      "ad_group", catalog->mutable_ad_groups(),
      [](E* e, v1::AdGroup x) { e->mutable_ad_group()->Swap(&x); }, request));
  return AddUpserts(
      "ad", catalog->mutable_ads(),
      [](E* e, v1::Ad x) { e->mutable_ad()->Swap(&x); }, request);
}

absl::Status Apply(const CatalogArgs& args, const ClientOptions& options) {
  v1::Catalog catalog;
  RETURN_IF_ERROR(ReadMessage(args.file, &catalog));
  v1::MutateRequest request;
  request.set_partial_failure(args.partial);
  request.set_validate_only(args.validate_only);
  RETURN_IF_ERROR(Annotate(AddAllUpserts(&catalog, &request), args.file));
  if (request.ByteSizeLong() > kMaxCallBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        args.file, ": ", request.ByteSizeLong(), " bytes in one call; at most ",
        kMaxCallBytes, " are possible: split the file, parents first"));
  }
  grpc::ClientContext context;
  ClientOptions patient = options;
  patient.timeout_ms += request.operations_size();
  SetDeadline(patient, &context);
  v1::MutateResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::CatalogService::NewStub(Connect(options.admin))
                               ->Mutate(&context, request, &response),
                           options.admin));
  v1::MutateResponse shown;
  shown.set_applied(response.applied());
  shown.set_catalog_version(response.catalog_version());
  for (v1::OperationResult& result : *response.mutable_results()) {
    if (result.error().empty()) continue;
    absl::FPrintF(stderr, "%s %s: %s\n", TypeName(result.key().type()),
                  result.key().id(), result.error());
    *shown.add_results() = std::move(result);
  }
  const int failed = shown.results_size();
  if (options.json) {
    absl::PrintF("%s", ToJson(shown));
  } else {
    absl::PrintF("%d operations, %d applied, %d failed; catalog version %d\n",
                 request.operations_size(), shown.applied(), failed,
                 shown.catalog_version());
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
  v1::ListCatalogResponse all;
  bool any = false;
  do {
    grpc::ClientContext context;
    SetDeadline(options, &context);
    v1::ListCatalogResponse response;
    RETURN_IF_ERROR(
        FromGrpc(stub->List(&context, request, &response), options.server));
    for (v1::CatalogEntity& entity : *response.mutable_entities()) {
      any = true;
      if (options.json) {
        *all.add_entities() = std::move(entity);
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
