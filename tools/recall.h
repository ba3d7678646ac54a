// What a report on recall@winner says to people.
#ifndef ADRANK_TOOLS_RECALL_H_
#define ADRANK_TOOLS_RECALL_H_

#include <string>

#include "proto/recall_report.pb.h"

namespace adrank {

// A table, and what was left out.
std::string RecallText(const v1::RecallReport& report);

}  // namespace adrank

#endif  // ADRANK_TOOLS_RECALL_H_
