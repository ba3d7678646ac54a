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

// The log does not say whether an id is an ad's, a group's or a campaign's;
// among those of one name it is what has a cap.
void ReplayAdmission::SetCaps(const AdIndex& index,
                              AdmissionTerms* terms) const {
  const CapTable& caps = index.caps();
  const auto add = [&](CapLevel level, std::optional<uint32_t> number,
                       bool alone, std::vector<uint32_t>* out) {
    if (number.has_value() && (alone || caps.Of(level, *number) != nullptr)) {
      out->push_back(*number);
    }
  };
  for (const std::string& id : decision_.capped_ids()) {
    if (id.empty()) {
      terms->denied = &caps;
      continue;
    }
    const auto ad = index.Find(id);
    const auto group = index.FindGroup(id), campaign = index.FindCampaign(id);
    const bool alone =
        ad.has_value() + group.has_value() + campaign.has_value() == 1;
    add(CapLevel::kAd, ad, alone, &terms->capped_ads);
    add(CapLevel::kAdGroup, group, alone, &terms->capped_groups);
    add(CapLevel::kCampaign, campaign, alone, &terms->capped_campaigns);
  }
  for (auto* numbers :
       {&terms->capped_ads, &terms->capped_groups, &terms->capped_campaigns}) {
    std::sort(numbers->begin(), numbers->end());
    numbers->erase(std::unique(numbers->begin(), numbers->end()),
                   numbers->end());
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
