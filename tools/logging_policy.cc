#include "tools/logging_policy.h"

#include <algorithm>
#include <cmath>

#include "tools/click_model.h"

namespace adrank {
namespace {

constexpr double kExploration = 0.15;
constexpr int64_t kReserveMicros = 10000;
// The estimate's correlation with the ad's true quality, and its spread in
// logits.
constexpr double kCorrelation = 0.7, kSpread = 0.4;
// Ads are chosen for high estimates, which are too high then: this much of a
// logit, taken off so that the first positions come out about right.
constexpr double kWinnersCurse = 0.27;

}  // namespace

LoggingPolicy::LoggingPolicy(const v1::MarketConfig& config,
                             absl::Span<const double> ad_quality)
    : slots_(config.slots()) {
  Rng rng(MixBits(config.seed() ^ 0x706f6c696379ull));
  const double base =
      std::log(config.base_ctr() / (1 - config.base_ctr())) - kWinnersCurse;
  const double error = std::sqrt(1 - kCorrelation * kCorrelation);
  for (double quality : ad_quality) {
    const double estimate = kCorrelation * quality + error * rng.Normal();
    logit_.push_back(static_cast<float>(base + kSpread * estimate));
    pctr_.push_back(static_cast<float>(Sigmoid(logit_.back())));
  }
}

double LoggingPolicy::Weight(const Eligible& ad) const {
  const double value = static_cast<double>(ad.bid_micros) * pctr_[ad.ad] * 1e-4;
  const double boost = ad.type == v1::MATCH_TYPE_EXACT    ? 4
                       : ad.type == v1::MATCH_TYPE_PHRASE ? 3
                       : ad.type == v1::MATCH_TYPE_BROAD  ? 2
                                                          : 1;
  return value * std::sqrt(value) * boost;
}

void LoggingPolicy::Choose(std::vector<Eligible>* eligible, Rng* rng,
                           std::vector<ChosenAd>* out) const {
  out->clear();
  std::vector<Eligible>& rest = *eligible;
  std::vector<double> weights;  // of `rest`
  weights.reserve(rest.size());
  double total = 0;
  for (const Eligible& ad : rest) {
    weights.push_back(Weight(ad));
    total += weights.back();
  }
  while (out->size() < slots_ && !rest.empty()) {
    size_t i = 0;
    if (rng->Bernoulli(kExploration)) {
      i = rng->Below(rest.size());
    } else {
      double left = rng->Uniform() * total;
      while (i + 1 < rest.size() && (left -= weights[i]) >= 0) ++i;
    }
    const double weight = weights[i];
    ChosenAd& chosen = out->emplace_back();
    chosen.ad = rest[i];
    chosen.logit = logit_[rest[i].ad];
    chosen.pctr = pctr_[rest[i].ad];
    chosen.score = static_cast<double>(rest[i].bid_micros) * chosen.pctr;
    const double one_of = 1.0 / static_cast<double>(rest.size());
    chosen.propensity =
        static_cast<float>(kExploration * one_of +
                           (1 - kExploration) * std::min(1.0, weight / total));
    total = std::max(weight * 1e-9, total - weight);
    rest[i] = rest.back();
    rest.pop_back();
    weights[i] = weights.back();
    weights.pop_back();
  }
  for (size_t i = 0; i < out->size(); ++i) {
    ChosenAd& chosen = (*out)[i];
    const double next =
        i + 1 < out->size() ? (*out)[i + 1].score / chosen.pctr : 0;
    chosen.price_micros = std::min(
        chosen.ad.bid_micros,
        std::max(kReserveMicros, static_cast<int64_t>(std::ceil(next))));
  }
}

}  // namespace adrank
