#include "model/explain.h"

namespace adrank {
namespace {

void Append(const LogisticModel& model, const FeatureBatch& batch,
            const std::vector<uint32_t>& rows, size_t row,
            std::vector<Contribution>* out) {
  for (size_t e = batch.offsets[row]; e < batch.offsets[row + 1]; ++e) {
    Contribution c;
    c.entry = static_cast<uint32_t>(out->size());
    c.field = batch.fields[e];
    c.value = batch.values[e];
    c.weight = model.weight(rows[e]);
    c.contribution = static_cast<double>(c.weight) * c.value;
    out->push_back(c);
  }
}

}  // namespace

std::vector<Contribution> Explain(const LogisticModel& model,
                                  const RequestFeatures& features,
                                  const RequestRows& rows, size_t i) {
  std::vector<Contribution> result;
  Append(model, features.context, rows.context, 0, &result);
  Append(model, features.ads, rows.ads, i, &result);
  Append(model, features.crosses, rows.crosses, i, &result);
  return result;
}

}  // namespace adrank
