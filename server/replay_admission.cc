#include "server/replay_admission.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  const auto gates =
      std::make_shared<std::vector<CampaignGate>>(index.campaigns());
  for (const v1::CampaignTerms& t : decision_.terms()) {
    const std::optional<uint32_t> campaign =
        index.FindCampaign(t.campaign_id());
    if (!campaign.has_value()) continue;
    (*gates)[*campaign].closed = t.closed();
    if (t.pacing_multiplier() != 0) {
      (*gates)[*campaign].multiplier = t.pacing_multiplier();
    }
  }
  terms->campaigns = *gates;
  terms->campaigns_owner = gates;
}

void ReplayAdmission::SetCaps(const AdIndex& index,
                              AdmissionTerms* terms) const {
  const auto add = [](std::optional<uint32_t> number,
                      std::vector<uint32_t>* numbers) {
    if (number.has_value()) numbers->push_back(*number);
  };
  for (const std::string& id : decision_.capped_ad_ids()) {
    add(index.Find(id), &terms->capped_ads);
  }
  for (const std::string& id : decision_.capped_ad_group_ids()) {
    add(index.FindGroup(id), &terms->capped_groups);
  }
  for (const std::string& id : decision_.capped_campaign_ids()) {
    add(index.FindCampaign(id), &terms->capped_campaigns);
  }
  for (auto* numbers :
       {&terms->capped_ads, &terms->capped_groups, &terms->capped_campaigns}) {
    std::sort(numbers->begin(), numbers->end());
  }
  if (decision_.all_caps_denied()) terms->denied = &index.caps();
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
          return index.ad_id(s.ad) == logged.ad_id();
        });
    if (slot == slots.end()) continue;  // another answer than the logged one
    SlotRefusal refusal;
    refusal.slot = static_cast<uint32_t>(slot - slots.begin());
    refusal.level = logged.level();
    refused->push_back(refusal);
  }
}

}  // namespace adrank
