// The slow twin of server/rank/auction: its header, transcribed. Products of
// bids (up to 2^60) and weights have 113 bits at most, which __float128 holds,
// so that it is exact without the auction's arithmetic.
#ifndef ADRANK_TESTS_SERVER_AUCTION_ORACLE_H_
#define ADRANK_TESTS_SERVER_AUCTION_ORACLE_H_

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/rng.h"
#include "server/rank/auction.h"
#include "server/rank/score_kernels.h"

namespace adrank::testing {

using Exact = __float128;

struct OracleAd {
  std::string id;
  uint32_t advertiser = AuctionAd::kNoAdvertiser;
  int64_t bid = 1;
  bool cpm = false;
  float quality = 1;
  int64_t reserve = 0;
  std::vector<uint64_t> labels;
};

struct OracleSlots {
  uint32_t count = 1;
  int64_t reserve = 0;
  size_t pctr_set = 0;
};

struct AuctionInstance {
  std::vector<OracleAd> ads;
  std::vector<OracleSlots> placements;
  std::vector<std::vector<float>> pctr;  // [sets][ads]
  AuctionOptions options;
  // Of the slots in the order of filling: which available ad takes them.
  // Empty, or beyond: the first.
  std::vector<size_t> choices;
};

inline AuctionAds AdsOf(const AuctionInstance& in) {
  std::vector<AuctionAd> ads;
  for (const OracleAd& ad : in.ads) {
    AuctionAd& out = ads.emplace_back();
    out.ad_id = ad.id;
    out.advertiser = ad.advertiser;
    out.bid_micros = ad.bid;
    out.bid_type = ad.cpm ? v1::BID_TYPE_CPM : v1::BID_TYPE_CPC;
    out.quality = ad.quality;
    out.reserve_micros = ad.reserve;
    out.labels = ad.labels;
  }
  return AuctionAds(ads);
}

// Takes in.choices; asks for more than it takes, as policies do.
class ListedChoices : public SlotPolicy {
 public:
  explicit ListedChoices(const std::vector<size_t>& choices)
      : choices_(choices) {}
  SlotDecision Choose(SlotChoices* slot) override {
    const size_t wanted = next_ < choices_.size() ? choices_[next_] : 0;
    ++next_;
    slot->Best(1);
    const size_t available = slot->Best(wanted + 2).size();
    return {std::min(wanted, available - 1), 0.25f};
  }

 private:
  const std::vector<size_t>& choices_;
  size_t next_ = 0;
};

inline AuctionResult Sell(const AuctionInstance& in, Auction* auction) {
  std::vector<AuctionPlacement> placements;
  for (const OracleSlots& s : in.placements) {
    placements.push_back({s.count, s.reserve, in.pctr[s.pctr_set]});
  }
  AuctionOptions options = in.options;
  ListedChoices policy(in.choices);
  if (!in.choices.empty()) options.policy = &policy;
  AuctionResult result;
  const AuctionAds ads = AdsOf(in);
  auction->Run(ads, placements, options, &result);
  return result;
}

inline AuctionResult Sell(const AuctionInstance& in) {
  Auction auction;
  return Sell(in, &auction);
}

class AuctionOracle {
 public:
  explicit AuctionOracle(const AuctionInstance& in) : in_(in) {}

  AuctionResult Run() {
    AuctionResult result;
    std::set<size_t> reached;
    size_t filled = 0;
    for (size_t p = 0; p < in_.placements.size(); ++p) {
      for (size_t i = 0; i < in_.ads.size(); ++i) {
        if (Reaches(i, p)) reached.insert(i);
      }
      result.short_reason.push_back(v1::NO_AD_REASON_UNSPECIFIED);
      for (uint32_t s = 0; s < in_.placements[p].count; ++s) {
        const std::vector<size_t> order = Available(p);
        if (order.empty()) {
          result.short_reason[p] = AnyBelow(p) ? v1::NO_AD_REASON_BELOW_RESERVE
                                               : v1::NO_AD_REASON_EXHAUSTED;
          break;
        }
        const size_t wanted =
            filled < in_.choices.size() ? in_.choices[filled] : 0;
        ++filled;
        const size_t choice = std::min(wanted, order.size() - 1);
        result.slots.push_back(Fill(p, s, order, choice));
        shown_.push_back(order[choice]);
      }
    }
    result.above_reserve = static_cast<uint32_t>(reached.size());
    return result;
  }

  double Weight(size_t i, size_t p) const {
    const AuctionOptions& o = in_.options;
    const auto quality = static_cast<double>(in_.ads[i].quality);
    if (in_.ads[i].cpm) return quality;
    const auto q = static_cast<double>(Pctr(i, p));
    if (o.alpha == 1) return q * quality;
    return Power(q, o.alpha) * Power(o.mean_pctr, 1 - o.alpha) * quality;
  }

  Exact Score(size_t i, size_t p) const { return in_.ads[i].bid * Wide(i, p); }

  int64_t Reserve(size_t i, size_t p) const {
    const int64_t r =
        std::max({int64_t{0}, in_.placements[p].reserve, in_.ads[i].reserve});
    const bool weighted =
        in_.options.reserve_kind == v1::RankConfig::QUALITY_WEIGHTED;
    if (r == 0 || (!in_.ads[i].cpm && !weighted)) {
      return std::max<int64_t>(1, r);
    }
    const Exact weight = weighted ? Wide(i, p) : 1;
    return std::max<int64_t>(
        1, Ceil(r * static_cast<Exact>(in_.options.mean_pctr), weight));
  }

 private:
  float Pctr(size_t i, size_t p) const {
    return in_.pctr[in_.placements[p].pctr_set][i];
  }
  Exact Wide(size_t i, size_t p) const { return Weight(i, p); }

  // The least whole b with b x own >= score.
  static int64_t Ceil(Exact score, Exact own) {
    if (score == 0) return 0;
    const Exact quotient = score / own;  // inf for 0
    if (!(quotient < Exact(kMaxBidMicros))) return kMaxBidMicros + 1;
    auto b = static_cast<int64_t>(quotient);
    while (b > 0 && (b - 1) * own >= score) --b;
    while (b * own < score) ++b;
    return b;
  }

  bool Reaches(size_t i, size_t p) const {
    return in_.ads[i].bid >= Reserve(i, p);
  }

  bool Fits(size_t i) const {
    uint32_t siblings = 0;
    for (const size_t j : shown_) {
      if (i == j || ShareLabel(i, j)) return false;
      siblings += Siblings(i, j);
    }
    const uint32_t limit = in_.options.max_ads_per_advertiser;
    return limit == 0 || siblings < limit;
  }

  bool Siblings(size_t i, size_t j) const {
    return in_.ads[i].advertiser == in_.ads[j].advertiser &&
           in_.ads[i].advertiser != AuctionAd::kNoAdvertiser;
  }

  bool ShareLabel(size_t i, size_t j) const {
    for (const uint64_t label : in_.ads[i].labels) {
      for (const uint64_t other : in_.ads[j].labels) {
        if (label == other) return true;
      }
    }
    return false;
  }

  bool Before(size_t a, size_t b, size_t p) const {
    const auto key = [&](size_t i) {
      return std::make_tuple(-Score(i, p), -Pctr(i, p),
                             ~Hash64(in_.ads[i].id, in_.options.tie_salt),
                             in_.ads[i].id);
    };
    return key(a) < key(b);
  }

  std::vector<size_t> Available(size_t p) const {
    std::vector<size_t> order;
    for (size_t i = 0; i < in_.ads.size(); ++i) {
      if (Fits(i) && in_.ads[i].bid > 0 && Reaches(i, p)) order.push_back(i);
    }
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return Before(a, b, p); });
    return order;
  }

  bool AnyBelow(size_t p) const {
    for (size_t i = 0; i < in_.ads.size(); ++i) {
      if (Fits(i) && in_.ads[i].bid > 0 && !Reaches(i, p)) return true;
    }
    return false;
  }

  AuctionSlot Fill(size_t p, uint32_t s, const std::vector<size_t>& order,
                   size_t choice) {
    const size_t i = order[choice];
    AuctionSlot slot;
    slot.ad = static_cast<uint32_t>(i);
    slot.placement = static_cast<uint32_t>(p);
    slot.position_in_placement = s + 1;
    slot.bid_micros = in_.ads[i].bid;
    slot.reserve_micros = Reserve(i, p);
    slot.score = static_cast<double>(Score(i, p));
    slot.explored = choice > 0;
    slot.propensity = in_.choices.empty() ? 1.0f : 0.25f;
    if (in_.options.pricing == v1::RankConfig::FIRST_PRICE) {
      slot.price_micros = slot.bid_micros;
      slot.price_setter = PriceSetter::kOwnBid;
      return slot;
    }
    const std::optional<size_t> next = Next(i, p);
    const int64_t threshold = Threshold(i, next, p);
    slot.price_micros = threshold;
    if (threshold == slot.reserve_micros) return slot;
    slot.price_setter = PriceSetter::kNextScore;
    slot.next_ad = static_cast<uint32_t>(*next);
    if (in_.options.pricing != v1::RankConfig::VCG) return slot;
    slot.price_micros = Vcg(i, p, s);
    slot.price_setter = slot.price_micros > slot.reserve_micros
                            ? PriceSetter::kDisplaced
                            : PriceSetter::kReserve;
    return slot;
  }

  // The first available ad behind i and of another advertiser.
  std::optional<size_t> Next(size_t i, size_t p) const {
    for (const size_t j : Available(p)) {
      if (j != i && !Siblings(i, j) && Before(i, j, p)) return j;
    }
    return std::nullopt;
  }

  int64_t Threshold(size_t i, std::optional<size_t> next, size_t p) const {
    const int64_t reserve = Reserve(i, p);
    if (!next.has_value() || Weight(i, p) == 0) return reserve;
    return std::max(reserve, Ceil(Score(*next, p), Wide(i, p)));
  }

  uint64_t Effect(uint32_t slot) const {
    const auto& given = in_.options.position_effects;
    if (given != nullptr && slot < given->size()) return (*given)[slot];
    if (slot == 0) return kFullEffect;
    return std::max<uint64_t>(1, Effect(slot - 1) / 10 * 7);
  }

  int64_t Vcg(size_t i, size_t p, uint32_t s) {
    const std::vector<size_t> before = shown_;
    unsigned __int128 sum = 0;
    const uint32_t slots = in_.placements[p].count;
    for (uint32_t k = s; k < slots; ++k) {
      const std::optional<size_t> next = Next(i, p);
      const bool shut = next.has_value() && ShareLabel(i, *next);
      const bool last = k + 1 == slots || shut;
      const uint64_t below = last ? 0 : Effect(k + 1);
      // At the reserve nobody is in the way any more.
      const int64_t threshold = Threshold(i, next, p);
      const bool free = threshold == Reserve(i, p);
      sum += static_cast<unsigned __int128>(Effect(k) - (free ? 0 : below)) *
             static_cast<unsigned __int128>(threshold);
      if (free || last) break;
      shown_.push_back(*next);
    }
    shown_ = before;
    return static_cast<int64_t>((sum + Effect(s) - 1) / Effect(s));
  }

  const AuctionInstance& in_;
  std::vector<size_t> shown_;
};

inline std::string Print(const AuctionInstance& in) {
  const AuctionOptions& o = in.options;
  std::string text = absl::StrCat(
      "limit ", o.max_ads_per_advertiser, " pricing ",
      v1::RankConfig::Pricing_Name(o.pricing), " alpha ", o.alpha, " reserves ",
      v1::RankConfig::ReserveKind_Name(o.reserve_kind), " mean ", o.mean_pctr,
      " salt ", o.tie_salt);
  for (const OracleSlots& s : in.placements) {
    absl::StrAppend(&text, "\nplacement ", s.count, " slots, reserve ",
                    s.reserve, ", pctrs ", s.pctr_set);
  }
  for (size_t i = 0; i < in.ads.size(); ++i) {
    const OracleAd& ad = in.ads[i];
    absl::StrAppend(&text, "\n", ad.id, " of ", ad.advertiser, " bid ", ad.bid,
                    ad.cpm ? " cpm" : " cpc", " quality ", ad.quality,
                    " reserve ", ad.reserve, " labels");
    for (const uint64_t label : ad.labels) absl::StrAppend(&text, " ", label);
    for (const auto& set : in.pctr) absl::StrAppend(&text, " pctr ", set[i]);
  }
  return text;
}

// What RandomInstance may vary.
struct InstanceKind {
  bool labels = true, types = true, own_reserves = true, policy = false;
  bool one_order = false;          // one pctr array, one reserve
  bool one_ad_advertiser = false;  // all ads of different advertisers
  size_t max_ads = 20;
};

// Small numbers, so that ties of every kind occur.
inline AuctionInstance RandomAuction(const InstanceKind& kind, Rng* rng) {
  AuctionInstance in;
  const size_t n = rng->Below(kind.max_ads + 1);
  const int64_t max_bid = rng->Bernoulli(0.5) ? 6 : 1000000;
  const uint64_t max_pctr = rng->Bernoulli(0.5) ? 4 : 1024;
  const bool types = kind.types && rng->Bernoulli(0.7);
  const bool labels = kind.labels && rng->Bernoulli(0.7);
  const auto below = [&](int64_t bound) {
    return static_cast<int64_t>(rng->Below(static_cast<uint64_t>(bound)));
  };
  for (size_t i = 0; i < n; ++i) {
    OracleAd& ad = in.ads.emplace_back();
    ad.id = absl::StrCat("ad", i);
    ad.advertiser = kind.one_ad_advertiser ? static_cast<uint32_t>(i)
                    : rng->Bernoulli(0.1)
                        ? AuctionAd::kNoAdvertiser
                        : static_cast<uint32_t>(rng->Below(6));
    ad.bid = 1 + below(max_bid);
    if (rng->Bernoulli(0.03)) ad.bid = 0;
    if (types) {
      constexpr float kQualities[] = {1, 1, 0.5f, 2, 100, 1e-3f};
      ad.cpm = rng->Bernoulli(0.3);
      ad.quality = kQualities[rng->Below(6)];
    }
    if (kind.own_reserves && rng->Bernoulli(0.2)) ad.reserve = below(max_bid);
    for (int l = 0; labels && l < 2; ++l) {
      if (rng->Bernoulli(0.4)) ad.labels.push_back(rng->Below(5));
    }
    std::sort(ad.labels.begin(), ad.labels.end());
    ad.labels.erase(std::unique(ad.labels.begin(), ad.labels.end()),
                    ad.labels.end());
  }
  for (int set = 0; set < 2; ++set) {
    std::vector<float>& pctr = in.pctr.emplace_back();
    for (size_t i = 0; i < n; ++i) {
      pctr.push_back(static_cast<float>(rng->Below(max_pctr + 1)) / 1024);
    }
  }
  for (uint64_t p = 1 + rng->Below(3); p > 0; --p) {
    in.placements.push_back({static_cast<uint32_t>(1 + rng->Below(5)),
                             below(max_bid), rng->Below(2)});
    if (!kind.one_order) continue;
    in.placements.back().pctr_set = 0;
    in.placements.back().reserve = in.placements[0].reserve;
  }
  AuctionOptions& o = in.options;
  constexpr double kAlphas[] = {1, 1, 1, 0, 0.5, 0.25, 1.5, 2};
  o.max_ads_per_advertiser = static_cast<uint32_t>(rng->Below(4));
  o.tie_salt = (*rng)();
  o.alpha = kAlphas[rng->Below(8)];
  if (rng->Bernoulli(0.3)) o.reserve_kind = v1::RankConfig::QUALITY_WEIGHTED;
  if (rng->Bernoulli(0.5)) o.mean_pctr = rng->Bernoulli(0.5) ? 0.5 : 0.125;
  if (rng->Bernoulli(0.5)) {
    std::vector<uint64_t> effects;
    uint64_t effect = kFullEffect;
    for (uint64_t k = 1 + rng->Below(5); k > 0; --k) {
      effects.push_back(effect);
      effect = 1 + rng->Below(effect);
    }
    o.position_effects =
        std::make_shared<const std::vector<uint64_t>>(std::move(effects));
  }
  constexpr v1::RankConfig::Pricing kPricings[] = {
      v1::RankConfig::GSP, v1::RankConfig::VCG, v1::RankConfig::FIRST_PRICE};
  o.pricing = kPricings[rng->Below(3)];
  if (kind.policy) {
    for (int s = 0; s < 15; ++s) in.choices.push_back(rng->Below(5));
  }
  return in;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_AUCTION_ORACLE_H_
