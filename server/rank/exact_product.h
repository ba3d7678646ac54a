// Exact arithmetic of scores: bid x weight, a whole number times a double.
#ifndef ADRANK_SERVER_RANK_EXACT_PRODUCT_H_
#define ADRANK_SERVER_RANK_EXACT_PRODUCT_H_

#include <cstdint>

namespace adrank {

// Largest bid and reserve the auction computes with exactly.
inline constexpr int64_t kMaxBidMicros = int64_t{1} << 62;

// Sign of bid_a weight_a - bid_b weight_b, exactly.
// REQUIRES: bids in [0, kMaxBidMicros]; weights >= 0, finite, not denormal.
int CompareProducts(int64_t bid_a, double weight_a, int64_t bid_b,
                    double weight_b);

// The least whole number p with p x own_weight >= bid x weight, exactly;
// kMaxBidMicros + 1 when that is no bid any more (own_weight 0 included).
// REQUIRES: as above; bid >= 1.
int64_t LeastBidFor(int64_t bid, double weight, double own_weight);

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_EXACT_PRODUCT_H_
