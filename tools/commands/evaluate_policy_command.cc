#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "tools/commands/commands.h"
#include "tools/off_policy.h"
#include "tools/open_bandit.h"
#include "tools/table.h"

namespace adrank {
namespace {

struct EvaluateArgs {
  std::string obd;
  std::string obd_target = "uniform";
  std::string interval = "bootstrap";
  double confidence = 0.95;
  uint32_t resamples = 1000;
  uint64_t seed = 1;
  double min_ess = 100;
};

IntervalOptions IntervalsOf(const EvaluateArgs& args) {
  IntervalOptions options;
  options.method = args.interval == "normal"      ? IntervalMethod::kNormal
                   : args.interval == "bernstein" ? IntervalMethod::kBernstein
                                                  : IntervalMethod::kBootstrap;
  options.confidence = args.confidence;
  options.resamples = args.resamples;
  options.seed = args.seed;
  return options;
}

// One outcome's choices into the report. OutOfRange: refused; the report says
// why too.
absl::Status AddOutcome(const EvaluateArgs& args, const std::string& name,
                        const LoggedChoices& choices,
                        v1::PolicyReport* report) {
  report->set_confidence(args.confidence);
  report->set_decisions(choices.decisions());
  report->set_choices(choices.all().size());
  absl::Status status =
      choices.decisions() == 0
          ? absl::OutOfRangeError("the log has no decision to judge by")
          : absl::OkStatus();
  if (status.ok()) {
    *report->mutable_weights() = SummarizeWeights(choices);
    status = CheckWeights(report->weights(), args.min_ess);
  }
  if (status.ok()) {
    v1::OutcomeReport outcome = Estimate(
        choices, AllEstimators(choices.decisions()), IntervalsOf(args));
    outcome.set_outcome(name);
    status = CheckRewarded(outcome);
    if (status.ok()) *report->add_outcomes() = outcome;
  }
  if (!status.ok()) report->set_refusal(std::string(status.message()));
  return status;
}

void PrintReport(const v1::PolicyReport& report) {
  const v1::WeightSummary& w = report.weights();
  absl::PrintF(
      "%d decisions, %d choices; effective sample size %.0f, weights: mean "
      "%.3f (+-%.3f), largest %.3g, zero for %.1f %%\n",
      report.decisions(), report.choices(), w.effective_sample_size(),
      w.mean_weight(), w.mean_weight_error(), w.max_weight(),
      100 * w.zero_share());
  for (const auto& [verdict, count] : report.left_out()) {
    absl::PrintF("left out: %d %s\n", count, verdict);
  }
  for (const v1::OutcomeReport& outcome : report.outcomes()) {
    absl::PrintF("\n%s per decision: %.6g as logged (%d rewarded choices)\n",
                 outcome.outcome(), outcome.logged(), outcome.rewarded());
    Table table({"estimator", "value", "low", "high", "difference", "low",
                 "high", "relative"});
    for (const v1::PolicyEstimate& e : outcome.estimates()) {
      const auto number = [](double x) { return absl::StrFormat("%.6g", x); };
      table.Add({e.estimator(), number(e.value()), number(e.low()),
                 number(e.high()), number(e.difference()),
                 number(e.difference_low()), number(e.difference_high()),
                 outcome.logged() == 0
                     ? "-"
                     : absl::StrFormat("%+.1f%%", 100 * e.difference() /
                                                      outcome.logged())});
    }
    absl::PrintF("%s", table.Print());
  }
  if (report.refusal().empty()) {
    absl::PrintF("\nintervals hold with %.4g %% each\n",
                 100 * report.confidence());
  }
}

absl::StatusOr<ItemProbabilities> BanditTarget(const EvaluateArgs& args,
                                               const BanditLog& log) {
  if (args.obd_target == "uniform") return UniformOver(log);
  ASSIGN_OR_RETURN(const BanditLog other, ReadBanditLog(args.obd_target));
  return FrequenciesOf(other);
}

absl::Status EvaluateBandit(const EvaluateArgs& args,
                            v1::PolicyReport* report) {
  ASSIGN_OR_RETURN(const BanditLog log, ReadBanditLog(args.obd));
  ASSIGN_OR_RETURN(const ItemProbabilities target, BanditTarget(args, log));
  return AddOutcome(args, "clicks", ChoicesOf(log, target), report);
}

absl::Status Evaluate(const EvaluateArgs& args, const ClientOptions& options) {
  v1::PolicyReport report;
  const absl::Status status = EvaluateBandit(args, &report);
  if (!status.ok() && report.refusal().empty()) return status;
  if (options.json) {
    absl::PrintF("%s", ToJson(report));
  } else {
    PrintReport(report);
  }
  return status;
}

void AddEstimationOptions(CLI::App* verb, EvaluateArgs* args) {
  verb->add_option("--interval", args->interval,
                   "how intervals are made: bootstrap, normal or bernstein")
      ->check(CLI::IsMember({"bootstrap", "normal", "bernstein"}))
      ->capture_default_str();
  verb->add_option("--confidence", args->confidence, "of each interval")
      ->check(CLI::Range(0.5, 0.9999))
      ->capture_default_str();
  verb->add_option("--resamples", args->resamples, "of the bootstrap")
      ->check(CLI::Range(10, 100000))
      ->capture_default_str();
  verb->add_option("--seed", args->seed, "of the bootstrap")
      ->capture_default_str();
  verb->add_option("--min-ess", args->min_ess,
                   "refuse (exit code 3) below this effective sample size")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

}  // namespace

void AddEvaluatePolicyCommand(const CommandLine& line) {
  auto args = std::make_shared<EvaluateArgs>();
  CLI::App* verb = line.app->add_subcommand(
      "evaluate-policy",
      "what another ranking would have brought, from the log");
  verb->add_option("--obd", args->obd,
                   "a log in Open Bandit's layout instead of the server's")
      ->required();
  verb->add_option(
          "--obd-target", args->obd_target,
          "with --obd: \"uniform\", or a log of the policy in question, "
          "which is taken to show items as often as it does there")
      ->capture_default_str();
  AddEstimationOptions(verb, args.get());
  verb->callback(
      [line, args] { *line.result = Evaluate(*args, *line.options); });
}

}  // namespace adrank
