// adrank-simulate: an ad market whose true click rates are known. Writes its
// catalogue and logs, drives a live server as its users, and holds logs against
// the truth.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "base/textproto_lines.h"
#include "model/model_store.h"
#include "tools/client.h"
#include "tools/drive.h"
#include "tools/generate.h"
#include "tools/progress_line.h"
#include "tools/truth_report.h"

namespace adrank {
namespace {

constexpr char kAbout[] =
    "A simulated ad market with known true click rates.\n"
    "Exit codes: 0 done, 1 failed, 2 bad usage or config.";

// Where a verb's market comes from.
struct MarketOptions {
  std::string config_file;
  uint64_t seed = 0;
  bool has_seed = false;
  std::string data_dir;

  void AddTo(CLI::App* verb, const char* data_help) {
    auto* config =
        verb->add_option("--config", config_file, "MarketConfig, a text proto");
    verb->add_option_function<uint64_t>(
            "--seed",
            [this](uint64_t s) {
              seed = s;
              has_seed = true;
            },
            "the default market of this seed")
        ->excludes(config);
    verb->add_option("--data", data_dir, data_help);
  }

  // The config given, or that of the data.
  absl::StatusOr<std::unique_ptr<const Market>> Load() const {
    v1::MarketConfig config;
    if (!config_file.empty()) {
      ASSIGN_OR_RETURN(config, ReadTextProto<v1::MarketConfig>(config_file));
    } else if (has_seed) {
      config.set_seed(seed);
    } else if (!data_dir.empty()) {
      ASSIGN_OR_RETURN(config, ReadMarket(data_dir));
    } else {
      return absl::InvalidArgumentError(
          "one of --config, --seed and --data must name the market");
    }
    absl::StatusOr<std::unique_ptr<const Market>> market =
        Market::Create(config);
    if (!market.ok() && !config_file.empty()) {
      return AtItsLine(market.status(), config_file, config);
    }
    return market;
  }
};

struct GenerateCommand {
  MarketOptions market;
  GenerateOptions options;
  std::string catalog_file;
  bool json = false;

  void AddTo(CLI::App* app, absl::Status* result) {
    CLI::App* verb = app->add_subcommand(
        "generate",
        "write days of the market: catalogue, decisions, events. What is "
        "there already stays, so a broken run is simply repeated.");
    market.AddTo(verb, "directory of the event log and the catalogue");
    verb->add_option("--days", options.days, "days to write")
        ->capture_default_str();
    verb->add_option("--start-day", options.first_day,
                     "first day, counted from the market's first")
        ->capture_default_str();
    verb->add_option("--threads", options.threads,
                     "threads that make records, beside the one that writes")
        ->capture_default_str();
    verb->add_flag("--catalog-only", options.catalog_only,
                   "write the catalogue of those days, no log");
    verb->add_option("--catalog-file", catalog_file,
                     "also write the catalogue of the last day as a text "
                     "proto, for adrankctl; without --data only that");
    verb->add_flag("--json", json, "print the result as JSON");
    verb->callback([this, result] { *result = Run(); });
  }

  absl::Status Run() {
    ASSIGN_OR_RETURN(const std::unique_ptr<const Market> m, market.Load());
    if (!catalog_file.empty()) {
      RETURN_IF_ERROR(files::WriteAtomically(
          catalog_file,
          PrintTextProto(CatalogOfDay(
              *m, options.first_day + std::max(0, options.days - 1)))));
      if (market.data_dir.empty()) return absl::OkStatus();
    }
    if (market.data_dir.empty()) {
      return absl::InvalidArgumentError("--data is required");
    }
    options.data_dir = market.data_dir;
    v1::GenerateReport report;
    {
      ProgressLine line("decisions");
      ASSIGN_OR_RETURN(
          report,
          Generate(*m, options, [&line](const MarketCounts& c, uint64_t total) {
            line.Show(c.decisions, total);
          }));
    }
    if (json) {
      std::fputs(ToJson(report).c_str(), stdout);
      return absl::OkStatus();
    }
    absl::PrintF("%u catalogue changes\n", report.catalog_changes());
    if (options.catalog_only) return absl::OkStatus();
    absl::PrintF(
        "days %d to %d: %u decisions, %u impressions, %u clicks (%.1f "
        "expected) in %.2f s: %.0f events/s\n",
        report.first_day(), report.last_day(), report.decisions(),
        report.impressions(), report.clicks(), report.expected_clicks(),
        report.seconds(), report.events_per_second());
    return absl::OkStatus();
  }
};

struct DriveCommand {
  MarketOptions market;
  DriveOptions options;
  bool json = false;

  void AddTo(CLI::App* app, absl::Status* result) {
    CLI::App* verb = app->add_subcommand(
        "drive",
        "ask a live server for ads and report what users do with them");
    market.AddTo(verb, "data directory whose market it is");
    verb->add_option("--server", options.server, "ranking port, host:port")
        ->capture_default_str();
    CLI::Option* day =
        verb->add_option("--day", options.day, "day of the visits")
            ->capture_default_str();
    verb->add_option("--first", options.first, "first visit of the day")
        ->capture_default_str();
    verb->add_flag("--now", options.now,
                   "visits happen at the machine's time, not on --day")
        ->excludes(day);
    verb->add_option("--count", options.count, "requests; 0: no bound")
        ->capture_default_str();
    verb->add_option("--duration", options.duration_s, "seconds; 0: no bound")
        ->capture_default_str();
    verb->add_option("--rate", options.rate,
                     "requests a second; 0: as fast as answers come")
        ->capture_default_str();
    verb->add_option("--concurrency", options.concurrency, "connections")
        ->capture_default_str();
    verb->add_option("--timeout-ms", options.timeout_ms,
                     "longest wait for an answer")
        ->capture_default_str();
    verb->add_flag("--test", options.test,
                   "mark as test traffic: logged, never trained on");
    verb->add_flag("--json", json, "print the result as JSON");
    verb->callback([this, result] { *result = Run(); });
  }

  absl::Status Run() {
    ASSIGN_OR_RETURN(const std::unique_ptr<const Market> m, market.Load());
    v1::DriveReport report;
    {
      ProgressLine line("requests");
      ASSIGN_OR_RETURN(report, Drive(*m, options, [&](uint64_t done) {
                         line.Show(done, options.count);
                       }));
    }
    std::fputs((json ? ToJson(report) : PrintDriveReport(report)).c_str(),
               stdout);
    if (report.answers() == 0) {
      return absl::UnavailableError("no request was answered");
    }
    return absl::OkStatus();
  }
};

struct ReportCommand {
  MarketOptions market;
  TruthReportOptions options;
  std::string model_dir, model_name = "ctr";
  int64_t model_version = 0;
  int64_t attribution_window_s = 86400;
  bool json = false;

  void AddTo(CLI::App* app, absl::Status* result) {
    CLI::App* verb = app->add_subcommand(
        "report",
        "hold the log, and a model, against the true click rates: normalized "
        "entropy, calibration, regret");
    market.AddTo(verb, "directory of the event log");
    verb->get_option("--data")->required();
    verb->add_option("--models", model_dir, "directory of published models");
    verb->add_option("--model-name", model_name, "model to hold against it")
        ->capture_default_str();
    verb->add_option("--model-version", model_version,
                     "its version; 0: the published one")
        ->capture_default_str();
    verb->add_option("--from-day", options.from_day, "first day of visits")
        ->capture_default_str();
    verb->add_option("--to-day", options.to_day, "last day of visits");
    verb->add_option("--attribution-window-s", attribution_window_s,
                     "later clicks do not count")
        ->capture_default_str();
    verb->add_option("--regret-share", options.regret_share,
                     "share of decisions whose regret is computed")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    verb->add_flag("--json", json, "print the result as JSON");
    verb->callback([this, result] { *result = Run(); });
  }

  absl::StatusOr<std::shared_ptr<const ModelBundle>> LoadModel() const {
    if (model_dir.empty()) return std::shared_ptr<const ModelBundle>();
    const ModelStore store(model_dir, model_name);
    int64_t version = model_version;
    if (version == 0) {
      ASSIGN_OR_RETURN(version, store.Published());
    }
    return ModelBundle::Load(store.VersionDir(version));
  }

  absl::Status Run() {
    ASSIGN_OR_RETURN(const std::unique_ptr<const Market> m, market.Load());
    // A market named beside the data must be the data's own.
    if (absl::StatusOr<v1::MarketConfig> stored = ReadMarket(market.data_dir);
        stored.ok()) {
      RETURN_IF_ERROR(CheckSameMarket(*stored, m->config()));
    }
    ASSIGN_OR_RETURN(const std::shared_ptr<const ModelBundle> bundle,
                     LoadModel());
    options.data_dir = market.data_dir;
    options.attribution_window_ms = attribution_window_s * 1000;
    v1::TruthReport report;
    {
      ProgressLine line("decisions");
      ASSIGN_OR_RETURN(report,
                       MakeTruthReport(*m, options, bundle.get(),
                                       [&](uint64_t n) { line.Show(n, 0); }));
    }
    std::fputs((json ? ToJson(report) : PrintTruthReport(report)).c_str(),
               stdout);
    return absl::OkStatus();
  }
};

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "adrank-simulate: %s\n",
               std::string(status.message()).c_str());
  return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  adrank::InitLogging(argv[0]);
  absl::Status result;
  CLI::App app(adrank::kAbout, "adrank-simulate");
  app.require_subcommand(1);
  adrank::GenerateCommand generate;
  adrank::DriveCommand drive;
  adrank::ReportCommand report;
  generate.AddTo(&app, &result);
  drive.AddTo(&app, &result);
  report.AddTo(&app, &result);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return adrank::ExitCode(result);
}
