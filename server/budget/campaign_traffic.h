// What became of each campaign in the requests that it could have answered:
// served, lost for want of budget, lost to higher scores. What pacing forecasts
// traffic by, and impression shares are made of.
#ifndef ADRANK_SERVER_BUDGET_CAMPAIGN_TRAFFIC_H_
#define ADRANK_SERVER_BUDGET_CAMPAIGN_TRAFFIC_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace adrank {

class AdIndex;
struct RankTrace;

// Since the start of the process.
struct TrafficCounts {
  // Requests for which one of its ads was a candidate, or would have been with
  // a budget. Each is one of: served, lost to the budget, lost to rank (the
  // rest).
  uint64_t eligible = 0;
  uint64_t served = 0;
  // No budget was left for it, or pacing left the request out, or its best ad
  // would have been shown at the whole bid (by expected value, bid x pctr).
  uint64_t budget_lost = 0;
  // The ads served, and the sum of their prices.
  uint64_t served_ads = 0;
  uint64_t price_micros = 0;
  // Of its ad closest to the reserve: the least reserve price / whole bid, at
  // most 1, in millionths; added up over requests.
  uint64_t reserve_share_ppm = 0;
  uint64_t reserve_shares = 0;
};

// Thread-safe.
class CampaignTraffic {
 public:
  CampaignTraffic();
  ~CampaignTraffic();

  // Takes over the campaigns of a catalogue; before requests see it. A request
  // that comes first waits for it.
  void Prepare(const AdIndex& index);

  // One ranked request, not a test. Hot path.
  void Count(const AdIndex& index, const RankTrace& trace);

  // Zeros when it was never in the catalogue.
  TrafficCounts Read(absl::string_view campaign_id) const;
  // Over all campaigns.
  TrafficCounts Total() const;

 private:
  // Threads mostly meet in different ones.
  static constexpr size_t kShards = 4;
  struct Cell {
    std::atomic<uint64_t> eligible{0}, served{0}, budget_lost{0}, served_ads{0},
        price_micros{0}, reserve_share_ppm{0}, reserve_shares{0};
    void AddTo(TrafficCounts* counts) const;
  };
  // A campaign by its id; never freed. One cache line a cell.
  struct alignas(64) Padded : Cell {};
  using Slot = std::array<Padded, kShards>;
  // The campaigns of one catalogue, by its numbers.
  struct Table {
    const AdIndex* index = nullptr;
    int64_t version = 0;
    std::vector<Slot*> slots;
  };
  std::shared_ptr<const Table> Find(const AdIndex& index) const;
  std::shared_ptr<const Table> FindOrBuild(const AdIndex& index);

  mutable absl::Mutex mu_;
  absl::flat_hash_map<std::string, std::unique_ptr<Slot>> slots_
      ABSL_GUARDED_BY(mu_);
  // Newest first.
  std::vector<std::shared_ptr<const Table>> tables_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_CAMPAIGN_TRAFFIC_H_
