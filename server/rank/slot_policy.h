// The seam between the auction and exploration: who takes the next slot.
//
// How to use it: derive from SlotPolicy, hold there what the choice needs by
// candidate (the standard deviation of the model, impressions, a seeded Rng),
// and set AuctionOptions.policy for the request. Choose is called once for each
// slot that has an ad available, in the order in which slots are filled; what
// it returns is copied into AuctionSlot (propensity, explored). With no policy,
// or one that always returns {0, 1}, the result is the greedy one, bit for bit.
//
// Prices do not know about the choice: whoever takes a slot pays by his own
// place in the auction's order, against the first available ad of another
// advertiser *behind* him there, or his reserve. An ad that jumped the queue
// therefore never pays more than its bid, nor for those it jumped over, and no
// score that a policy made up reaches a price.
#ifndef ADRANK_SERVER_RANK_SLOT_POLICY_H_
#define ADRANK_SERVER_RANK_SLOT_POLICY_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace adrank {

class Auction;

// An ad that may take the slot.
struct SlotChoice {
  uint32_t ad = 0;  // index into the candidates
  double score = 0;
};

struct SlotDecision {
  size_t choice = 0;  // index into SlotChoices::Best
  float propensity =
      1;  // with which this ad takes this slot, given those above
};

// The slot to fill, and what is available for it: ads that reach their reserve,
// are not shown yet, and that no limit or label keeps out. Valid during Choose.
class SlotChoices {
 public:
  uint32_t placement() const { return placement_; }
  uint32_t position_in_placement() const { return position_; }  // 1-based
  // The first `n` (or all, if there are fewer) available ads in the auction's
  // order; never empty for n > 0. Valid until the next call.
  absl::Span<const SlotChoice> Best(size_t n);

 private:
  friend class Auction;
  Auction* auction_ = nullptr;
  uint32_t placement_ = 0;
  uint32_t position_ = 1;
};

// Used by one thread at a time.
class SlotPolicy {
 public:
  virtual ~SlotPolicy() = default;
  // The n that Choose mostly asks Best for; a hint that saves time.
  virtual size_t lookahead() const { return 1; }
  // REQUIRES of the result: choice < the largest Best(n).size() of this call
  // (0 is always fine); propensity in (0, 1].
  virtual SlotDecision Choose(SlotChoices* choices) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_SLOT_POLICY_H_
