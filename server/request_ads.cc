// Hot path: no allocation, no logging; a lock only to read impressions.
#include "server/request_ads.h"

namespace adrank {

double RequestAds::Deviation(uint32_t placement, uint32_t ad) {
  if ((*ads_)[ad].bid_type == v1::BID_TYPE_CPM) return 0;
  return ScoreDeviation(alpha_, prediction_->pctrs(placement)[ad],
                        prediction_->LogitDeviation(placement, ad));
}

uint32_t RequestAds::Impressions(uint32_t ad) {
  return counts_ == nullptr ? 0 : counts_->Of((*ads_)[ad].ad_id);
}

}  // namespace adrank
