// Hot path (all but Explain): no allocation, no locks, no logging.
#include "model/logistic_model.h"

#include <algorithm>

#include "base/log.h"

namespace adrank {

// Sum over entries [begin, end) in their order. A float times a float is exact
// in double, so only the additions round.
double LogisticModel::Sum(const FeatureBatch& batch,
                          const std::vector<uint32_t>& rows, size_t begin,
                          size_t end) const {
  double sum = 0;
  for (size_t e = begin; e < end; ++e) {
    const uint32_t row = rows[e];
    if (row == kNoRow) continue;
    sum += static_cast<double>(weights_[row]) *
           static_cast<double>(batch.values[e]);
  }
  return sum;
}

void LogisticModel::Prefetch(const std::vector<uint32_t>& rows, size_t begin,
                             size_t end) const {
  for (size_t e = begin; e < std::min(end, rows.size()); ++e) {
    if (rows[e] != kNoRow) __builtin_prefetch(&weights_[rows[e]]);
  }
}

void LogisticModel::Logits(const RequestFeatures& features,
                           const RequestRows& rows,
                           absl::Span<float> logits) const {
  const FeatureBatch& ads = features.ads;
  const FeatureBatch& crosses = features.crosses;
  DCHECK_EQ(logits.size(), features.candidates());
  DCHECK_EQ(rows.ads.size(), ads.ids.size());
  DCHECK_EQ(rows.crosses.size(), crosses.ids.size());
  Prefetch(rows.context, 0, rows.context.size());
  const double context =
      Sum(features.context, rows.context, 0, rows.context.size());
  const double base = static_cast<double>(bias_) + context;
  for (size_t i = 0; i < logits.size(); ++i) {
    // The rows of the candidate after next are on their way while this and the
    // next one are summed.
    if (i + 2 < logits.size()) {
      Prefetch(rows.ads, ads.offsets[i + 2], ads.offsets[i + 3]);
      Prefetch(rows.crosses, crosses.offsets[i + 2], crosses.offsets[i + 3]);
    }
    const double ad = Sum(ads, rows.ads, ads.offsets[i], ads.offsets[i + 1]);
    const double cross =
        Sum(crosses, rows.crosses, crosses.offsets[i], crosses.offsets[i + 1]);
    logits[i] = static_cast<float>(base + ad + cross);
  }
}

Explanation LogisticModel::Explain(const RequestFeatures& features,
                                   const RequestRows& rows, size_t i) const {
  Explanation result;
  result.base = static_cast<double>(bias_);
  std::vector<float> logits(features.candidates());
  Logits(features, rows, absl::MakeSpan(logits));
  result.logit = logits[i];
  std::vector<uint32_t> table_rows;
  result.contributions = FullRow(features, rows, i, &table_rows);
  for (Contribution& c : result.contributions) {
    c.weight = weight(table_rows[c.entry]);
    c.contribution =
        static_cast<double>(c.weight) * static_cast<double>(c.value);
  }
  CloseExplanation(&result);
  return result;
}

}  // namespace adrank
