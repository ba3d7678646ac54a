// From a request's candidates to what the auction knows of them.
#ifndef ADRANK_SERVER_AUCTION_INPUT_H_
#define ADRANK_SERVER_AUCTION_INPUT_H_

#include "server/rank_trace.h"

namespace adrank {

// Fills trace->auction_ads and the placements' pctrs from the candidates that
// were predicted in time; those excluded take no part. An ad that only the
// caller knows is sold by the click, with quality 1, no reserve and no labels
// of its own.
void FillAuctionInput(const AdIndex& index, RankTrace* trace);

}  // namespace adrank

#endif  // ADRANK_SERVER_AUCTION_INPUT_H_
