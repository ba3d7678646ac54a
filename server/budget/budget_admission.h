// Budgets as the pipeline asks for them: the ledger's campaigns by the numbers
// of an AdIndex.
#ifndef ADRANK_SERVER_BUDGET_BUDGET_ADMISSION_H_
#define ADRANK_SERVER_BUDGET_BUDGET_ADMISSION_H_

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "server/admission.h"
#include "server/budget/ledger.h"

namespace adrank {

// Thread-safe. Hot path: Begin and Reserve.
class BudgetAdmission final : public Admission {
 public:
  // Becomes the ledger's gate listener. The ledger must outlive this, and no
  // other thread may use it before.
  explicit BudgetAdmission(Ledger* ledger);
  ~BudgetAdmission() override;

  // Takes over the budgets of a catalogue. Before requests see it; a request
  // that comes first waits for it.
  void Prepare(const AdIndex& index);

  void Begin(const AdIndex& index, const v1::Context& context,
             AdmissionTerms* terms) override;
  // A refusal is of the whole campaign: what is left of its budget does not pay
  // for one of its ads.
  void Reserve(const AdIndex& index, const v1::Context& context,
               const DecisionId& id, absl::Span<const AdmissionSlot> slots,
               std::vector<SlotRefusal>* refused) override;
  void Release(const DecisionId& id) override { ledger_->Release(id); }

 private:
  // The campaigns of one catalogue.
  struct Table {
    const AdIndex* index = nullptr;
    int64_t version = 0;
    std::vector<LedgerCampaign*> campaigns;  // by the index's numbers
    std::vector<CampaignGate> gates;         // the same
    absl::flat_hash_map<const LedgerCampaign*, uint32_t> numbers;
  };
  std::shared_ptr<Table> Find(const AdIndex& index) const;
  std::shared_ptr<Table> FindOrBuild(const AdIndex& index);

  Ledger* const ledger_;
  absl::Mutex build_mu_;  // one build at a time
  mutable absl::Mutex mu_;
  // Newest first: requests under way may use the catalogue before.
  std::vector<std::shared_ptr<Table>> tables_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_BUDGET_ADMISSION_H_
