#include "features/transforms.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/numbers.h"

namespace adrank {
namespace {

struct Counted {
  double value;
  size_t count;
};

std::vector<Counted> CountDistinct(std::vector<double> sample) {
  sample.erase(std::remove_if(sample.begin(), sample.end(),
                              [](double v) { return !std::isfinite(v); }),
               sample.end());
  std::sort(sample.begin(), sample.end());
  std::vector<Counted> distinct;
  for (double v : sample) {
    if (distinct.empty() || distinct.back().value != v) {
      distinct.push_back({v + 0.0, 0});  // + 0.0: minus zero is zero
    }
    ++distinct.back().count;
  }
  return distinct;
}

}  // namespace

int64_t LogSquareBin(double v) {
  if (v <= 2) return static_cast<int64_t>(std::max(v, -0x1p31));
  const double log = std::log(v);
  return 3 + static_cast<int64_t>(std::floor(log * log));
}

int64_t QuantileBin(absl::Span<const double> boundaries, double v) {
  return std::upper_bound(boundaries.begin(), boundaries.end(), v) -
         boundaries.begin();
}

double SignedLog1p(double v) {
  return std::copysign(std::log1p(std::fabs(v)), v);
}

std::vector<double> LearnBoundaries(std::vector<double> sample, int bins) {
  const std::vector<Counted> distinct = CountDistinct(std::move(sample));
  if (distinct.empty()) return {0.0};
  if (distinct.size() == 1) return {distinct[0].value};
  size_t rest = 0;  // numbers in the open bin and after it
  for (const Counted& d : distinct) rest += d.count;
  size_t bins_left = static_cast<size_t>(bins);
  size_t open = 0;  // numbers in the open bin
  std::vector<double> boundaries;
  for (size_t i = 0; i + 1 < distinct.size() && bins_left > 1; ++i) {
    open += distinct[i].count;
    const double target =
        static_cast<double>(rest) / static_cast<double>(bins_left);
    const double now = static_cast<double>(open);
    const double next = now + static_cast<double>(distinct[i + 1].count);
    const bool one_each = distinct.size() - (i + 1) < bins_left;
    // Closes here when the next number would overshoot by more than this falls
    // short.
    if (!one_each && now < target && next - target <= target - now) continue;
    boundaries.push_back(distinct[i + 1].value);
    rest -= open;
    open = 0;
    --bins_left;
  }
  return boundaries;
}

bool ParseFinite(absl::string_view text, double* value) {
  return absl::SimpleAtod(text, value) && std::isfinite(*value);
}

absl::string_view FormatNumber(double v, char (&buffer)[kNumberTextSize]) {
  char* const end = buffer + kNumberTextSize;
  const double size = std::fabs(v);
  std::to_chars_result result;
  if (size < 0x1p53 && v == std::trunc(v)) {
    result = std::to_chars(buffer, end, static_cast<int64_t>(v));
  } else if (size >= 1e-6 && size < 1e21) {
    result = std::to_chars(buffer, end, v, std::chars_format::fixed);
  } else {
    result = std::to_chars(buffer, end, v, std::chars_format::scientific);
  }
  return absl::string_view(buffer, result.ptr - buffer);
}

}  // namespace adrank
