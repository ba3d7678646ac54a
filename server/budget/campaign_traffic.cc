// Hot path: Count. No allocation after warm-up; a shared lock, atomics.
#include "server/budget/campaign_traffic.h"

#include <algorithm>

#include "server/rank_trace.h"
#include "server/trigger/ad_index.h"

namespace adrank {
namespace {

constexpr size_t kTables = 3;

void Add(uint64_t n, std::atomic<uint64_t>* to) {
  to->fetch_add(n, std::memory_order_relaxed);
}

uint64_t Get(const std::atomic<uint64_t>& from) {
  return from.load(std::memory_order_relaxed);
}

// What became of a campaign in one request.
struct Fate {
  bool seen = false, served = false, budget = false;
  double reserve_share = 2;  // none known
};

// By campaign number, all as new between requests; one a thread.
struct Scratch {
  std::vector<Fate> fates;
  std::vector<uint32_t> touched;

  Fate& At(uint32_t campaign) {
    Fate& fate = fates[campaign];
    if (!fate.seen) {
      fate.seen = true;
      touched.push_back(campaign);
    }
    return fate;
  }
};

// The least expected value among the ads shown in a placement, and whether all
// its slots are taken.
struct Bar {
  double value = 0;
  uint32_t shown = 0;
};

double ValueOf(const RankTrace& trace, uint32_t candidate, size_t placement,
               double share_of_bid) {
  return share_of_bid *
         static_cast<double>(trace.candidates[candidate].bid_micros) *
         static_cast<double>(trace.prediction.pctrs(placement)[candidate]);
}

// Whether the candidate, not shown at its multiplier, would be at the whole
// bid.
bool LostToPacing(const RankTrace& trace, uint32_t candidate,
                  const std::vector<Bar>& bars) {
  const RankCandidate& c = trace.candidates[candidate];
  if (c.pacing_multiplier >= 1) return false;
  for (size_t p = 0; p < bars.size(); ++p) {
    const AuctionPlacement& placement = trace.placements[p];
    if (c.bid_micros < placement.reserve_micros) continue;
    const bool lost = bars[p].shown < placement.slots
                          ? static_cast<double>(c.pacing_multiplier) *
                                    static_cast<double>(c.bid_micros) <
                                static_cast<double>(placement.reserve_micros)
                          : ValueOf(trace, candidate, p, 1) > bars[p].value;
    if (lost) return true;
  }
  return false;
}

size_t ThreadShard(size_t shards) {
  static std::atomic<size_t> next{0};
  static thread_local const size_t mine =
      next.fetch_add(1, std::memory_order_relaxed);
  return mine % shards;
}

}  // namespace

void CampaignTraffic::Cell::AddTo(TrafficCounts* counts) const {
  counts->eligible += Get(eligible);
  counts->served += Get(served);
  counts->budget_lost += Get(budget_lost);
  counts->served_ads += Get(served_ads);
  counts->price_micros += Get(price_micros);
  counts->reserve_share_ppm += Get(reserve_share_ppm);
  counts->reserve_shares += Get(reserve_shares);
}

CampaignTraffic::CampaignTraffic() = default;
CampaignTraffic::~CampaignTraffic() = default;

std::shared_ptr<const CampaignTraffic::Table> CampaignTraffic::Find(
    const AdIndex& index) const {
  absl::ReaderMutexLock lock(&mu_);
  for (const auto& table : tables_) {
    if (table->index == &index && table->version == index.version()) {
      return table;
    }
  }
  return nullptr;
}

std::shared_ptr<const CampaignTraffic::Table> CampaignTraffic::FindOrBuild(
    const AdIndex& index) {
  if (auto table = Find(index)) return table;
  auto table = std::make_shared<Table>();
  table->index = &index;
  table->version = index.version();
  const uint32_t n = static_cast<uint32_t>(index.campaigns());
  absl::MutexLock lock(&mu_);
  for (uint32_t i = 0; i < n; ++i) {
    std::unique_ptr<Slot>& slot = slots_[index.campaign_id(i)];
    if (slot == nullptr) slot = std::make_unique<Slot>();
    table->slots.push_back(slot.get());
  }
  tables_.insert(tables_.begin(), table);
  if (tables_.size() > kTables) tables_.pop_back();
  return table;
}

void CampaignTraffic::Prepare(const AdIndex& index) { FindOrBuild(index); }

void CampaignTraffic::Count(const AdIndex& index, const RankTrace& trace) {
  const std::shared_ptr<const Table> table = FindOrBuild(index);
  static thread_local Scratch scratch;
  static thread_local std::vector<Bar> bars;
  if (scratch.fates.size() < table->slots.size()) {
    scratch.fates.resize(table->slots.size());
  }
  bars.assign(trace.placements.size(), Bar());
  const size_t shard = ThreadShard(kShards);
  const auto campaign_of = [&](const RankCandidate& c) {
    return index.ad(c.item.ad).campaign;
  };
  for (const AuctionSlot& slot : trace.auction.slots) {
    const RankCandidate& c = trace.candidates[slot.ad];
    Bar& bar = bars[slot.placement];
    const double value =
        ValueOf(trace, slot.ad, slot.placement, c.pacing_multiplier);
    bar.value = bar.shown++ == 0 ? value : std::min(bar.value, value);
    if (c.item.ad == PredictItem::kNotIndexed) continue;
    const uint32_t campaign = campaign_of(c);
    scratch.At(campaign).served = true;
    Padded& cell = (*table->slots[campaign])[shard];
    Add(1, &cell.served_ads);
    Add(static_cast<uint64_t>(std::max<int64_t>(0, slot.price_micros)),
        &cell.price_micros);
  }
  for (const uint32_t campaign : trace.retrieval.closed_campaigns) {
    scratch.At(campaign).budget = true;
  }
  int64_t least_reserve = INT64_MAX;
  for (const AuctionPlacement& p : trace.placements) {
    least_reserve = std::min(least_reserve, p.reserve_micros);
  }
  // Those that the deadline cut off were eligible, and lost to rank.
  const size_t ready = trace.prediction.ready();
  for (uint32_t i = 0; i < trace.candidates.size(); ++i) {
    const RankCandidate& c = trace.candidates[i];
    if (c.item.ad == PredictItem::kNotIndexed) continue;
    Fate& fate = scratch.At(campaign_of(c));
    if (c.bid_micros > 0) {
      fate.reserve_share = std::min({fate.reserve_share, 1.0,
                                     static_cast<double>(least_reserve) /
                                         static_cast<double>(c.bid_micros)});
    }
    if (fate.served || fate.budget) continue;
    const bool refused = i < trace.excluded.size() && trace.excluded[i] != 0 &&
                         trace.refusal_reason == v1::NO_AD_REASON_BUDGET;
    fate.budget = refused || (i < ready && LostToPacing(trace, i, bars));
  }
  for (const uint32_t campaign : scratch.touched) {
    Fate& fate = scratch.fates[campaign];
    Padded& cell = (*table->slots[campaign])[shard];
    Add(1, &cell.eligible);
    if (fate.served) {
      Add(1, &cell.served);
    } else if (fate.budget) {
      Add(1, &cell.budget_lost);
    }
    if (fate.reserve_share <= 1) {
      Add(1, &cell.reserve_shares);
      Add(static_cast<uint64_t>(1e6 * fate.reserve_share),
          &cell.reserve_share_ppm);
    }
    fate = Fate();
  }
  scratch.touched.clear();
}

TrafficCounts CampaignTraffic::Read(absl::string_view campaign_id) const {
  TrafficCounts counts;
  absl::ReaderMutexLock lock(&mu_);
  const auto it = slots_.find(campaign_id);
  if (it == slots_.end()) return counts;
  for (const Padded& cell : *it->second) cell.AddTo(&counts);
  return counts;
}

TrafficCounts CampaignTraffic::Total() const {
  TrafficCounts counts;
  absl::ReaderMutexLock lock(&mu_);
  for (const auto& [id, slot] : slots_) {
    for (const Padded& cell : *slot) cell.AddTo(&counts);
  }
  return counts;
}

}  // namespace adrank
