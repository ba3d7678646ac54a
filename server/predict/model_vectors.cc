#include "server/predict/model_vectors.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

// Values are divided by this, so that their logarithms are small beside logits;
// any number gives the same order. Micros.
constexpr double kUsualValue = 1e6;

}  // namespace

ModelVectors::ModelVectors(std::shared_ptr<const ModelBundle> bundle,
                           LogitSplit split)
    : bundle_(std::move(bundle)), split_(std::move(split)) {
  const v1::Calibrator& calibrator = bundle_->manifest().calibrator();
  if (calibrator.has_platt()) {
    slope_ = calibrator.platt().slope();
    intercept_ = calibrator.platt().intercept();
  }
  if (calibrator.negative_keep_rate() > 0) {
    intercept_ += slope_ * std::log(calibrator.negative_keep_rate());
  }
}

absl::StatusOr<std::shared_ptr<const ModelVectors>> ModelVectors::Build(
    std::shared_ptr<const ModelBundle> bundle, const AdIndex& index,
    const AdFeatureCache& features, std::shared_ptr<const ModelVectors> base) {
  ASSIGN_OR_RETURN(LogitSplit split, LogitSplit::Create(*bundle));
  std::shared_ptr<ModelVectors> vectors(
      new ModelVectors(bundle, std::move(split)));
  vectors->by_value_ =
      index.options().model_order != v1::TriggerConfig::BY_LOGIT;
  vectors->mean_pctr_ = index.options().mean_pctr;
  vectors->dims_ = vectors->split_.dims() + (vectors->by_value_ ? 3 : 1);
  if (vectors->dims_ > VectorIndex::kMaxDims) {
    return absl::FailedPreconditionError(
        absl::StrCat("the model's vectors have ", vectors->dims_,
                     " components, more than ", VectorIndex::kMaxDims));
  }
  if (index.base() != nullptr && base == nullptr) {
    ASSIGN_OR_RETURN(base, Build(bundle, *index.base(), *features.base()));
  }
  vectors->base_ = std::move(base);
  RETURN_IF_ERROR(vectors->AddAll(index, features));
  return std::shared_ptr<const ModelVectors>(std::move(vectors));
}

void ModelVectors::VectorFor(const AdIndex& index,
                             const AdFeatureCache& features, uint32_t ad,
                             LogitSplit::Scratch* scratch,
                             std::vector<float>* vector) const {
  const AdFeatureCache::Row row = features.Find(ad);
  const size_t n = split_.dims();
  const double own = split_.Ad(row.features, row.rows, row.row, scratch,
                               absl::MakeSpan(*vector).first(n));
  (*vector)[n] = static_cast<float>(own);
  if (!by_value_) return;
  const IndexedAd& entry = index.ad(ad);
  const bool cpm = entry.bid_type == v1::BID_TYPE_CPM;
  if (cpm) std::fill(vector->begin(), vector->end(), 0.0f);
  const double value = index.ValueOf(ad, entry.bid_micros);
  (*vector)[n + 1] =
      static_cast<float>(std::log(std::max(value, 1e-9) / kUsualValue));
  (*vector)[n + 2] = cpm ? 1.0f : 0.0f;
}

absl::Status ModelVectors::AddAll(const AdIndex& index,
                                  const AdFeatureCache& features) {
  LogitSplit::Scratch scratch;
  std::vector<float> vector(dims_);
  VectorIndex::Builder builder(dims_, VectorIndex::Metric::kProduct);
  for (size_t i = 0; i < index.documents(); ++i) {
    const uint32_t ad = index.document(i);
    VectorFor(index, features, ad, &scratch, &vector);
    RETURN_IF_ERROR(builder.Add(ad, vector));
  }
  documents_ = std::move(builder).Build(index.options().approximate_from);
  if (base_ != nullptr) {
    documents_.SetOrder([&](uint32_t ad) { return index.OrderKey(ad); });
  }
  if (documents_.approximate()) {  // the lists' order is another
    absl::flat_hash_map<uint32_t, uint32_t> place;
    for (size_t i = 0; i < documents_.size(); ++i) {
      place.emplace(documents_.ad(i), static_cast<uint32_t>(i));
    }
    for (size_t i = 0; i < index.documents(); ++i) {
      vector_of_.push_back(place.find(index.document(i))->second);
    }
  }
  index.ForEachKeywordAd([&](uint32_t ad) {
    VectorFor(index, features, ad, &scratch, &vector);
    keyword_ads_.emplace(ad, keyword_ads_.size());
    keyword_vectors_.insert(keyword_vectors_.end(), vector.begin(),
                            vector.end());
  });
  return absl::OkStatus();
}

bool ModelVectors::Prepare(const v1::Context& context,
                           absl::string_view placement, double alpha,
                           Query* query) const {
  const size_t n = split_.dims();
  std::vector<float>& v = query->vector;
  v.resize(dims_);
  const double own = split_.Context(context, placement, &query->scratch,
                                    absl::MakeSpan(v).first(n));
  const auto all_finite = [&v] {
    return std::all_of(v.begin(), v.end(),
                       [](float x) { return std::isfinite(x); });
  };
  if (!by_value_) {
    v[n] = 1;
    return all_finite();
  }
  const double scale = alpha * slope_;
  for (size_t d = 0; d < n; ++d) {
    v[d] = static_cast<float>(scale * static_cast<double>(v[d]));
  }
  v[n] = static_cast<float>(scale);
  v[n + 1] = 1;
  v[n + 2] = static_cast<float>(
      alpha * (std::log(mean_pctr_) - slope_ * own - intercept_));
  return all_finite();
}

const float* ModelVectors::OfKeywordAd(uint32_t ad) const {
  const auto it = keyword_ads_.find(ad);
  if (it != keyword_ads_.end()) return &keyword_vectors_[it->second * dims_];
  return base_ == nullptr ? nullptr : base_->OfKeywordAd(ad);
}

double ModelVectors::ChangeOfBid(int64_t bid, int64_t own_bid) const {
  if (!by_value_ || bid == own_bid) return 0;
  return std::log(static_cast<double>(std::max<int64_t>(1, bid)) /
                  static_cast<double>(std::max<int64_t>(1, own_bid)));
}

size_t ModelVectors::size() const {
  return documents_.size() + keyword_ads_.size() +
         (base_ == nullptr ? 0 : base_->size());
}

uint64_t ModelVectors::bytes() const {
  return documents_.bytes() + vector_of_.capacity() * sizeof(uint32_t) +
         keyword_vectors_.capacity() * sizeof(float) +
         keyword_ads_.capacity() * (sizeof(uint32_t) + sizeof(size_t)) +
         (base_ == nullptr ? 0 : base_->bytes());
}

std::string ModelVectors::Describe() const {
  if (split_.left_out().empty()) return "exact";
  return absl::StrCat("approximate: without ", split_.left_out());
}

}  // namespace adrank
