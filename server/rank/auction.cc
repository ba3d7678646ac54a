// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/rank/auction.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/hash.h"

namespace adrank {
namespace {

using uint128 = unsigned __int128;

// The product of bid and pctr as doubles rounds twice, by at most 2^-53 each:
// scores further apart than this factor are in the exact order.
constexpr double kApart = 1 + 0x1p-50;

// A float in [0, 1] as mantissa x 2^exponent, mantissa < 2^24.
struct Binary {
  uint32_t mantissa;
  int exponent;
};

Binary ToBinary(float q) {
  int exponent;
  const float fraction = std::frexp(q, &exponent);  // in [0.5, 1) or 0
  return {static_cast<uint32_t>(std::ldexp(fraction, 24)), exponent - 24};
}

// Sign of bid_a q_a - bid_b q_b, exactly. Products are below 2^86.
int CompareProducts(int64_t bid_a, float q_a, int64_t bid_b, float q_b) {
  const Binary a = ToBinary(q_a), b = ToBinary(q_b);
  uint128 x = static_cast<uint128>(bid_a) * a.mantissa;
  uint128 y = static_cast<uint128>(bid_b) * b.mantissa;
  if (x == 0 || y == 0) return (x != 0) - (y != 0);
  // A side that is 2^87 times the other by its exponent alone is larger: both
  // products are in [1, 2^86).
  const int shift = a.exponent - b.exponent;
  if (shift >= 87) return 1;
  if (shift <= -87) return -1;
  // Shift the larger exponent's side up as far as 128 bits allow (42 from
  // 2^86), and the other side down; the bits that this drops decide equality
  // only.
  uint128& up = shift >= 0 ? x : y;
  uint128& down = shift >= 0 ? y : x;
  const int total = std::abs(shift), left = std::min(total, 42);
  const int right = total - left;
  up <<= left;
  const bool dropped = right > 0 && (down & ((uint128{1} << right) - 1)) != 0;
  down >>= right;
  if (x != y) return x < y ? -1 : 1;
  if (!dropped) return 0;
  return shift >= 0 ? -1 : 1;  // the side that was cut is the larger
}

// ceil(bid q / own_q) in exact arithmetic. REQUIRES: own_q > 0 and
// bid q <= own_bid own_q for some own_bid <= kMaxBidMicros, so that the result
// is at most own_bid.
int64_t CeilPrice(int64_t bid, float q, float own_q) {
  const Binary other = ToBinary(q), own = ToBinary(own_q);
  uint128 numerator = static_cast<uint128>(bid) * other.mantissa;
  uint128 denominator = own.mantissa;
  if (numerator == 0) return 0;
  const int shift = other.exponent - own.exponent;
  if (shift >= 0) {
    // numerator 2^shift <= own_bid own.mantissa < 2^86: cannot overflow.
    numerator <<= shift;
  } else if (shift <= -100) {
    return 1;  // the quotient is in (0, 2^-14)
  } else {
    denominator <<= -shift;  // < 2^124
  }
  return static_cast<int64_t>((numerator + denominator - 1) / denominator);
}

int64_t EffectiveReserve(const AuctionPlacement& placement) {
  return std::max<int64_t>(1, placement.reserve_micros);
}

}  // namespace

// Strict and total: see the header.
inline bool Auction::Before(const Entry& a, const Entry& b) const {
  if (a.score > b.score * kApart) return true;
  if (b.score > a.score * kApart) return false;
  return BeforeExactly(a.ad, b.ad);
}

bool Auction::BeforeExactly(uint32_t a, uint32_t b) const {
  const AuctionAd &x = ads_[a], &y = ads_[b];
  const float p = pctr_[a], q = pctr_[b];
  const int sign = CompareProducts(x.bid_micros, p, y.bid_micros, q);
  if (sign != 0) return sign > 0;
  if (p != q) return p > q;
  const uint64_t hash_x = Hash64(x.ad_id, options_.tie_salt);
  const uint64_t hash_y = Hash64(y.ad_id, options_.tie_salt);
  if (hash_x != hash_y) return hash_x > hash_y;
  return x.ad_id < y.ad_id;
}

bool Auction::Available(uint32_t ad) const {
  if (used_[ad]) return false;
  const uint32_t advertiser = ads_[ad].advertiser;
  if (options_.max_ads_per_advertiser == 0 ||
      advertiser == AuctionAd::kNoAdvertiser) {
    return true;
  }
  // At most a few dozen slots: a scan beats any table.
  return std::count(shown_.begin(), shown_.end(), advertiser) <
         static_cast<int64_t>(options_.max_ads_per_advertiser);
}

Auction::Entry Auction::EntryOf(uint32_t ad) const {
  return {
      static_cast<double>(ads_[ad].bid_micros) * static_cast<double>(pctr_[ad]),
      ad};
}

// Into its place in the sorted order_, whose last entry falls out at `want`.
inline void Auction::Insert(const Entry& entry, size_t want) {
  if (order_.size() < want) order_.push_back(entry);
  size_t i = order_.size() - 1;
  for (; i > 0 && Before(entry, order_[i - 1]); --i) order_[i] = order_[i - 1];
  order_[i] = entry;
}

// Puts the first `want` ads of the placement's order into order_. One pass that
// compares each ad with the worst one kept; few get in.
void Auction::SelectTop(size_t want) {
  order_.clear();
  double cut = -1;  // scores below it are surely behind the worst one kept
  for (uint32_t i = 0; i < ads_.size(); ++i) {
    const Entry entry = EntryOf(i);
    if (entry.score < cut || ads_[i].bid_micros < reserve_) continue;
    if (order_.size() == want && !Before(entry, order_.back())) continue;
    Insert(entry, want);
    if (order_.size() == want) cut = order_.back().score / kApart;
  }
  complete_ = order_.size() < want;
}

void Auction::SortAll() {
  order_.clear();
  for (uint32_t i = 0; i < ads_.size(); ++i) {
    if (ads_[i].bid_micros >= reserve_) order_.push_back(EntryOf(i));
  }
  std::sort(order_.begin(), order_.end(),
            [this](const Entry& a, const Entry& b) { return Before(a, b); });
  complete_ = true;
}

// The ad at `rank` of the order; null past its end. Limits and used ads may eat
// up what was selected: then everything is sorted.
const Auction::Entry* Auction::At(size_t rank) {
  if (rank >= order_.size() && !complete_) SortAll();
  return rank < order_.size() ? &order_[rank] : nullptr;
}

// The first available ad at or after *rank, whose rank becomes *rank. Of
// another advertiser than `winner`'s, when given.
const Auction::Entry* Auction::FindAvailable(size_t* rank,
                                             const AuctionAd* winner) {
  for (const Entry* e; (e = At(*rank)) != nullptr; ++*rank) {
    const uint32_t advertiser = ads_[e->ad].advertiser;
    if (winner != nullptr && advertiser != AuctionAd::kNoAdvertiser &&
        advertiser == winner->advertiser) {
      continue;
    }
    if (Available(e->ad)) return e;
  }
  return nullptr;
}

void Auction::Prepare(const AuctionPlacement& placement) {
  const int64_t reserve = EffectiveReserve(placement);
  const bool same_scores = pctr_.data() == placement.pctr.data() &&
                           pctr_.size() == placement.pctr.size();
  if (same_scores && reserve == reserve_) return;
  pctr_ = placement.pctr;
  reserve_ = reserve;
  // The ads shown before, this placement's and the one that sets the last
  // price; some more, as siblings and limits skip ads.
  constexpr size_t kSpare = 4;
  SelectTop(total_slots_ + 1 + kSpare);
}

void Auction::FillPlacement(uint32_t p, const AuctionPlacement& placement,
                            AuctionResult* result) {
  Prepare(placement);
  // Ads before `rank` are used or limited, and stay so.
  size_t rank = 0;
  for (uint32_t s = 0; s < placement.slots; ++s) {
    const Entry* winner = FindAvailable(&rank, nullptr);
    if (winner == nullptr) {
      result->short_reason[p] = ShortReason();
      return;
    }
    const uint32_t ad = winner->ad;
    AuctionSlot slot;
    slot.ad = ad;
    slot.placement = p;
    slot.position_in_placement = s + 1;
    slot.score = winner->score;
    size_t next_rank = rank + 1;
    SetPrice(FindAvailable(&next_rank, &ads_[ad]), &slot);
    result->slots.push_back(slot);
    used_[ad] = 1;
    shown_.push_back(ads_[ad].advertiser);
    ++rank;
  }
}

void Auction::SetPrice(const Entry* next, AuctionSlot* slot) const {
  slot->price_micros = reserve_;
  if (next == nullptr || !(pctr_[slot->ad] > 0)) return;
  const int64_t price =
      CeilPrice(ads_[next->ad].bid_micros, pctr_[next->ad], pctr_[slot->ad]);
  if (price <= reserve_) return;
  slot->price_micros = price;
  slot->price_setter = PriceSetter::kNextScore;
  slot->next_ad = next->ad;
}

// Nothing at or above the reserve is available.
v1::NoAdReason Auction::ShortReason() const {
  for (uint32_t i = 0; i < ads_.size(); ++i) {
    const int64_t bid = ads_[i].bid_micros;
    if (bid > 0 && bid < reserve_ && Available(i)) {
      return v1::NO_AD_REASON_BELOW_RESERVE;
    }
  }
  return v1::NO_AD_REASON_EXHAUSTED;
}

void Auction::Run(absl::Span<const AuctionAd> ads,
                  absl::Span<const AuctionPlacement> placements,
                  const AuctionOptions& options, AuctionResult* result) {
  ads_ = ads;
  options_ = options;
  pctr_ = {};
  reserve_ = 0;  // below every effective reserve: nothing is prepared yet
  used_.assign(ads.size(), 0);
  shown_.clear();
  order_.clear();
  complete_ = true;
  result->slots.clear();
  result->short_reason.assign(placements.size(), v1::NO_AD_REASON_UNSPECIFIED);
  result->above_reserve = 0;
  total_slots_ = 0;
  int64_t lowest = kMaxBidMicros;
  for (const AuctionPlacement& p : placements) {
    total_slots_ += p.slots;
    lowest = std::min(lowest, EffectiveReserve(p));
  }
  for (const AuctionAd& ad : ads) {
    result->above_reserve += ad.bid_micros >= lowest;
  }
  for (uint32_t p = 0; p < placements.size(); ++p) {
    FillPlacement(p, placements[p], result);
  }
}

}  // namespace adrank
