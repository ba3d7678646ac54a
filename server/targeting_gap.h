// Which condition of a targeting expression a request fails, in words and
// numbers.
#ifndef ADRANK_SERVER_TARGETING_GAP_H_
#define ADRANK_SERVER_TARGETING_GAP_H_

#include <optional>
#include <string>

#include "proto/catalog.pb.h"
#include "proto/common.pb.h"

namespace adrank {

struct TargetingGap {
  // "country is one of \"DE\", \"AT\"; the request has \"FR\"".
  std::string text;
  // Of a range: the bound that was missed and the number nearest to it.
  double needed = 0, had = 0;
};

// The first condition that makes the expression false for the context, in the
// order in which TargetingSet looks for it; absent when it is true, or not
// valid. Truth is TargetingSet's. Slow.
std::optional<TargetingGap> FindTargetingGap(
    const v1::TargetingExpression& expression, const v1::Context& context);

}  // namespace adrank

#endif  // ADRANK_SERVER_TARGETING_GAP_H_
