// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/auction_input.h"

#include <optional>
#include <string>

namespace adrank {
namespace {

// Numbers beyond the catalogue's for advertisers it does not know.
uint32_t AdvertiserOf(const AdIndex& index, const std::string& id,
                      RankTrace* trace) {
  if (id.empty()) return AuctionAd::kNoAdvertiser;
  const std::optional<uint32_t> known = index.FindAdvertiser(id);
  if (known.has_value()) return *known;
  const size_t next = index.advertisers() + trace->foreign_advertisers.size();
  return trace->foreign_advertisers.try_emplace(id, static_cast<uint32_t>(next))
      .first->second;
}

AuctionAd AuctionAdOf(const AdIndex& index, const RankCandidate& c,
                      RankTrace* trace) {
  AuctionAd out;
  out.ad_id = c.ad_id;
  if (c.item.ad == PredictItem::kNotIndexed) {
    out.advertiser =
        AdvertiserOf(index, c.item.snapshot->advertiser_id(), trace);
    out.bid_micros =
        EventBid(v1::BID_TYPE_CPC, c.bid_micros, 1, c.pacing_multiplier);
    return out;
  }
  const IndexedAd ad = index.ad(c.item.ad);
  out.advertiser = ad.advertiser;
  out.bid_type = ad.bid_type;
  out.bid_micros = EventBid(ad.bid_type, c.bid_micros, ad.conversion_rate,
                            c.pacing_multiplier);
  out.quality = ad.quality;
  out.reserve_micros = ad.reserve_micros;
  if (ad.tags != nullptr) out.labels = ad.tags->labels;
  return out;
}

}  // namespace

void FillAuctionInput(const AdIndex& index, RankTrace* trace) {
  const size_t ready = trace->prediction.ready();
  trace->foreign_advertisers.clear();
  trace->auction_ads.Resize(ready);
  for (size_t i = 0; i < ready; ++i) {
    AuctionAd ad = AuctionAdOf(index, trace->candidates[i], trace);
    if (trace->excluded[i]) ad.bid_micros = 0;
    trace->auction_ads.Set(i, ad);
  }
  for (size_t p = 0; p < trace->placements.size(); ++p) {
    trace->placements[p].pctr = trace->prediction.pctrs(p);
  }
}

}  // namespace adrank
