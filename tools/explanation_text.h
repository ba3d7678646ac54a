// An explanation of a logit, for people.
#ifndef ADRANK_TOOLS_EXPLANATION_TEXT_H_
#define ADRANK_TOOLS_EXPLANATION_TEXT_H_

#include <string>

#include "proto/ranking_service.pb.h"

namespace adrank {

// Features that get a line of their own.
inline constexpr int kExplainedFeatures = 15;

// One line a feature, in the order given (the server's: largest first): what it
// adds to the logit, and the factor that this is of the odds of a click. Those
// after the first kExplainedFeatures are summed up in one line. The last line
// has the base, the logit, the method and the gap.
//
//   city=Berlin        +0.42  (x1.52 odds)
std::string ContributionsText(const v1::AdExplanation& ad);

}  // namespace adrank

#endif  // ADRANK_TOOLS_EXPLANATION_TEXT_H_
