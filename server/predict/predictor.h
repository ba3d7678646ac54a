// pCTR of the candidates of one request, in chunks that a deadline can end.
// Hot path: no allocation after warm-up, no locks, no logging.
#ifndef ADRANK_SERVER_PREDICT_PREDICTOR_H_
#define ADRANK_SERVER_PREDICT_PREDICTOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "features/feature_batch.h"
#include "model/model.h"
#include "proto/common.pb.h"
#include "server/serving_state.h"

namespace adrank {

// An ad to predict: of the index (then its features come from the cache), or
// given as a snapshot.
struct PredictItem {
  static constexpr uint32_t kNotIndexed = 0xffffffffu;
  uint32_t ad = kNotIndexed;  // AdIndex::ad()
  // REQUIRES: not null when `ad` is kNotIndexed; outlives the prediction.
  const v1::AdSnapshot* snapshot = nullptr;
};

// One request's prediction under way, and its scratch: reused, one a thread.
class Prediction {
 public:
  // Items predicted between two looks at the clock.
  static constexpr size_t kChunk = 64;

  // Starts a request. `placements` are the ids the context is extracted with:
  // when the model does not look at the placement all share one set of scores.
  // Extracts the context. REQUIRES: the arguments outlive the prediction.
  void Begin(const ServingSnapshot& serving, double prior_ctr,
             const v1::Context& context,
             absl::Span<const absl::string_view> placements,
             absl::Span<const PredictItem> items);

  // Predicts the next up to kChunk items for every placement; false when none
  // are left.
  bool Step();

  // Items [0, ready()) have scores.
  size_t ready() const { return ready_; }

  // [ready()] of placement p. Without a model: the prior, and logit = its
  // log-odds. Where logit or pctr was not finite: pctr is the prior, the logit
  // is the prior's too, and non_finite() counts it.
  absl::Span<const float> pctrs(size_t p) const;
  absl::Span<const float> logits(size_t p) const;
  // The features and vocabulary rows that scored item i for placement p; the
  // item is candidate `row` of them. REQUIRES: has_model(), i < ready().
  struct Scored {
    const RequestFeatures& features;
    const RequestRows& rows;
    size_t row;
  };
  Scored scored(size_t p, size_t i) const;
  // Standard deviation of item i's calibrated logit for placement p against
  // another item's (model/uncertainty.h), the calibrator taken as its Platt
  // stage; 0 when the bundle does not say, or there is no model.
  // REQUIRES: i < ready().
  double LogitDeviation(size_t p, size_t i) const;
  // Of item i's full row for placement p; 0 without a model.
  uint64_t Fingerprint(size_t p, size_t i) const;

  bool has_model() const { return bundle_ != nullptr; }
  // The scores of placements a and b are the same array.
  bool SharesScores(size_t a, size_t b) const { return Set(a) == Set(b); }
  size_t non_finite() const { return non_finite_; }
  // What stands in for a score that there is not.
  float prior_pctr() const { return prior_pctr_; }
  float prior_logit() const { return prior_logit_; }

 private:
  // kChunk items of one placement.
  struct Chunk {
    RequestFeatures features;
    RequestRows rows;
  };
  // Scores of the items with one context row.
  struct ScoreSet {
    FeatureBatch context;
    std::vector<uint32_t> context_rows;
    std::vector<Chunk> chunks;
    std::vector<float> logits, pctrs;  // [items]
  };

  size_t Set(size_t placement) const { return sets_ == 1 ? 0 : placement; }
  void StepSet(ScoreSet* set, size_t begin, size_t end);
  // False when the vocabulary rows of the ad's features are yet to be found.
  bool AddAd(const PredictItem& item, Chunk* chunk) const;
  void ReplaceNonFinite(ScoreSet* set, size_t begin, size_t end);

  const ModelBundle* bundle_ = nullptr;
  const AdFeatureCache* cache_ = nullptr;
  absl::Span<const PredictItem> items_;
  float prior_pctr_ = 0, prior_logit_ = 0;
  size_t sets_ = 0;
  std::vector<ScoreSet> score_sets_;  // the first sets_ are in use
  size_t ready_ = 0;
  size_t non_finite_ = 0;
};

// True when any field of the spec reads the placement.
bool UsesPlacement(const v1::FeatureSpec& spec);

}  // namespace adrank

#endif  // ADRANK_SERVER_PREDICT_PREDICTOR_H_
