// The market's log: decisions of the logging policy, and what became of them.
#ifndef ADRANK_TOOLS_MARKET_LOG_H_
#define ADRANK_TOOLS_MARKET_LOG_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "storage/event_log.h"
#include "tools/market.h"

namespace adrank {

struct MarketCounts {
  uint64_t decisions = 0;
  uint64_t impressions = 0;
  uint64_t clicks = 0;
  double expected_clicks = 0;

  uint64_t events() const { return decisions + impressions + clicks; }
  void Add(const MarketCounts& other);
};

// What happens to one served ad after the visit.
struct Outcome {
  bool seen = false;
  bool clicked = false;
  int64_t impression_ms = 0;
  int64_t click_ms = 0;
};

// An impression within a second of the visit with probability view_rate; a
// click on it with probability `ctr`, after an exponential delay.
Outcome DrawOutcome(const v1::MarketConfig& config, int64_t visit_ms,
                    double ctr, Rng* rng);

// Immutable and thread-safe. Record i of a day is a pure function of the
// config, the day and i.
class MarketLog {
 public:
  // `market` outlives this.
  explicit MarketLog(const Market* market);

  // Decisions [first, first + count) of the day with their snapshots and
  // events, in order of time. Replaces *out, whose memory is used again.
  // REQUIRES: effects are the day's; first + count <= decisions_per_day.
  MarketCounts MakeBlock(const DayEffects& effects, uint64_t first,
                         uint64_t count, LogBatch* out) const;

 private:
  struct Scratch {
    EligibleScratch eligible_scratch;
    std::vector<Eligible> eligible;
    std::vector<ChosenAd> chosen;
    std::vector<bool> ad_used;
  };
  void FillDecision(const Visit& visit, absl::Span<const ChosenAd> chosen,
                    v1::Decision* decision) const;
  void AddEvents(const DayEffects& effects, const Visit& visit,
                 absl::Span<const ChosenAd> chosen, const DecisionId& id,
                 Rng* rng, LogBatch* out, size_t* events,
                 MarketCounts* counts) const;

  const Market& market_;
  std::vector<EncodedAd> ads_;
  std::vector<std::vector<std::string>> keywords_;  // [ad groups][keywords]
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_MARKET_LOG_H_
