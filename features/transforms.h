// The numeric transforms of a FeatureSpec, and how quantile boundaries are
// learnt. Pure functions of finite numbers.
#ifndef ADRANK_FEATURES_TRANSFORMS_H_
#define ADRANK_FEATURES_TRANSFORMS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace adrank {

// LOG_SQUARE_BIN: the squared-log bins of the winners of Criteo's contest,
//
//   v <= 2:  v without its fraction (toward 0), but not below -2^31
//   v > 2:   3 + floor(ln(v)^2)
//
// so that counts 0, 1, 2 and negatives keep a bin each and large numbers share
// ever wider ones: (2, e) is 3, [e, 4.11) is 4, 10 is 8, 1000 is 50, the
// largest double is 503,794. Never decreases in v. The original has no 3 there,
// which puts (2, e) into the bin of 0. REQUIRES: v is finite.
int64_t LogSquareBin(double v);

// QUANTILE_BIN: how many boundaries are <= v; bin i holds boundaries[i-1] <= v
// < boundaries[i]. REQUIRES: boundaries increase.
int64_t QuantileBin(absl::Span<const double> boundaries, double v);

// LOG1P: sign(v) ln(1 + |v|).
double SignedLog1p(double v);

// Boundaries of at most `bins` bins of about equally many of `sample`'s
// numbers: finite, strictly increasing, at least one and at most bins - 1 of
// them. Equal numbers share a bin; one that fills a bin alone gets it, and the
// rest is shared out again among the other bins. Fewer distinct numbers than
// bins: a bin each. A constant sample gives {constant}, an empty one {0}, so
// that a field that was learnt always has boundaries. Non-finite numbers are
// left out. REQUIRES: bins >= 2.
std::vector<double> LearnBoundaries(std::vector<double> sample, int bins);

// The number that `text` writes, if it is one and finite ("1e3", " 7 ").
bool ParseFinite(absl::string_view text, double* value);

// Large enough for every FormatNumber.
inline constexpr int kNumberTextSize = 48;

// The shortest decimal text that reads back as `v`, in `buffer`: without an
// exponent while 1e-6 <= |v| < 1e21 ("3", "100000", "0.25"), else with one
// ("1e-07"). Minus zero is "0". REQUIRES: v is finite.
absl::string_view FormatNumber(double v, char (&buffer)[kNumberTextSize]);

}  // namespace adrank

#endif  // ADRANK_FEATURES_TRANSFORMS_H_
