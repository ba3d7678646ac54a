// Whether a candidate may replace the live model. Pure.
#ifndef ADRANK_TRAINER_GATE_H_
#define ADRANK_TRAINER_GATE_H_

#include <string>
#include <vector>

#include "proto/trainer_config.pb.h"
#include "proto/training_report.pb.h"

namespace adrank {

struct GateDecision {
  bool publish = false;
  // Refused: every bound that does not hold. Else: every bound that was looked
  // at. Each a sentence with its numbers.
  std::vector<std::string> reasons;
};

// Judges report.candidate by every bound of the (resolved) config; where
// report.incumbent is present, also against it: the relative NE increase, and
// the bootstrap interval of delta_ne. report.bundle_bytes is the candidate's
// size. A metric of the candidate that is not finite never satisfies a bound;
// an incumbent's, and an interval that could not be drawn, bound nothing. Of
// the bounds from min_auc on, one that is 0 or that the report has nothing for
// is not looked at.
GateDecision Decide(const v1::GateConfig& config,
                    const v1::TrainingReport& report);

// A sentence about the share of events with implausible dates when it is above
// `max_share`; empty when it is not.
std::string SkewReason(const v1::JoinCounts& join, double max_share);

// A sentence about the score shift when it is worth a look; else empty.
std::string ShiftNote(const v1::TrainingReport& report);

}  // namespace adrank

#endif  // ADRANK_TRAINER_GATE_H_
