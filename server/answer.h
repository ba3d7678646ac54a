// From what a request went through to its answer and to the decision that the
// log keeps.
#ifndef ADRANK_SERVER_ANSWER_H_
#define ADRANK_SERVER_ANSWER_H_

#include "proto/ranking_service.pb.h"
#include "server/rank_trace.h"
#include "server/serving_state.h"

namespace adrank {

// Fills outcome->response (whose ids are set) but for its timings,
// outcome->decision but for its config_fingerprint, and outcome->ads.
void FillAnswer(const ServingSnapshot& serving, const v1::RankRequest& request,
                const RankTrace& trace, RankOutcome* outcome);

// The whole response, from the items and their prediction.
void FillPredictions(const ServingSnapshot& serving, const RankTrace& trace,
                     v1::PredictResponse* response);

}  // namespace adrank

#endif  // ADRANK_SERVER_ANSWER_H_
