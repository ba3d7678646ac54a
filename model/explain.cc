#include "model/explain.h"

#include "model/model.h"

namespace adrank {
namespace {

void Append(const FeatureBatch& batch, const std::vector<uint32_t>& rows,
            size_t row, std::vector<Contribution>* out,
            std::vector<uint32_t>* table_rows) {
  for (size_t e = batch.offsets[row]; e < batch.offsets[row + 1]; ++e) {
    Contribution c;
    c.entry = static_cast<uint32_t>(out->size());
    c.field = batch.fields[e];
    c.value = batch.values[e];
    out->push_back(c);
    table_rows->push_back(rows[e]);
  }
}

}  // namespace

std::vector<Contribution> FullRow(const RequestFeatures& features,
                                  const RequestRows& rows, size_t i,
                                  std::vector<uint32_t>* table_rows) {
  std::vector<Contribution> result;
  table_rows->clear();
  Append(features.context, rows.context, 0, &result, table_rows);
  Append(features.ads, rows.ads, i, &result, table_rows);
  Append(features.crosses, rows.crosses, i, &result, table_rows);
  return result;
}

void CloseExplanation(Explanation* explanation) {
  double sum = explanation->base;
  for (const Contribution& c : explanation->contributions) {
    sum += c.contribution;
  }
  explanation->gap = static_cast<double>(explanation->logit) - sum;
}

}  // namespace adrank
