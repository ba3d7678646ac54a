// The server's own log seen from another policy, as choices to estimate from.
#ifndef ADRANK_TOOLS_REPLAYED_LOG_H_
#define ADRANK_TOOLS_REPLAYED_LOG_H_

#include <cstdint>
#include <map>
#include <string>

#include "proto/policy_service.pb.h"
#include "tools/off_policy.h"

namespace adrank {

// Decisions that PolicyService replayed, by what is asked of them.
struct ReplayedLog {
  LoggedChoices clicks;
  LoggedChoices revenue;
  // Decisions that were not replayed, by verdict ("CATALOG_CHANGED").
  std::map<std::string, uint64_t> left_out;
};

// One more decision. REQUIRES: propensities are above 0 where it was replayed.
void AddReplayed(const v1::ReplayedDecision& decision, Interaction interaction,
                 ReplayedLog* log);

}  // namespace adrank

#endif  // ADRANK_TOOLS_REPLAYED_LOG_H_
