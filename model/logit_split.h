// A logit taken apart into what the context says, what the ad says, and an
// inner product of a vector of each: so that the ads with the largest logits
// can be searched for instead of scored.
#ifndef ADRANK_MODEL_LOGIT_SPLIT_H_
#define ADRANK_MODEL_LOGIT_SPLIT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "features/feature_batch.h"
#include "model/model_bundle.h"
#include "proto/common.pb.h"

namespace adrank {

//   logit = own(context) + own(ad) + <vector(context), vector(ad)>
//
// with, for pooled embeddings e_f of the context's fields c and the ad's a:
//   linear     no vectors
//   FM         vector(x) = sum of x's e_f: pairs of one side are own(x)
//   FwFM       vector(ad) = [e_a] over a, vector(context) = [sum_c r_ac e_c]
//              over a; or [sum_a r_ac e_a] and [e_c] over c, when those are
//              fewer
//   FvFM       the same with r_ac m_ac, elementwise, for r_ac
// own(context) includes the bias and the position, which is that of serving.
// Exact up to rounding but for what left_out() names: crosses of both sides,
// and parts of the graph that are no sum of pairs. Immutable and thread-safe.
class LogitSplit {
 public:
  // FailedPrecondition, saying why, for a model without a linear, FM, FwFM or
  // FvFM part. `bundle` must outlive this.
  static absl::StatusOr<LogitSplit> Create(const ModelBundle& bundle);

  // Components of a vector; 0: the linear part alone.
  size_t dims() const { return dims_; }
  // Empty: nothing.
  const std::string& left_out() const { return left_out_; }

  // Storage that is used again; one a thread.
  struct Scratch {
    RequestFeatures features;
    std::vector<uint32_t> context_rows, cross_rows;
    std::vector<float> pooled;
  };
  // Of an ad whose features are row `row` of a batch of the ad part, and `rows`
  // its vocabulary rows. Returns own(ad). REQUIRES: vector.size() == dims().
  double Ad(const FeatureBatch& ads, const std::vector<uint32_t>& rows,
            size_t row, Scratch* scratch, absl::Span<float> vector) const;
  // Returns own(context).
  double Context(const v1::Context& context, absl::string_view placement,
                 Scratch* scratch, absl::Span<float> vector) const;

 private:
  enum class Side : uint8_t { kContext, kAd, kBoth };
  enum class Pairs : uint8_t { kNone, kFm, kWeighted };
  // What entries come to: pooled embeddings [fields with one][dim], their sum
  // of squares, the linear part.
  struct Pooled {
    double linear = 0, squares = 0;
  };

  absl::Status SetSides(const v1::FeatureSpec& spec);
  absl::Status SetGraph(const EmbeddingModel& model);
  void Pool(const FeatureBatch& batch, const std::vector<uint32_t>& rows,
            size_t row, Scratch* scratch, Pooled* pooled) const;
  double Finish(Side side, const Pooled& pooled, const Scratch& scratch,
                absl::Span<float> vector) const;
  double FmPairs(Side side, const Pooled& pooled, const Scratch& scratch,
                 absl::Span<float> vector) const;
  double WeightedPairs(Side side, const Scratch& scratch,
                       absl::Span<float> vector) const;
  // [dim] of the pair of fields at places i and j of the graph's order.
  const float* Weights(size_t i, size_t j) const;

  const ModelBundle* bundle_ = nullptr;
  std::vector<Side> sides_;  // by field
  Pairs pairs_ = Pairs::kNone;
  size_t dim_ = 0, dims_ = 0;
  double bias_ = 0;
  std::string left_out_;
  // Places in the graph's order, by side.
  std::vector<size_t> context_places_, ad_places_;
  bool by_ad_fields_ = true;         // of weighted pairs: a block an ad field
  std::vector<float> pair_weights_;  // [pairs of fields][dim]
};

}  // namespace adrank

#endif  // ADRANK_MODEL_LOGIT_SPLIT_H_
