// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/predict/predictor.h"

#include <algorithm>
#include <cmath>

namespace adrank {
namespace {

// Appends row `i` of `from` to `to`.
void CopyRow(const FeatureBatch& from, size_t i, FeatureBatch* to) {
  const size_t begin = from.offsets[i], end = from.offsets[i + 1];
  to->ids.insert(to->ids.end(), from.ids.begin() + begin,
                 from.ids.begin() + end);
  to->values.insert(to->values.end(), from.values.begin() + begin,
                    from.values.begin() + end);
  to->fields.insert(to->fields.end(), from.fields.begin() + begin,
                    from.fields.begin() + end);
  to->EndRow();
}

}  // namespace

bool UsesPlacement(const v1::FeatureSpec& spec) {
  return std::any_of(
      spec.fields().begin(), spec.fields().end(),
      [](const v1::Field& f) { return f.source() == "placement"; });
}

void Prediction::Begin(const ServingSnapshot& serving, double prior_ctr,
                       const v1::Context& context,
                       absl::Span<const absl::string_view> placements,
                       absl::Span<const PredictItem> items) {
  bundle_ = serving.bundle.get();
  cache_ = serving.ad_features.get();
  items_ = items;
  prior_pctr_ = static_cast<float>(prior_ctr);
  prior_logit_ = static_cast<float>(std::log(prior_ctr / (1 - prior_ctr)));
  ready_ = non_finite_ = 0;
  sets_ = bundle_ != nullptr && placements.size() > 1 &&
                  UsesPlacement(bundle_->extractor().spec())
              ? placements.size()
              : 1;
  if (score_sets_.size() < sets_) score_sets_.resize(sets_);
  const size_t chunks = (items.size() + kChunk - 1) / kChunk;
  for (size_t s = 0; s < sets_; ++s) {
    ScoreSet& set = score_sets_[s];
    set.logits.resize(items.size());
    set.pctrs.resize(items.size());
    if (set.chunks.size() < chunks) set.chunks.resize(chunks);
    set.context.Clear();
    set.context_rows.clear();
    if (bundle_ == nullptr) continue;
    bundle_->extractor().ExtractContext(
        context, placements.empty() ? absl::string_view() : placements[s],
        &set.context);
    bundle_->vocabulary().Lookup(set.context, &set.context_rows);
  }
}

bool Prediction::Step() {
  const size_t begin = ready_;
  const size_t end = std::min(begin + kChunk, items_.size());
  if (begin == end) return false;
  for (size_t s = 0; s < sets_; ++s) StepSet(&score_sets_[s], begin, end);
  ready_ = end;
  return end < items_.size();
}

void Prediction::StepSet(ScoreSet* set, size_t begin, size_t end) {
  if (bundle_ == nullptr) {
    std::fill(set->logits.begin() + begin, set->logits.begin() + end,
              prior_logit_);
    std::fill(set->pctrs.begin() + begin, set->pctrs.begin() + end,
              prior_pctr_);
    return;
  }
  Chunk& chunk = set->chunks[begin / kChunk];
  chunk.features.Clear();
  chunk.features.context = set->context;
  chunk.rows.context = set->context_rows;
  chunk.rows.ads.clear();
  chunk.rows.crosses.clear();
  bool all_cached = true;
  for (size_t i = begin; i < end; ++i) {
    all_cached &= AddAd(items_[i], &chunk);
    bundle_->extractor().ExtractCrosses(
        chunk.features.context, 0, chunk.features.ads, i - begin,
        kServingPosition, &chunk.features.crosses);
  }
  const Vocabulary& vocabulary = bundle_->vocabulary();
  vocabulary.Lookup(chunk.features.crosses, &chunk.rows.crosses);
  if (!all_cached) vocabulary.Lookup(chunk.features.ads, &chunk.rows.ads);
  const auto logits = absl::MakeSpan(set->logits).subspan(begin, end - begin);
  bundle_->model().Logits(chunk.features, chunk.rows, logits);
  bundle_->Calibrate(chunk.features, logits,
                     absl::MakeSpan(set->pctrs).subspan(begin, end - begin));
  ReplaceNonFinite(set, begin, end);
}

bool Prediction::AddAd(const PredictItem& item, Chunk* chunk) const {
  if (item.ad == PredictItem::kNotIndexed) {
    bundle_->extractor().ExtractAd(*item.snapshot, &chunk->features.ads);
    return false;
  }
  const AdFeatureCache::Row cached = cache_->Find(item.ad);
  CopyRow(cached.features, cached.row, &chunk->features.ads);
  const auto rows = cached.rows.begin();
  chunk->rows.ads.insert(chunk->rows.ads.end(),
                         rows + cached.features.offsets[cached.row],
                         rows + cached.features.offsets[cached.row + 1]);
  return true;
}

void Prediction::ReplaceNonFinite(ScoreSet* set, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    if (std::isfinite(set->logits[i]) && std::isfinite(set->pctrs[i])) continue;
    set->logits[i] = prior_logit_;
    set->pctrs[i] = prior_pctr_;
    ++non_finite_;
  }
}

absl::Span<const float> Prediction::pctrs(size_t p) const {
  return absl::MakeConstSpan(score_sets_[Set(p)].pctrs).first(ready_);
}

absl::Span<const float> Prediction::logits(size_t p) const {
  return absl::MakeConstSpan(score_sets_[Set(p)].logits).first(ready_);
}

Prediction::Scored Prediction::scored(size_t p, size_t i) const {
  const Chunk& chunk = score_sets_[Set(p)].chunks[i / kChunk];
  return {chunk.features, chunk.rows, i % kChunk};
}

double Prediction::LogitDeviation(size_t p, size_t i) const {
  if (bundle_ == nullptr || bundle_->uncertainty() == nullptr) return 0;
  const Scored s = scored(p, i);
  const double variance =
      bundle_->uncertainty()->LogitVariance(s.features, s.rows, s.row);
  const v1::Calibrator& calibrator = bundle_->manifest().calibrator();
  return std::sqrt(variance) *
         (calibrator.has_platt() ? calibrator.platt().slope() : 1);
}

uint64_t Prediction::Fingerprint(size_t p, size_t i) const {
  if (bundle_ == nullptr) return 0;
  const Scored s = scored(p, i);
  return FeatureExtractor::Fingerprint(s.features, s.row);
}

}  // namespace adrank
