// A record of the log as a worker of the trainer sees it.
#ifndef ADRANK_TRAINER_LABELLED_DECISION_H_
#define ADRANK_TRAINER_LABELLED_DECISION_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "features/feature_batch.h"
#include "proto/events.pb.h"
#include "proto/training_report.pb.h"
#include "storage/decision_id.h"
#include "storage/event_log_reader.h"
#include "trainer/label_joiner.h"

namespace adrank {

// Parses and labels one record after the other into the same memory. Not
// thread-safe: one a worker.
class LabelledDecision {
 public:
  explicit LabelledDecision(const LabelOptions& options) : options_(options) {}

  // DataLoss, naming the decision, when its bytes are damaged.
  absl::Status Read(const JoinedRecord& record);

  // Valid until the next Read, where examples() is not empty.
  const v1::Decision& decision() const { return decision_; }
  // The seen ads.
  const std::vector<LabelledAd>& examples() const { return examples_; }
  const v1::ServedAd& served(const LabelledAd& example) const {
    return decision_.ads(static_cast<int>(example.ad));
  }
  // Empty when the index names none.
  absl::string_view placement(uint32_t index) const {
    return index < static_cast<uint32_t>(decision_.placement_ids_size())
               ? absl::string_view(
                     decision_.placement_ids(static_cast<int>(index)))
               : absl::string_view();
  }

  // Of all records read.
  const v1::JoinCounts& counts() const { return counts_; }
  // An example turned out to have no snapshot.
  void CountMissingSnapshot() {
    counts_.set_examples(counts_.examples() - 1);
    counts_.set_missing_snapshots(counts_.missing_snapshots() + 1);
  }

 private:
  const LabelOptions options_;
  v1::Decision decision_;
  std::vector<LabelledAd> examples_;
  v1::JoinCounts counts_;
};

// Frozen: decides samples and groups of published models. Uniform over ids for
// each seed.
uint64_t HashDecision(const DecisionId& id, uint64_t seed);

// Uniform in [0, 1) from a hash.
inline double ToUnit(uint64_t hash) {
  return static_cast<double>(hash >> 11) * 0x1.0p-53;
}

// *to gets `row` of `from` as a new row.
void AppendRow(const FeatureBatch& from, size_t row, FeatureBatch* to);

// The position that features of the logged ad are extracted with: that in its
// placement; kServingPosition when the log does not know it.
uint32_t LoggedPosition(const v1::ServedAd& ad);

}  // namespace adrank

#endif  // ADRANK_TRAINER_LABELLED_DECISION_H_
