// Hot path (Context): no allocation after warm-up, no locks, no logging.
#include "model/logit_split.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "features/spec_check.h"

namespace adrank {

absl::Status LogitSplit::SetSides(const v1::FeatureSpec& spec) {
  ASSIGN_OR_RETURN(const ResolvedSpec resolved, ResolveSpec(spec, true));
  for (const ResolvedField& f : resolved.fields) {
    sides_.push_back(f.part == Part::kAd ? Side::kAd : Side::kContext);
  }
  size_t mixed = 0;
  for (const ResolvedCross& c : resolved.crosses) {
    const auto of_ad = static_cast<size_t>(
        std::count_if(c.fields.begin(), c.fields.end(),
                      [&](uint16_t f) { return sides_[f] == Side::kAd; }));
    const Side side = of_ad == 0                 ? Side::kContext
                      : of_ad == c.fields.size() ? Side::kAd
                                                 : Side::kBoth;
    mixed += side == Side::kBoth;
    sides_.push_back(side);
  }
  if (mixed > 0) {
    left_out_ = absl::StrCat(mixed, mixed == 1 ? " cross" : " crosses",
                             " of context and ad");
  }
  return absl::OkStatus();
}

absl::Status LogitSplit::SetGraph(const EmbeddingModel& model) {
  const Graph& graph = model.graph();
  const bool deep = graph.outputs > 0 || graph.spec.fusion().heads() > 0;
  for (const Node& node : graph.nodes) {
    if (node.kind == NodeKind::kFm) pairs_ = Pairs::kFm;
    if (node.kind != NodeKind::kFwfm && node.kind != NodeKind::kFvfm) continue;
    pairs_ = Pairs::kWeighted;
    const auto tensor = [&](int t) {
      return model.weights().parameters().data() +
             graph.tensors[node.t[t]].offset;
    };
    const float* const r = tensor(0);
    const float* const m = node.kind == NodeKind::kFvfm ? tensor(1) : nullptr;
    pair_weights_.resize(graph.tensors[node.t[0]].size() * graph.dim);
    for (size_t i = 0; i < pair_weights_.size(); ++i) {
      pair_weights_[i] = r[i / graph.dim] * (m == nullptr ? 1.0f : m[i]);
    }
  }
  if (pairs_ == Pairs::kNone && (deep || !graph.linear)) {
    return absl::FailedPreconditionError(
        "the model has neither an FM nor an FwFM part, and is not linear");
  }
  if (deep) {
    absl::StrAppend(&left_out_, left_out_.empty() ? "" : " and ",
                    "hidden layers");
  }
  bias_ = static_cast<double>(model.weights().parameters()[0]);
  if (pairs_ == Pairs::kNone) return absl::OkStatus();
  dim_ = graph.dim;
  for (size_t place = 0; place < graph.order.size(); ++place) {
    const Side side = sides_[graph.order[place]];
    if (side == Side::kContext) context_places_.push_back(place);
    if (side == Side::kAd) ad_places_.push_back(place);
  }
  by_ad_fields_ = ad_places_.size() <= context_places_.size();
  dims_ = pairs_ == Pairs::kFm
              ? dim_
              : dim_ * std::min(ad_places_.size(), context_places_.size());
  return absl::OkStatus();
}

absl::StatusOr<LogitSplit> LogitSplit::Create(const ModelBundle& bundle) {
  LogitSplit split;
  split.bundle_ = &bundle;
  RETURN_IF_ERROR(split.SetSides(bundle.extractor().spec()));
  if (bundle.embedding() != nullptr) {
    RETURN_IF_ERROR(split.SetGraph(*bundle.embedding()));
  } else if (bundle.logistic() != nullptr) {
    split.bias_ = static_cast<double>(bundle.logistic()->bias());
  } else {
    return absl::FailedPreconditionError("a model of an unknown family");
  }
  return split;
}

void LogitSplit::Pool(const FeatureBatch& batch,
                      const std::vector<uint32_t>& rows, size_t row,
                      Scratch* scratch, Pooled* pooled) const {
  const EmbeddingModel* model = bundle_->embedding();
  for (size_t e = batch.offsets[row]; e < batch.offsets[row + 1]; ++e) {
    if (rows[e] == kNoRow || sides_[batch.fields[e]] == Side::kBoth) continue;
    const float value = batch.values[e];
    const auto x = static_cast<double>(value);
    if (model == nullptr) {
      pooled->linear +=
          static_cast<double>(bundle_->logistic()->weight(rows[e])) * x;
      continue;
    }
    if (model->graph().linear) {
      pooled->linear +=
          static_cast<double>(model->weights().linear()[rows[e]]) * x;
    }
    if (pairs_ == Pairs::kNone) continue;
    const GraphField& field = model->graph().fields[batch.fields[e]];
    pooled->squares +=
        x * x *
        static_cast<double>(model->weights().AddTo(
            rows[e], value, field.dim, scratch->pooled.data() + field.column));
  }
}

// 1/2 (|sum|^2 - sum of squares), Rendle 2010, Lemma 3.1.
double LogitSplit::FmPairs(Side side, const Pooled& pooled,
                           const Scratch& scratch,
                           absl::Span<float> vector) const {
  std::fill(vector.begin(), vector.end(), 0.0f);
  for (const size_t place : side == Side::kAd ? ad_places_ : context_places_) {
    const float* e = &scratch.pooled[place * dim_];
    for (size_t d = 0; d < dim_; ++d) vector[d] += e[d];
  }
  double square = 0;
  for (const float x : vector) square += double{x} * x;
  return (square - pooled.squares) / 2;
}

const float* LogitSplit::Weights(size_t i, size_t j) const {
  if (i > j) std::swap(i, j);
  const size_t fields = bundle_->embedding()->graph().order.size();
  return &pair_weights_[(i * (2 * fields - i - 1) / 2 + j - i - 1) * dim_];
}

double LogitSplit::WeightedPairs(Side side, const Scratch& scratch,
                                 absl::Span<float> vector) const {
  const auto& own = side == Side::kAd ? ad_places_ : context_places_;
  const auto& other = side == Side::kAd ? context_places_ : ad_places_;
  const auto embedding = [&](size_t place) {
    return &scratch.pooled[place * dim_];
  };
  double sum = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    for (size_t j = i + 1; j < own.size(); ++j) {
      const float* const w = Weights(own[i], own[j]);
      for (size_t d = 0; d < dim_; ++d) {
        sum += double{w[d]} * embedding(own[i])[d] * embedding(own[j])[d];
      }
    }
  }
  if ((side == Side::kAd) == by_ad_fields_) {  // the blocks are its own fields
    for (size_t i = 0; i < own.size(); ++i) {
      std::copy_n(embedding(own[i]), dim_, &vector[i * dim_]);
    }
    return sum;
  }
  std::fill(vector.begin(), vector.end(), 0.0f);
  for (size_t o = 0; o < other.size(); ++o) {
    for (const size_t place : own) {
      const float* const w = Weights(place, other[o]);
      const float* e = embedding(place);
      for (size_t d = 0; d < dim_; ++d) vector[o * dim_ + d] += w[d] * e[d];
    }
  }
  return sum;
}

double LogitSplit::Finish(Side side, const Pooled& pooled,
                          const Scratch& scratch,
                          absl::Span<float> vector) const {
  switch (pairs_) {
    case Pairs::kNone:
      return pooled.linear;
    case Pairs::kFm:
      return pooled.linear + FmPairs(side, pooled, scratch, vector);
    case Pairs::kWeighted:
      break;
  }
  return pooled.linear + WeightedPairs(side, scratch, vector);
}

double LogitSplit::Ad(const FeatureBatch& ads,
                      const std::vector<uint32_t>& rows, size_t row,
                      Scratch* scratch, absl::Span<float> vector) const {
  if (pairs_ != Pairs::kNone) {
    scratch->pooled.assign(bundle_->embedding()->graph().input_width(), 0.0f);
  }
  Pooled pooled;
  Pool(ads, rows, row, scratch, &pooled);
  return Finish(Side::kAd, pooled, *scratch, vector);
}

double LogitSplit::Context(const v1::Context& context,
                           absl::string_view placement, Scratch* scratch,
                           absl::Span<float> vector) const {
  RequestFeatures& features = scratch->features;
  features.Clear();
  const FeatureExtractor& extractor = bundle_->extractor();
  extractor.ExtractContext(context, placement, &features.context);
  // Of an ad that has no features: the position, and its crosses with the
  // context.
  features.ads.EndRow();
  extractor.ExtractCrosses(features.context, 0, features.ads, 0,
                           kServingPosition, &features.crosses);
  const Vocabulary& vocabulary = bundle_->vocabulary();
  scratch->context_rows.clear();
  scratch->cross_rows.clear();
  vocabulary.Lookup(features.context, &scratch->context_rows);
  vocabulary.Lookup(features.crosses, &scratch->cross_rows);
  if (pairs_ != Pairs::kNone) {
    scratch->pooled.assign(bundle_->embedding()->graph().input_width(), 0.0f);
  }
  Pooled pooled;
  Pool(features.context, scratch->context_rows, 0, scratch, &pooled);
  Pool(features.crosses, scratch->cross_rows, 0, scratch, &pooled);
  return bias_ + Finish(Side::kContext, pooled, *scratch, vector);
}

}  // namespace adrank
