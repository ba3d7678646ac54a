// adrank-trainer --config FILE [--check_config]
//
// Exit codes: 0 published (or evaluated, searched, or the config is good), 1
// failed, 2 bad usage or config, 3 not published: the gate refused, or there
// was nothing to train.
#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/textproto.h"
#include "trainer/config.h"
#include "trainer/report.h"
#include "trainer/search.h"
#include "trainer/slices.h"
#include "trainer/step_progress.h"
#include "trainer/training_run.h"

namespace adrank {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kBadUsage = 2, kNotPublished = 3 };

constexpr char kUsage[] =
    "usage: adrank-trainer --config FILE [--check_config]\n"
    "\n"
    "Learns a model from the event log and publishes it if it is better than "
    "the\n"
    "live one. FILE is an adrank.v1.TrainerConfig as text.\n"
    "\n"
    "  --check_config   check FILE, print it with its defaults, do nothing\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 not published: "
    "the\n"
    "gate refused or there was nothing to train.\n";

struct Flags {
  std::string config;
  bool check_config = false;
  bool help = false;
};

// False, with a message, for anything that is not in the usage.
bool ParseFlags(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    if (arg == "--help" || arg == "-h") {
      flags->help = true;
    } else if (arg == "--check_config") {
      flags->check_config = true;
    } else if (arg == "--config" && i + 1 < argc) {
      flags->config = argv[++i];
    } else if (absl::ConsumePrefix(&arg, "--config=")) {
      flags->config = std::string(arg);
    } else {
      std::fprintf(stderr, "adrank-trainer: unknown argument \"%s\"\n%s",
                   argv[i], kUsage);
      return false;
    }
  }
  if (flags->help || !flags->config.empty()) return true;
  std::fprintf(stderr, "adrank-trainer: --config is required\n%s", kUsage);
  return false;
}

// The JSON report in `dir`. Its failure is not that of the run.
absl::Status WriteReport(const v1::TrainingReport& report,
                         const std::string& dir, const char* file) {
  const auto json = ReportJson(report);
  if (!json.ok()) return json.status();
  return files::WriteAtomically(files::Join(dir, file), *json);
}

// The files beside the bundles: last_report.json and trainer.prom, or
// last_evaluation.json alone. Their failure is not that of the run.
void WriteRecords(const v1::TrainerConfig& config,
                  const v1::TrainingReport* report) {
  const std::string dir = files::Join(config.model_dir(), config.model_name());
  if (config.evaluate_only()) {
    if (report == nullptr) return;
    absl::Status status = files::MakeDirectories(dir);
    status.Update(WriteReport(*report, dir, kLastEvaluationFile));
    if (!status.ok()) LOG(ERROR) << status.message();
    return;
  }
  const std::string metrics = files::Join(dir, "trainer.prom");
  absl::Status status = files::MakeDirectories(dir);
  const auto previous = files::Read(metrics);
  status.Update(files::WriteAtomically(
      metrics,
      MetricsText(config.model_name(), report, previous.ok() ? *previous : "",
                  Clock::Real()->Now())));
  if (report != nullptr) {
    status.Update(WriteReport(*report, dir, kLastReportFile));
  }
  if (!status.ok()) LOG(ERROR) << status.message();
}

int Train(const v1::TrainerConfig& config) {
  StepProgress progress(Clock::Real());
  const auto report = RunTraining(config, &progress);
  WriteRecords(config, report.ok() ? &*report : nullptr);
  if (!report.ok()) {
    LOG(ERROR) << report.status().message();
    return kFailed;
  }
  const auto zone = SpecTimeZone(config.feature_spec());
  std::fputs(
      ReportText(*report, zone.ok() ? *zone : absl::UTCTimeZone()).c_str(),
      stdout);
  return report->verdict() == v1::TrainingReport::PUBLISHED ||
                 report->verdict() == v1::TrainingReport::EVALUATED
             ? kDone
             : kNotPublished;
}

// A search instead of a night; `path` is read again, since the trials need it
// as it was written.
int Search(const std::string& path) {
  StepProgress progress(Clock::Real());
  const auto written = ReadTextProto<v1::TrainerConfig>(path);
  const auto report = written.ok()
                          ? RunSearch(*written, &progress)
                          : absl::StatusOr<v1::SearchReport>(written.status());
  if (!report.ok()) {
    LOG(ERROR) << report.status().message();
    return kFailed;
  }
  for (const std::string& reason : report->reasons()) {
    std::printf("NOTHING TO TRAIN: %s\n", reason.c_str());
  }
  if (report->trials().empty()) return kNotPublished;
  std::fputs(SearchText(*report).c_str(), stdout);
  return kDone;
}

int Main(int argc, char** argv) {
  InitLogging(argv[0]);
  Flags flags;
  if (!ParseFlags(argc, argv, &flags)) return kBadUsage;
  if (flags.help) {
    std::fputs(kUsage, stdout);
    return kDone;
  }
  const auto config = LoadConfig(flags.config);
  if (!config.ok()) {
    std::fprintf(stderr, "adrank-trainer: %s\n",
                 std::string(config.status().message()).c_str());
    return kBadUsage;
  }
  if (flags.check_config) {
    std::printf("# %s: OK\n%s", flags.config.c_str(),
                PrintTextProto(*config).c_str());
    return kDone;
  }
  return config->has_search() ? Search(flags.config) : Train(*config);
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
