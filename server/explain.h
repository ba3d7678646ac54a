// Why each ad is where it is, for people.
#ifndef ADRANK_SERVER_EXPLAIN_H_
#define ADRANK_SERVER_EXPLAIN_H_

#include "absl/status/status.h"
#include "proto/ranking_service.pb.h"
#include "server/ranking_pipeline.h"
#include "server/why_not.h"

namespace adrank {

// Ranks as `pipeline.Rank` would and explains every ad that was served, then
// every other ad that the request names, each once: outcome with the numbers
// that decided, contributions of the features to the logit, what set the price.
// `sources` may tell more than the ranking knows. Errors are Rank's, with
// "request." before the field. Slow; logs nothing.
absl::Status ExplainRanking(const RankingPipeline& pipeline,
                            const ServingSnapshot& serving,
                            const v1::ExplainRequest& request,
                            const DecisionId& id, const CallOptions& call,
                            const ExplainSources& sources, RankTrace* trace,
                            v1::ExplainResponse* response);

// The part after the ranking: adds to response->ads(). REQUIRES:
// response->response() and *trace are of request.request(). *trace stays as it
// is.
void ExplainAds(const RankingPipeline& pipeline, const ServingSnapshot& serving,
                const v1::ExplainRequest& request,
                const ExplainSources& sources, RankTrace* trace,
                v1::ExplainResponse* response);

}  // namespace adrank

#endif  // ADRANK_SERVER_EXPLAIN_H_
