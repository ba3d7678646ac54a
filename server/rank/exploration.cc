// Hot path (all but Create): no allocation after warm-up, no locks, no logging.
#include "server/rank/exploration.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace adrank {
namespace {

constexpr size_t kQ = ExplorationPolicy::kQuantiles;
constexpr uint32_t kMaxExplored = 1000;
constexpr double kDefaultEpsilon = 0.01;

// Phi^-1((k + 1/2) / Q) by bisection, stretched to mean square 1.
std::array<double, kQ> MakeQuantiles() {
  std::array<double, kQ> z;
  double squares = 0;
  for (size_t k = 0; k < kQ / 2; ++k) {
    const double p = (static_cast<double>(k) + 0.5) / kQ;
    double low = -8, high = 0;
    for (int i = 0; i < 80; ++i) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
    }
    z[k] = low;
    z[kQ - 1 - k] = -low;
    squares += 2 * low * low;
  }
  for (double& x : z) x /= std::sqrt(squares / kQ);
  return z;
}

const std::array<double, kQ>& Quantiles() {
  static const std::array<double, kQ> kQuantileValues = MakeQuantiles();
  return kQuantileValues;
}

// Draw `x` of an option loses to draw `y` of another; ties are for the one that
// comes first.
bool Loses(double x, double y, bool comes_first) {
  return comes_first ? x < y : x <= y;
}

// Probability that option i's draw wins. samples: [options, kQ].
double WinProbability(absl::Span<const double> samples, size_t i) {
  const size_t options = samples.size() / kQ;
  const double* own = &samples[i * kQ];
  std::array<double, kQ> product;
  product.fill(1.0 / kQ);
  for (size_t j = 0; j < options; ++j) {
    const double* other = &samples[j * kQ];
    if (j == i || Loses(other[kQ - 1], own[0], j < i)) continue;
    // Both rise: one walk.
    size_t losing = 0;
    for (size_t k = 0; k < kQ; ++k) {
      while (losing < kQ && Loses(other[losing], own[k], j < i)) ++losing;
      product[k] *= static_cast<double>(losing) / kQ;
    }
  }
  double sum = 0;
  for (const double p : product) sum += p;
  return sum;
}

absl::Status OutOfRange(const char* field, double value, const char* range) {
  return absl::InvalidArgumentError(
      absl::StrCat("rank.exploration.", field, ": ", value, " not in ", range));
}

}  // namespace

absl::StatusOr<ExplorationPolicy> ExplorationPolicy::Create(
    const v1::ExplorationConfig& config) {
  using Config = v1::ExplorationConfig;
  ExplorationPolicy policy;
  if (!Config::Policy_IsValid(config.policy())) {
    return OutOfRange("policy", config.policy(), "[0, 3]");
  }
  if (!(config.epsilon() >= 0 && config.epsilon() <= 1)) {
    return OutOfRange("epsilon", config.epsilon(), "[0, 1]");
  }
  if (!(config.newcomer_boost() >= 0 && config.newcomer_boost() <= 10)) {
    return OutOfRange("newcomer_boost", config.newcomer_boost(), "[0, 10]");
  }
  if (!(config.thompson_scale() >= 0 && config.thompson_scale() <= 100)) {
    return OutOfRange("thompson_scale", config.thompson_scale(), "[0, 100]");
  }
  if (config.max_explored() > kMaxExplored) {
    return OutOfRange("max_explored", config.max_explored(), "[0, 1000]");
  }
  const bool boost = config.newcomer_boost() > 0;
  if (boost != (config.newcomer_impressions() > 0)) {
    return absl::InvalidArgumentError(
        "rank.exploration: newcomer_boost and newcomer_impressions go "
        "together");
  }
  if (config.max_explored() != 0) policy.max_explored_ = config.max_explored();
  if (boost) {
    policy.newcomer_boost_ = config.newcomer_boost();
    policy.newcomer_impressions_ = config.newcomer_impressions();
  }
  policy.thompson_ = config.policy() == Config::THOMPSON;
  if (config.thompson_scale() != 0) {
    policy.thompson_scale_ = config.thompson_scale();
  }
  if (policy.thompson_ || config.policy() == Config::EPSILON_GREEDY) {
    policy.epsilon_ =
        config.epsilon() != 0 ? config.epsilon() : kDefaultEpsilon;
  } else if (config.epsilon() != 0) {
    return absl::InvalidArgumentError(
        "rank.exploration.epsilon: policy is GREEDY, which never explores");
  }
  return policy;
}

double ExplorationPolicy::Boost(const SlotOption& option) const {
  if (newcomer_boost_ == 0) return 1;
  const double seen =
      static_cast<double>(option.impressions) / newcomer_impressions_;
  return 1 + newcomer_boost_ * std::max(0.0, 1 - seen);
}

size_t ExplorationPolicy::Favourite(
    absl::Span<const SlotOption> options) const {
  if (newcomer_boost_ == 0) return 0;
  size_t best = 0;
  double most = options[0].score * Boost(options[0]);
  for (size_t i = 1; i < options.size(); ++i) {
    const double value = options[i].score * Boost(options[i]);
    if (value > most) {
      best = i;
      most = value;
    }
  }
  return best;
}

bool ExplorationPolicy::Draws(absl::Span<const SlotOption> options) const {
  if (!thompson_) return false;
  for (const SlotOption& o : options) {
    if (o.deviation > 0) return true;
  }
  return false;
}

void ExplorationPolicy::SetSamples(absl::Span<const SlotOption> options,
                                   ExplorationScratch* scratch) const {
  const std::array<double, kQ>& z = Quantiles();
  scratch->samples.resize(options.size() * kQ);
  for (size_t i = 0; i < options.size(); ++i) {
    // A score of 0 is -infinity, and stays so.
    const double mean = std::log(options[i].score * Boost(options[i]));
    const double deviation = thompson_scale_ * options[i].deviation;
    double* out = &scratch->samples[i * kQ];
    for (size_t k = 0; k < kQ; ++k) out[k] = mean + deviation * z[k];
  }
}

double ExplorationPolicy::Mixed(double favoured, size_t options) const {
  return epsilon_ / static_cast<double>(options) + (1 - epsilon_) * favoured;
}

ExplorationChoice ExplorationPolicy::Choose(
    absl::Span<const SlotOption> options, Rng* rng,
    ExplorationScratch* scratch) const {
  DCHECK(!options.empty() && options.size() <= max_explored_);
  const bool uniform = epsilon_ > 0 && rng->Bernoulli(epsilon_);
  ExplorationChoice choice;
  if (uniform) {
    choice.option = static_cast<uint32_t>(rng->Below(options.size()));
  }
  if (!Draws(options)) {
    const size_t favourite = Favourite(options);
    if (!uniform) choice.option = static_cast<uint32_t>(favourite);
    choice.propensity =
        Mixed(choice.option == favourite ? 1 : 0, options.size());
    return choice;
  }
  SetSamples(options, scratch);
  if (!uniform) {
    double most = 0;
    for (size_t i = 0; i < options.size(); ++i) {
      const double draw = scratch->samples[i * kQ + rng->Below(kQ)];
      if (i > 0 && !(draw > most)) continue;
      choice.option = static_cast<uint32_t>(i);
      most = draw;
    }
  }
  choice.propensity =
      Mixed(WinProbability(scratch->samples, choice.option), options.size());
  return choice;
}

void ExplorationPolicy::Probabilities(absl::Span<const SlotOption> options,
                                      ExplorationScratch* scratch,
                                      absl::Span<double> probabilities) const {
  DCHECK(!options.empty() && options.size() <= max_explored_);
  DCHECK_EQ(options.size(), probabilities.size());
  const bool draws = Draws(options);
  if (draws) SetSamples(options, scratch);
  const size_t favourite = draws ? 0 : Favourite(options);
  for (size_t i = 0; i < options.size(); ++i) {
    const double favoured =
        draws ? WinProbability(scratch->samples, i) : (i == favourite ? 1 : 0);
    probabilities[i] = Mixed(favoured, options.size());
  }
}

}  // namespace adrank
