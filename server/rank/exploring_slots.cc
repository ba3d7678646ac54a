// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/rank/exploring_slots.h"

#include <algorithm>
#include <limits>

#include "base/log.h"

namespace adrank {

void ExploringSlots::Begin(const ExplorationPolicy* policy, ExploredAds* ads,
                           uint64_t seed) {
  policy_ = policy;
  ads_ = ads;
  rng_ = Rng(seed);
  placement_ = 0;
  deviations_.clear();
}

double ExploringSlots::DeviationOf(uint32_t placement, uint32_t ad) {
  if (placement != placement_) {
    placement_ = placement;
    deviations_.clear();
  }
  if (ad >= deviations_.size()) deviations_.resize(ad + 1, -1.0f);
  float& known = deviations_[ad];
  if (known < 0) known = static_cast<float>(ads_->Deviation(placement, ad));
  return static_cast<double>(known);
}

absl::Span<const SlotOption> ExploringSlots::OptionsOf(
    uint32_t placement, absl::Span<const SlotChoice> best) {
  options_.clear();
  for (const SlotChoice& c : best) {
    SlotOption option;
    option.score = c.score;
    if (policy_->thompson()) option.deviation = DeviationOf(placement, c.ad);
    if (policy_->boosts()) option.impressions = ads_->Impressions(c.ad);
    options_.push_back(option);
  }
  return options_;
}

SlotDecision ExploringSlots::Choose(SlotChoices* choices) {
  const absl::Span<const SlotChoice> best =
      choices->Best(policy_->max_explored());
  const ExplorationChoice choice =
      policy_->Choose(OptionsOf(choices->placement(), best), &rng_, &scratch_);
  SlotDecision decision;
  decision.choice = choice.option;
  decision.propensity =
      std::clamp(static_cast<float>(choice.propensity),
                 std::numeric_limits<float>::min(), 1.0f);
  return decision;
}

void ExploringSlots::Probabilities(uint32_t placement,
                                   absl::Span<const SlotChoice> best,
                                   absl::Span<double> probabilities) {
  policy_->Probabilities(OptionsOf(placement, best), &scratch_, probabilities);
}

}  // namespace adrank
