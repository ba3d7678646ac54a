// A training report for people, for programs and for Prometheus.
#ifndef ADRANK_TRAINER_REPORT_H_
#define ADRANK_TRAINER_REPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"
#include "proto/training_report.pb.h"

namespace adrank {

// Protobuf's JSON with the names of the proto and every field that has a value;
// NaN is "NaN". The same report always gives the same text.
absl::StatusOr<std::string> ReportJson(
    const google::protobuf::Message& report);

// Tables of at most 80 columns: verdict and reasons, windows, join, candidate
// against live model, the largest slices. Times in `zone`.
std::string ReportText(const v1::TrainingReport& report, absl::TimeZone zone);

// What a run ended as, in the metrics' label.
//   "published" | "kept" | "nothing_to_train" | "failed"
absl::string_view OutcomeName(v1::TrainingReport::Verdict verdict);

// Prometheus text for node_exporter's textfile collector. Counters continue
// those of `previous` (the file's old text; empty at first). `report` is null
// for a run that failed.
std::string MetricsText(const std::string& model_name,
                        const v1::TrainingReport* report,
                        absl::string_view previous, absl::Time now);

}  // namespace adrank

#endif  // ADRANK_TRAINER_REPORT_H_
