// Hot path: no allocation, no locks, no logging.
#include "server/rank/exact_product.h"

#include <algorithm>
#include <cstdlib>

#include "absl/base/casts.h"
#include "absl/numeric/bits.h"

namespace adrank {
namespace {

using uint128 = unsigned __int128;

constexpr int kMantissaBits = 53;
constexpr int kProductBits = 115;  // of a bid <= 2^62 and a mantissa < 2^53

// A weight as mantissa x 2^exponent, mantissa in [2^52, 2^53) or 0.
struct Binary {
  uint64_t mantissa;
  int exponent;
};

Binary ToBinary(double weight) {
  const uint64_t bits = absl::bit_cast<uint64_t>(weight);
  if (bits == 0) return {0, 0};
  constexpr uint64_t kImplicit = uint64_t{1} << (kMantissaBits - 1);
  return {(bits & (kImplicit - 1)) | kImplicit,
          static_cast<int>(bits >> (kMantissaBits - 1)) - 1075};
}

int BitWidth(uint128 x) {
  const auto high = static_cast<uint64_t>(x >> 64);
  return high != 0 ? 128 - absl::countl_zero(high)
                   : 64 - absl::countl_zero(static_cast<uint64_t>(x));
}

}  // namespace

int CompareProducts(int64_t bid_a, double weight_a, int64_t bid_b,
                    double weight_b) {
  const Binary a = ToBinary(weight_a), b = ToBinary(weight_b);
  uint128 x = static_cast<uint128>(bid_a) * a.mantissa;
  uint128 y = static_cast<uint128>(bid_b) * b.mantissa;
  if (x == 0 || y == 0) return (x != 0) - (y != 0);
  // Products are in [1, 2^kProductBits): a larger gap of exponents decides.
  const int shift = a.exponent - b.exponent;
  if (shift >= kProductBits) return 1;
  if (shift <= -kProductBits) return -1;
  // The larger exponent's side goes up as far as 128 bits allow, the other
  // side down; the bits that this drops decide equality only.
  uint128& up = shift >= 0 ? x : y;
  uint128& down = shift >= 0 ? y : x;
  const int total = std::abs(shift);
  const int left = std::min(total, 128 - kProductBits), right = total - left;
  up <<= left;
  const bool dropped = right > 0 && (down & ((uint128{1} << right) - 1)) != 0;
  down >>= right;
  if (x != y) return x < y ? -1 : 1;
  if (!dropped) return 0;
  return shift >= 0 ? -1 : 1;  // the side that was cut is the larger
}

int64_t LeastBidFor(int64_t bid, double weight, double own_weight) {
  const Binary other = ToBinary(weight), own = ToBinary(own_weight);
  uint128 numerator = static_cast<uint128>(bid) * other.mantissa;
  uint128 denominator = own.mantissa;
  if (numerator == 0) return 0;
  if (denominator == 0) return kMaxBidMicros + 1;
  const int shift = other.exponent - own.exponent;
  if (shift >= 0) {
    // 127 bits over a mantissa's 53 are a quotient above 2^73: no bid.
    if (BitWidth(numerator) + shift > 127) return kMaxBidMicros + 1;
    numerator <<= shift;
  } else if (shift < -74) {
    return 1;  // a product below 2^115 over at least 2^(52 + 75)
  } else {
    denominator <<= -shift;
  }
  uint128 quotient = numerator / denominator;
  quotient += quotient * denominator != numerator;
  return static_cast<int64_t>(std::min<uint128>(quotient, kMaxBidMicros + 1));
}

}  // namespace adrank
