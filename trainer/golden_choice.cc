#include "trainer/golden_choice.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "trainer/labelled_decision.h"

namespace adrank {
namespace {

// Of the ads of the first ad's placement whose snapshots are in the log.
absl::StatusOr<v1::GoldenExample> ExampleOf(v1::Decision decision,
                                            EventLogReader* reader) {
  v1::GoldenExample example;
  *example.mutable_context() = std::move(*decision.mutable_context());
  const uint32_t placement =
      decision.ads().empty() ? 0 : decision.ads(0).placement_index();
  if (placement < static_cast<uint32_t>(decision.placement_ids_size())) {
    example.set_placement_id(
        decision.placement_ids(static_cast<int>(placement)));
  }
  for (const v1::ServedAd& served : decision.ads()) {
    if (served.placement_index() != placement ||
        example.ads_size() == kGoldenAds) {
      continue;
    }
    auto snapshot = reader->GetSnapshot(served.ad_hash());
    if (absl::IsNotFound(snapshot.status())) continue;
    RETURN_IF_ERROR(snapshot.status());
    *example.add_ads() = *std::move(snapshot);
  }
  return example;
}

}  // namespace

absl::StatusOr<std::vector<v1::GoldenExample>> ChooseGolden(
    absl::Span<const DecisionId> decisions, uint64_t seed,
    EventLogReader* reader) {
  std::vector<std::pair<uint64_t, DecisionId>> chosen;
  for (const DecisionId& id : decisions) {
    chosen.emplace_back(HashDecision(id, seed), id);
  }
  const size_t n = std::min(kGoldenDecisions, chosen.size());
  std::partial_sort(chosen.begin(),
                    chosen.begin() + static_cast<std::ptrdiff_t>(n),
                    chosen.end());
  std::vector<v1::GoldenExample> golden;
  for (size_t i = 0; i < n; ++i) {
    ASSIGN_OR_RETURN(v1::Decision decision,
                     reader->GetDecision(chosen[i].second));
    ASSIGN_OR_RETURN(v1::GoldenExample example,
                     ExampleOf(std::move(decision), reader));
    if (example.ads_size() > 0) golden.push_back(std::move(example));
  }
  v1::GoldenExample unknown_ad, empty_context;
  if (!golden.empty()) {
    unknown_ad = golden[0];
    unknown_ad.clear_ads();
  }
  unknown_ad.add_ads()->set_ad_id("adrank:unknown");
  empty_context.add_ads()->set_ad_id("adrank:unknown");
  golden.push_back(std::move(unknown_ad));
  golden.push_back(std::move(empty_context));
  return golden;
}

}  // namespace adrank
