// Some rows of the evaluation window with all that features are made of.
#ifndef ADRANK_TRAINER_SAMPLE_ROWS_H_
#define ADRANK_TRAINER_SAMPLE_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/common.pb.h"
#include "storage/event_log_reader.h"
#include "trainer/evaluation_scan.h"

namespace adrank {

struct SampledRow {
  v1::Context context;
  std::string placement;
  v1::AdSnapshot ad;
  uint32_t position = 1;
  uint8_t label = 0;
};

// At most `n` rows, each as likely (by hash of `seed` and the row's number), in
// the log's order. Errors are the reader's.
absl::StatusOr<std::vector<SampledRow>> SampleRows(const EvaluationRows& rows,
                                                   size_t n, uint64_t seed,
                                                   EventLogReader* reader);

}  // namespace adrank

#endif  // ADRANK_TRAINER_SAMPLE_ROWS_H_
