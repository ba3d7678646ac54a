// Which ad a slot shows although another scores higher, and how likely that
// was: a pure function of the slot's ads and of chance that comes in by the
// door. What an ad pays is the auction's business and knows no chance.
#ifndef ADRANK_SERVER_RANK_EXPLORATION_H_
#define ADRANK_SERVER_RANK_EXPLORATION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/rng.h"
#include "proto/server_config.pb.h"

namespace adrank {

// An ad that a slot may show.
struct SlotOption {
  // As the auction orders by; >= 0, finite.
  double score = 0;
  // Standard deviation of ln(score), >= 0 (ScoreDeviation). 0: it is certain.
  double deviation = 0;
  // That the ad has had; for the newcomer boost.
  uint32_t impressions = 0;
};

// ln(bid x pctr^alpha) varies with the logit by alpha (1 - pctr), to first
// order; so a draw from the logit's Gaussian is taken as one from the Gaussian
// of the log score (delta method). It may exceed what a click rate of 1 gives:
// it orders ads and is no estimate.
inline double ScoreDeviation(double alpha, double pctr,
                             double logit_deviation) {
  return alpha * (1 - pctr) * logit_deviation;
}

struct ExplorationChoice {
  uint32_t option = 0;
  // Probability of this option, given the options.
  double propensity = 1;
};

// Scratch of one thread: reused, so that choosing allocates nothing.
struct ExplorationScratch {
  std::vector<double> samples;  // [options, kQuantiles] row-major, rows rising
};

// All policies are of one form. With probability epsilon a slot takes any of
// its options, each as likely; else the favourite:
//
//   GREEDY, EPSILON_GREEDY  the option with the largest score x boost
//   THOMPSON                the option with the largest draw of score x boost
//
// boost = 1 + newcomer_boost max(0, 1 - impressions / newcomer_impressions).
// Ties are the first option's. Options come in the order of the auction, best
// first, at most max_explored of them: hence GREEDY without boost takes option
// 0, whatever the scores.
//
// THOMPSON draws ln(score) + deviation z for each option, z one of kQuantiles
// equally likely values: the quantiles of a normal distribution in the middle
// of as many equal parts, stretched to variance 1. As there are finitely many
// draws a win's probability is a finite sum,
//
//   P(i) = 1/Q sum_k prod_{j != i} #{l : option j's draw l loses to i's k} / Q,
//
// exact but for rounding; a Gaussian would need quadrature for each option.
// Each slot draws anew: with draws kept over the slots of a page the propensity
// of the second slot would be conditional on what the first one's winner drew.
//
// Every propensity is at least epsilon / options. Immutable and thread-safe.
class ExplorationPolicy {
 public:
  static constexpr size_t kQuantiles = 32;

  // InvalidArgument names the field of rank.exploration that is out of range.
  static absl::StatusOr<ExplorationPolicy> Create(
      const v1::ExplorationConfig& config);
  // Greedy.
  ExplorationPolicy() = default;

  // False: the first option always wins, nothing need be asked.
  bool active() const { return epsilon_ > 0 || boosts() || thompson(); }
  // Options beyond this many are not looked at.
  uint32_t max_explored() const { return max_explored_; }
  bool thompson() const { return thompson_; }
  bool boosts() const { return newcomer_boost_ > 0; }
  double epsilon() const { return epsilon_; }
  // Scale of deviations.
  double thompson_scale() const { return thompson_scale_; }

  // REQUIRES: 1 <= options.size() <= max_explored(). The same options and state
  // of the generator give the same choice.
  ExplorationChoice Choose(absl::Span<const SlotOption> options, Rng* rng,
                           ExplorationScratch* scratch) const;

  // Of each option; they sum to 1. What Choose reports is exactly one of these.
  // REQUIRES: as Choose; probabilities.size() == options.size().
  void Probabilities(absl::Span<const SlotOption> options,
                     ExplorationScratch* scratch,
                     absl::Span<double> probabilities) const;

 private:
  double Boost(const SlotOption& option) const;
  size_t Favourite(absl::Span<const SlotOption> options) const;
  // False: no option is uncertain, THOMPSON has a favourite.
  bool Draws(absl::Span<const SlotOption> options) const;
  void SetSamples(absl::Span<const SlotOption> options,
                  ExplorationScratch* scratch) const;
  double Mixed(double favoured, size_t options) const;

  double epsilon_ = 0;
  bool thompson_ = false;
  double thompson_scale_ = 1;
  double newcomer_boost_ = 0;
  double newcomer_impressions_ = 0;
  uint32_t max_explored_ = 20;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_EXPLORATION_H_
