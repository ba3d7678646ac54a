// Allocation and prices of one request's slots: a pure function.
#ifndef ADRANK_SERVER_RANK_AUCTION_H_
#define ADRANK_SERVER_RANK_AUCTION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "proto/common.pb.h"
#include "server/rank/auction_ads.h"
#include "server/rank/slot_policy.h"

namespace adrank {

enum class PriceSetter : uint8_t {
  kReserve,    // the ad's reserve (or 1 micro)
  kNextScore,  // GSP: the score of the ad that would have been shown instead
  kDisplaced,  // VCG: what the ad keeps others from
  kOwnBid,     // FIRST_PRICE
};

struct AuctionSlot {
  uint32_t ad = 0;  // index into the candidates
  uint32_t placement = 0;
  uint32_t position_in_placement = 1;  // 1-based
  // Of one billable event; reserve_micros <= price_micros <= bid_micros.
  int64_t price_micros = 0;
  int64_t bid_micros = 0;      // AuctionAd's
  int64_t reserve_micros = 0;  // of this ad here, for one billable event
  double score = 0;            // bid_micros x weight, rounded
  PriceSetter price_setter = PriceSetter::kReserve;
  // For kNextScore and kDisplaced: the (first) ad displaced.
  uint32_t next_ad = 0;
  double next_score = 0;
  // AuctionOptions.policy's; without one 1 and false.
  float propensity = 1;
  bool explored = false;  // the order's first available ad was passed over
};

struct AuctionResult {
  // By placement, then position.
  std::vector<AuctionSlot> slots;
  // [placements] UNSPECIFIED when full; BELOW_RESERVE when ads are left that
  // only bid too little; else EXHAUSTED.
  std::vector<v1::NoAdReason> short_reason;
  // Ads that reach their reserve in at least one placement.
  uint32_t above_reserve = 0;
};

// Score. Each ad has a bid for one billable event and, in each placement, a
// weight:
//   score = bid x weight, the expected micros of an impression;
//   weight = quality x pctr^alpha x mean_pctr^(1 - alpha)   sold by the click,
//   weight = quality                                        sold by impression.
// The power of alpha squashes pctr (Lahaie and Pennock 2007) towards
// mean_pctr, which leaves the unit alone: among ads sold by the click the order
// is that of bid x pctr^alpha x quality, and one sold by impression stands
// where an average ad (pctr = mean_pctr) of the same revenue per impression
// stands. With alpha 1 (and any quality) a weight is exact; else it is what
// Power computes, the same on every machine. Products of bids and weights are
// compared and divided exactly in every case.
//
// Order of the candidates in a placement, strict and total: score, pctr,
// Hash64(ad_id, tie_salt), ad_id, larger first save for the id.
//
// Reserve of an ad in a placement, R being the larger of the placement's and
// the advertiser's, for one billable event, rounded up, at least 1:
//                     sold by the click             sold by impression
//   PER_CLICK         R                             R mean_pctr
//   QUALITY_WEIGHTED  R mean_pctr / weight          R mean_pctr / quality
// An ad whose bid is below its reserve is not shown.
//
// Allocation (greedy). Slots are filled in the order of placements, then
// positions. A slot takes the first ad in the placement's order that is
// *available*: not shown in an earlier slot, bid >= reserve, its advertiser has
// fewer than max_ads_per_advertiser ads in earlier slots, and none of its
// exclusion labels is one of an ad in an earlier slot. Or the available ad that
// AuctionOptions.policy chooses (slot_policy.h).
//
// Price of winner i of a slot. Let j be the first ad behind i in the order that
// was available for the slot and belongs to another advertiser than i (an ad
// never pays because of its own sibling).
//   GSP (Edelman, Ostrovsky, Schwarz 2007; Varian 2007):
//     T = max(reserve_i, least whole b with b x weight_i >= score_j);
//     the reserve when there is no j, or weight_i is 0. T is the least bid with
//     which i is not behind j.
//   VCG: let T_k be the T of i at slot k of its placement were i not shown
//     above: its own slot s and those below are filled greedily without i and
//     its siblings, and j_k is who takes slot k then. With the position effects
//     x_1 >= x_2 >= ... and x = 0 beyond the last slot,
//       price = sum over k >= s of (x_k - x_{k+1}) T_k / x_s,
//     rounded up to whole micros, in exact arithmetic. If j_k shares a label
//     with i, there is no slot below k for i, and x_{k+1} counts as 0.
//     Without labels this is the externality (Varian 2007; sum over the
//     displaced of bid x weight x the loss of effect, over x_s weight_i) with
//     reserves; in general it is the payment that makes bidding the value
//     optimal for the greedy allocation (Myerson 1981), as far as one placement
//     and one ad an advertiser goes. A weighted mean of falling thresholds, so
//     price <= the GSP price at the same bids, and equal for the last slot.
//   FIRST_PRICE: the bid.
// As j stands behind i, reserve <= price <= bid without any clipping.
//
// Consequences, each a test in tests/server/auction_*test.cc: the result does
// not depend on the order of the candidates; a higher bid never loses a slot;
// the price of a slot does not depend on its winner's bid; with one order for
// all slots the price never falls when the own bid rises (VCG: in one placement,
// without siblings), and GSP's not when another advertiser's ad joins; scaling
// bids and reserves by a whole number c scales prices by c up to the rounding to
// whole micros.
//
// One thread at a time per object; it only holds scratch. No allocation after
// warm-up. Time: one pass over the candidates and a few comparisons a slot.
class Auction {
 public:
  void Run(const AuctionAds& ads, absl::Span<const AuctionPlacement> placements,
           const AuctionOptions& options, AuctionResult* result);

 private:
  friend class SlotChoices;
  struct Entry {
    double score;
    uint32_t ad;
  };
  // Sizes of the lists of what is shown.
  struct Shown {
    size_t ads, advertisers, labels;
  };

  // ---- order ----
  double WeightOf(uint32_t ad) const;
  bool Before(const Entry& a, const Entry& b) const;
  bool BeforeExactly(uint32_t a, uint32_t b) const;
  void Prepare(const AuctionPlacement& placement);
  void ComputeScores();
  void DropBelowReserve();
  double CutFor(size_t want);
  void SelectTop(size_t want);
  const Entry* At(size_t rank);

  // ---- reserves ----
  bool ReachesReserve(uint32_t ad) const;

  // ---- allocation ----
  bool SharesLabel(uint32_t a, uint32_t b) const;
  bool Available(uint32_t ad) const;
  const Entry* FindAvailable(size_t* rank, const AuctionAd* winner);
  absl::Span<const SlotChoice> BestChoices(size_t n);
  void Take(uint32_t ad);
  void UndoTo(const Shown& mark);
  Shown Mark() const;
  size_t ChooseRank(size_t first, AuctionSlot* slot);
  void FillPlacement(uint32_t p, const AuctionPlacement& placement,
                     AuctionResult* result);
  v1::NoAdReason ShortReason() const;

  // ---- prices ----
  int64_t Threshold(const AuctionSlot& slot, const Entry* next) const;
  void SetPrice(size_t rank, uint32_t slots, AuctionSlot* slot);
  int64_t DisplacementPrice(size_t rank, uint32_t slots, AuctionSlot* slot);
  void SetEffects(absl::Span<const AuctionPlacement> placements);

  const AuctionAds* ads_ = nullptr;
  AuctionOptions options_;
  double scale_ = 1;  // mean_pctr^(1 - alpha)
  size_t total_slots_ = 0;

  // Of the placement being filled.
  absl::Span<const float> pctr_;
  int64_t reserve_ = 0;
  bool plain_ = true;            // weights are pctrs
  std::vector<double> weights_;  // [ads] unless plain_
  std::vector<double> scores_;   // [ads] negative: below the reserve
  // The first ads of the placement's order among those that reach the reserve;
  // all of them when complete_.
  std::vector<Entry> order_;
  bool complete_ = true;
  std::vector<double> maxima_;

  std::vector<uint8_t> reached_;       // [ads] a reserve, in some placement
  std::vector<uint8_t> used_;          // [ads] shown in an earlier slot
  std::vector<uint32_t> shown_;        // the ads shown so far
  std::vector<uint32_t> advertisers_;  // theirs, where known
  std::vector<uint64_t> labels_;       // theirs
  size_t first_rank_ = 0;              // of the slot a policy decides on
  std::vector<SlotChoice> choices_;    // of that slot
  std::vector<size_t> choice_ranks_;   // theirs
  std::vector<uint64_t> effects_;      // of VCG, by position from 0
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_AUCTION_H_
