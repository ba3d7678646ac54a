#include "tools/click_model.h"

#include <algorithm>

namespace adrank {
namespace {

// Rank of the pair effects' tables.
constexpr uint32_t kRank = 4;

// Population standard deviation.
double StandardDeviation(absl::Span<const double> values) {
  double sum = 0, squares = 0;
  for (double v : values) sum += v;
  const double mean = sum / static_cast<double>(values.size());
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

void Scale(double factor, std::vector<float>* values) {
  for (float& v : *values) v = static_cast<float>(v * factor);
}

// What makes the sample's standard deviation `target`; 0 when that cannot be.
double ScaleFactor(absl::Span<const double> sample, double target) {
  const double sd = StandardDeviation(sample);
  return target > 0 && sd > 0 ? target / sd : 0;
}

}  // namespace

ClickModel::ClickModel(const v1::MarketConfig& config,
                       const MarketFields* fields, const MarketCatalog* catalog)
    : config_(config), fields_(*fields), catalog_(*catalog) {
  Rng rng(MixBits(config.seed() ^ 0x636c69636b73ull));
  DrawMain(&rng);
  AddPair(kInterests, kCategoryField, 0.5, &rng);
  AddPair(kWords, kCategoryField, 0.4, &rng);
  AddPair(kDeviceField, kFormatField, 0.4, &rng);
  AddPair(kAgeField, kCategoryField, 0.3, &rng);
  AddPair(kCountryField, kAdvertiserField, 0.3, &rng);
  AddPair(kPageField, kFormatField, 0.3, &rng);
  AddPair(kGenderField, kBrandField, 0.2, &rng);
  AddPair(kHourField, kCategoryField, 0.2, &rng);
  AddPair(kUserField, kCategoryField, 0.2, &rng);
  for (uint32_t i = 0;
       i < std::min(config.extra_context_fields(), config.extra_ad_fields());
       ++i) {
    AddPair(kExtraContextField + i, kExtraAdField + i, 0.2, &rng);
  }
}

void ClickModel::DrawMain(Rng* rng) {
  uint32_t size = 0;
  const auto draw = [&](const MarketField& field) {
    const uint32_t offset = size;
    size += field.cardinality;
    for (uint32_t i = 0; i < field.cardinality; ++i) {
      a_.push_back(static_cast<float>(field.weight * rng->Normal()));
      b_.push_back(static_cast<float>(field.weight * rng->Normal()));
    }
    return offset;
  };
  for (const MarketField& f : fields_.context) {
    context_offset_.push_back(draw(f));
  }
  interests_offset_ = draw(fields_.interests);
  words_offset_ = draw(fields_.words);
  for (const MarketField& f : fields_.ad) ad_offset_.push_back(draw(f));
}

uint32_t ClickModel::LeftOffset(uint32_t left) const {
  if (left == kInterests) return interests_offset_;
  return left == kWords ? words_offset_ : context_offset_[left];
}

uint32_t ClickModel::LeftCardinality(uint32_t left) const {
  if (left == kInterests) return fields_.interests.cardinality;
  return left == kWords ? fields_.words.cardinality
                        : fields_.context[left].cardinality;
}

void ClickModel::AddPair(uint32_t left, uint32_t right, double weight,
                         Rng* rng) {
  Pair pair;
  pair.left = left;
  pair.right = right;
  pair.columns = fields_.ad[right].cardinality;
  const uint32_t rows = LeftCardinality(left);
  std::vector<double> u(rows * kRank), v(pair.columns * kRank);
  for (double& x : u) x = rng->Normal();
  for (double& x : v) x = rng->Normal();
  const double scale = weight / std::sqrt(kRank);
  pair.table.resize(size_t{rows} * pair.columns);
  for (uint32_t r = 0; r < rows; ++r) {
    for (uint32_t c = 0; c < pair.columns; ++c) {
      double dot = 0;
      for (uint32_t k = 0; k < kRank; ++k) {
        dot += u[r * kRank + k] * v[c * kRank + k];
      }
      pair.table[size_t{r} * pair.columns + c] =
          static_cast<float>(scale * dot);
    }
  }
  pairs_.push_back(std::move(pair));
}

std::vector<double> ClickModel::AdQuality() const {
  std::vector<double> quality(catalog_.ads().size());
  double sum = 0;
  for (uint32_t i = 0; i < quality.size(); ++i) {
    quality[i] = AdMain(a_, i);
    sum += quality[i];
  }
  const double mean = sum / static_cast<double>(quality.size());
  const double sd = StandardDeviation(quality);
  for (double& q : quality) q = sd > 0 ? (q - mean) / sd : 0;
  return quality;
}

void ClickModel::Fit(absl::Span<const SampledDecision> sample) {
  const std::vector<double> counts = CountValues(sample);
  for (std::vector<float>* effects : {&a_, &b_}) {
    CentreMain(counts, effects);
    ScaleMain(sample, effects);
  }
  for (Pair& pair : pairs_) CentrePair(counts, &pair);
  ScalePairs(sample);
  FitBias(sample);
}

// How often each value weighs in an impression of the sample.
std::vector<double> ClickModel::CountValues(
    absl::Span<const SampledDecision> sample) const {
  std::vector<double> counts(a_.size());
  for (const SampledDecision& d : sample) {
    const double n = static_cast<double>(d.ads.size());
    for (size_t f = 0; f < context_offset_.size(); ++f) {
      counts[context_offset_[f] + d.visit.values[f]] += n;
    }
    for (uint32_t i : d.visit.interest_span()) {
      counts[interests_offset_ + i] += n / d.visit.num_interests;
    }
    for (uint32_t w : d.visit.word_span()) counts[words_offset_ + w] += n;
    for (uint32_t ad : d.ads) {
      for (size_t f = 0; f < ad_offset_.size(); ++f) {
        counts[ad_offset_[f] + catalog_.ads()[ad].values[f]] += 1;
      }
    }
  }
  return counts;
}

void ClickModel::CentreMain(absl::Span<const double> counts,
                            std::vector<float>* effects) {
  const auto centre = [&](uint32_t offset, uint32_t cardinality) {
    double sum = 0, weight = 0;
    for (uint32_t i = offset; i < offset + cardinality; ++i) {
      sum += counts[i] * (*effects)[i];
      weight += counts[i];
    }
    if (weight == 0) return;
    const float mean = static_cast<float>(sum / weight);
    for (uint32_t i = offset; i < offset + cardinality; ++i) {
      (*effects)[i] -= mean;
    }
  };
  for (size_t f = 0; f < context_offset_.size(); ++f) {
    centre(context_offset_[f], fields_.context[f].cardinality);
  }
  centre(interests_offset_, fields_.interests.cardinality);
  centre(words_offset_, fields_.words.cardinality);
  for (size_t f = 0; f < ad_offset_.size(); ++f) {
    centre(ad_offset_[f], fields_.ad[f].cardinality);
  }
}

void ClickModel::CentrePair(absl::Span<const double> counts, Pair* pair) {
  const uint32_t rows = LeftCardinality(pair->left);
  const uint32_t columns = pair->columns;
  const absl::Span<const double> row_weight =
      counts.subspan(LeftOffset(pair->left), rows);
  const absl::Span<const double> column_weight =
      counts.subspan(ad_offset_[pair->right], columns);
  // Each row's mean, then each column's; the first stays 0 after the second
  // because the columns' weighted sum of means is 0 then.
  for (uint32_t r = 0; r < rows; ++r) {
    float* row = &pair->table[size_t{r} * columns];
    double sum = 0, weight = 0;
    for (uint32_t c = 0; c < columns; ++c) {
      sum += column_weight[c] * row[c];
      weight += column_weight[c];
    }
    const float mean = weight > 0 ? static_cast<float>(sum / weight) : 0;
    for (uint32_t c = 0; c < columns; ++c) row[c] -= mean;
  }
  for (uint32_t c = 0; c < columns; ++c) {
    double sum = 0, weight = 0;
    for (uint32_t r = 0; r < rows; ++r) {
      sum += row_weight[r] * pair->table[size_t{r} * columns + c];
      weight += row_weight[r];
    }
    const float mean = weight > 0 ? static_cast<float>(sum / weight) : 0;
    for (uint32_t r = 0; r < rows; ++r) {
      pair->table[size_t{r} * columns + c] -= mean;
    }
  }
}

void ClickModel::ScaleMain(absl::Span<const SampledDecision> sample,
                           std::vector<float>* effects) {
  std::vector<double> sums;
  for (const SampledDecision& d : sample) {
    const double visit = VisitMain(*effects, d.visit);
    for (uint32_t ad : d.ads) sums.push_back(visit + AdMain(*effects, ad));
  }
  Scale(ScaleFactor(sums, config_.main_effect_std()), effects);
}

void ClickModel::ScalePairs(absl::Span<const SampledDecision> sample) {
  std::vector<double> sums;
  for (const SampledDecision& d : sample) {
    for (uint32_t ad : d.ads) sums.push_back(PairSum(d.visit, ad));
  }
  const double factor = ScaleFactor(sums, config_.pair_effect_std());
  for (Pair& pair : pairs_) Scale(factor, &pair.table);
}

// Bisection: the mean probability grows with the bias.
void ClickModel::FitBias(absl::Span<const SampledDecision> sample) {
  std::vector<double> logits;
  DayEffects effects = EffectsOfDay(0);
  for (const SampledDecision& d : sample) {
    if (d.ads.empty()) continue;
    if (d.visit.day != effects.day) effects = EffectsOfDay(d.visit.day);
    const LogitParts parts = Parts(effects, d.visit, d.ads[0], 1);
    logits.push_back(parts.main + parts.pair);
  }
  double low = -30, high = 30;
  for (int i = 0; i < 60; ++i) {
    const double bias = (low + high) / 2;
    double sum = 0;
    for (double logit : logits) sum += Sigmoid(bias + logit);
    (sum < config_.base_ctr() * static_cast<double>(logits.size()) ? low
                                                                   : high) =
        bias;
  }
  bias_ = (low + high) / 2;
}

DayEffects ClickModel::EffectsOfDay(int32_t day) const {
  DayEffects effects;
  effects.day = day;
  const double angle = std::max(0.0, config_.drift_per_day()) * day;
  const double cosine = std::cos(angle), sine = std::sin(angle);
  effects.value.resize(a_.size());
  for (size_t i = 0; i < a_.size(); ++i) {
    effects.value[i] = static_cast<float>(cosine * a_[i] + sine * b_[i]);
  }
  effects.ad_main.resize(catalog_.ads().size());
  for (uint32_t i = 0; i < effects.ad_main.size(); ++i) {
    effects.ad_main[i] = AdMain(effects.value, i);
  }
  return effects;
}

LogitParts ClickModel::Parts(const DayEffects& effects, const Visit& visit,
                             uint32_t ad, uint32_t position) const {
  LogitParts parts;
  parts.main = VisitMain(effects.value, visit) + effects.ad_main[ad];
  parts.pair = PairSum(visit, ad);
  parts.position = config_.position_effect() * (position - 1.0);
  return parts;
}

double ClickModel::VisitMain(absl::Span<const float> effects,
                             const Visit& visit) const {
  double sum = 0;
  for (size_t f = 0; f < context_offset_.size(); ++f) {
    sum += effects[context_offset_[f] + visit.values[f]];
  }
  double interests = 0;
  for (uint32_t i : visit.interest_span()) {
    interests += effects[interests_offset_ + i];
  }
  if (visit.num_interests > 0) sum += interests / visit.num_interests;
  for (uint32_t w : visit.word_span()) sum += effects[words_offset_ + w];
  return sum;
}

double ClickModel::AdMain(absl::Span<const float> effects, uint32_t ad) const {
  double sum = 0;
  for (size_t f = 0; f < ad_offset_.size(); ++f) {
    sum += effects[ad_offset_[f] + catalog_.ads()[ad].values[f]];
  }
  return sum;
}

double ClickModel::PairSum(const Visit& visit, uint32_t ad) const {
  double sum = 0;
  for (const Pair& pair : pairs_) {
    const uint32_t column = catalog_.ads()[ad].values[pair.right];
    const auto effect = [&](uint32_t row) {
      return pair.table[size_t{row} * pair.columns + column];
    };
    if (pair.left == kInterests) {
      double mean = 0;
      for (uint32_t i : visit.interest_span()) mean += effect(i);
      if (visit.num_interests > 0) sum += mean / visit.num_interests;
    } else if (pair.left == kWords) {
      for (uint32_t w : visit.word_span()) sum += effect(w);
    } else {
      sum += effect(visit.values[pair.left]);
    }
  }
  return sum;
}

}  // namespace adrank
