#include "server/budget/budget_admission.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "base/log.h"
#include "server/budget/campaign_day.h"
#include "server/trigger/ad_index.h"

namespace adrank {
namespace {

constexpr size_t kTables = 3;

void SetGate(bool closed, CampaignPace pace, CampaignGate* gate) {
  gate->closed.store(closed, std::memory_order_relaxed);
  gate->multiplier.store(pace.multiplier, std::memory_order_relaxed);
  gate->participation.store(pace.participation, std::memory_order_relaxed);
}

}  // namespace

BudgetAdmission::BudgetAdmission(Ledger* ledger) : ledger_(ledger) {
  ledger_->SetGateListener(
      [this](LedgerCampaign* campaign, bool closed, CampaignPace pace) {
        absl::ReaderMutexLock lock(&mu_);
        for (const auto& table : tables_) {
          const auto it = table->numbers.find(campaign);
          if (it == table->numbers.end()) continue;
          SetGate(closed, pace, &table->gates[it->second]);
        }
      });
}

BudgetAdmission::~BudgetAdmission() { ledger_->SetGateListener(nullptr); }

std::shared_ptr<BudgetAdmission::Table> BudgetAdmission::Find(
    const AdIndex& index) const {
  absl::ReaderMutexLock lock(&mu_);
  for (const auto& table : tables_) {
    if (table->index == &index && table->version == index.version()) {
      return table;
    }
  }
  return nullptr;
}

std::shared_ptr<BudgetAdmission::Table> BudgetAdmission::FindOrBuild(
    const AdIndex& index) {
  if (auto table = Find(index)) return table;
  absl::MutexLock build(&build_mu_);
  if (auto table = Find(index)) return table;
  const size_t n = index.campaigns();
  auto table = std::make_shared<Table>();
  table->index = &index;
  table->version = index.version();
  table->gates = std::vector<CampaignGate>(n);
  table->campaigns.reserve(n);
  for (uint32_t i = 0; i < n; ++i) {
    LedgerCampaign* campaign = ledger_->Campaign(index.campaign_id(i));
    table->campaigns.push_back(campaign);
    table->numbers.emplace(campaign, i);
    // The catalogue takes no unknown zone; a machine may know fewer.
    const auto zone = FindTimeZone(index.time_zone(i));
    if (!zone.ok()) LOG(ERROR) << "budgets: " << zone.status() << "; UTC";
    ledger_->SetTerms(campaign, index.budget(i),
                      zone.ok() ? *zone : absl::UTCTimeZone(), index.version());
    const CampaignSpend spend = ledger_->Spend(campaign);
    SetGate(spend.closed, spend.pace, &table->gates[i]);
  }
  {
    absl::MutexLock lock(&mu_);
    tables_.insert(tables_.begin(), table);
    if (tables_.size() > kTables) tables_.pop_back();
  }
  // What changed between the look at a campaign and now.
  for (LedgerCampaign* campaign : table->campaigns) {
    ledger_->TellGate(campaign);
  }
  return table;
}

void BudgetAdmission::Prepare(const AdIndex& index) { FindOrBuild(index); }

void BudgetAdmission::Begin(const AdIndex& index, const v1::Context& context,
                            AdmissionTerms* terms) {
  std::shared_ptr<Table> table = FindOrBuild(index);
  terms->campaigns = table->gates;
  terms->campaigns_owner = std::move(table);
}

void BudgetAdmission::Reserve(const AdIndex& index, const v1::Context& context,
                              const DecisionId& id,
                              absl::Span<const AdmissionSlot> slots,
                              std::vector<SlotRefusal>* refused) {
  const std::shared_ptr<Table> table = FindOrBuild(index);
  absl::InlinedVector<LedgerSlot, 8> wanted;
  for (const AdmissionSlot& slot : slots) {
    wanted.push_back({table->campaigns[index.ad(slot.ad).campaign],
                      static_cast<uint8_t>(slot.position), slot.bid_type,
                      slot.price_micros, slot.pctr});
  }
  thread_local std::vector<uint32_t> short_of_budget;
  short_of_budget.clear();
  ledger_->Reserve(id, wanted, &short_of_budget);
  for (const uint32_t slot : short_of_budget) {
    refused->push_back({slot, v1::Refusal::CAMPAIGN, v1::NO_AD_REASON_BUDGET});
  }
}

}  // namespace adrank
