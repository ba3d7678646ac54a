// adrankctl: what people do to a running server, and the import of foreign
// logs.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "tools/client.h"
#include "tools/commands/commands.h"

namespace {

constexpr char kAbout[] =
    "Talks to adrank-server, and imports foreign logs.\n"
    "Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 done, and the "
    "answer is no: `catalog diff` found differences, `explain --decision` "
    "another answer, `evaluate-policy` too little to judge by.";

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  adrank::InitLogging(argv[0]);
  adrank::ClientOptions options;
  absl::Status result;
  int exit_code = 0;
  CLI::App app(kAbout, "adrankctl");
  app.require_subcommand(1);
  app.fallthrough();
  const CLI::Option* server =
      app.add_option("--server", options.server, "ranking port, host:port")
          ->capture_default_str();
  const CLI::Option* admin =
      app.add_option("--admin", options.admin,
                     "admin port (models, catalogue changes), host:port; "
                     "--server's when only that is given")
          ->capture_default_str();
  app.parse_complete_callback([&options, server, admin] {
    if (server->count() > 0 && admin->count() == 0) {
      options.admin = options.server;
    }
  });
  app.add_flag("--json", options.json, "print answers as JSON");
  app.add_option("--timeout-ms", options.timeout_ms, "longest wait for a call")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  const adrank::CommandLine line = {&app, &options, &result, &exit_code};
  adrank::AddImportCommand(line);
  adrank::AddCatalogCommand(line);
  adrank::AddRankCommands(line);
  adrank::AddEventsCommand(line);
  adrank::AddModelsCommand(line);
  adrank::AddStatusCommand(line);
  adrank::AddRecallCommand(line);
  adrank::AddBudgetsCommand(line);
  adrank::AddCapsCommand(line);
  adrank::AddEvaluatePolicyCommand(line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (!result.ok()) {
    std::fprintf(stderr, "adrankctl: %s\n",
                 std::string(result.message()).c_str());
  }
  return result.ok() ? exit_code : ExitCode(result);
}
