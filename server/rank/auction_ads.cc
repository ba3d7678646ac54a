#include "server/rank/auction_ads.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/rank/score_kernels.h"

namespace adrank {
namespace {

// floor(bid x factor) in doubles; in [1, bid]. REQUIRES: bid >= 1, factor >= 0.
int64_t Scaled(int64_t bid, double factor) {
  if (factor >= 1) return bid;
  const double scaled = static_cast<double>(bid) * factor;
  // Below 2^62, so the cast is defined; doubles round up past the bid itself.
  return std::clamp<int64_t>(static_cast<int64_t>(scaled), 1, bid);
}

absl::Status Wrong(absl::string_view field, double value,
                   absl::string_view range) {
  return absl::InvalidArgumentError(
      absl::StrCat("rank.", field, ": ", value, " not in ", range));
}

absl::StatusOr<std::shared_ptr<const std::vector<uint64_t>>> Effects(
    const google::protobuf::RepeatedField<double>& effects) {
  std::vector<uint64_t> units;
  double previous = 1;
  for (int i = 0; i < effects.size(); ++i) {
    const std::string field = absl::StrCat("position_effects[", i, "]");
    if (!(effects[i] > 0 && effects[i] <= 1)) {
      return Wrong(field, effects[i], "(0, 1]");
    }
    if (effects[i] > previous) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank.", field, ": ", effects[i],
                       " exceeds the one before, ", previous));
    }
    previous = effects[i];
    units.push_back(std::max<uint64_t>(
        1,
        static_cast<uint64_t>(effects[i] * static_cast<double>(kFullEffect))));
  }
  if (units.empty()) return nullptr;
  return std::make_shared<const std::vector<uint64_t>>(std::move(units));
}

}  // namespace

int64_t EventBid(v1::BidType type, int64_t bid_micros, double conversion_rate,
                 float pacing_multiplier) {
  if (bid_micros <= 0) return 0;
  int64_t bid = bid_micros;
  if (type == v1::BID_TYPE_CPM) bid = std::max<int64_t>(1, bid / 1000);
  if (type == v1::BID_TYPE_CPA) bid = Scaled(bid, conversion_rate);
  return Scaled(bid, static_cast<double>(pacing_multiplier));
}

AuctionAds::AuctionAds(absl::Span<const AuctionAd> ads) {
  Resize(ads.size());
  for (size_t i = 0; i < ads.size(); ++i) Set(i, ads[i]);
}

void AuctionAds::Resize(size_t n) {
  ads_.resize(n);
  bids_.resize(n);
  quality_.resize(n);
  per_impression_.resize(n);
  plain_ = true;
}

void AuctionAds::Set(size_t i, const AuctionAd& ad) {
  const bool cpm = ad.bid_type == v1::BID_TYPE_CPM;
  ads_[i] = ad;
  bids_[i] = ad.bid_micros;
  quality_[i] = ad.quality;
  per_impression_[i] = cpm ? 1.0f : 0.0f;
  if (cpm || ad.quality != 1 || ad.reserve_micros > 0) plain_ = false;
}

double WeightOf(const AuctionAd& ad, float pctr,
                const AuctionOptions& options) {
  const auto quality = static_cast<double>(ad.quality);
  if (ad.bid_type == v1::BID_TYPE_CPM) return quality;
  const auto q = static_cast<double>(pctr);
  if (options.alpha == 1) return q * quality;
  return Power(q, options.alpha) * Power(options.mean_pctr, 1 - options.alpha) *
         quality;
}

double ScoreOf(const AuctionAd& ad, float pctr, const AuctionOptions& options) {
  return static_cast<double>(ad.bid_micros) * WeightOf(ad, pctr, options);
}

int64_t ReserveOf(const AuctionAd& ad, double weight, int64_t reserve_micros,
                  const AuctionOptions& options) {
  const int64_t reserve = std::max(reserve_micros, ad.reserve_micros);
  if (reserve <= 0) return 1;
  const bool weighted =
      options.reserve_kind == v1::RankConfig::QUALITY_WEIGHTED;
  if (!weighted && ad.bid_type != v1::BID_TYPE_CPM) return reserve;
  return std::max<int64_t>(
      1, LeastBidFor(reserve, options.mean_pctr, weighted ? weight : 1.0));
}

absl::StatusOr<AuctionOptions> AuctionOptions::Create(
    const v1::RankConfig& config) {
  AuctionOptions options;
  options.max_ads_per_advertiser = config.max_ads_per_advertiser();
  if (!v1::RankConfig::Pricing_IsValid(config.pricing())) {
    return Wrong("pricing", config.pricing(), "the known ones");
  }
  if (!v1::RankConfig::ReserveKind_IsValid(config.reserve_kind())) {
    return Wrong("reserve_kind", config.reserve_kind(), "the known ones");
  }
  if (config.pricing() != v1::RankConfig::PRICING_UNSPECIFIED) {
    options.pricing = config.pricing();
  }
  if (config.reserve_kind() != v1::RankConfig::RESERVE_KIND_UNSPECIFIED) {
    options.reserve_kind = config.reserve_kind();
  }
  if (config.has_alpha()) options.alpha = config.alpha();
  if (!(options.alpha >= 0 && options.alpha <= 2)) {
    return Wrong("alpha", options.alpha, "[0, 2]");
  }
  if (config.mean_pctr() != 0) options.mean_pctr = config.mean_pctr();
  if (!(options.mean_pctr >= 1e-6 && options.mean_pctr < 1)) {
    return Wrong("mean_pctr", options.mean_pctr, "[1e-06, 1)");
  }
  auto effects = Effects(config.position_effects());
  if (!effects.ok()) return effects.status();
  options.position_effects = *std::move(effects);
  return options;
}

}  // namespace adrank
