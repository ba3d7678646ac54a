#include "trainer/sample_rows.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/rng.h"
#include "base/status_macros.h"
#include "trainer/labelled_decision.h"

namespace adrank {
namespace {

std::vector<uint32_t> Draw(size_t rows, size_t n, uint64_t seed) {
  std::vector<std::pair<uint64_t, uint32_t>> hashed;
  for (uint32_t r = 0; r < rows; ++r) {
    hashed.emplace_back(MixBits(seed ^ MixBits(r)), r);
  }
  const size_t kept = std::min(n, rows);
  std::nth_element(hashed.begin(),
                   hashed.begin() + static_cast<std::ptrdiff_t>(kept),
                   hashed.end());
  std::vector<uint32_t> drawn;
  for (size_t i = 0; i < kept; ++i) drawn.push_back(hashed[i].second);
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

}  // namespace

absl::StatusOr<std::vector<SampledRow>> SampleRows(const EvaluationRows& rows,
                                                   size_t n, uint64_t seed,
                                                   EventLogReader* reader) {
  std::vector<SampledRow> sample;
  v1::Decision decision;
  std::optional<uint32_t> read;  // the decision above
  for (const uint32_t r : Draw(rows.size(), n, seed)) {
    if (read != rows.decision[r]) {
      ASSIGN_OR_RETURN(decision,
                       reader->GetDecision(rows.decisions[rows.decision[r]]));
      read = rows.decision[r];
    }
    const v1::ServedAd& served = decision.ads(rows.ads[r]);
    SampledRow row;
    ASSIGN_OR_RETURN(row.ad, reader->GetSnapshot(served.ad_hash()));
    row.context = decision.context();
    const auto placement = static_cast<int>(served.placement_index());
    if (placement < decision.placement_ids_size()) {
      row.placement = decision.placement_ids(placement);
    }
    row.position = LoggedPosition(served);
    row.label = rows.labels[r];
    sample.push_back(std::move(row));
  }
  return sample;
}

}  // namespace adrank
