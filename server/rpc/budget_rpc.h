// BudgetService over gRPC: what the ledger knows.
#ifndef ADRANK_SERVER_RPC_BUDGET_RPC_H_
#define ADRANK_SERVER_RPC_BUDGET_RPC_H_

#include "proto/budget_service.grpc.pb.h"
#include "server/budget/ledger.h"
#include "server/budget/pacing_loop.h"
#include "server/metrics.h"

namespace adrank {

// The synchronous API: there are few calls, and an audit reads the disk.
class BudgetRpc : public v1::BudgetService::Service {
 public:
  // The pointers must outlive the service. Without a ledger (null) every call
  // is FAILED_PRECONDITION: budgets are disabled.
  BudgetRpc(Ledger* ledger, const PacingLoop* pacing, Metrics* metrics)
      : ledger_(ledger), pacing_(pacing), metrics_(metrics) {}

  grpc::Status GetPacing(grpc::ServerContext* context,
                         const v1::GetPacingRequest* request,
                         v1::CampaignPacing* response) override;
  grpc::Status ListBudgets(grpc::ServerContext* context,
                           const v1::ListBudgetsRequest* request,
                           v1::ListBudgetsResponse* response) override;
  grpc::Status Audit(grpc::ServerContext* context,
                     const v1::AuditRequest* request,
                     v1::AuditResponse* response) override;

 private:
  absl::Status DoGetPacing(const std::string& id,
                           v1::CampaignPacing* response) const;
  absl::Status DoListBudgets(const v1::ListBudgetsRequest& request,
                             v1::ListBudgetsResponse* response) const;
  absl::Status DoAudit(v1::AuditResponse* response) const;
  absl::Status CheckEnabled() const;

  void Fill(const CampaignSpend& spend, v1::CampaignPacing* out) const;

  Ledger* const ledger_;
  const PacingLoop* const pacing_;
  Metrics* const metrics_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_BUDGET_RPC_H_
