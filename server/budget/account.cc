// Hot path: Take, GiveBack, Bill.
#include "server/budget/account.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

// Nearly all clicks come within a minute; what is held for the others is not
// spent on the day: an hour of it was 5 % of budgets (docs/pacing.md). Clicks
// that come later are billed from what is free.
constexpr int64_t kDefaultReservationSeconds = 600;
constexpr int64_t kMaxReservationSeconds = 30 * 86400;
constexpr int64_t kLeastBillingMs = 86'400'000;
// Its square times 2^27 open decisions fits 128 bits.
constexpr int64_t kMaxVariedPrice = int64_t{1} << 50;

}  // namespace

absl::StatusOr<BudgetPolicy> BudgetPolicy::Create(
    const v1::BudgetConfig& config) {
  const auto bad = [](absl::string_view field, auto value,
                      absl::string_view range) {
    return absl::InvalidArgumentError(
        absl::StrCat("budget.", field, ": ", value, " not in ", range));
  };
  BudgetPolicy policy;
  if (config.reservation_seconds() > kMaxReservationSeconds) {
    return bad("reservation_seconds", config.reservation_seconds(),
               "[0, 2592000]");
  }
  if (config.reserve_deviations() != 0) {
    policy.deviations = config.reserve_deviations();
  }
  if (!(policy.deviations > 0 && policy.deviations <= 100)) {
    return bad("reserve_deviations", config.reserve_deviations(), "[0, 100]");
  }
  if (config.hard_share() != 0) policy.hard_share = config.hard_share();
  if (!(policy.hard_share > 0 && policy.hard_share <= 1)) {
    return bad("hard_share", config.hard_share(), "[0, 1]");
  }
  policy.reservation_ms =
      1000 * (config.reservation_seconds() == 0
                  ? kDefaultReservationSeconds
                  : static_cast<int64_t>(config.reservation_seconds()));
  policy.billing_ms = std::max(kLeastBillingMs, 2 * policy.reservation_ms);
  return policy;
}

SlotCost SlotCost::Of(v1::BidType bid_type, int64_t micros, float pctr) {
  SlotCost cost;
  cost.micros = micros;
  const double p =
      bid_type == v1::BID_TYPE_CPM ? 1 : std::clamp<double>(pctr, 0, 1);
  if (p == 1 || micros > kMaxVariedPrice) {
    cost.mean = micros;
    return cost;
  }
  const auto price = static_cast<double>(micros);
  cost.mean = std::min(micros, static_cast<int64_t>(std::ceil(p * price)));
  cost.variance = static_cast<unsigned __int128>(price * price * p * (1 - p));
  return cost;
}

void BudgetBook::Add(const SlotCost& cost, Hold hold, int sign) {
  if (hold == Hold::kFull) {
    full += sign * cost.micros;
    return;
  }
  soft += sign * static_cast<WideMicros>(cost.micros);
  mean += sign * cost.mean;
  // Modulo 2^128 a negative one takes away.
  variance += static_cast<unsigned __int128>(sign) * cost.variance;
}

WideMicros BudgetBook::Held(double deviations) const {
  const double spread =
      std::ceil(deviations * std::sqrt(static_cast<double>(variance)));
  return full + std::min(soft, mean + static_cast<WideMicros>(spread));
}

void CampaignAccount::SetTerms(const v1::Budget& budget,
                               const absl::TimeZone& zone, int64_t now_ms) {
  terms_ = budget;
  zone_ = zone;
  today_ = DayOf(now_ms, zone_);
  life_.budget = terms_.total_micros();
  for (Day& day : days_) {
    // Of days that were read from the ledger the amount is not known.
    if (has_terms_ && day.number < today_.day) continue;
    day.book.budget = terms_.daily_micros();
  }
  has_terms_ = true;
  Roll(now_ms);
}

CampaignAccount::Day* CampaignAccount::Find(int32_t number) {
  auto it = days_.end();
  while (it != days_.begin() && (it - 1)->number >= number) --it;
  if (it == days_.end() || it->number != number) {
    it = days_.insert(it, Day());
    it->number = number;
    it->book.budget = terms_.daily_micros();
  }
  return &*it;
}

Hold CampaignAccount::Decide(const BudgetBook& day,
                             const SlotCost& cost) const {
  Hold hold = Hold::kExpected;
  for (const BudgetBook* book : {&day, &life_}) {
    if (book->budget == 0) continue;
    // Beside what is spent or promised in full, this one could be paid.
    if (book->spent + book->full + cost.micros > book->budget) {
      return Hold::kRefused;
    }
    BudgetBook after = *book;
    after.Add(cost, Hold::kExpected, 1);
    if (IsTight(*book) || after.Free(policy_->deviations) < 0) {
      hold = Hold::kFull;
    }
  }
  if (hold == Hold::kExpected) return hold;
  for (const BudgetBook* book : {&day, &life_}) {
    if (book->Free(policy_->deviations) < cost.micros) return Hold::kRefused;
  }
  return hold;
}

Hold CampaignAccount::Take(int32_t day, const SlotCost& cost) {
  Day* d = Find(day);
  const Hold hold = Decide(d->book, cost);
  if (hold == Hold::kRefused) {
    ++d->refused;
    short_ = true;
    return hold;
  }
  d->book.Add(cost, hold, 1);
  life_.Add(cost, hold, 1);
  d->expected += cost.mean;
  ++d->served;
  return hold;
}

void CampaignAccount::GiveBack(int32_t day, const SlotCost& cost, Hold hold,
                               bool served) {
  Day* d = Find(day);
  d->book.Add(cost, hold, -1);
  life_.Add(cost, hold, -1);
  short_ = false;
  if (served) return;
  d->expected -= cost.mean;
  --d->served;
}

bool CampaignAccount::Bill(int32_t day, const SlotCost& cost, Hold hold) {
  Day* d = Find(day);
  d->book.Add(cost, hold, -1);
  life_.Add(cost, hold, -1);
  bool room = has_terms_;
  for (const BudgetBook* book : {&d->book, &life_}) {
    room = room &&
           (book->budget == 0 || book->spent + cost.micros <= book->budget);
  }
  if (!room) {
    short_ = false;
    return Refuse(cost);
  }
  d->book.spent += cost.micros;
  life_.spent += cost.micros;
  return true;
}

bool CampaignAccount::BillLate(int32_t day, const SlotCost& cost) {
  Day* d = Find(day);
  bool room = has_terms_;
  for (const BudgetBook* book : {&d->book, &life_}) {
    room = room && book->Free(policy_->deviations) >= cost.micros;
  }
  if (!room) return Refuse(cost);
  d->book.spent += cost.micros;
  life_.spent += cost.micros;
  return true;
}

void CampaignAccount::Restore(int32_t day, const LedgerAccount& account) {
  if (day == LedgerAccount::kLife) {
    life_.spent = account.spent.balance();
    unbilled_ = account.unbilled;
    unbilled_events_ = static_cast<uint64_t>(account.unbilled_events);
  } else {
    Find(day)->book.spent = account.spent.balance();
  }
}

void CampaignAccount::RestoreOpen(int32_t day, const SlotCost& cost,
                                  Hold hold) {
  Find(day)->book.Add(cost, hold, 1);
  life_.Add(cost, hold, 1);
}

void CampaignAccount::Roll(int64_t now_ms) {
  short_ = false;
  if (now_ms < today_.start_ms || now_ms >= today_.end_ms) {
    today_ = DayOf(now_ms, zone_);
  }
  const int32_t oldest =
      today_.day - 1 -
      static_cast<int32_t>(policy_->billing_ms / kLeastBillingMs + 1);
  while (!days_.empty() && days_.front().number < oldest &&
         days_.front().book.full == 0 && days_.front().book.soft == 0) {
    days_.erase(days_.begin());
  }
}

bool CampaignAccount::Closed() const { return short_ || Free() <= 0; }

CampaignAccount::Day CampaignAccount::Today() const {
  for (const Day& day : days_) {
    if (day.number == today_.day) return day;
  }
  Day day;
  day.number = today_.day;
  day.book.budget = terms_.daily_micros();
  return day;
}

WideMicros CampaignAccount::Free() const {
  return std::min(Today().book.Free(policy_->deviations),
                  life_.Free(policy_->deviations));
}

}  // namespace adrank
