// The ads that a request may show: from the trigger, or named by the caller.
#ifndef ADRANK_SERVER_CANDIDATES_H_
#define ADRANK_SERVER_CANDIDATES_H_

#include <cstddef>

#include "server/rank_trace.h"

namespace adrank {

// Sets trace->retrieval, candidates and items: at most `limit`, best value
// first (AdIndex::ValueOf); `quota` and min_similarity as in
// AdIndex::RetrieveSources. REQUIRES: CheckQueryEmbedding is OK; trace->context
// and terms are the request's; candidates and items are empty.
void FindCandidates(const AdIndex& index, const v1::RankRequest& request,
                    const SourceQuota& quota, float min_similarity,
                    size_t limit, RankTrace* trace);

// What the model and the log see of a candidate: the message (of an indexed ad
// it is decoded), and as it is logged.
v1::AdSnapshot SnapshotOf(const AdIndex& index, const PredictItem& item);
EncodedAd EncodedOf(const AdIndex& index, const PredictItem& item);

// What the trigger is asked for the request that `trace` is of.
RetrieveRequest AskFor(const v1::RankRequest& request, const RankTrace& trace);

}  // namespace adrank

#endif  // ADRANK_SERVER_CANDIDATES_H_
