#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "proto/catalog_service.grpc.pb.h"
#include "tools/catalog_client.h"
#include "tools/catalog_diff.h"
#include "tools/catalog_file.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

// What the server's admin port takes: files are one call, so that they are
// applied whole or not at all.
constexpr size_t kMaxCallBytes = 256 << 20;
// Time for the server to run recent requests against the change.
constexpr int kReachMs = 60000;
constexpr int kShownReach = 50;
constexpr int kDiffers = 3;  // exit code

struct FileArgs {
  std::vector<std::string> files;
  bool validate_only = false;
  bool partial = false;
  bool prune = false;
  std::optional<int64_t> expected_version;
};

// The live catalogue compared with the files.
struct Comparison {
  std::vector<EntityChange> changes;
  size_t only_live = 0;
  size_t same = 0;
  int64_t version = 0;
};

absl::StatusOr<Comparison> Compare(const CatalogFiles& files, bool prune,
                                   const ClientOptions& options) {
  Comparison result;
  CatalogDiff diff(files.entities());
  ASSIGN_OR_RETURN(result.version, ReadConsistently(options, [&] {
                     return ForEachEntity(
                         options, {},
                         [&](v1::CatalogEntity* e) { diff.Live(*e); });
                   }));
  result.changes = diff.Finish(prune);
  result.only_live = diff.only_live();
  result.same = diff.same();
  return result;
}

absl::Status Diff(const FileArgs& args, const ClientOptions& options,
                  int* exit_code) {
  ASSIGN_OR_RETURN(const CatalogFiles files, CatalogFiles::Read(args.files));
  ASSIGN_OR_RETURN(const Comparison found, Compare(files, args.prune, options));
  if (!found.changes.empty()) *exit_code = kDiffers;
  if (options.json) {
    absl::PrintF("%s", DiffJson(found.changes, found.only_live, found.version));
    return absl::OkStatus();
  }
  absl::PrintF("%s", DiffText(found.changes));
  absl::PrintF("catalog version %d: %d of %d entities are the same\n",
               found.version, found.same, files.entities().size());
  if (found.only_live > 0 && !args.prune) {
    absl::PrintF(
        "%d entities are only in the live catalogue; with --prune they would "
        "be removed\n",
        found.only_live);
  }
  return absl::OkStatus();
}

std::string Share(uint32_t part, uint32_t whole) {
  return whole == 0
             ? absl::StrCat(part)
             : absl::StrFormat("%d (%.1f%%)", part, 100.0 * part / whole);
}

bool HasReach(const v1::OperationResult& result) {
  return result.error().empty() &&
         (result.key().type() == v1::ENTITY_TYPE_CAMPAIGN ||
          result.key().type() == v1::ENTITY_TYPE_AD_GROUP);
}

void PrintReach(const v1::MutateResponse& response) {
  Table table({"type", "id", "recent requests", "matched", "eligible"});
  int rows = 0;
  for (const v1::OperationResult& result : response.results()) {
    if (!HasReach(result) || ++rows > kShownReach) continue;
    table.Add({EntityTypeName(result.key().type()), result.key().id(),
               absl::StrCat(result.requests_sampled()),
               Share(result.requests_matched(), result.requests_sampled()),
               Share(result.requests_eligible(), result.requests_sampled())});
  }
  if (rows == 0) return;
  absl::PrintF("expected reach:\n%s", table.Print());
  if (rows > kShownReach) {
    absl::PrintF("and %d more; --json has all\n", rows - kShownReach);
  }
}

// Removals behind the upserts, in one version with them; nothing if somebody
// changes the catalogue meanwhile, since it would not be what the files say.
absl::Status AddRemovals(const CatalogFiles& files,
                         const ClientOptions& options,
                         v1::MutateRequest* request) {
  ASSIGN_OR_RETURN(const Comparison found, Compare(files, true, options));
  if (!request->has_expected_version()) {
    request->set_expected_version(found.version);
  }
  for (const EntityChange& change : found.changes) {
    if (change.kind != EntityChange::kRemoved) continue;
    *request->add_operations()->mutable_remove() = change.key;
  }
  return absl::OkStatus();
}

// Prints the failures where they stand; returns what to print of the results.
v1::MutateResponse Report(const CatalogFiles& files, bool validate_only,
                          v1::MutateResponse* response, int* failed) {
  v1::MutateResponse shown;
  shown.set_applied(response->applied());
  shown.set_catalog_version(response->catalog_version());
  for (int i = 0; i < response->results_size(); ++i) {
    v1::OperationResult& result = *response->mutable_results(i);
    if (!result.error().empty()) {
      ++*failed;
      if (static_cast<size_t>(i) < files.entities().size()) {
        result.set_error(files.Locate(static_cast<size_t>(i), result.error()));
      }
      absl::FPrintF(stderr, "%s\n", result.error());
    } else if (!validate_only || !HasReach(result)) {
      continue;
    }
    *shown.add_results() = std::move(result);
  }
  return shown;
}

absl::Status Apply(const FileArgs& args, const ClientOptions& options, int*) {
  ASSIGN_OR_RETURN(const CatalogFiles files, CatalogFiles::Read(args.files));
  v1::MutateRequest request;
  request.set_partial_failure(args.partial);
  request.set_validate_only(args.validate_only);
  if (args.expected_version.has_value()) {
    request.set_expected_version(*args.expected_version);
  }
  for (const v1::CatalogEntity& entity : files.entities()) {
    *request.add_operations()->mutable_upsert() = entity;
  }
  if (args.prune) RETURN_IF_ERROR(AddRemovals(files, options, &request));
  if (request.ByteSizeLong() > kMaxCallBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        request.ByteSizeLong(), " bytes in one call; at most ", kMaxCallBytes,
        " are possible: split the files, parents first"));
  }
  grpc::ClientContext context;
  ClientOptions patient = options;
  patient.timeout_ms += request.operations_size();
  if (args.validate_only) patient.timeout_ms += kReachMs;
  SetDeadline(patient, &context);
  v1::MutateResponse response;
  RETURN_IF_ERROR(FromGrpc(v1::CatalogService::NewStub(Connect(options.admin))
                               ->Mutate(&context, request, &response),
                           options.admin));
  int failed = 0;
  const v1::MutateResponse shown =
      Report(files, args.validate_only, &response, &failed);
  if (options.json) {
    absl::PrintF("%s", ToJson(shown));
  } else {
    absl::PrintF("%d operations, %d applied, %d failed; catalog version %d\n",
                 request.operations_size(), shown.applied(), failed,
                 shown.catalog_version());
    if (args.validate_only) PrintReach(shown);
  }
  if (failed == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      failed, failed == 1 ? " operation is" : " operations are", " wrong",
      args.validate_only     ? ""
      : shown.applied() == 0 ? "; nothing was applied"
                             : "; the others were applied"));
}

absl::Status Export(const FileArgs&, const ClientOptions& options, int*) {
  v1::Catalog catalog;
  RETURN_IF_ERROR(
      ReadConsistently(options, [&] {
        return ForEachEntity(options, {}, [&](v1::CatalogEntity* e) {
          if (e->has_advertiser()) {
            catalog.add_advertisers()->Swap(e->mutable_advertiser());
          } else if (e->has_campaign()) {
            catalog.add_campaigns()->Swap(e->mutable_campaign());
          } else if (e->has_ad_group()) {
            catalog.add_ad_groups()->Swap(e->mutable_ad_group());
          } else if (e->has_ad()) {
            catalog.add_ads()->Swap(e->mutable_ad());
          }
        });
      }).status());
  absl::PrintF("%s", options.json ? ToJson(catalog) : PrintTextProto(catalog));
  return absl::OkStatus();
}

}  // namespace

void AddCatalogFileCommands(const CommandLine& line, CLI::App* catalog) {
  auto args = std::make_shared<FileArgs>();
  const auto add = [&](const char* name, const char* about, auto run) {
    CLI::App* sub = catalog->add_subcommand(name, about);
    sub->callback([line, args, run] {
      *line.result = run(*args, *line.options, line.exit_code);
    });
    return sub;
  };
  const auto add_files = [&](CLI::App* sub) {
    sub->add_option("files,--file", args->files,
                    "adrank.v1.Catalog as text proto or JSON; - is stdin")
        ->required();
    sub->add_flag("--prune", args->prune,
                  "the files are the whole catalogue: remove what they lack");
  };
  CLI::App* apply = add("apply",
                        "insert or replace the entities of files, all as one "
                        "version or none",
                        Apply);
  add_files(apply);
  apply->add_flag("--validate-only,--validate_only", args->validate_only,
                  "check and report only, with the expected reach of ad groups "
                  "and campaigns on recent requests");
  apply->add_flag("--partial,--partial-failure,--partial_failure",
                  args->partial,
                  "apply the good ones although others are wrong");
  apply->add_option("--expected-version,--expected_version",
                    args->expected_version,
                    "apply nothing unless the catalogue still has this "
                    "version, which diff prints");
  add_files(add("diff",
                "what applying files would change, field by field; exit code "
                "3: something",
                Diff));
  add("export", "the whole catalogue as a file for apply", Export);
}

}  // namespace adrank
