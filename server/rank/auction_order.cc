// The order of the candidates in a placement, and which reach their reserve.
// Hot path: no allocation after warm-up, no locks, no logging.
#include <algorithm>

#include "base/hash.h"
#include "server/rank/auction.h"
#include "server/rank/score_kernels.h"

namespace adrank {
namespace {

// A score as a double is rounded twice, by at most 2^-53 each: scores further
// apart than this factor are in the exact order.
constexpr double kApart = 1 + 0x1p-50;

}  // namespace

double Auction::WeightOf(uint32_t ad) const {
  return plain_ ? static_cast<double>(pctr_[ad]) : weights_[ad];
}

// Strict and total: see the header.
inline bool Auction::Before(const Entry& a, const Entry& b) const {
  if (a.score > b.score * kApart) return true;
  if (b.score > a.score * kApart) return false;
  return BeforeExactly(a.ad, b.ad);
}

bool Auction::BeforeExactly(uint32_t a, uint32_t b) const {
  const AuctionAd &x = (*ads_)[a], &y = (*ads_)[b];
  const double weight_a = WeightOf(a), weight_b = WeightOf(b);
  if (x.bid_micros != y.bid_micros || weight_a != weight_b) {
    const int sign =
        CompareProducts(x.bid_micros, weight_a, y.bid_micros, weight_b);
    if (sign != 0) return sign > 0;
  }
  if (pctr_[a] != pctr_[b]) return pctr_[a] > pctr_[b];
  const uint64_t hash_x = Hash64(x.ad_id, options_.tie_salt);
  const uint64_t hash_y = Hash64(y.ad_id, options_.tie_salt);
  if (hash_x != hash_y) return hash_x > hash_y;
  return x.ad_id < y.ad_id;
}

// ---- reserves ----

// bid >= ReserveOf, without its division unless it is close.
bool Auction::ReachesReserve(uint32_t ad) const {
  const AuctionAd& a = (*ads_)[ad];
  const int64_t bid = a.bid_micros;
  const int64_t reserve = std::max(reserve_, a.reserve_micros);
  const bool weighted =
      options_.reserve_kind == v1::RankConfig::QUALITY_WEIGHTED;
  const bool by_score = weighted || a.bid_type == v1::BID_TYPE_CPM;
  if (!by_score || reserve == 0) return bid >= std::max<int64_t>(1, reserve);
  if (bid == 0) return false;
  const double weight = weighted ? WeightOf(ad) : 1.0;
  const double had = static_cast<double>(bid) * weight;
  const double needed = static_cast<double>(reserve) * options_.mean_pctr;
  if (had > needed * kApart) return true;
  if (needed > had * kApart) return false;
  return CompareProducts(bid, weight, reserve, options_.mean_pctr) >= 0;
}

// ---- scores ----

void Auction::ComputeScores() {
  const AuctionAds& ads = *ads_;
  const size_t n = ads.size();
  scores_.resize(n);
  const bool per_click = options_.reserve_kind == v1::RankConfig::PER_CLICK;
  plain_ = ads.plain_ && options_.alpha == 1;
  const bool one_reserve = ads.plain_ && (per_click || reserve_ == 0);
  const int64_t reserve = one_reserve ? std::max<int64_t>(1, reserve_) : 1;
  if (plain_) {
    PlainScores(ads.bids_.data(), pctr_.data(), reserve, n, scores_.data());
  } else {
    weights_.resize(n);
    Weights(pctr_.data(), ads.quality_.data(), ads.per_impression_.data(),
            options_.alpha, scale_, n, weights_.data());
    Scores(ads.bids_.data(), weights_.data(), reserve, n, scores_.data());
  }
  if (!one_reserve) DropBelowReserve();
}

void Auction::DropBelowReserve() {
  for (uint32_t i = 0; i < scores_.size(); ++i) {
    if (!ReachesReserve(i)) scores_[i] = -1;
  }
}

// ---- order ----

// At least `want` scores (or all that reach the reserve: then 0) are not below
// the result, and all that are below it stand surely behind those. Of strided
// lanes only the maxima are looked at: `want` of them are `want` scores.
double Auction::CutFor(size_t want) {
  constexpr size_t kLanes = 64;  // 8 registers of AVX-512
  const size_t n = scores_.size();
  size_t lanes = kLanes;
  while (lanes < 4 * want) lanes *= 2;
  lanes = std::min(lanes, n);
  if (lanes < want) return 0;
  maxima_.resize(lanes);
  LaneMaxima(scores_.data(), n, lanes, maxima_.data());
  const auto last = maxima_.begin() + static_cast<ptrdiff_t>(want) - 1;
  std::nth_element(maxima_.begin(), last, maxima_.end(),
                   std::greater<double>());
  return *last < 0 ? 0 : *last / kApart;
}

// Puts the first `want` ads of the placement's order into order_.
void Auction::SelectTop(size_t want) {
  const double cut = CutFor(want);
  order_.clear();
  for (uint32_t i = 0; i < scores_.size(); ++i) {
    if (scores_[i] >= cut) order_.push_back({scores_[i], i});
  }
  const auto before = [this](const Entry& a, const Entry& b) {
    return Before(a, b);
  };
  complete_ = cut == 0;
  if (complete_ || order_.size() <= want) {
    std::sort(order_.begin(), order_.end(), before);
    return;
  }
  std::partial_sort(order_.begin(),
                    order_.begin() + static_cast<ptrdiff_t>(want), order_.end(),
                    before);
  order_.resize(want);
}

// The ad at `rank` of the order; null past its end. Limits, labels and used ads
// may eat up what was selected.
const Auction::Entry* Auction::At(size_t rank) {
  while (rank >= order_.size() && !complete_) SelectTop(4 * order_.size());
  return rank < order_.size() ? &order_[rank] : nullptr;
}

void Auction::Prepare(const AuctionPlacement& placement) {
  const int64_t reserve = std::max<int64_t>(0, placement.reserve_micros);
  const bool same = pctr_.data() == placement.pctr.data() &&
                    pctr_.size() == placement.pctr.size() &&
                    reserve == reserve_;
  if (same) return;
  pctr_ = placement.pctr;
  reserve_ = reserve;
  ComputeScores();
  MarkReached(scores_.data(), scores_.size(), reached_.data());
  // The ads shown before, this placement's and the one that sets the last
  // price; some more, as siblings, limits and labels skip ads.
  constexpr size_t kSpare = 4;
  size_t want = total_slots_ + 1 + kSpare;
  if (options_.policy != nullptr) want += options_.policy->lookahead();
  SelectTop(want);
}

}  // namespace adrank
