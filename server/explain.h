// Why each ad is where it is, for people.
#ifndef ADRANK_SERVER_EXPLAIN_H_
#define ADRANK_SERVER_EXPLAIN_H_

#include "absl/status/status.h"
#include "proto/ranking_service.pb.h"
#include "server/ranking_pipeline.h"

namespace adrank {

// Ranks as `pipeline.Rank` would and explains every ad that was served, then
// every other ad that the request names, each once: outcome with the numbers
// that decided, contributions of the features to the logit, what set the price.
// Errors are Rank's, with "request." before the field. Slow; logs nothing.
absl::Status ExplainRanking(const RankingPipeline& pipeline,
                            const ServingSnapshot& serving,
                            const v1::ExplainRequest& request,
                            const DecisionId& id, const CallOptions& call,
                            RankTrace* trace, v1::ExplainResponse* response);

}  // namespace adrank

#endif  // ADRANK_SERVER_EXPLAIN_H_
