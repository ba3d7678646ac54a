// What was served + what was reported of it -> labelled examples.
#ifndef ADRANK_TRAINER_LABEL_JOINER_H_
#define ADRANK_TRAINER_LABEL_JOINER_H_

#include <cstdint>
#include <vector>

#include "proto/events.pb.h"
#include "proto/training_report.pb.h"
#include "storage/event_log_reader.h"

namespace adrank {

struct LabelOptions {
  // A click this much or less after its impression makes the label positive.
  int64_t attribution_window_ms = 86'400'000;
  // An ad without an impression event counts as seen when it was served.
  bool served_is_seen = false;
};

// One ad of a decision that was seen.
struct LabelledAd {
  uint32_t ad = 0;  // index into Decision.ads
  bool clicked = false;
};

// Fills *examples (cleared first; in the order of the decision's ads) and adds
// the record to *counts, so that its sums hold (v1::JoinCounts).
//
// `decision` is null when the log has only events of this id: all are orphans,
// as is an event at a position that no ad has. Of two ads at one position the
// first has the events. A click that is said to have happened before its
// impression is inside the window: the clocks of two clients differ. With
// served_is_seen the time of the decision's id stands for that of a missing
// impression.
//
// Pure: no clock, no state but *counts.
void JoinLabels(const JoinedRecord& record, const v1::Decision* decision,
                const LabelOptions& options, v1::JoinCounts* counts,
                std::vector<LabelledAd>* examples);

// *to += from, field by field.
void AddCounts(const v1::JoinCounts& from, v1::JoinCounts* to);

}  // namespace adrank

#endif  // ADRANK_TRAINER_LABEL_JOINER_H_
