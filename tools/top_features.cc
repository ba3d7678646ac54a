#include "tools/top_features.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/embedding_model.h"
#include "model/logistic_model.h"

namespace adrank {
namespace {

void Weigh(const ModelBundle& model, uint32_t row, TopFeature* out) {
  if (const LogisticModel* logistic = model.logistic()) {
    out->weight = logistic->weight(row);
    return;
  }
  const EmbeddingView& weights = model.embedding()->weights();
  if (!weights.linear().empty()) out->weight = weights.linear()[row];
  std::vector<float> vector(weights.dim());
  out->norm = std::sqrt(weights.AddTo(row, 1, weights.dim(), vector.data()));
}

}  // namespace

std::vector<TopFeature> TopFeatures(const ModelBundle& model,
                                    const std::vector<FeatureName>& names,
                                    const std::string& field, uint64_t min_rows,
                                    size_t n) {
  std::vector<TopFeature> top;
  for (const FeatureName& name : names) {
    if (name.rows < min_rows) continue;
    if (!field.empty() &&
        !absl::StartsWith(name.text, absl::StrCat(field, "=")) &&
        !absl::StartsWith(name.text, absl::StrCat(field, ":"))) {
      continue;
    }
    const uint32_t row = model.vocabulary().Row(0xffff, name.id);
    if (row == kNoRow) continue;
    TopFeature feature;
    feature.text = name.text;
    feature.rows = name.rows;
    Weigh(model, row, &feature);
    top.push_back(std::move(feature));
  }
  std::stable_sort(top.begin(), top.end(),
                   [](const TopFeature& a, const TopFeature& b) {
                     const double x = std::abs(a.weight);
                     const double y = std::abs(b.weight);
                     return x != y ? x > y : a.norm > b.norm;
                   });
  if (top.size() > n) top.resize(n);
  return top;
}

}  // namespace adrank
