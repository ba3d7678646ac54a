// Recall@winner: does a limit of candidates lose the ad that would have won?
#ifndef ADRANK_STORAGE_RECALL_H_
#define ADRANK_STORAGE_RECALL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/events.pb.h"
#include "proto/ranking_service.pb.h"
#include "proto/recall_report.pb.h"
#include "storage/event_log_reader.h"

namespace adrank {

// Up to `n` decisions of [begin_ms, end_ms), each as likely (reservoir
// sampling, Vitter 1985, algorithm R), the same for the same seed and log.
// Without test traffic and without those whose candidates the caller named;
// fewer than n when these are most of 4 n. Reads the range, parses 4 n of it.
absl::StatusOr<std::vector<v1::Decision>> SampleDecisions(EventLogReader* log,
                                                          int64_t begin_ms,
                                                          int64_t end_ms,
                                                          size_t n,
                                                          uint64_t seed);

// Compares first places. An ad that wins among all wins among any candidates
// that it is one of, so it is inside a limit exactly when it wins there too.
class RecallCounter {
 public:
  explicit RecallCounter(absl::Span<const uint32_t> limits);

  // The answer without a limit, then with each of the limits.
  void Add(const v1::RankResponse& all,
           absl::Span<const v1::RankResponse> limited);
  v1::RecallReport Report() const;

 private:
  struct Count {
    uint32_t winners = 0, inside = 0;
  };
  v1::RecallReport report_;
  const std::vector<uint32_t> limits_;
  // [limits] by match type.
  std::vector<std::map<v1::MatchType, Count>> counts_;
};

// Asks again with each limit; `ask` is the server's Explain or Rank.
absl::StatusOr<v1::RecallReport> MeasureRecall(
    absl::Span<const v1::Decision> decisions, absl::Span<const uint32_t> limits,
    const std::function<
        absl::StatusOr<v1::RankResponse>(const v1::RankRequest& request)>& ask);

}  // namespace adrank

#endif  // ADRANK_STORAGE_RECALL_H_
