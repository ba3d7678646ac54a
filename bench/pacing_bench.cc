// Pacing over thousands of simulated campaign-days (see
// server/budget/pacing_simulation.h):
//
//   bench/run.sh pacing [--campaigns=N] [--scenario=NAME] [--svg=DIR] [--table]
//                       [--reservation_seconds=N]
//
// A line for each scenario and budget: the mean spend of days on which traffic
// allows it / target (the budget; with less than 30 clicks a day, what is left
// counts as spent when it does not pay for one more click). The floor is 1.
// --svg draws the curves of a campaign of 1,000 clicks a day in every scenario.
// Exits with 1 when a bar is missed.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "bench/svg_chart.h"
#include "server/budget/pacing_simulation.h"

namespace adrank {
namespace {

struct Options {
  int campaigns = 18;  // of each scenario and budget: 11,340 campaign-days
  int64_t reservation_ms = 600'000;
  std::string scenario, svg;
  bool table = false;
};

double Percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p *
                                    static_cast<double>(values.size() - 1))];
}

int SvgOf(const PacingScenario& scenario, const Options& options) {
  SimulatedCampaign campaign;
  campaign.clicks = 1000;
  campaign.reservation_ms = options.reservation_ms;
  const SimulatedRun run =
      SimulatePacing(scenario, campaign, /*keep_minutes=*/true);
  // The day before the event, the event, the day after.
  SvgPage page;
  SvgLine spent{"spent", "#1f6feb", false, false, {}};
  SvgLine target{"target (learnt)", "#bf3989", true, false, {}};
  SvgLine ideal{"usual traffic", "#8c959f", false, true, {}};
  SvgLine multiplier{"multiplier", "#1a7f37", false, false, {}};
  SvgLine participation{"participation", "#d4a72c", false, false, {}};
  SvgLine traffic{"eligible requests", "#6e7781", false, true, {}};
  double day_start = 0, last_hour = 0;
  int day = -1;
  size_t minute = 0;
  for (const SimulatedMinute& m : run.minutes) {
    if (m.day < scenario.event_day - 1 || m.day > scenario.event_day + 1) {
      continue;
    }
    // A clock that jumped is drawn at the true time.
    const double x = static_cast<double>(++minute) / 60;
    if (m.day != day) {
      if (day >= 0) day_start = last_hour;
      day = m.day;
      page.marks.emplace_back(day_start, day == scenario.event_day
                                             ? "the day of the event"
                                             : absl::StrCat("day ", day));
    }
    last_hour = x;
    page.x.push_back(x);
    spent.y.push_back(m.spent);
    target.y.push_back(m.target);
    ideal.y.push_back(m.ideal);
    multiplier.y.push_back(m.multiplier);
    participation.y.push_back(m.participation);
    traffic.y.push_back(m.eligible);
  }
  page.title = absl::StrCat("Pacing: ", scenario.name);
  page.subtitle = absl::StrCat(scenario.about,
                               "; a budget of 1,000 clicks a day at the full "
                               "bid; an update a minute");
  page.panels.push_back(
      {"Share of the daily budget", "%", 1.0, {ideal, target, spent}, 280});
  page.panels.push_back(
      {"Multiplier of the bid, share of requests taken part in",
       "%",
       1.0,
       {participation, multiplier},
       150});
  const double usual_most = Percentile(traffic.y, 0.98);
  const double peak = Percentile(traffic.y, 1);
  page.panels.push_back(
      {absl::StrCat("Requests a minute that the campaign could answer",
                    peak > 3 * usual_most
                        ? absl::StrFormat(" (peak %.0f, cut)", peak)
                        : ""),
       "",
       peak > 3 * usual_most ? SvgWriter::RoundUp(1.2 * usual_most) : 0,
       {traffic},
       120});
  const std::string path =
      files::Join(options.svg, absl::StrCat(scenario.name, ".svg"));
  const absl::Status status =
      files::WriteAtomically(path, SvgWriter(page).Write());
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}

struct Cell {
  const PacingScenario* scenario = nullptr;
  double clicks = 0;
  PacingSummary summary;
  double seconds = 0;
};

int Main(const Options& options) {
  if (!options.svg.empty()) {
    const absl::Status made = files::MakeDirectories(options.svg);
    if (!made.ok()) {
      std::fprintf(stderr, "%s\n", made.ToString().c_str());
      return 1;
    }
  }
  std::vector<Cell> cells;
  for (const PacingScenario& scenario : PacingScenarios()) {
    if (!options.scenario.empty() && scenario.name != options.scenario) {
      continue;
    }
    if (!options.svg.empty() && SvgOf(scenario, options) != 0) return 1;
    for (const double clicks : {1., 3., 10., 30., 100., 300., 1e3, 3e3, 1e4}) {
      cells.push_back({&scenario, clicks, {}, 0});
    }
  }
  if (cells.empty()) {
    std::fprintf(stderr, "no scenario \"%s\"\n", options.scenario.c_str());
    return 2;
  }
  // The dearest first, so that threads end together.
  std::atomic<size_t> next{cells.size()};
  const auto work = [&] {
    for (size_t i = next--; i > 0 && i <= cells.size(); i = next--) {
      Cell& cell = cells[i - 1];
      cell.summary = SummarisePacing(*cell.scenario, cell.clicks,
                                     options.campaigns, options.reservation_ms);
    }
  };
  std::vector<std::thread> threads;
  const unsigned n = std::max(1u, std::thread::hardware_concurrency());
  for (unsigned i = 0; i < n; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();

  if (options.table) {
    std::printf("%-14s %6s %5s %9s %7s %7s %9s %5s %9s %6s %9s\n", "scenario",
                "clicks", "days", "spend/tgt", "p1", "day 0", "overspend",
                "dark", "curve p95", "signs", "unbilled");
  }
  int missed = 0, days = 0;
  for (const Cell& cell : cells) {
    const PacingSummary& s = cell.summary;
    days += s.days;
    const std::vector<std::string> bars =
        MissedPacingBars(*cell.scenario, cell.clicks, s);
    missed += static_cast<int>(bars.size());
    for (const std::string& bar : bars) {
      std::fprintf(stderr, "%s, %g clicks: %s\n", cell.scenario->name.c_str(),
                   cell.clicks, bar.c_str());
    }
    if (options.table) {
      std::printf(
          "%-14s %6g %5d %9.3f %7.3f %7.3f %9.4f %5.0f %9.3f %6d %9.4f\n",
          cell.scenario->name.c_str(), cell.clicks, s.days, s.share,
          Percentile(s.shares, 0.01), s.first_day_share, s.overspend,
          s.blackout_minutes, Percentile(s.deviations, 0.95), s.sign_changes,
          s.unbilled_share);
      continue;
    }
    std::printf(
        "{\"name\":\"pacing\",\"value\":%.4f,\"unit\":\"spend/target\","
        "\"floor\":1,\"ratio\":%.4f,\"params\":{\"scenario\":\"%s\","
        "\"clicks_a_day\":%g,\"campaign_days\":%d,\"least_1_percent\":%.4f,"
        "\"first_day\":%.4f,\"overspend\":%.4f,\"blackout_minutes\":%.0f,"
        "\"curve_deviation_p95\":%.4f,\"sign_changes_a_day\":%d,"
        "\"unbilled_clicks\":%.5f}}\n",
        s.share, s.share, cell.scenario->name.c_str(), cell.clicks, s.days,
        Percentile(s.shares, 0.01), s.first_day_share, s.overspend,
        s.blackout_minutes, Percentile(s.deviations, 0.95), s.sign_changes,
        s.unbilled_share);
  }
  std::fprintf(stderr, "%d campaign-days, %d bars missed\n", days, missed);
  return missed == 0 ? 0 : 1;
}

bool Parse(absl::string_view argument, Options* options) {
  int seconds = 0;
  if (absl::ConsumePrefix(&argument, "--campaigns=")) {
    return absl::SimpleAtoi(argument, &options->campaigns) &&
           options->campaigns > 0;
  }
  if (absl::ConsumePrefix(&argument, "--reservation_seconds=")) {
    if (!absl::SimpleAtoi(argument, &seconds) || seconds <= 0) return false;
    options->reservation_ms = int64_t{1000} * seconds;
    return true;
  }
  if (absl::ConsumePrefix(&argument, "--scenario=")) {
    options->scenario = std::string(argument);
    return true;
  }
  if (absl::ConsumePrefix(&argument, "--svg=")) {
    options->svg = std::string(argument);
    return true;
  }
  options->table = argument == "--table";
  return options->table;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  adrank::Options options;
  for (int i = 1; i < argc; ++i) {
    if (!adrank::Parse(argv[i], &options)) {
      std::fprintf(stderr,
                   "usage: %s [--campaigns=N] [--scenario=NAME] [--svg=DIR] "
                   "[--table] [--reservation_seconds=N]\n",
                   argv[0]);
      return 2;
    }
  }
  return adrank::Main(options);
}
