// What exploration asks of the ads of a request.
#ifndef ADRANK_SERVER_REQUEST_ADS_H_
#define ADRANK_SERVER_REQUEST_ADS_H_

#include "server/impression_counts.h"
#include "server/predict/predictor.h"
#include "server/rank/auction_ads.h"
#include "server/rank/exploring_slots.h"

namespace adrank {

// The candidates of an auction. Ads sold by impression are certain: their score
// is no matter of clicks.
class RequestAds : public ExploredAds {
 public:
  RequestAds() = default;
  // `alpha` is the auction's. `counts` null: all ads are new. The pointers must
  // live as long as slots are chosen.
  RequestAds(const Prediction* prediction, const AuctionAds* ads, double alpha,
             const ImpressionCounts* counts)
      : prediction_(prediction), ads_(ads), alpha_(alpha), counts_(counts) {}

  double Deviation(uint32_t placement, uint32_t ad) override;
  uint32_t Impressions(uint32_t ad) override;

 private:
  const Prediction* prediction_ = nullptr;
  const AuctionAds* ads_ = nullptr;
  double alpha_ = 1;
  const ImpressionCounts* counts_ = nullptr;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_REQUEST_ADS_H_
