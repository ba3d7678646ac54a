// Foreign logs -> decisions and events in the event log.
#ifndef ADRANK_TOOLS_IMPORTER_H_
#define ADRANK_TOOLS_IMPORTER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/import_mapping.pb.h"
#include "storage/event_log.h"

namespace adrank {

// Every row is in exactly one of rows_bad, impressions, duplicate_impressions,
// joined_clicks, duplicate_clicks, orphan_clicks.
struct ImportCounts {
  uint64_t rows = 0;
  uint64_t rows_bad = 0;
  uint64_t impressions = 0;
  // Of the impressions, those whose label says "clicked".
  uint64_t labelled_clicks = 0;
  // Rows with the id of an earlier impression.
  uint64_t duplicate_impressions = 0;
  // Rows of click files: the first click of an imported impression, a repeated
  // one, and one whose impression is not among the input. Orphans are written
  // to the log too, where the trainer counts them.
  uint64_t joined_clicks = 0;
  uint64_t duplicate_clicks = 0;
  uint64_t orphan_clicks = 0;
  uint64_t decisions = 0;
};

struct ImportInput {
  std::vector<std::string> impressions;
  // Needs mapping.separate_clicks.
  std::vector<std::string> clicks;
};

struct ImportObserver {
  // "FILE:LINE: reason" of a bad row; the first max_bad_reported of them.
  std::function<void(const std::string&)> bad_row;
  // Called now and then with the counts so far, the file being read and the
  // share of all files' bytes that was read.
  std::function<void(const ImportCounts&, const std::string&, double)> progress;
};

// InvalidArgument names the field of the mapping that is wrong.
absl::Status ValidateMapping(const v1::ImportMapping& mapping);

// Opens every file and looks for its columns, so that a mistake in the last one
// is found before the first is imported (a pipe is left alone, it can be read
// once). NotFound or InvalidArgument.
absl::Status CheckInput(const v1::ImportMapping& mapping,
                        const ImportInput& input);

// Imports all files in order and flushes the log.
//
// Each impression row becomes a decision with one ad and an impression event;
// adjacent rows with the same REQUEST_ID and time become one decision with
// several ads. The decision's id is the row's time and a hash of the row's id
// (or of its line number and bytes), so that importing the same files again
// changes nothing.
//
// Stops with FailedPrecondition, nothing of the current batch written, when
// more than max_bad_share of at least 1000 rows (or of all rows, at the end) is
// bad.
absl::Status Import(const v1::ImportMapping& mapping, const ImportInput& input,
                    const ImportObserver& observer, EventLog* log,
                    ImportCounts* counts);

}  // namespace adrank

#endif  // ADRANK_TOOLS_IMPORTER_H_
