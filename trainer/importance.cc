#include "trainer/importance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "features/spec_check.h"
#include "model/slice_reader.h"
#include "trainer/metrics.h"
#include "trainer/thread_team.h"

namespace adrank {
namespace {

// A source and the fields that read it.
struct Reader {
  std::string name;
  Source source;
  std::vector<std::string> fields;
};

absl::StatusOr<std::vector<Reader>> SourcesOf(const v1::FeatureSpec& spec) {
  std::vector<Reader> readers;
  absl::flat_hash_map<std::string, size_t> known;
  for (const v1::Field& field : spec.fields()) {
    const std::string name =
        field.source().empty() ? "context." + field.name() : field.source();
    const auto [it, added] = known.try_emplace(name, readers.size());
    if (added) {
      ASSIGN_OR_RETURN(Source source,
                       ParseSource(field.source(), field.name()));
      readers.push_back({name, std::move(source), {}});
    }
    readers[it->second].fields.push_back(field.name());
  }
  return readers;
}

template <typename Attributes>
void SwapAttribute(const std::string& name, const Attributes& from,
                   Attributes* to) {
  for (int i = 0; i < to->size(); ++i) {
    if (to->Get(i).name() != name) continue;
    to->DeleteSubrange(i, 1);
    break;
  }
  for (const v1::Attribute& attribute : from) {
    if (attribute.name() == name) *to->Add() = attribute;
  }
}

// Gives *to what `from` says of the source.
void Take(const Source& source, const SampledRow& from, SampledRow* to) {
  switch (source.kind) {
    case SourceKind::kContextAttribute:
      return SwapAttribute(source.attribute, from.context.attributes(),
                           to->context.mutable_attributes());
    case SourceKind::kUserId:
      return to->context.set_user_id(from.context.user_id());
    case SourceKind::kQuery:
      return to->context.set_query(from.context.query());
    case SourceKind::kTime:
      return to->context.set_time_ms(from.context.time_ms());
    case SourceKind::kPlacement:
      to->placement = from.placement;
      return;
    case SourceKind::kAdAttribute:
      return SwapAttribute(source.attribute, from.ad.attributes(),
                           to->ad.mutable_attributes());
    case SourceKind::kAdId:
      return to->ad.set_ad_id(from.ad.ad_id());
    case SourceKind::kAdGroupId:
      return to->ad.set_ad_group_id(from.ad.ad_group_id());
    case SourceKind::kCampaignId:
      return to->ad.set_campaign_id(from.ad.campaign_id());
    case SourceKind::kAdvertiserId:
      return to->ad.set_advertiser_id(from.ad.advertiser_id());
    case SourceKind::kPosition:
      to->position = from.position;
      return;
  }
}

// Calibrated probability of one input after the other; one a thread.
class Scorer {
 public:
  Scorer(const ModelBundle& model, const Calibrator& calibrator,
         const std::optional<SliceReader>& slice)
      : model_(model), calibrator_(calibrator), slice_(slice) {}

  float Score(const SampledRow& input) {
    const v1::AdSnapshot* const ads[] = {&input.ad};
    model_.extractor().Extract(input.context, input.placement, ads,
                               {input.position}, &features_);
    float logit, pctr;
    model_.Predict(features_, &scratch_, absl::MakeSpan(&logit, 1),
                   absl::MakeSpan(&pctr, 1));
    const uint64_t slice = slice_ ? slice_->Slice(features_, 0) : 0;
    return calibrator_.Probability(logit, slice);
  }

 private:
  const ModelBundle& model_;
  const Calibrator& calibrator_;
  const std::optional<SliceReader>& slice_;
  RequestFeatures features_;
  PredictScratch scratch_;
};

std::vector<uint32_t> Permutation(size_t n, uint64_t seed) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  Rng rng(seed);
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  return order;
}

double LossOf(float pctr, uint8_t label) {
  return LogLoss(
      {absl::MakeConstSpan(&pctr, 1), absl::MakeConstSpan(&label, 1)});
}

v1::FeatureImportance Compare(const Reader& source,
                              const std::vector<float>& base,
                              const std::vector<float>& shuffled,
                              const std::vector<uint8_t>& labels) {
  v1::FeatureImportance out;
  out.set_source(source.name);
  for (const std::string& field : source.fields) out.add_fields(field);
  const auto n = static_cast<double>(labels.size());
  double sum = 0, squares = 0, clicks = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double d =
        LossOf(shuffled[i], labels[i]) - LossOf(base[i], labels[i]);
    sum += d;
    squares += d * d;
    clicks += labels[i];
  }
  const double rate = clicks / n, mean = sum / n;
  const double entropy =
      -rate * std::log(rate) - (1 - rate) * std::log1p(-rate);
  out.set_ne_increase(mean / entropy);
  out.set_ne_error(std::sqrt(std::max(0.0, squares / n - mean * mean) / n) /
                   entropy);
  out.set_auc_decrease(Auc({base, labels}) - Auc({shuffled, labels}));
  return out;
}

}  // namespace

absl::StatusOr<std::vector<v1::FeatureImportance>> PermutationImportance(
    const ModelBundle& model, const Calibrator& calibrator,
    absl::Span<const SampledRow> sample, uint64_t seed, uint32_t threads) {
  ASSIGN_OR_RETURN(const std::vector<Reader> sources,
                   SourcesOf(model.extractor().spec()));
  std::optional<SliceReader> slice;
  if (!calibrator.slice_field().empty()) {
    ASSIGN_OR_RETURN(slice, SliceReader::Create(model.extractor(),
                                                calibrator.slice_field()));
  }
  const size_t n = sample.size();
  std::vector<uint8_t> labels;
  for (const SampledRow& row : sample) labels.push_back(row.label);
  const std::vector<uint32_t> order = Permutation(n, MixBits(seed));
  std::vector<v1::FeatureImportance> out(sources.size());
  std::vector<float> base(n);
  ThreadTeam team(std::max<uint32_t>(1, threads));
  team.Run([&](uint32_t t) {
    Scorer scorer(model, calibrator, slice);
    for (size_t i = t; i < n; i += team.size()) {
      base[i] = scorer.Score(sample[i]);
    }
  });
  team.Run([&](uint32_t t) {
    Scorer scorer(model, calibrator, slice);
    std::vector<float> shuffled(n);
    for (size_t s = t; s < sources.size(); s += team.size()) {
      for (size_t i = 0; i < n; ++i) {
        SampledRow input = sample[i];
        Take(sources[s].source, sample[order[i]], &input);
        shuffled[i] = scorer.Score(input);
      }
      out[s] = Compare(sources[s], base, shuffled, labels);
    }
  });
  std::stable_sort(
      out.begin(), out.end(),
      [](const v1::FeatureImportance& a, const v1::FeatureImportance& b) {
        return a.ne_increase() > b.ne_increase();
      });
  return out;
}

}  // namespace adrank
