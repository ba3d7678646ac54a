// How many recent requests a change of the catalogue would reach.
#ifndef ADRANK_SERVER_REACH_H_
#define ADRANK_SERVER_REACH_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "proto/catalog.pb.h"
#include "proto/catalog_service.pb.h"
#include "proto/events.pb.h"
#include "server/trigger/ad_index.h"

namespace adrank {

// Recent requests that are looked at, at most.
inline constexpr uint32_t kReachRequests = 2000;

struct ReachOptions {
  AdIndexOptions index;  // the server's
  // What a vector must be among the nearest of: the served catalogue's, so many
  // at least so similar (the server's). Null: it need only be so similar.
  const AdIndex* live = nullptr;
  size_t max_candidates = 2000;
  float min_similarity = 0;
};

// Fills in requests_sampled, _matched and _eligible of the good results for
// campaigns and ad groups of `affected` (ApplyResult.affected). Of `decisions`,
// those count that were no test and where the trigger was asked (the caller
// named no candidates); the walk ends early when `stop` says so.
//
// Matched: the targeting of campaign and ad group and, where there are any, the
// keywords match the request, or the targeting alone and an ad's vector is
// among the nearest to the request's. Eligible: it would have had an ad to
// show, too: no negative keyword matches, nothing on the way down is paused,
// nothing is blocked by the request. Of a campaign, one of its ad groups must.
// The schedule of the campaign is not asked: these requests are past, the
// campaign's days may be to come. Nor are budgets, caps and the auction.
absl::Status EstimateReach(const v1::Catalog& affected,
                           absl::Span<const v1::Decision> decisions,
                           const std::function<bool()>& stop,
                           v1::MutateResponse* response,
                           const ReachOptions& options = {});

}  // namespace adrank

#endif  // ADRANK_SERVER_REACH_H_
