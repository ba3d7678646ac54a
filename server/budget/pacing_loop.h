// Pacing of all campaigns while the server runs: reads ledger and traffic,
// steps each campaign's Pacer, and sets the pace that requests bid at.
#ifndef ADRANK_SERVER_BUDGET_PACING_LOOP_H_
#define ADRANK_SERVER_BUDGET_PACING_LOOP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/pacing.pb.h"
#include "server/budget/campaign_traffic.h"
#include "server/budget/ledger.h"
#include "server/budget/pacer.h"

namespace adrank {

class AdIndex;

// How a campaign's day goes.
struct PacingReport {
  // As PacerOutput.
  int64_t target_micros = 0;
  float multiplier = 1, participation = 1;
  // Of its day; without what a crash cost, the last ten minutes at most.
  uint64_t eligible = 0, served = 0, budget_lost = 0, rank_lost = 0;
  // When what is free will be spent at the rate of the last quarter hour; 0:
  // not on this day.
  int64_t exhausted_ms = 0;
};

// Thread-safe.
class PacingLoop {
 public:
  // The pointers must outlive the loop. What is learnt is kept in `state_file`,
  // and read from it now; a file that is missing or broken (logged) is as
  // nothing learnt.
  PacingLoop(Ledger* ledger, const CampaignTraffic* traffic, const Clock* clock,
             std::string state_file);

  // Takes over the campaigns of a catalogue, new ones at the pace that a pacer
  // begins with, known ones as they were. Before requests see it, and after the
  // ledger has.
  void Prepare(const AdIndex& index);

  // Steps every campaign of the catalogue once, a few microseconds each, and
  // saves what is learnt every ten minutes. The error is that of saving.
  absl::Status RunOnce();
  absl::Status Save();

  // Nothing when it is not in the catalogue.
  std::optional<PacingReport> Report(absl::string_view campaign_id) const;

 private:
  // Requests of the day that begins at day_start_ms.
  struct DayCounts {
    int64_t day_start_ms = 0;
    uint64_t eligible = 0, served = 0, budget_lost = 0;
  };
  struct Campaign {
    LedgerCampaign* ledger = nullptr;
    PacerTerms terms;
    absl::TimeZone zone;
    PacingDay day;
    Pacer pacer;
    // At the last step: what deltas are from.
    bool stepped = false;
    CampaignSpend spend;
    TrafficCounts traffic;
    // When its day began, or the process.
    TrafficCounts day_traffic;
    DayCounts before;  // of the process before this one
    // Expected cost a millisecond, over some quarter of an hour.
    double rate = 0;
    PacerOutput pace;
  };
  static PacerReading Read(const Campaign& campaign, int64_t now_ms,
                           const CampaignSpend& spend,
                           const TrafficCounts& traffic);
  static DayCounts Today(const Campaign& campaign, int64_t now_ms,
                         const TrafficCounts& traffic);
  void Step(absl::string_view id, int64_t now_ms, Campaign* campaign) const;
  void Load();

  Ledger* const ledger_;
  const CampaignTraffic* const traffic_;
  const Clock* const clock_;
  const std::string state_file_;

  mutable absl::Mutex mu_;
  absl::flat_hash_map<std::string, Campaign> campaigns_ ABSL_GUARDED_BY(mu_);
  // Of the file, of campaigns that no catalogue has had yet.
  absl::flat_hash_map<std::string, v1::PacingState::Campaign> saved_
      ABSL_GUARDED_BY(mu_);
  int64_t saved_ms_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_PACING_LOOP_H_
