#include "tools/recall.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/table.h"

namespace adrank {

std::string RecallText(const v1::RecallReport& report) {
  Table table({"candidates", "source", "winners", "inside", "recall"});
  for (const v1::RecallReport::Limit& limit : report.limits()) {
    for (const v1::RecallReport::Source& s : limit.sources()) {
      table.Add({absl::StrCat(limit.max_candidates()),
                 s.match_type().empty() ? "all" : s.match_type(),
                 absl::StrCat(s.winners()), absl::StrCat(s.inside()),
                 absl::StrFormat("%.4f", s.recall())});
    }
  }
  std::string text = table.Print();
  absl::StrAppend(&text, report.decisions(),
                  " decisions: ", report.placements(), " placements compared, ",
                  report.empty(), " empty, ", report.explored(), " explored, ",
                  report.deadline(), " decisions cut by the deadline\n");
  if (report.truncated() > 0) {
    absl::StrAppend(&text, report.truncated(),
                    " decisions have more matches than the server's "
                    "limits.max_candidates: their winner is that of the "
                    "most valuable candidates only\n");
  }
  return text;
}

}  // namespace adrank
