// What takes part in an auction, and under which rules.
#ifndef ADRANK_SERVER_RANK_AUCTION_ADS_H_
#define ADRANK_SERVER_RANK_AUCTION_ADS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/common.pb.h"
#include "proto/server_config.pb.h"
#include "server/rank/exact_product.h"

namespace adrank {

class SlotPolicy;  // server/rank/slot_policy.h

// What an ad offers for one billable event (a click; with CPM an impression):
// CPC the bid, CPM a thousandth of it, CPA bid x conversion_rate; that times
// the pacing multiplier. Each is rounded down to whole micros and is at least
// 1; a multiplier of 1 changes nothing. 0 for a bid of 0.
int64_t EventBid(v1::BidType type, int64_t bid_micros, double conversion_rate,
                 float pacing_multiplier);

struct AuctionAd {
  absl::string_view ad_id;  // distinct among the candidates
  // Equal for ads of one advertiser; kNoAdvertiser: unknown, an advertiser of
  // its own, never limited.
  static constexpr uint32_t kNoAdvertiser = 0xffffffffu;
  uint32_t advertiser = kNoAdvertiser;
  // For one billable event (EventBid). In [1, kMaxBidMicros]; 0: takes no part.
  int64_t bid_micros = 0;
  // CPM: the billable event is an impression; else a click.
  v1::BidType bid_type = v1::BID_TYPE_CPC;
  float quality = 1;  // positive, finite, at most 100
  // The advertiser's own, a price per click. In [0, kMaxBidMicros].
  int64_t reserve_micros = 0;
  // Of its exclusion labels: numbers or hashes, sorted. Owned by the caller.
  absl::Span<const uint64_t> labels;
};

// The candidates as columns, for the pass that looks at all of them. Reused,
// one a thread: no allocation after warm-up.
class AuctionAds {
 public:
  AuctionAds() = default;
  explicit AuctionAds(absl::Span<const AuctionAd> ads);

  // Sets the size; then each ad is to be Set.
  void Resize(size_t n);
  void Set(size_t i, const AuctionAd& ad);

  size_t size() const { return ads_.size(); }
  const AuctionAd& operator[](size_t i) const { return ads_[i]; }

 private:
  friend class Auction;

  std::vector<AuctionAd> ads_;
  std::vector<int64_t> bids_;
  std::vector<float> quality_;
  std::vector<float> per_impression_;  // 1 for CPM, else 0
  // All are click-priced, of quality 1 and without reserves of their own.
  bool plain_ = true;
};

struct AuctionPlacement {
  uint32_t slots = 1;
  // A price per click: ads that bid less are not shown here. Below 1 is 1.
  int64_t reserve_micros = 0;
  // Click probability of each candidate here, in [0, 1]; the same array for
  // placements that share scores (that saves a sort). [ads]
  absl::Span<const float> pctr;
};

// Unit of position effects: 2^60 is 1, "always looked at".
inline constexpr uint64_t kFullEffect = uint64_t{1} << 60;

struct AuctionOptions {
  // Ads of one advertiser over all placements. 0: unlimited.
  uint32_t max_ads_per_advertiser = 0;
  // Breaks ties; Hash64 of the request id.
  uint64_t tie_salt = 0;
  // UNSPECIFIED is GSP.
  v1::RankConfig::Pricing pricing = v1::RankConfig::GSP;
  // Power of pctr in the score, in [0, 2].
  double alpha = 1;
  // UNSPECIFIED is PER_CLICK.
  v1::RankConfig::ReserveKind reserve_kind = v1::RankConfig::PER_CLICK;
  // The pctr of an average ad; in [1e-6, 1).
  double mean_pctr = 0.01;
  // Of VCG, by position in a placement, falling; in (0, kFullEffect]. Beyond
  // the last: the last times 0.7 a position. Null: from kFullEffect.
  std::shared_ptr<const std::vector<uint64_t>> position_effects;
  // Who takes a slot when it is not the first in the order. Null: the first.
  SlotPolicy* policy = nullptr;

  // InvalidArgument names the field of `rank` that is out of range, and the
  // value. tie_salt and policy are the request's.
  static absl::StatusOr<AuctionOptions> Create(const v1::RankConfig& config);
};

// Of an ad whose click probability is `pctr`; see Auction. A score is bid x
// weight.
double WeightOf(const AuctionAd& ad, float pctr, const AuctionOptions& options);
double ScoreOf(const AuctionAd& ad, float pctr, const AuctionOptions& options);
// For one billable event, where the placement's (or server's) reserve per click
// is `reserve_micros`; kMaxBidMicros + 1: no bid is enough. An ad is shown only
// if its bid is not below. REQUIRES: weight is WeightOf the ad.
int64_t ReserveOf(const AuctionAd& ad, double weight, int64_t reserve_micros,
                  const AuctionOptions& options);

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_AUCTION_ADS_H_
