// What another policy would have been worth, from the log of the one that ran:
// the estimators of the literature over choices with known probabilities. Pure.
//
// It lives in tools/ since only people ask: the server's part is to replay
// (proto/policy_service.proto), the arithmetic is the asker's.
#ifndef ADRANK_TOOLS_OFF_POLICY_H_
#define ADRANK_TOOLS_OFF_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "proto/policy_service.pb.h"

namespace adrank {

// One choice of the policy that made the log (an ad for a slot), with what the
// policy in question thinks of it.
struct LoggedChoice {
  // Self-normalised estimators divide by the mean weight of the choices with
  // the same group: the slot's number.
  uint32_t group = 0;
  // P(choice | what came before) of the policy in question / of the log's,
  // times the same of the choices before that the reward depends on. >= 0.
  double weight = 1;
  // That product without this choice's own factor.
  double prior_weight = 1;
  // What happened, valued as each policy values it (prices may differ).
  double reward = 0;
  double logged_reward = 0;
  // A model's expectation of `reward` for this choice, and its mean over the
  // choices of the policy in question. Both 0: no model; then DR is IPS.
  double predicted = 0;
  double target_predicted = 0;
};

// Choices by decision. Decisions are independent, choices of one are not.
class LoggedChoices {
 public:
  // Ends the decision that the choices added since the last call make up.
  void EndDecision() { ends_.push_back(choices_.size()); }
  void Add(const LoggedChoice& choice) { choices_.push_back(choice); }

  size_t decisions() const { return ends_.size(); }
  absl::Span<const LoggedChoice> all() const { return choices_; }
  absl::Span<const LoggedChoice> decision(size_t d) const {
    const size_t begin = d == 0 ? 0 : ends_[d - 1];
    return absl::MakeSpan(choices_).subspan(begin, ends_[d] - begin);
  }

 private:
  std::vector<LoggedChoice> choices_;
  std::vector<size_t> ends_;
};

// What the reward of a slot depends on beside its own ad.
enum class Interaction {
  // Nothing: weight is the slot's own ratio. Least variance.
  kIndependent,
  // The ads in the slots before (McInerney et al. 2020, "RIPS"): the product up
  // to the slot. Right for propensities that are conditional on them.
  kCascade,
  // All ads of the answer ("slate IPS"): the product over all slots.
  kSlate,
};

// Fills in weight and prior_weight of one decision's choices, in their order,
// from the ratios of each choice alone. REQUIRES: equal sizes.
void ApplyInteraction(Interaction interaction, absl::Span<const double> ratios,
                      absl::Span<LoggedChoice> choices);

// With w the weight, r the reward, q the prediction, v the prediction for the
// policy in question, p the prior weight; sums over the choices of a decision,
// means over decisions:
enum class Estimator {
  kIps,     // w r (Horvitz and Thompson 1952)
  kSnips,   // w r / mean w (Swaminathan and Joachims 2015)
  kDirect,  // p v: as good as the model
  kDr,      // p v + w (r - q) (Dudik et al. 2011)
  kSnDr,    // p v / mean p + w (r - q) / mean w
  // With a bound L on the weights: some bias for much less variance.
  kClippedIps,      // min(w, L) r
  kClippedDr,       // p v + min(w, L) (r - q)
  kSwitchDr,        // p v + w [w <= L] (r - q) (Wang, Agarwal and Dudik 2017)
  kDrOs,            // p v + L w / (w^2 + L) (r - q) (Su et al. 2020)
  kSubGaussianIps,  // w / (1 - L + L w) r (Metelli et al. 2021); L in [0, 1]
};
// "ips", "snips"...
const char* EstimatorName(Estimator estimator);

struct EstimatorSpec {
  Estimator estimator = Estimator::kIps;
  double bound = std::numeric_limits<double>::infinity();  // L
};
// All of them for n decisions, by Ionides' (2008) bound sqrt(n) of the weights:
// no bias in the limit. For DRos that is L = n, where its weight has the same
// maximum up to a factor of 2; the sub-Gaussian one takes 1 / sqrt(n).
std::vector<EstimatorSpec> AllEstimators(size_t decisions);

enum class IntervalMethod {
  // Percentiles over resampled decisions (Efron 1979).
  kBootstrap,
  // Central limit theorem over decisions; ratios by the delta method.
  kNormal,
  // Maurer and Pontil 2009, theorem 4, over the observed range: wide, but good
  // for small samples. The range is that of this log's choices, no bound.
  kBernstein,
};

struct IntervalOptions {
  IntervalMethod method = IntervalMethod::kBootstrap;
  double confidence = 0.95;
  uint32_t resamples = 1000;
  uint64_t seed = 1;
};

// Value per decision by each of `specs`, beside the log's own mean. A pure
// function of its arguments. REQUIRES: at least one decision.
v1::OutcomeReport Estimate(const LoggedChoices& choices,
                           absl::Span<const EstimatorSpec> specs,
                           const IntervalOptions& options);

// Over all choices; the effective sample size is in decisions.
// REQUIRES: at least one decision.
v1::WeightSummary SummarizeWeights(const LoggedChoices& choices);

// When a log says too little: OutOfRange says why, and what would help:
// fewer than `min_ess` effective choices; a mean weight below 1 by more than 2
// % and four standard errors (the policy in question does what the log's never
// does); fewer than 10 rewarded choices, of whose mean no interval tells the
// truth.
absl::Status CheckWeights(const v1::WeightSummary& weights, double min_ess);
absl::Status CheckRewarded(const v1::OutcomeReport& outcome);

}  // namespace adrank

#endif  // ADRANK_TOOLS_OFF_POLICY_H_
