// What chose the ads before there was a model: a first ad server that ranks by
// bid times each ad's historical click rate, with chance, so that ads and
// positions are not confounded in its log.
#ifndef ADRANK_TOOLS_LOGGING_POLICY_H_
#define ADRANK_TOOLS_LOGGING_POLICY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/rng.h"
#include "proto/market_config.pb.h"
#include "tools/market_catalog.h"

namespace adrank {

// One filled slot.
struct ChosenAd {
  Eligible ad;
  float logit = 0;
  float pctr = 0;    // the policy's estimate, of the ad alone, at position 1
  double score = 0;  // bid x pctr, micros
  // Probability of this ad at this position, given those above it.
  float propensity = 0;
  int64_t price_micros = 0;
};

// Immutable and thread-safe.
class LoggingPolicy {
 public:
  // `ad_quality` is ClickModel::AdQuality(): the policy knows it with an error.
  LoggingPolicy(const v1::MarketConfig& config,
                absl::Span<const double> ad_quality);

  // Fills up to config.slots() slots, top first, without replacement. At each
  // slot: with probability 0.15 any remaining ad, else one with probability
  // proportional to (bid x pctr)^1.5 x boost of its match (Plackett-Luce). Pays
  // the next score by its own pctr, at most the bid (generalised second price).
  // Clears *out; scrambles `eligible`.
  void Choose(std::vector<Eligible>* eligible, Rng* rng,
              std::vector<ChosenAd>* out) const;

 private:
  double Weight(const Eligible& ad) const;

  const uint32_t slots_;
  std::vector<float> logit_;  // [ads]
  std::vector<float> pctr_;   // [ads]
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_LOGGING_POLICY_H_
