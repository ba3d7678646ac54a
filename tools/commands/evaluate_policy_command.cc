#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "proto/policy_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/off_policy.h"
#include "tools/open_bandit.h"
#include "tools/replayed_log.h"
#include "tools/table.h"

namespace adrank {
namespace {

struct EvaluateArgs {
  // The policy in question.
  std::optional<double> alpha;
  std::optional<int64_t> reserve_micros;
  std::optional<uint32_t> max_ads_per_advertiser;
  std::string pricing;
  std::string exploration;
  int64_t model_version = 0;
  // The decisions to judge by.
  double hours = 24;
  std::string from, to;
  uint32_t max_decisions = 100000;
  std::string interaction = "cascade";
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

// The log says too little: done, and the answer is no.
constexpr int kRefused = 3;

// One outcome's choices into the report, or why not.
void AddOutcome(const EvaluateArgs& args, const std::string& name,
                const LoggedChoices& choices, v1::PolicyReport* report) {
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

// The least the server needs to know of the policy in question.
absl::Status FillChange(const EvaluateArgs& args, v1::PolicyChange* change) {
  if (args.alpha) change->set_alpha(*args.alpha);
  if (args.reserve_micros) change->set_reserve_micros(*args.reserve_micros);
  if (args.max_ads_per_advertiser) {
    change->set_max_ads_per_advertiser(*args.max_ads_per_advertiser);
  }
  if (args.pricing == "gsp") change->set_pricing(v1::RankConfig::GSP);
  if (args.pricing == "vcg") change->set_pricing(v1::RankConfig::VCG);
  if (args.pricing == "first-price") {
    change->set_pricing(v1::RankConfig::FIRST_PRICE);
  }
  change->set_model_version(args.model_version);
  if (args.exploration.empty()) return absl::OkStatus();
  return ParseTextProto(args.exploration, "--exploration",
                        change->mutable_exploration());
}

absl::Status ParseTime(const char* flag, const std::string& text,
                       int64_t* millis) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error) &&
      !absl::ParseTime("%Y-%m-%d", text, &time, &error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", text, ": ", error));
  }
  *millis = absl::ToUnixMillis(time);
  return absl::OkStatus();
}

absl::Status FillWindow(const EvaluateArgs& args,
                        v1::ReplayPolicyRequest* request) {
  int64_t begin = 0, end = 0;
  if (!(args.hours <= 1e6)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--hours ", args.hours, ": not in (0, 1e6]"));
  }
  if (!args.to.empty()) RETURN_IF_ERROR(ParseTime("--to", args.to, &end));
  if (!args.from.empty()) {
    RETURN_IF_ERROR(ParseTime("--from", args.from, &begin));
  } else {
    const int64_t last = end != 0 ? end : absl::ToUnixMillis(absl::Now());
    begin = last - absl::ToInt64Milliseconds(absl::Hours(1) * args.hours);
  }
  if (end != 0 && begin >= end) {
    return absl::InvalidArgumentError(
        absl::StrCat("--from ", args.from, ": not before --to ", args.to));
  }
  request->set_begin_ms(std::max<int64_t>(0, begin));
  request->set_end_ms(end);
  request->set_max_decisions(args.max_decisions);
  return absl::OkStatus();
}

absl::Status EvaluateLog(const EvaluateArgs& args, const ClientOptions& options,
                         v1::PolicyReport* report) {
  v1::ReplayPolicyRequest request;
  RETURN_IF_ERROR(FillChange(args, request.mutable_change()));
  RETURN_IF_ERROR(FillWindow(args, &request));
  const Interaction interaction =
      args.interaction == "slate"         ? Interaction::kSlate
      : args.interaction == "independent" ? Interaction::kIndependent
                                          : Interaction::kCascade;
  ReplayedLog log;
  // No deadline: as long as there are decisions, the server streams.
  grpc::ClientContext context;
  const auto stub = v1::PolicyService::NewStub(Connect(options.admin));
  const auto stream = stub->Replay(&context, request);
  for (v1::ReplayedDecision decision; stream->Read(&decision);) {
    AddReplayed(decision, interaction, &log);
  }
  RETURN_IF_ERROR(FromGrpc(stream->Finish(), options.admin));
  report->mutable_left_out()->insert(log.left_out.begin(), log.left_out.end());
  AddOutcome(args, "clicks", log.clicks, report);
  if (report->refusal().empty()) {
    AddOutcome(args, "revenue_micros", log.revenue, report);
  }
  return absl::OkStatus();
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
  AddOutcome(args, "clicks", ChoicesOf(log, target), report);
  return absl::OkStatus();
}

absl::Status Evaluate(const EvaluateArgs& args, const ClientOptions& options,
                      int* exit_code) {
  v1::PolicyReport report;
  const absl::Status status = args.obd.empty()
                                  ? EvaluateLog(args, options, &report)
                                  : EvaluateBandit(args, &report);
  RETURN_IF_ERROR(status);
  if (options.json) {
    absl::PrintF("%s", ToJson(report));
  } else {
    PrintReport(report);
  }
  if (!report.refusal().empty()) {
    std::fprintf(stderr, "adrankctl: refused: %s\n", report.refusal().c_str());
    *exit_code = kRefused;
  }
  return absl::OkStatus();
}

void AddPolicyOptions(CLI::App* verb, EvaluateArgs* args) {
  verb->add_option("--alpha", args->alpha,
                   "what if score = bid x pctr^alpha x quality");
  verb->add_option("--reserve", args->reserve_micros,
                   "what if the server's reserve were so many micros");
  verb->add_option("--max-ads-per-advertiser", args->max_ads_per_advertiser,
                   "what if so many of one advertiser; 0: any number");
  verb->add_option("--pricing", args->pricing,
                   "what if gsp, vcg or first-price")
      ->check(CLI::IsMember({"gsp", "vcg", "first-price"}));
  verb->add_option("--exploration", args->exploration,
                   "what if this, for example \"policy: GREEDY\": a text proto "
                   "of ExplorationConfig");
  verb->add_option("--model", args->model_version,
                   "what if this version of the model, as long as it is kept");
}

void AddLogOptions(CLI::App* verb, EvaluateArgs* args) {
  verb->add_option("--hours", args->hours,
                   "judge by the decisions of so many hours before --to")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--from", args->from,
                   "instead: of this time on, 2026-01-31 or RFC 3339");
  verb->add_option("--to", args->to, "until this time; default: now");
  verb->add_option("--max-decisions", args->max_decisions,
                   "a sample of about so many; 0: all")
      ->capture_default_str();
  verb->add_option("--interaction", args->interaction,
                   "cascade: a slot's clicks depend on the ads in the slots "
                   "before; slate: on all ads of the answer; independent: on "
                   "its own ad alone")
      ->check(CLI::IsMember({"cascade", "slate", "independent"}))
      ->capture_default_str();
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
  verb->footer(
      "The server (--admin) replays the decisions of its log; what an ad was "
      "shown with by chance (rank.exploration) says what another policy would "
      "have brought. Refused with exit code 3 when the log says too little.");
  verb->add_option("--obd", args->obd,
                   "a log in Open Bandit's layout instead of the server's");
  verb->add_option(
          "--obd-target", args->obd_target,
          "with --obd: \"uniform\", or a log of the policy in question, "
          "which is taken to show items as often as it does there")
      ->capture_default_str();
  AddPolicyOptions(verb, args.get());
  AddLogOptions(verb, args.get());
  AddEstimationOptions(verb, args.get());
  verb->callback([line, args] {
    *line.result = Evaluate(*args, *line.options, line.exit_code);
  });
}

}  // namespace adrank
