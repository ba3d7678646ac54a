#include "trainer/labelled_decision.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "features/feature_extractor.h"

namespace adrank {

absl::Status LabelledDecision::Read(const JoinedRecord& record) {
  if (!record.has_decision()) {
    JoinLabels(record, nullptr, options_, &counts_, &examples_);
    return absl::OkStatus();
  }
  if (!record.Parse(&decision_)) {
    return absl::DataLossError(
        absl::StrCat("decision ", record.id.ToHex(), " is damaged"));
  }
  JoinLabels(record, &decision_, options_, &counts_, &examples_);
  return absl::OkStatus();
}

uint64_t HashDecision(const DecisionId& id, uint64_t seed) {
  const uint64_t rest = (uint64_t{id.node} << 32) | id.sequence;
  return MixBits(MixBits(MixBits(seed) ^ id.ms) ^ rest);
}

void AppendRow(const FeatureBatch& from, size_t row, FeatureBatch* to) {
  for (uint32_t e = from.offsets[row]; e < from.offsets[row + 1]; ++e) {
    to->Add(from.fields[e], from.ids[e], from.values[e]);
  }
  to->EndRow();
}

uint32_t LoggedPosition(const v1::ServedAd& ad) {
  return ad.position_in_placement() > 0 ? ad.position_in_placement()
                                        : kServingPosition;
}

}  // namespace adrank
