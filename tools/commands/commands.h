// The verbs of adrankctl. Each Add... declares one verb with its options on the
// command line and, when the verb is given, does its work.
#ifndef ADRANK_TOOLS_COMMANDS_COMMANDS_H_
#define ADRANK_TOOLS_COMMANDS_COMMANDS_H_

#include "absl/status/status.h"
#include "tools/client.h"

namespace CLI {
class App;
}

namespace adrank {

// `options` is filled in by the parser before a verb runs; `*result` is what
// the verb returned. InvalidArgument becomes exit code 2, other errors 1; a
// verb that is done may set *exit_code.
struct CommandLine {
  CLI::App* app;
  const ClientOptions* options;
  absl::Status* result;
  int* exit_code;
};

// apply, diff and export of `catalog`.
void AddCatalogFileCommands(const CommandLine& line, CLI::App* catalog);
void AddImportCommand(const CommandLine& line);
void AddCatalogCommand(const CommandLine& line);
// rank, predict and explain
void AddRankCommands(const CommandLine& line);
void AddEventsCommand(const CommandLine& line);
void AddModelsCommand(const CommandLine& line);
void AddStatusCommand(const CommandLine& line);
void AddRecallCommand(const CommandLine& line);
void AddBudgetsCommand(const CommandLine& line);
void AddCapsCommand(const CommandLine& line);
void AddEvaluatePolicyCommand(const CommandLine& line);

}  // namespace adrank

#endif  // ADRANK_TOOLS_COMMANDS_COMMANDS_H_
