#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "base/textproto_lines.h"
#include "storage/event_log.h"
#include "tools/commands/commands.h"
#include "tools/importer.h"
#include "tools/table.h"

namespace adrank {
namespace {

struct ImportArgs {
  std::string mapping;
  std::string data_dir;
  ImportInput input;
};

// A line that is rewritten on a terminal, a plain line now and then elsewhere.
void ShowProgress(const ImportCounts& counts, const std::string& path,
                  double share, absl::Time start) {
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const bool terminal = isatty(STDERR_FILENO);
  if (!terminal && counts.rows % 1000000 != 0) return;
  absl::FPrintF(
      stderr, "%s%s: %d rows, %d bad, %.0f rows/s, %.0f %%, %s left%s",
      terminal ? "\r\033[K" : "", path, counts.rows, counts.rows_bad,
      static_cast<double>(counts.rows) / seconds, 100 * share,
      share > 0 ? absl::FormatDuration(
                      absl::Seconds(std::ceil(seconds * (1 - share) / share)))
                : "?",
      terminal ? "" : "\n");
}

struct Line {
  const char* name;
  const char* meaning;
  uint64_t value;
};

// `before` and `after` are the log's: an import of what is there already adds
// nothing.
void Print(const ImportCounts& c, const EventLogStats& before,
           const EventLogStats& after, double seconds, bool json) {
  const Line lines[] = {
      {"rows", "rows", c.rows},
      {"rows_bad", "  bad rows", c.rows_bad},
      {"impressions", "  impressions", c.impressions},
      {"duplicate_impressions", "  duplicate impressions",
       c.duplicate_impressions},
      {"joined_clicks", "  clicks of an impression", c.joined_clicks},
      {"duplicate_clicks", "  duplicate clicks", c.duplicate_clicks},
      {"orphan_clicks", "  clicks without impression", c.orphan_clicks},
      {"labelled_clicks", "impressions labelled as clicked", c.labelled_clicks},
      {"decisions", "decisions", c.decisions},
      {"new_decisions", "decisions new to the log",
       after.decisions - before.decisions},
      {"new_events", "events new to the log", after.events - before.events},
  };
  if (json) {
    absl::PrintF("{");
    for (const Line& l : lines) absl::PrintF("\"%s\": %d, ", l.name, l.value);
    absl::PrintF("\"seconds\": %.3f}\n", seconds);
    return;
  }
  Table table({"import", "count"});
  for (const Line& l : lines) table.Add({l.meaning, absl::StrCat(l.value)});
  absl::PrintF("%s%.1f s, %.0f rows/s\n", table.Print(), seconds,
               static_cast<double>(c.rows) / seconds);
}

absl::Status Run(const ImportArgs& args, bool json) {
  const auto mapping = ReadTextProto<v1::ImportMapping>(args.mapping);
  if (!mapping.ok()) {
    return absl::InvalidArgumentError(std::string(mapping.status().message()));
  }
  RETURN_IF_ERROR(AtItsLine(ValidateMapping(*mapping), args.mapping, *mapping));
  // Before a log is created.
  RETURN_IF_ERROR(CheckInput(*mapping, args.input));
  v1::StorageConfig storage;
  storage.set_data_dir(args.data_dir);
  storage.set_durability(v1::StorageConfig::ASYNC);
  ASSIGN_OR_RETURN(const std::unique_ptr<EventLog> log,
                   EventLog::Open(storage, Clock::Real()));
  const EventLogStats before = log->Stats();
  const absl::Time start = absl::Now();
  ImportObserver observer;
  observer.bad_row = [](const std::string& row) {
    absl::FPrintF(stderr, "bad row: %s\n", row);
  };
  observer.progress = [&](const ImportCounts& counts, const std::string& path,
                          double share) {
    ShowProgress(counts, path, share, start);
  };
  ImportCounts counts;
  const absl::Status status =
      Import(*mapping, args.input, observer, log.get(), &counts);
  if (isatty(STDERR_FILENO)) absl::FPrintF(stderr, "\r\033[K");
  Print(counts, before, log->Stats(),
        absl::ToDoubleSeconds(absl::Now() - start), json);
  return status;
}

}  // namespace

void AddImportCommand(const CommandLine& line) {
  auto args = std::make_shared<ImportArgs>();
  CLI::App* verb = line.app->add_subcommand(
      "import", "write foreign logs into an event log");
  verb->add_option("--mapping", args->mapping,
                   "text proto adrank.v1.ImportMapping; see deploy/examples")
      ->required();
  verb->add_option("--input", args->input.impressions,
                   "files of impressions, in time order; gzip is recognised")
      ->required();
  verb->add_option("--clicks", args->input.clicks,
                   "files of clicks (mappings with separate_clicks)");
  verb->add_option("--log,--data", args->data_dir,
                   "data directory of the event log; created if absent")
      ->required();
  verb->callback(
      [line, args] { *line.result = Run(*args, line.options->json); });
}

}  // namespace adrank
