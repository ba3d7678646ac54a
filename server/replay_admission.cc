#include "server/replay_admission.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "server/trigger/ad_index.h"

namespace adrank {

void ReplayAdmission::Begin(const AdIndex& index, const v1::Context&,
                            AdmissionTerms* terms) {
  next_ = 0;
  SetGates(index, terms);
  SetCaps(index, terms);
}

void ReplayAdmission::SetGates(const AdIndex& index,
                               AdmissionTerms* terms) const {
  if (decision_.terms().empty()) return;
  absl::flat_hash_map<std::string, const v1::CampaignTerms*> by_id;
  for (const v1::CampaignTerms& t : decision_.terms()) {
    by_id[t.campaign_id()] = &t;
  }
  const auto shared =
      std::make_shared<std::vector<CampaignGate>>(index.stats().campaigns);
  std::vector<CampaignGate>& gates = *shared;
  for (uint32_t i = 0; i < gates.size(); ++i) {
    const auto it = by_id.find(index.campaign_id(i));
    if (it == by_id.end()) continue;
    gates[i].closed = it->second->closed();
    if (it->second->pacing_multiplier() != 0) {
      gates[i].multiplier = it->second->pacing_multiplier();
    }
  }
  terms->campaigns = gates;
  terms->campaigns_owner = shared;
}

void ReplayAdmission::SetCaps(const AdIndex& index,
                              AdmissionTerms* terms) const {
  if (decision_.capped_ids().empty()) return;
  const absl::flat_hash_set<std::string> ids(decision_.capped_ids().begin(),
                                             decision_.capped_ids().end());
  for (const std::string& id : ids) {
    if (const auto ad = index.Find(id)) terms->capped_ads.push_back(*ad);
  }
  std::sort(terms->capped_ads.begin(), terms->capped_ads.end());
  for (uint32_t i = 0; i < index.stats().ad_groups; ++i) {
    if (ids.contains(index.group_id(i))) terms->capped_groups.push_back(i);
  }
  for (uint32_t i = 0; i < index.stats().campaigns; ++i) {
    if (ids.contains(index.campaign_id(i))) {
      terms->capped_campaigns.push_back(i);
    }
  }
}

void ReplayAdmission::Reserve(const AdIndex& index, const v1::Context&,
                              const DecisionId&,
                              absl::Span<const AdmissionSlot> slots,
                              std::vector<SlotRefusal>* refused) {
  for (; next_ < decision_.refused_size(); ++next_) {
    const v1::Refusal& logged = decision_.refused(next_);
    if (logged.ad_id().empty()) {  // the auction after this one
      ++next_;
      return;
    }
    const auto slot =
        std::find_if(slots.begin(), slots.end(), [&](const AdmissionSlot& s) {
          return index.ad(s.ad).snapshot.ad_id() == logged.ad_id();
        });
    if (slot == slots.end()) continue;  // another answer than the logged one
    SlotRefusal refusal;
    refusal.slot = static_cast<uint32_t>(slot - slots.begin());
    refusal.level = logged.level();
    refused->push_back(refusal);
  }
}

}  // namespace adrank
