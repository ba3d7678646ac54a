#include "server/rpc/budget_rpc.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "base/status_macros.h"
#include "server/rpc/rpc_scope.h"

namespace adrank {
namespace {

constexpr uint32_t kDefaultPage = 1000;
constexpr uint32_t kLargestPage = 10000;

int64_t Clamp(WideMicros micros) {
  return static_cast<int64_t>(
      std::clamp<WideMicros>(micros, INT64_MIN, INT64_MAX));
}

void FillPacing(const PacingReport& report, v1::CampaignPacing* out) {
  out->set_target_micros(report.target_micros);
  out->set_eligible_requests(static_cast<double>(report.eligible));
  out->set_exhausted_ms(report.exhausted_ms);
  const auto share = [&report](uint64_t part) {
    return report.eligible == 0 ? -1
                                : static_cast<double>(part) /
                                      static_cast<double>(report.eligible);
  };
  out->set_impression_share(share(report.served));
  out->set_budget_lost_impression_share(share(report.budget_lost));
  out->set_rank_lost_impression_share(share(report.rank_lost));
}

}  // namespace

void BudgetRpc::Fill(const CampaignSpend& spend,
                     v1::CampaignPacing* out) const {
  out->set_campaign_id(spend.campaign_id);
  out->set_day(
      absl::FormatCivilTime(absl::CivilDay(1970, 1, 1) + spend.day.day));
  out->set_day_start_ms(spend.day.start_ms);
  out->set_day_end_ms(spend.day.end_ms);
  out->set_daily_micros(spend.budget.daily_micros());
  out->set_total_micros(spend.budget.total_micros());
  out->set_spent_today_micros(Clamp(spend.spent_today));
  out->set_spent_total_micros(Clamp(spend.spent_total));
  out->set_reserved_today_micros(Clamp(spend.reserved_today));
  out->set_reserved_total_micros(Clamp(spend.reserved_total));
  out->set_open_micros(Clamp(spend.open));
  out->set_free_micros(Clamp(spend.free));
  out->set_expected_today_micros(Clamp(spend.expected_today));
  out->set_served_today(spend.served_today);
  out->set_refused_today(spend.refused_today);
  out->set_unbilled_events(spend.unbilled_events);
  out->set_unbilled_micros(Clamp(spend.unbilled));
  out->set_closed(spend.closed);
  out->set_multiplier(spend.pace.multiplier);
  out->set_participation(spend.pace.participation);
  if (const auto report = pacing_->Report(spend.campaign_id)) {
    FillPacing(*report, out);
  } else {
    FillPacing(PacingReport(), out);  // not in the catalogue
  }
}

absl::Status BudgetRpc::CheckEnabled() const {
  if (ledger_ != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "budgets are disabled in the server's configuration");
}

absl::Status BudgetRpc::DoGetPacing(const std::string& id,
                                    v1::CampaignPacing* response) const {
  RETURN_IF_ERROR(CheckEnabled());
  const LedgerCampaign* campaign = ledger_->FindCampaign(id);
  if (campaign == nullptr) {
    return absl::NotFoundError(absl::StrCat("no campaign \"", id, "\""));
  }
  Fill(ledger_->Spend(campaign), response);
  return absl::OkStatus();
}

absl::Status BudgetRpc::DoListBudgets(const v1::ListBudgetsRequest& request,
                                      v1::ListBudgetsResponse* response) const {
  RETURN_IF_ERROR(CheckEnabled());
  const uint32_t size = request.page_size() == 0
                            ? kDefaultPage
                            : std::min(request.page_size(), kLargestPage);
  for (const LedgerCampaign* campaign : ledger_->Campaigns()) {
    const CampaignSpend spend = ledger_->Spend(campaign);
    // A page token is the last campaign of the page before.
    if (!request.page_token().empty() &&
        spend.campaign_id <= request.page_token()) {
      continue;
    }
    if (request.closed_only() && !spend.closed) continue;
    if (static_cast<uint32_t>(response->campaigns_size()) == size) {
      response->set_next_page_token(
          response->campaigns(response->campaigns_size() - 1).campaign_id());
      break;
    }
    Fill(spend, response->add_campaigns());
  }
  return absl::OkStatus();
}

absl::Status BudgetRpc::DoAudit(v1::AuditResponse* response) const {
  RETURN_IF_ERROR(CheckEnabled());
  // With what happened until now.
  RETURN_IF_ERROR(ledger_->RunOnce());
  ASSIGN_OR_RETURN(const LedgerAudit audit, ledger_->Audit());
  response->set_balanced(audit.errors.empty());
  for (const std::string& error : audit.errors) response->add_errors(error);
  response->set_accounts(audit.accounts);
  response->set_reservations(audit.reservations);
  response->set_settled_events(audit.settled);
  response->set_debits_micros(Clamp(audit.debits));
  response->set_credits_micros(Clamp(audit.credits));
  response->set_reserved_micros(Clamp(audit.reserved));
  response->set_spent_micros(Clamp(audit.spent));
  response->set_unbilled_micros(Clamp(audit.unbilled));
  return absl::OkStatus();
}

grpc::Status BudgetRpc::GetPacing(grpc::ServerContext*,
                                  const v1::GetPacingRequest* request,
                                  v1::CampaignPacing* response) {
  const RpcScope scope(Rpc::kGetPacing, metrics_);
  return scope.Done(DoGetPacing(request->campaign_id(), response));
}

grpc::Status BudgetRpc::ListBudgets(grpc::ServerContext*,
                                    const v1::ListBudgetsRequest* request,
                                    v1::ListBudgetsResponse* response) {
  const RpcScope scope(Rpc::kListBudgets, metrics_);
  return scope.Done(DoListBudgets(*request, response));
}

grpc::Status BudgetRpc::Audit(grpc::ServerContext*, const v1::AuditRequest*,
                              v1::AuditResponse* response) {
  const RpcScope scope(Rpc::kAuditBudgets, metrics_);
  return scope.Done(DoAudit(response));
}

}  // namespace adrank
