// The planted truth: the probability that a visitor clicks an ad, as a pure
// function of (config, visit, ad, position, day).
//
//   logit = bias + main + pair + position_effect x (position - 1)
//
// main: one effect per value of each field of the visit and of the ad; the mean
//   over the user's interests, the sum over the query's words. Each effect
//   turns slowly between two independent draws a and b,
//     effect(day) = a cos(drift x day) + b sin(drift x day),
//   so that it wanders by `drift` of its size a day, in one direction for
//   weeks, while its distribution stays what it is. (A random walk would do
//   little else than add noise in the weeks that an experiment lasts.)
// pair: low-rank effects of a visit's value and an ad's value (interest x
//   category, device x format, word x category...), fixed in time.
//
// Scale and centre are fitted on decisions of the logging policy: effects of a
// field have mean 0 over impressions (so that drift does not move the click
// rate), pair effects have mean 0 given either side alone, main and pair parts
// have the configured standard deviations over impressions, and the mean
// probability at position 1 is base_ctr.
#ifndef ADRANK_TOOLS_CLICK_MODEL_H_
#define ADRANK_TOOLS_CLICK_MODEL_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "proto/market_config.pb.h"
#include "tools/market_catalog.h"
#include "tools/market_fields.h"

namespace adrank {

// Main effects of one day.
struct DayEffects {
  int32_t day = 0;
  std::vector<float> value;     // of every value of every field
  std::vector<double> ad_main;  // [ads] sum over the ad's fields
};

// Summands of the logit beside the bias.
struct LogitParts {
  double main = 0;
  double pair = 0;
  double position = 0;
};

struct SampledDecision {
  Visit visit;
  std::vector<uint32_t> ads;  // by position
};

inline double Sigmoid(double logit) { return 1 / (1 + std::exp(-logit)); }

// Thread-safe once fitted.
class ClickModel {
 public:
  // Draws the effects. REQUIRES: `config` is resolved; the others are its own
  // and outlive this.
  ClickModel(const v1::MarketConfig& config, const MarketFields* fields,
             const MarketCatalog* catalog);

  // [ads] sum of each ad's main effects on day 0, shifted and scaled to mean 0
  // and variance 1 over ads: what a policy may have learnt from the past.
  std::vector<double> AdQuality() const;

  // Centres and scales. REQUIRES: called once, before what follows; the sample
  // is not empty.
  void Fit(absl::Span<const SampledDecision> sample);

  DayEffects EffectsOfDay(int32_t day) const;

  // `position` is 1-based in its placement. REQUIRES: effects.day == visit.day.
  LogitParts Parts(const DayEffects& effects, const Visit& visit, uint32_t ad,
                   uint32_t position) const;
  double Logit(const LogitParts& parts) const {
    return bias_ + parts.main + parts.pair + parts.position;
  }
  double Ctr(const DayEffects& effects, const Visit& visit, uint32_t ad,
             uint32_t position) const {
    return Sigmoid(Logit(Parts(effects, visit, ad, position)));
  }
  double bias() const { return bias_; }

 private:
  // Effects of one value of the visit with one value of the ad.
  struct Pair {
    // Index of a context field, or one of the two below.
    uint32_t left = 0;
    uint32_t right = 0;  // AdField
    double weight = 0;
    uint32_t columns = 0;
    std::vector<float> table;  // [left values, columns] row-major
  };
  static constexpr uint32_t kInterests = kMaxContextFields;
  static constexpr uint32_t kWords = kMaxContextFields + 1;

  void DrawMain(Rng* rng);
  void AddPair(uint32_t left, uint32_t right, double weight, Rng* rng);
  uint32_t LeftOffset(uint32_t left) const;
  uint32_t LeftCardinality(uint32_t left) const;
  std::vector<double> CountValues(
      absl::Span<const SampledDecision> sample) const;
  void CentreMain(absl::Span<const double> counts, std::vector<float>* effects);
  void CentrePair(absl::Span<const double> counts, Pair* pair);
  void ScaleMain(absl::Span<const SampledDecision> sample,
                 std::vector<float>* effects);
  void ScalePairs(absl::Span<const SampledDecision> sample);
  void FitBias(absl::Span<const SampledDecision> sample);
  double VisitMain(absl::Span<const float> effects, const Visit& visit) const;
  double AdMain(absl::Span<const float> effects, uint32_t ad) const;
  double PairSum(const Visit& visit, uint32_t ad) const;

  const v1::MarketConfig config_;
  const MarketFields& fields_;
  const MarketCatalog& catalog_;
  // First value of each field in a_ and b_.
  std::vector<uint32_t> context_offset_, ad_offset_;
  uint32_t interests_offset_ = 0, words_offset_ = 0;
  std::vector<float> a_, b_;
  std::vector<Pair> pairs_;
  double bias_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_CLICK_MODEL_H_
