// Between the auction and the admissions (server/admission.h): what the slots
// need is asked for, and what is refused is kept out of the next round.
#ifndef ADRANK_SERVER_ADMIT_H_
#define ADRANK_SERVER_ADMIT_H_

#include "server/rank_trace.h"

namespace adrank {

// Takes what the slots of trace->auction need from all of call.admissions.
// False, and trace->refusals says what, when one refused; then nothing stays
// taken.
bool ReserveAll(const AdIndex& index, const DecisionId& id,
                const CallOptions& call, RankTrace* trace);

// Keeps the refused ads out of the next auction (trace->excluded), and the
// others of their groups or campaigns except for those that hold slots of this
// round. The decision keeps the refusals.
void ExcludeRefused(const AdIndex& index, RankTrace* trace,
                    v1::Decision* decision);

}  // namespace adrank

#endif  // ADRANK_SERVER_ADMIT_H_
