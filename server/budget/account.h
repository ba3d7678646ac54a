// What one campaign has spent, what its open decisions hold, and whether it can
// afford another ad. No threads, no clock, no disk.
//
// Hot path: no allocation but on the first ad of a day.
#ifndef ADRANK_SERVER_BUDGET_ACCOUNT_H_
#define ADRANK_SERVER_BUDGET_ACCOUNT_H_

#include <cstdint>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "proto/server_config.pb.h"
#include "server/budget/campaign_day.h"
#include "storage/ledger_store.h"

namespace adrank {

struct BudgetPolicy {
  // Far from exhaustion open decisions hold the mean of what their billable
  // events cost plus so many standard deviations. That these cost more has a
  // probability of at most 1 / (1 + deviations^2) whatever the prices
  // (Cantelli's inequality), and near that of the normal tail when many are
  // open: 10 % and 0.13 % at 3; given that the model's probabilities are right.
  double deviations = 3;
  // Once less than this share of a budget is unspent, full prices are held.
  double hard_share = 0.01;
  int64_t reservation_ms = 600'000;
  // Events that come later than this after the decision are never billed.
  int64_t billing_ms = 86'400'000;

  // InvalidArgument names the field that is out of range.
  static absl::StatusOr<BudgetPolicy> Create(const v1::BudgetConfig& config);
};

// What serving one ad may cost.
struct SlotCost {
  int64_t micros = 0;  // of the billable event
  int64_t mean = 0;    // times its probability, rounded up
  // Of the cost. In steps of one, so that what is added can be taken away.
  unsigned __int128 variance = 0;

  // The probability is pctr, or 1 with CPM. A price beyond 2^50 has no
  // variance that fits and is its own mean.
  static SlotCost Of(v1::BidType bid_type, int64_t micros, float pctr);
};

enum class Hold : uint8_t { kRefused, kExpected, kFull };

// One budget: of a day, or of the campaign's life.
struct BudgetBook {
  int64_t budget = 0;  // micros; 0: unlimited
  WideMicros spent = 0;
  // Of open decisions: prices held in full; prices, means and variances of the
  // others.
  WideMicros full = 0;
  WideMicros soft = 0, mean = 0;
  unsigned __int128 variance = 0;

  void Add(const SlotCost& cost, Hold hold, int sign);
  // full + min(soft, mean + deviations x sqrt(variance)).
  WideMicros Held(double deviations) const;
  WideMicros Free(double deviations) const {
    return budget == 0 ? std::numeric_limits<WideMicros>::max()
                       : budget - spent - Held(deviations);
  }
};

// The accounts of one campaign. Not thread-safe.
class CampaignAccount {
 public:
  struct Day {
    int32_t number = 0;
    BudgetBook book;
    WideMicros expected = 0;  // mean cost of what was served
    uint64_t served = 0, refused = 0;
  };

  explicit CampaignAccount(const BudgetPolicy* policy) : policy_(policy) {}

  // The catalogue's terms. New amounts hold from now on: today's day and the
  // life's; closes or opens at once.
  void SetTerms(const v1::Budget& budget, const absl::TimeZone& zone,
                int64_t now_ms);

  // Day of a decision made at `ms`.
  int32_t DayNumber(int64_t ms) const {
    return ms >= today_.start_ms && ms < today_.end_ms ? today_.day
                                                       : DayOf(ms, zone_).day;
  }
  // Whether an ad of this cost can be served on the day, and if so takes it.
  Hold Take(int32_t day, const SlotCost& cost);
  // Undoes Take; `served` too when the ad was not shown after all.
  void GiveBack(int32_t day, const SlotCost& cost, Hold hold, bool served);
  // A billable event of an ad that was taken: true when it is billed, false
  // when the budget has no room left, or is not known since the campaign is in
  // no catalogue any more.
  bool Bill(int32_t day, const SlotCost& cost, Hold hold);
  // The same of an ad that holds nothing any more: billed when it can be
  // afforded beside what the others hold.
  bool BillLate(int32_t day, const SlotCost& cost);
  // Enters what the ledger knew when it was opened.
  void Restore(int32_t day, const LedgerAccount& account);
  void RestoreOpen(int32_t day, const SlotCost& cost, Hold hold);

  // Looks at the time: a new day begins, days long gone are forgotten.
  void Roll(int64_t now_ms);

  // Nothing is left today or at all; or an ad was refused since the last Roll
  // and nothing came back: what is left may pay for a cheaper one, but not each
  // request needs to try.
  bool Closed() const;

  const v1::Budget& terms() const { return terms_; }
  const CampaignDay& today() const { return today_; }
  const BudgetBook& life() const { return life_; }
  // Of today.
  Day Today() const;
  // The lesser of today's and the life's; the largest int128 when unlimited.
  WideMicros Free() const;
  WideMicros unbilled() const { return unbilled_; }
  uint64_t unbilled_events() const { return unbilled_events_; }

 private:
  Day* Find(int32_t number);  // adds it
  // Near exhaustion. What is reserved does not count: else each reservation
  // that ends would be replaced by one that holds its full price, and the
  // campaign would stay there.
  bool IsTight(const BudgetBook& book) const {
    return policy_->hard_share >= 1 ||
           static_cast<double>(book.budget - book.spent) <
               policy_->hard_share * static_cast<double>(book.budget);
  }
  // Whether the cost fits: held as expected, away from exhaustion, or in full.
  Hold Decide(const BudgetBook& day, const SlotCost& cost) const;
  // False.
  bool Refuse(const SlotCost& cost) {
    unbilled_ += cost.micros;
    ++unbilled_events_;
    return false;
  }

  const BudgetPolicy* policy_;
  v1::Budget terms_;
  bool has_terms_ = false;
  absl::TimeZone zone_;
  CampaignDay today_;
  BudgetBook life_;
  absl::InlinedVector<Day, 2> days_;  // by number
  bool short_ = false;                // an ad was refused
  WideMicros unbilled_ = 0;
  uint64_t unbilled_events_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_ACCOUNT_H_
