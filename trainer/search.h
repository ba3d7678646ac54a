// A search of hyper-parameters over examples that are packed once.
#ifndef ADRANK_TRAINER_SEARCH_H_
#define ADRANK_TRAINER_SEARCH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/search_report.pb.h"
#include "proto/trainer_config.pb.h"
#include "trainer/search_space.h"
#include "trainer/step_progress.h"
#include "trainer/training_run.h"

namespace adrank {

// Files of a search, in the model's folder.
inline constexpr char kSearchTableFile[] = "search.tsv";
inline constexpr char kSearchReportFile[] = "search.json";
inline constexpr char kBestConfigFile[] = "best.trainer.textproto";

// Learns and judges the trials by successive halving; a trial that goes on does
// so from its checkpoint, in the folder `scratch` (made, and removed). All but
// the seconds is a function of the plans and of the examples. A trial that
// fails (weights that are not finite) is in the table and does not end the
// search.
absl::StatusOr<v1::SearchReport> SearchPacked(
    const v1::SearchConfig& search, const std::vector<TrialPlan>& plans,
    const PackedLog& packed, const std::string& scratch,
    StepProgress* progress);

// Reads and packs the log, searches and writes the three files. `written` is
// as it was read, not resolved. Without trials when there is nothing to learn.
absl::StatusOr<v1::SearchReport> RunSearch(const v1::TrainerConfig& written,
                                           StepProgress* progress);

// One line a trial below one of names, separated by tabs.
std::string SearchTable(const v1::SearchReport& report);
// The same, aligned for people.
std::string SearchText(const v1::SearchReport& report);

}  // namespace adrank

#endif  // ADRANK_TRAINER_SEARCH_H_
