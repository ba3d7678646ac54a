// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/rank/auction.h"

#include <algorithm>

#include "server/rank/score_kernels.h"

namespace adrank {
namespace {

using uint128 = unsigned __int128;

// What position effects fall by beyond those that are configured.
constexpr uint64_t NextEffect(uint64_t effect) {
  return std::max<uint64_t>(1, effect / 10 * 7);
}

}  // namespace

absl::Span<const SlotChoice> SlotChoices::Best(size_t n) {
  return auction_->BestChoices(n);
}

// ---- allocation ----

bool Auction::SharesLabel(uint32_t a, uint32_t b) const {
  const absl::Span<const uint64_t> x = (*ads_)[a].labels, y = (*ads_)[b].labels;
  for (size_t i = 0, j = 0; i < x.size() && j < y.size();) {
    if (x[i] == y[j]) return true;
    ++(x[i] < y[j] ? i : j);
  }
  return false;
}

bool Auction::Available(uint32_t ad) const {
  if (used_[ad]) return false;
  const AuctionAd& a = (*ads_)[ad];
  // At most a few dozen slots: scans beat any table.
  if (options_.max_ads_per_advertiser != 0 &&
      a.advertiser != AuctionAd::kNoAdvertiser &&
      std::count(advertisers_.begin(), advertisers_.end(), a.advertiser) >=
          static_cast<int64_t>(options_.max_ads_per_advertiser)) {
    return false;
  }
  return std::none_of(a.labels.begin(), a.labels.end(), [&](uint64_t label) {
    return std::find(labels_.begin(), labels_.end(), label) != labels_.end();
  });
}

// The first available ad at or after *rank, whose rank becomes *rank. Of
// another advertiser than `winner`'s, when given.
const Auction::Entry* Auction::FindAvailable(size_t* rank,
                                             const AuctionAd* winner) {
  for (const Entry* e; (e = At(*rank)) != nullptr; ++*rank) {
    const uint32_t advertiser = (*ads_)[e->ad].advertiser;
    if (winner != nullptr && advertiser != AuctionAd::kNoAdvertiser &&
        advertiser == winner->advertiser) {
      continue;
    }
    if (Available(e->ad)) return e;
  }
  return nullptr;
}

absl::Span<const SlotChoice> Auction::BestChoices(size_t n) {
  size_t rank = choice_ranks_.empty() ? first_rank_ : choice_ranks_.back() + 1;
  while (choices_.size() < n) {
    const Entry* e = FindAvailable(&rank, nullptr);
    if (e == nullptr) break;
    choices_.push_back({e->ad, e->score});
    choice_ranks_.push_back(rank++);
  }
  return absl::MakeConstSpan(choices_).subspan(0, n);
}

Auction::Shown Auction::Mark() const {
  return {shown_.size(), advertisers_.size(), labels_.size()};
}

void Auction::Take(uint32_t ad) {
  const AuctionAd& a = (*ads_)[ad];
  used_[ad] = 1;
  shown_.push_back(ad);
  advertisers_.push_back(a.advertiser);
  labels_.insert(labels_.end(), a.labels.begin(), a.labels.end());
}

void Auction::UndoTo(const Shown& mark) {
  for (size_t i = mark.ads; i < shown_.size(); ++i) used_[shown_[i]] = 0;
  shown_.resize(mark.ads);
  advertisers_.resize(mark.advertisers);
  labels_.resize(mark.labels);
}

// The rank that the policy picks; the first available one without a policy.
size_t Auction::ChooseRank(size_t first, AuctionSlot* slot) {
  if (options_.policy == nullptr) return first;
  first_rank_ = first;
  choices_.clear();
  choice_ranks_.clear();
  SlotChoices choices;
  choices.auction_ = this;
  choices.placement_ = slot->placement;
  choices.position_ = slot->position_in_placement;
  const SlotDecision decision = options_.policy->Choose(&choices);
  slot->propensity = decision.propensity;
  slot->explored = decision.choice != 0;
  return slot->explored ? choice_ranks_[decision.choice] : first;
}

void Auction::FillPlacement(uint32_t p, const AuctionPlacement& placement,
                            AuctionResult* result) {
  Prepare(placement);
  // Ads before `first` are used, or kept out by what is shown, and stay so.
  size_t first = 0;
  for (uint32_t s = 0; s < placement.slots; ++s) {
    if (FindAvailable(&first, nullptr) == nullptr) {
      result->short_reason[p] = ShortReason();
      return;
    }
    AuctionSlot slot;
    slot.placement = p;
    slot.position_in_placement = s + 1;
    const size_t rank = ChooseRank(first, &slot);
    slot.ad = order_[rank].ad;
    slot.score = order_[rank].score;
    slot.bid_micros = (*ads_)[slot.ad].bid_micros;
    slot.reserve_micros =
        ReserveOf((*ads_)[slot.ad], WeightOf(slot.ad), reserve_, options_);
    SetPrice(rank, placement.slots, &slot);
    result->slots.push_back(slot);
    Take(slot.ad);
  }
}

// Nothing that reaches its reserve is available.
v1::NoAdReason Auction::ShortReason() const {
  for (uint32_t i = 0; i < ads_->size(); ++i) {
    if ((*ads_)[i].bid_micros > 0 && scores_[i] < 0 && Available(i)) {
      return v1::NO_AD_REASON_BELOW_RESERVE;
    }
  }
  return v1::NO_AD_REASON_EXHAUSTED;
}

// ---- prices ----

int64_t Auction::Threshold(const AuctionSlot& slot, const Entry* next) const {
  const double weight = WeightOf(slot.ad);
  if (next == nullptr || !(weight > 0)) return slot.reserve_micros;
  return std::max(slot.reserve_micros, LeastBidFor((*ads_)[next->ad].bid_micros,
                                                   WeightOf(next->ad), weight));
}

void Auction::SetEffects(absl::Span<const AuctionPlacement> placements) {
  effects_.clear();
  if (options_.pricing != v1::RankConfig::VCG) return;
  if (options_.position_effects != nullptr) {
    effects_ = *options_.position_effects;
  }
  if (effects_.empty()) effects_.push_back(kFullEffect);
  uint32_t slots = 0;
  for (const AuctionPlacement& p : placements) slots = std::max(slots, p.slots);
  while (effects_.size() < slots) {
    effects_.push_back(NextEffect(effects_.back()));
  }
}

void Auction::SetPrice(size_t rank, uint32_t slots, AuctionSlot* slot) {
  if (options_.pricing == v1::RankConfig::FIRST_PRICE) {
    slot->price_micros = slot->bid_micros;
    slot->price_setter = PriceSetter::kOwnBid;
    return;
  }
  const bool vcg = options_.pricing == v1::RankConfig::VCG;
  const AuctionAd& winner = (*ads_)[slot->ad];
  size_t next_rank = rank + 1;
  const Entry* next = FindAvailable(&next_rank, &winner);
  slot->price_micros = Threshold(*slot, next);
  if (slot->price_micros == slot->reserve_micros) return;  // VCG's too
  slot->next_ad = next->ad;
  slot->next_score = next->score;
  slot->price_setter = PriceSetter::kNextScore;
  if (!vcg) return;
  slot->price_micros = DisplacementPrice(next_rank, slots, slot);
  slot->price_setter = slot->price_micros > slot->reserve_micros
                           ? PriceSetter::kDisplaced
                           : PriceSetter::kReserve;
}

// The slots from this one on, without the ad and its siblings. `rank` is at or
// before the ad that takes this slot then.
int64_t Auction::DisplacementPrice(size_t rank, uint32_t slots,
                                   AuctionSlot* slot) {
  const Shown mark = Mark();
  const AuctionAd& winner = (*ads_)[slot->ad];
  const uint64_t own = effects_[slot->position_in_placement - 1];
  uint128 sum = 0;
  uint64_t effect = own;
  used_[slot->ad] = 1;
  for (uint32_t k = slot->position_in_placement; effect > 0; ++k) {
    const Entry* next = FindAvailable(&rank, &winner);
    const int64_t threshold = Threshold(*slot, next);
    // Thresholds fall: it is the reserve in all slots below.
    const bool last = threshold == slot->reserve_micros || k >= slots ||
                      SharesLabel(slot->ad, next->ad);
    const uint64_t below = last ? 0 : effects_[k];
    sum +=
        static_cast<uint128>(effect - below) * static_cast<uint128>(threshold);
    effect = below;
    if (!last) Take(next->ad);
  }
  used_[slot->ad] = 0;
  UndoTo(mark);
  return static_cast<int64_t>((sum + own - 1) / own);
}

void Auction::Run(const AuctionAds& ads,
                  absl::Span<const AuctionPlacement> placements,
                  const AuctionOptions& options, AuctionResult* result) {
  ads_ = &ads;
  options_ = options;
  scale_ = options.alpha == 1 ? 1 : Power(options.mean_pctr, 1 - options.alpha);
  pctr_ = {};
  reserve_ = -1;  // nothing is prepared yet
  used_.assign(ads.size(), 0);
  reached_.assign(ads.size(), 0);
  shown_.clear();
  advertisers_.clear();
  labels_.clear();
  order_.clear();
  complete_ = true;
  result->slots.clear();
  result->short_reason.assign(placements.size(), v1::NO_AD_REASON_UNSPECIFIED);
  total_slots_ = 0;
  for (const AuctionPlacement& p : placements) total_slots_ += p.slots;
  SetEffects(placements);
  for (uint32_t p = 0; p < placements.size(); ++p) {
    FillPlacement(p, placements[p], result);
  }
  result->above_reserve = static_cast<uint32_t>(
      std::count(reached_.begin(), reached_.end(), uint8_t{1}));
}

}  // namespace adrank
