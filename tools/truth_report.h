// Holds an event log against the planted truth of its market.
#ifndef ADRANK_TOOLS_TRUTH_REPORT_H_
#define ADRANK_TOOLS_TRUTH_REPORT_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "absl/status/statusor.h"
#include "model/model_bundle.h"
#include "proto/simulate_report.pb.h"
#include "tools/market.h"

namespace adrank {

struct TruthReportOptions {
  std::string data_dir;
  // Days of the visits (context.time_ms), both included.
  int32_t from_day = 0;
  int32_t to_day = std::numeric_limits<int32_t>::max();
  // A click later than this after its impression is none, as in training.
  int64_t attribution_window_ms = 86400000;
  // Share of decisions, by hash of their id, whose regret is computed: it costs
  // some 30 us a decision.
  double regret_share = 1;
};

// Reads the log (a server may be writing it) once. Rows are impressions of
// decisions of this market; `bundle`, which may be null, predicts them at their
// logged positions. NotFound when no impression is left. Keeps 18 bytes a row.
absl::StatusOr<v1::TruthReport> MakeTruthReport(
    const Market& market, const TruthReportOptions& options,
    const ModelBundle* bundle,
    const std::function<void(uint64_t decisions)>& progress);

// Tables for people.
std::string PrintTruthReport(const v1::TruthReport& report);

}  // namespace adrank

#endif  // ADRANK_TOOLS_TRUTH_REPORT_H_
