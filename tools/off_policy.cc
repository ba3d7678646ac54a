#include "tools/off_policy.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/log.h"
#include "base/rng.h"

namespace adrank {
namespace {

constexpr uint64_t kMinRewarded = 10;

bool UsesModel(Estimator e) {
  switch (e) {
    case Estimator::kIps:
    case Estimator::kSnips:
    case Estimator::kClippedIps:
    case Estimator::kSubGaussianIps:
      return false;
    default:
      return true;
  }
}

bool SelfNormalised(Estimator e) {
  return e == Estimator::kSnips || e == Estimator::kSnDr;
}

double Transform(const EstimatorSpec& spec, double w) {
  const double bound = spec.bound;
  switch (spec.estimator) {
    case Estimator::kDirect:
      return 0;
    case Estimator::kClippedIps:
    case Estimator::kClippedDr:
      return std::min(w, bound);
    case Estimator::kSwitchDr:
      return w <= bound ? w : 0;
    case Estimator::kDrOs:
      return std::isinf(bound) ? w : bound * w / (w * w + bound);
    case Estimator::kSubGaussianIps:
      return std::isinf(bound) ? w : w / (1 - bound + bound * w);
    default:
      return w;
  }
}

// What a choice adds to the sums of its group.
struct Terms {
  double weight = 0;    // w, transformed
  double weighted = 0;  // w (r - q)
  double prior = 0;     // p
  double modelled = 0;  // p v

  void Add(const Terms& t, double times) {
    weight += times * t.weight;
    weighted += times * t.weighted;
    prior += times * t.prior;
    modelled += times * t.modelled;
  }
};

Terms TermsOf(const EstimatorSpec& spec, const LoggedChoice& c) {
  const bool model = UsesModel(spec.estimator);
  Terms t;
  t.weight = Transform(spec, c.weight);
  t.weighted = t.weight * (c.reward - (model ? c.predicted : 0));
  t.prior = c.prior_weight;
  t.modelled = model ? c.prior_weight * c.target_predicted : 0;
  return t;
}

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

// One estimator on one log: what each decision contributes, by the sample that
// was drawn, or linearised around it.
class Estimation {
 public:
  Estimation(const LoggedChoices& choices, const EstimatorSpec& spec)
      : choices_(choices), normalised_(SelfNormalised(spec.estimator)) {
    uint32_t groups = 0;
    for (const LoggedChoice& c : choices.all()) {
      terms_.push_back(TermsOf(spec, c));
      groups = std::max(groups, c.group + 1);
    }
    sizes_.resize(groups);
    sums_.resize(groups);
    if (!normalised_) {
      for (size_t d = 0, i = 0; d < choices.decisions(); ++d) {
        double sum = 0;
        for (size_t k = choices.decision(d).size(); k > 0; --k, ++i) {
          sum += terms_[i].modelled + terms_[i].weighted;
        }
        totals_.push_back(sum);
      }
    }
  }

  // Mean per decision when decision d was drawn times[d] times, `drawn` in all.
  double Value(absl::Span<const uint32_t> times, double drawn) {
    if (!normalised_) {
      double sum = 0;
      for (size_t d = 0; d < times.size(); ++d) sum += times[d] * totals_[d];
      return sum / drawn;
    }
    SumGroups(times);
    double value = 0;
    for (size_t g = 0; g < sums_.size(); ++g) {
      value += sizes_[g] / drawn *
               (Ratio(sums_[g].weighted, sums_[g].weight) +
                Ratio(sums_[g].modelled, sums_[g].prior));
    }
    return value;
  }

  // Per decision; their mean is Value of each once. For ratios the first-order
  // expansion: R + (w x - R w) / mean w.
  std::vector<double> Contributions() {
    if (!normalised_) return totals_;
    const std::vector<uint32_t> once(choices_.decisions(), 1);
    SumGroups(once);
    std::vector<double> result;
    for (size_t d = 0, i = 0; d < choices_.decisions(); ++d) {
      double sum = 0;
      for (const LoggedChoice& c : choices_.decision(d)) {
        const Terms &t = terms_[i++], &s = sums_[c.group];
        const double n = sizes_[c.group];
        const double first = Ratio(s.weighted, s.weight);
        const double second = Ratio(s.modelled, s.prior);
        sum += first + n * Ratio(t.weighted - first * t.weight, s.weight) +
               second + n * Ratio(t.modelled - second * t.prior, s.prior);
      }
      result.push_back(sum);
    }
    return result;
  }

 private:
  void SumGroups(absl::Span<const uint32_t> times) {
    std::fill(sizes_.begin(), sizes_.end(), 0.0);
    std::fill(sums_.begin(), sums_.end(), Terms());
    for (size_t d = 0, i = 0; d < times.size(); ++d) {
      for (const LoggedChoice& c : choices_.decision(d)) {
        sizes_[c.group] += times[d];
        sums_[c.group].Add(terms_[i++], times[d]);
      }
    }
  }

  const LoggedChoices& choices_;
  const bool normalised_;
  std::vector<Terms> terms_;    // by choice
  std::vector<double> totals_;  // by decision, unless normalised_
  std::vector<double> sizes_;   // by group
  std::vector<Terms> sums_;
};

std::vector<double> LoggedRewards(const LoggedChoices& choices) {
  std::vector<double> result;
  for (size_t d = 0; d < choices.decisions(); ++d) {
    double sum = 0;
    for (const LoggedChoice& c : choices.decision(d)) sum += c.logged_reward;
    result.push_back(sum);
  }
  return result;
}

struct Moments {
  double mean = 0;
  double variance = 0;  // unbiased
  double low = 0, high = 0;
};

Moments MomentsOf(absl::Span<const double> x) {
  Moments m;
  for (const double v : x) m.mean += v;
  m.mean /= static_cast<double>(x.size());
  m.low = m.high = x[0];
  for (const double v : x) {
    m.variance += (v - m.mean) * (v - m.mean);
    m.low = std::min(m.low, v);
    m.high = std::max(m.high, v);
  }
  m.variance /= std::max<double>(1, static_cast<double>(x.size()) - 1);
  return m;
}

// Inverse of the normal distribution function, by bisection: asked once.
double NormalQuantile(double p) {
  double low = -40, high = 40;
  while (high - low > 1e-13) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

// Half the width of the interval of a mean of independent terms.
double HalfWidth(const Moments& m, double n, const IntervalOptions& options) {
  const double error = 1 - options.confidence;
  if (options.method == IntervalMethod::kNormal) {
    return NormalQuantile(1 - error / 2) * std::sqrt(m.variance / n);
  }
  // Each side with half the error.
  const double log_term = std::log(4 / error);
  return std::sqrt(2 * m.variance * log_term / n) +
         7 * (m.high - m.low) * log_term / (3 * std::max(1.0, n - 1));
}

// Linear between the order statistics around p (n - 1). Sorts *x.
double Percentile(std::vector<double>* x, double p) {
  std::sort(x->begin(), x->end());
  const double at = p * static_cast<double>(x->size() - 1);
  const size_t i = static_cast<size_t>(at);
  const size_t j = std::min(i + 1, x->size() - 1);
  return (*x)[i] + (at - static_cast<double>(i)) * ((*x)[j] - (*x)[i]);
}

// Resamples of the decisions, drawn once for all estimators.
void Bootstrap(std::vector<Estimation>* estimations,
               absl::Span<const double> logged, const IntervalOptions& options,
               v1::OutcomeReport* report) {
  const size_t n = logged.size();
  Rng rng(options.seed);
  std::vector<uint32_t> times(n);
  std::vector<std::vector<double>> values(estimations->size()),
      differences(estimations->size());
  for (uint32_t b = 0; b < options.resamples; ++b) {
    std::fill(times.begin(), times.end(), 0u);
    for (size_t i = 0; i < n; ++i) ++times[rng.Below(n)];
    double base = 0;
    for (size_t d = 0; d < n; ++d) base += times[d] * logged[d];
    base /= static_cast<double>(n);
    for (size_t e = 0; e < estimations->size(); ++e) {
      const double value =
          (*estimations)[e].Value(times, static_cast<double>(n));
      values[e].push_back(value);
      differences[e].push_back(value - base);
    }
  }
  const double tail = (1 - options.confidence) / 2;
  for (size_t e = 0; e < estimations->size(); ++e) {
    v1::PolicyEstimate* out = report->mutable_estimates(static_cast<int>(e));
    out->set_low(Percentile(&values[e], tail));
    out->set_high(Percentile(&values[e], 1 - tail));
    out->set_difference_low(Percentile(&differences[e], tail));
    out->set_difference_high(Percentile(&differences[e], 1 - tail));
  }
}

void SetIntervals(std::vector<double> contributions,
                  absl::Span<const double> logged,
                  const IntervalOptions& options, v1::PolicyEstimate* out) {
  const double n = static_cast<double>(logged.size());
  double half = HalfWidth(MomentsOf(contributions), n, options);
  out->set_low(out->value() - half);
  out->set_high(out->value() + half);
  for (size_t d = 0; d < logged.size(); ++d) contributions[d] -= logged[d];
  half = HalfWidth(MomentsOf(contributions), n, options);
  out->set_difference_low(out->difference() - half);
  out->set_difference_high(out->difference() + half);
}

}  // namespace

void ApplyInteraction(Interaction interaction, absl::Span<const double> ratios,
                      absl::Span<LoggedChoice> choices) {
  CHECK_EQ(ratios.size(), choices.size());
  double before = 1, all = 1;
  for (const double ratio : ratios) all *= ratio;
  for (size_t k = 0; k < ratios.size(); ++k) {
    const bool independent = interaction == Interaction::kIndependent;
    choices[k].prior_weight = independent ? 1 : before;
    before *= ratios[k];
    choices[k].weight = independent                          ? ratios[k]
                        : interaction == Interaction::kSlate ? all
                                                             : before;
  }
}

const char* EstimatorName(Estimator estimator) {
  switch (estimator) {
    case Estimator::kIps:
      return "ips";
    case Estimator::kSnips:
      return "snips";
    case Estimator::kDirect:
      return "direct";
    case Estimator::kDr:
      return "dr";
    case Estimator::kSnDr:
      return "sndr";
    case Estimator::kClippedIps:
      return "ips-clipped";
    case Estimator::kClippedDr:
      return "dr-clipped";
    case Estimator::kSwitchDr:
      return "switch-dr";
    case Estimator::kDrOs:
      return "dr-os";
    case Estimator::kSubGaussianIps:
      return "ips-subgaussian";
  }
  return "";
}

std::vector<EstimatorSpec> AllEstimators(size_t decisions) {
  const double n = static_cast<double>(decisions), root = std::sqrt(n);
  return {{Estimator::kIps},
          {Estimator::kSnips},
          {Estimator::kDr},
          {Estimator::kSnDr},
          {Estimator::kDirect},
          {Estimator::kClippedIps, root},
          {Estimator::kSubGaussianIps, 1 / root},
          {Estimator::kClippedDr, root},
          {Estimator::kSwitchDr, root},
          {Estimator::kDrOs, n}};
}

v1::OutcomeReport Estimate(const LoggedChoices& choices,
                           absl::Span<const EstimatorSpec> specs,
                           const IntervalOptions& options) {
  CHECK_GT(choices.decisions(), 0u);
  const std::vector<double> logged = LoggedRewards(choices);
  const std::vector<uint32_t> once(choices.decisions(), 1);
  v1::OutcomeReport report;
  report.set_logged(MomentsOf(logged).mean);
  for (const LoggedChoice& c : choices.all()) {
    if (c.weight > 0 && c.reward != 0)
      report.set_rewarded(report.rewarded() + 1);
  }
  std::vector<Estimation> estimations;
  for (const EstimatorSpec& spec : specs) {
    estimations.emplace_back(choices, spec);
    v1::PolicyEstimate* out = report.add_estimates();
    out->set_estimator(EstimatorName(spec.estimator));
    out->set_value(estimations.back().Value(
        once, static_cast<double>(choices.decisions())));
    out->set_difference(out->value() - report.logged());
    if (options.method != IntervalMethod::kBootstrap) {
      SetIntervals(estimations.back().Contributions(), logged, options, out);
    }
  }
  if (options.method == IntervalMethod::kBootstrap) {
    Bootstrap(&estimations, logged, options, &report);
  }
  return report;
}

v1::WeightSummary SummarizeWeights(const LoggedChoices& choices) {
  double sum = 0, squares = 0, zero = 0, largest = 0;
  std::vector<double> means;  // by decision
  for (size_t d = 0; d < choices.decisions(); ++d) {
    double of_decision = 0;
    for (const LoggedChoice& c : choices.decision(d)) {
      of_decision += c.weight;
      squares += c.weight * c.weight;
      zero += c.weight == 0 ? 1 : 0;
      largest = std::max(largest, c.weight);
    }
    sum += of_decision;
    means.push_back(
        Ratio(of_decision, static_cast<double>(choices.decision(d).size())));
  }
  const double n = static_cast<double>(choices.all().size());
  const double decisions = static_cast<double>(choices.decisions());
  v1::WeightSummary s;
  s.set_effective_sample_size(Ratio(sum * sum, squares) * Ratio(decisions, n));
  s.set_max_weight(largest);
  s.set_mean_weight(Ratio(sum, n));
  s.set_mean_weight_error(
      std::sqrt(Ratio(MomentsOf(means).variance, decisions)));
  s.set_zero_share(Ratio(zero, n));
  return s;
}

absl::Status CheckWeights(const v1::WeightSummary& weights, double min_ess) {
  if (weights.effective_sample_size() < min_ess) {
    return absl::OutOfRangeError(absl::StrFormat(
        "the effective sample size is %.1f, below %.0f: the log holds too few "
        "choices that this policy would make; ask about a policy nearer to the "
        "one that ran, about more days, or explore more",
        weights.effective_sample_size(), min_ess));
  }
  const double missing = 1 - weights.mean_weight();
  if (missing > 0.02 && missing > 4 * weights.mean_weight_error()) {
    return absl::OutOfRangeError(absl::StrFormat(
        "the mean weight is %.3f (+-%.3f), not 1: about %.1f %% of what this "
        "policy would show is never shown by the one that ran; turn "
        "exploration "
        "on (rank.exploration), and ask again about the days after",
        weights.mean_weight(), weights.mean_weight_error(), 100 * missing));
  }
  return absl::OkStatus();
}

absl::Status CheckRewarded(const v1::OutcomeReport& outcome) {
  if (outcome.rewarded() >= kMinRewarded) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrFormat(
      "%d of the choices that this policy would make too have %s, below %d: "
      "too few for any interval to be true; ask about more days",
      outcome.rewarded(), outcome.outcome(), kMinRewarded));
}

}  // namespace adrank
