#include "trainer/progress.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

// 2^-22: weights add up to 2^41, their rounding is 1e-7 of an example.
constexpr double kUnit = 0x1.0p-22;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

int64_t Fixed(double x) { return std::llrint(x * (1 / kUnit)); }

double Entropy(double rate) {
  return -rate * std::log(rate) - (1 - rate) * std::log1p(-rate);
}

}  // namespace

ProgressMeter::ProgressMeter() : bins_(2 * kBins, 0) {}

void ProgressMeter::Add(double logit, double p, bool label, float weight) {
  if (std::isnan(logit) || std::isnan(p)) {
    logit = label ? -16 : 16;
    p = label ? 0 : 1;
  }
  const double observed = std::max(label ? p : 1 - p, 1e-15);
  const int64_t fixed_weight = Fixed(weight);
  sums_.loss += Fixed(-std::log(observed) * weight);
  sums_.pctr += Fixed(p * weight);
  sums_.weight += fixed_weight;
  ++sums_.examples;
  if (label) {
    ++sums_.clicks;
    sums_.click_weight += fixed_weight;
  }
  const double place = (logit + 16) * (kBins / 32);
  const int bin = static_cast<int>(std::min(std::max(place, 0.0), kBins - 1.0));
  bins_[(label ? kBins : 0) + bin] += fixed_weight;
}

void ProgressMeter::Merge(const ProgressMeter& other) {
  sums_.examples += other.sums_.examples;
  sums_.clicks += other.sums_.clicks;
  sums_.loss += other.sums_.loss;
  sums_.pctr += other.sums_.pctr;
  sums_.weight += other.sums_.weight;
  sums_.click_weight += other.sums_.click_weight;
  for (int i = 0; i < 2 * kBins; ++i) bins_[i] += other.bins_[i];
}

void ProgressMeter::Reset() { *this = ProgressMeter(); }

std::string ProgressMeter::Save() const {
  std::string state(sizeof(sums_) + bins_.size() * sizeof(bins_[0]), 0);
  memcpy(state.data(), &sums_, sizeof(sums_));
  memcpy(state.data() + sizeof(sums_), bins_.data(),
         state.size() - sizeof(sums_));
  return state;
}

absl::Status ProgressMeter::Restore(absl::string_view state) {
  if (state.size() != sizeof(sums_) + bins_.size() * sizeof(bins_[0])) {
    return absl::DataLossError(
        absl::StrCat("progress: ", state.size(), " bytes are not its state"));
  }
  memcpy(&sums_, state.data(), sizeof(sums_));
  memcpy(bins_.data(), state.data() + sizeof(sums_),
         state.size() - sizeof(sums_));
  return absl::OkStatus();
}

double ProgressMeter::HistogramAuc() const {
  double below = 0, pairs = 0, clicks = 0;
  for (int i = 0; i < kBins; ++i) {
    const double negatives = static_cast<double>(bins_[i]);
    const double positives = static_cast<double>(bins_[kBins + i]);
    pairs += positives * (below + negatives / 2);
    below += negatives;
    clicks += positives;
  }
  return below > 0 && clicks > 0 ? pairs / (below * clicks) : kNan;
}

v1::Metrics ProgressMeter::Metrics() const {
  v1::Metrics m;
  m.set_examples(sums_.examples);
  m.set_clicks(sums_.clicks);
  const double weight = static_cast<double>(sums_.weight);
  const double clicks = static_cast<double>(sums_.click_weight);
  const bool empty = sums_.weight == 0;
  const bool both = sums_.click_weight > 0 && sums_.click_weight < sums_.weight;
  m.set_mean_pctr(empty ? kNan : static_cast<double>(sums_.pctr) / weight);
  m.set_ctr(empty ? kNan : clicks / weight);
  m.set_logloss(empty ? kNan : static_cast<double>(sums_.loss) / weight);
  m.set_normalized_entropy(both ? m.logloss() / Entropy(m.ctr()) : kNan);
  m.set_calibration_ratio(clicks > 0 ? static_cast<double>(sums_.pctr) / clicks
                                     : kNan);
  m.set_auc(HistogramAuc());
  m.mutable_auc_interval()->set_estimate(m.auc());
  m.mutable_auc_interval()->set_low(kNan);
  m.mutable_auc_interval()->set_high(kNan);
  m.set_gauc(kNan);
  m.set_ece(kNan);
  return m;
}

}  // namespace adrank
