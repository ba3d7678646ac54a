// Allocation and prices of one request's slots: a pure function.
#ifndef ADRANK_SERVER_RANK_AUCTION_H_
#define ADRANK_SERVER_RANK_AUCTION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/common.pb.h"

namespace adrank {

// Largest bid and reserve the auction computes with exactly.
inline constexpr int64_t kMaxBidMicros = int64_t{1} << 62;

struct AuctionAd {
  absl::string_view ad_id;  // distinct among the candidates
  // Equal for ads of one advertiser; kNoAdvertiser: unknown, an advertiser of
  // its own, never limited.
  static constexpr uint32_t kNoAdvertiser = 0xffffffffu;
  uint32_t advertiser = kNoAdvertiser;
  int64_t bid_micros = 0;  // [1, kMaxBidMicros]; 0: takes no part
};

struct AuctionPlacement {
  uint32_t slots = 1;
  // A price per click: ads that bid less are not shown here. Below 1 is 1.
  int64_t reserve_micros = 0;
  // Click probability of each candidate here, in [0, 1]; the same array for
  // placements that share scores (that saves a sort). [ads]
  absl::Span<const float> pctr;
};

struct AuctionOptions {
  // Ads of one advertiser over all placements. 0: unlimited.
  uint32_t max_ads_per_advertiser = 0;
  // Breaks ties; Hash64 of the request id.
  uint64_t tie_salt = 0;
};

enum class PriceSetter : uint8_t {
  kReserve,    // the placement's reserve (or 1 micro)
  kNextScore,  // the score of the ad that would have been shown instead
};

struct AuctionSlot {
  uint32_t ad = 0;  // index into the candidates
  uint32_t placement = 0;
  uint32_t position_in_placement = 1;  // 1-based
  int64_t price_micros = 0;            // of one click; reserve <= price <= bid
  double score = 0;                    // bid_micros x pctr, rounded
  PriceSetter price_setter = PriceSetter::kReserve;
  uint32_t next_ad = 0;  // for kNextScore
};

struct AuctionResult {
  // By placement, then position.
  std::vector<AuctionSlot> slots;
  // [placements] UNSPECIFIED when full; BELOW_RESERVE when ads are left that
  // only bid too little; else EXHAUSTED.
  std::vector<v1::NoAdReason> short_reason;
  // Ads that reach the lowest reserve of the placements.
  uint32_t above_reserve = 0;
};

// Greedy allocation with GSP prices (Edelman, Ostrovsky, Schwarz 2007; Varian
// 2007), the standard score bid x pctr.
//
// Order of the candidates in a placement, strict and total: score (the exact
// product), pctr, Hash64(ad_id, tie_salt), ad_id, larger first save for the id.
//
// Slots are filled in the order of placements, then positions. A slot takes the
// first ad in the placement's order that is *available*: not shown in an
// earlier slot, bid >= reserve, and its advertiser has fewer than
// max_ads_per_advertiser ads in earlier slots.
//
// Price of winner i of a slot: let j be the first other ad in the order that
// was available for this slot and belongs to another advertiser than i (an ad
// never pays because of its own sibling). Then
//   price_i = max(reserve, ceil(bid_j x pctr_j / pctr_i))   in exact
//   arithmetic,
// the least whole number of micros with which i would still stand before j; or
// the reserve when there is no such j (or pctr_i is 0). As j stands behind i,
// reserve <= price_i <= bid_i without any clipping.
//
// Consequences, each a test: the result does not depend on the order of the
// candidates; a higher bid never loses a slot; the price of a slot does not
// depend on its winner's bid; with one reserve the price never falls when the
// own bid or the competition of other advertisers rises; scaling bids and
// reserves by a whole number c scales prices by c up to the rounding to whole
// micros.
//
// One thread at a time per object; it only holds scratch. No allocation after
// warm-up. Time: one pass over the candidates and a few comparisons a slot.
class Auction {
 public:
  void Run(absl::Span<const AuctionAd> ads,
           absl::Span<const AuctionPlacement> placements,
           const AuctionOptions& options, AuctionResult* result);

 private:
  struct Entry {
    double score;
    uint32_t ad;
  };

  bool Before(const Entry& a, const Entry& b) const;
  bool BeforeExactly(uint32_t a, uint32_t b) const;
  bool Available(uint32_t ad) const;
  Entry EntryOf(uint32_t ad) const;
  void Insert(const Entry& entry, size_t want);
  void SelectTop(size_t want);
  void SortAll();
  const Entry* At(size_t rank);
  const Entry* FindAvailable(size_t* rank, const AuctionAd* winner);
  void Prepare(const AuctionPlacement& placement);
  void FillPlacement(uint32_t p, const AuctionPlacement& placement,
                     AuctionResult* result);
  void SetPrice(const Entry* next, AuctionSlot* slot) const;
  v1::NoAdReason ShortReason() const;

  absl::Span<const AuctionAd> ads_;
  AuctionOptions options_;
  size_t total_slots_ = 0;
  // Of the placement being filled.
  absl::Span<const float> pctr_;
  int64_t reserve_ = 0;
  // The first ads of the placement's order among those that reach the reserve;
  // all of them when complete_.
  std::vector<Entry> order_;
  bool complete_ = true;

  std::vector<uint8_t> used_;    // [ads] shown in an earlier slot
  std::vector<uint32_t> shown_;  // advertiser of each ad shown so far
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_AUCTION_H_
