// Exploration as a policy of the auction's slots.
#ifndef ADRANK_SERVER_RANK_EXPLORING_SLOTS_H_
#define ADRANK_SERVER_RANK_EXPLORING_SLOTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/rng.h"
#include "server/rank/exploration.h"
#include "server/rank/slot_policy.h"

namespace adrank {

// What the ads of one request are like, by candidate; asked for those only that
// a slot may show. Used by one thread at a time.
class ExploredAds {
 public:
  virtual ~ExploredAds() = default;
  // Of ln(score) in a placement; >= 0, finite. Asked once for each ad and
  // placement when the policy is THOMPSON.
  virtual double Deviation(uint32_t placement, uint32_t ad) = 0;
  // That the ad has had. Asked when the policy boosts newcomers.
  virtual uint32_t Impressions(uint32_t ad) = 0;
};

// One request's slots under an ExplorationPolicy. Scratch: reused, one a
// thread.
class ExploringSlots : public SlotPolicy {
 public:
  // The same `seed`, ads and policy give the same choices. The pointers must
  // live as long as slots are chosen.
  void Begin(const ExplorationPolicy* policy, ExploredAds* ads, uint64_t seed);

  size_t lookahead() const override { return policy_->max_explored(); }
  SlotDecision Choose(SlotChoices* choices) override;

  // Probability of each of `best`, the first max_explored() ads available for a
  // slot. REQUIRES: best is not empty, equal sizes.
  void Probabilities(uint32_t placement, absl::Span<const SlotChoice> best,
                     absl::Span<double> probabilities);

 private:
  absl::Span<const SlotOption> OptionsOf(uint32_t placement,
                                         absl::Span<const SlotChoice> best);
  double DeviationOf(uint32_t placement, uint32_t ad);

  const ExplorationPolicy* policy_ = nullptr;
  ExploredAds* ads_ = nullptr;
  Rng rng_{0};
  std::vector<SlotOption> options_;
  ExplorationScratch scratch_;
  // Deviations of the placement being filled by candidate; below 0: not asked
  // yet.
  uint32_t placement_ = 0;
  std::vector<float> deviations_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_EXPLORING_SLOTS_H_
