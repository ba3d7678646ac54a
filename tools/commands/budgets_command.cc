#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "proto/budget_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

struct BudgetsArgs {
  std::string campaign;
  bool closed = false;
  bool audit = false;
};

std::unique_ptr<v1::BudgetService::Stub> Stub(const ClientOptions& options) {
  return v1::BudgetService::NewStub(Connect(options.server));
}

std::string Limit(int64_t micros) {
  return micros == 0 ? "unlimited" : FormatMicros(micros);
}

std::string Free(const v1::CampaignPacing& c) {
  return c.daily_micros() == 0 && c.total_micros() == 0
             ? "unlimited"
             : FormatMicros(c.free_micros());
}

// -1: nothing was eligible.
std::string Share(double share) {
  return share < 0 ? "-" : absl::StrFormat("%.1f %%", 100 * share);
}

absl::Status List(const BudgetsArgs& args, const ClientOptions& options) {
  v1::ListBudgetsRequest request;
  request.set_closed_only(args.closed);
  v1::ListBudgetsResponse all;
  const auto stub = Stub(options);
  do {
    grpc::ClientContext context;
    SetDeadline(options, &context);
    v1::ListBudgetsResponse page;
    RETURN_IF_ERROR(
        FromGrpc(stub->ListBudgets(&context, request, &page), options.server));
    request.set_page_token(page.next_page_token());
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  all.clear_next_page_token();
  if (options.json) {
    absl::PrintF("%s", ToJson(all));
    return absl::OkStatus();
  }
  Table table({"campaign", "day", "daily", "spent today", "reserved", "total",
               "spent", "free", "target", "bids x", "shown", "lost to budget",
               "lost to rank", "state"});
  for (const v1::CampaignPacing& c : all.campaigns()) {
    table.Add({c.campaign_id(), c.day(), Limit(c.daily_micros()),
               FormatMicros(c.spent_today_micros()),
               FormatMicros(c.reserved_today_micros()), Limit(c.total_micros()),
               FormatMicros(c.spent_total_micros()), Free(c),
               FormatMicros(c.target_micros()),
               absl::StrFormat("%.3f", c.multiplier()),
               Share(c.impression_share()),
               Share(c.budget_lost_impression_share()),
               Share(c.rank_lost_impression_share()),
               c.closed() ? "closed" : "open"});
  }
  absl::PrintF("%s", table.Print());
  return absl::OkStatus();
}

absl::Status Show(const BudgetsArgs& args, const ClientOptions& options) {
  v1::GetPacingRequest request;
  request.set_campaign_id(args.campaign);
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::CampaignPacing c;
  RETURN_IF_ERROR(FromGrpc(Stub(options)->GetPacing(&context, request, &c),
                           options.server));
  if (options.json) {
    absl::PrintF("%s", ToJson(c));
    return absl::OkStatus();
  }
  absl::PrintF("campaign %s, %s, bids x %.3f in %s of requests\n",
               c.campaign_id(), c.closed() ? "closed: nothing is left" : "open",
               c.multiplier(), Share(c.participation()));
  absl::PrintF(
      "%s: spent %s of %s, reserved %s, expected of %d ads served %s, "
      "%d refused\n",
      c.day(), FormatMicros(c.spent_today_micros()), Limit(c.daily_micros()),
      FormatMicros(c.reserved_today_micros()), c.served_today(),
      FormatMicros(c.expected_today_micros()), c.refused_today());
  absl::PrintF(
      "life: spent %s of %s, reserved %s; open decisions may cost %s "
      "at most\n",
      FormatMicros(c.spent_total_micros()), Limit(c.total_micros()),
      FormatMicros(c.reserved_total_micros()), FormatMicros(c.open_micros()));
  absl::PrintF(
      "should have spent %s by now; of %.0f requests it could have answered: "
      "shown %s, lost to the budget %s, lost to rank %s\n",
      FormatMicros(c.target_micros()), c.eligible_requests(),
      Share(c.impression_share()), Share(c.budget_lost_impression_share()),
      Share(c.rank_lost_impression_share()));
  if (c.exhausted_ms() > 0) {
    absl::PrintF("at this rate nothing is left at %s\n",
                 absl::FormatTime("%H:%M UTC",
                                  absl::FromUnixMillis(c.exhausted_ms()),
                                  absl::UTCTimeZone()));
  }
  absl::PrintF("free: %s; not billed for want of budget: %d events, %s\n",
               Free(c), c.unbilled_events(), FormatMicros(c.unbilled_micros()));
  return absl::OkStatus();
}

absl::Status Audit(const ClientOptions& options) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::AuditResponse audit;
  RETURN_IF_ERROR(
      FromGrpc(Stub(options)->Audit(&context, {}, &audit), options.server));
  if (options.json) {
    absl::PrintF("%s", ToJson(audit));
  } else {
    absl::PrintF(
        "%s: debits %s, credits %s; reserved %s by %d reservations, spent %s, "
        "not billed %s; %d accounts, %d events\n",
        audit.balanced() ? "balanced" : "NOT BALANCED",
        FormatMicros(audit.debits_micros()),
        FormatMicros(audit.credits_micros()),
        FormatMicros(audit.reserved_micros()), audit.reservations(),
        FormatMicros(audit.spent_micros()),
        FormatMicros(audit.unbilled_micros()), audit.accounts(),
        audit.settled_events());
    for (const std::string& error : audit.errors()) {
      absl::PrintF("  %s\n", error);
    }
  }
  return audit.balanced() ? absl::OkStatus()
                          : absl::DataLossError("the ledger is not balanced");
}

absl::Status Run(const BudgetsArgs& args, const ClientOptions& options) {
  if (args.audit) return Audit(options);
  return args.campaign.empty() ? List(args, options) : Show(args, options);
}

}  // namespace

void AddBudgetsCommand(const CommandLine& line) {
  auto args = std::make_shared<BudgetsArgs>();
  CLI::App* verb = line.app->add_subcommand(
      "budgets", "what campaigns have spent and may still spend");
  verb->add_option("campaign", args->campaign, "only this one, in full");
  verb->add_flag("--closed", args->closed,
                 "only those of whose budget nothing is left");
  verb->add_flag(
      "--audit", args->audit,
      "add up the ledger on disk; exit code 1 if it is not balanced");
  verb->callback([line, args] { *line.result = Run(*args, *line.options); });
}

}  // namespace adrank
