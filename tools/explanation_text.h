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

// Where an ad that was not served ended and by how much, money in units; empty
// for one that was:
//
//   stopped at rank: needed bid 1.37, had 1.12
std::string StageText(const v1::AdExplanation& ad);

// How the score came about, and the price:
//
//   pctr 0.01200 x bid 1.12 x pacing 0.80 = score 0.010752, price 0.90: reserve
std::string ScoreText(const v1::AdExplanation& ad);

}  // namespace adrank

#endif  // ADRANK_TOOLS_EXPLANATION_TEXT_H_
