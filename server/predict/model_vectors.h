// The vectors by which the served model puts the ads of a catalogue in order,
// so that a request finds the first of them without scoring all.
#ifndef ADRANK_SERVER_PREDICT_MODEL_VECTORS_H_
#define ADRANK_SERVER_PREDICT_MODEL_VECTORS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/huge_pages.h"
#include "model/logit_split.h"
#include "model/model_bundle.h"
#include "server/predict/ad_feature_cache.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/vector_index.h"

namespace adrank {

// Of one bundle and one AdIndex. With LogitSplit's parts of a logit, the order
// is that of the product of
//
//   BY_LOGIT  ad [v, own]                 request [v, 1]
//   BY_VALUE  ad [v, own, ln b, 0]        request [a s v, a s, 1, w]
//             of CPM: [0, 0, ln b, 1]
//
// where b is AdIndex::ValueOf, a is rank.alpha, s and i the calibrator's slope
// and intercept, and w = a (ln mean_pctr - s own(context) - i). BY_VALUE is the
// order of the auction's score, b x pctr^a mean_pctr^(1 - a) of CPC and CPA and
// b x mean_pctr of CPM, with pctr's odds in pctr's
// place (they differ by a factor of 1 - pctr), without isotonic calibration,
// biases of slices and pacing: it is for choosing candidates, which are then
// predicted. Of an index on a base it has the vectors of what changed, and
// shares the rest. Immutable and thread-safe.
class ModelVectors {
 public:
  // Takes time in proportion to the ads that the index has of its own, and to
  // those of its base when `base` is null: not for the request path. The order
  // and from how many ads on the search is approximate are the index's options.
  // FailedPrecondition, saying why, for a model that has no such vectors.
  // `features` are of the bundle and the index.
  static absl::StatusOr<std::shared_ptr<const ModelVectors>> Build(
      std::shared_ptr<const ModelBundle> bundle, const AdIndex& index,
      const AdFeatureCache& features,
      std::shared_ptr<const ModelVectors> base = nullptr);

  // A request's vector, and storage that is used again; one a thread.
  struct Query {
    std::vector<float> vector;
    LogitSplit::Scratch scratch;
  };
  // alpha: of the auction. False: a number is not finite, and the request must
  // not ask.
  bool Prepare(const v1::Context& context, absl::string_view placement,
               double alpha, Query* query) const;

  const std::shared_ptr<const ModelVectors>& base() const { return base_; }
  // Of the enabled ads of the index (without its base) that have no positive
  // keywords.
  const VectorIndex& documents() const { return documents_; }
  // The vector of AdIndex::document(i).
  uint32_t VectorOf(size_t document) const {
    return vector_of_.empty() ? static_cast<uint32_t>(document)
                              : vector_of_[document];
  }
  // Of an enabled ad with positive keywords, of this or the base; null: none.
  const float* OfKeywordAd(uint32_t ad) const;
  // What a product changes by when an ad that is CPC or CPA bids `bid` instead
  // of `own_bid`.
  double ChangeOfBid(int64_t bid, int64_t own_bid) const;

  size_t dims() const { return dims_; }
  // Ads with a vector, and bytes, the base's included.
  size_t size() const;
  uint64_t bytes() const;
  // "exact" or "approximate: without ...".
  std::string Describe() const;

 private:
  ModelVectors(std::shared_ptr<const ModelBundle> bundle, LogitSplit split);
  absl::Status AddAll(const AdIndex& index, const AdFeatureCache& features);
  void VectorFor(const AdIndex& index, const AdFeatureCache& features,
                 uint32_t ad, LogitSplit::Scratch* scratch,
                 std::vector<float>* vector) const;

  const std::shared_ptr<const ModelBundle> bundle_;
  const LogitSplit split_;
  bool by_value_ = true;
  double mean_pctr_ = 0.01;           // AdIndexOptions
  double slope_ = 1, intercept_ = 0;  // of the calibrator
  size_t dims_ = 0;
  VectorIndex documents_;
  std::vector<uint32_t> vector_of_;    // by document; empty: the same number
  HugeVector<float> keyword_vectors_;  // [ads][dims]
  absl::flat_hash_map<uint32_t, size_t> keyword_ads_;  // its row
  std::shared_ptr<const ModelVectors> base_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_PREDICT_MODEL_VECTORS_H_
