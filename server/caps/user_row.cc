// Hot path: no allocation but the row's own growth.
#include "server/caps/user_row.h"

#include <algorithm>

namespace adrank {
namespace {

struct ByKey {
  bool operator()(const CapRecord& r, uint64_t key) const {
    return r.key < key;
  }
  bool operator()(uint64_t key, const CapRecord& r) const {
    return key < r.key;
  }
};

bool IsOf(const CapRecord& r, const DecisionId& id) {
  return !r.confirmed && r.ms == static_cast<int64_t>(id.ms) &&
         r.sequence == id.sequence && r.node == id.node;
}

// The shortest window that holds an impression of this age.
int64_t WindowOfAge(absl::Span<const CompiledCap> caps, int64_t age_ms) {
  for (const CompiledCap& cap : caps) {
    if (age_ms < cap.window_ms) return cap.window_ms;
  }
  return caps.back().window_ms;
}

}  // namespace

absl::Span<const CapRecord> RecordsOf(const CapRow& row, uint64_t key) {
  const auto [begin, end] =
      std::equal_range(row.begin(), row.end(), key, ByKey());
  return absl::MakeConstSpan(row).subspan(begin - row.begin(), end - begin);
}

uint64_t CountAround(absl::Span<const CapRecord> records, int64_t at_ms,
                     int64_t window_ms, const CapTimes& times) {
  uint64_t count = 0;
  for (const CapRecord& r : records) {
    if (r.ms > at_ms - window_ms && r.ms < at_ms + window_ms &&
        Counts(r, times)) {
      count += r.count;
    }
  }
  return count;
}

std::optional<CompiledCap> CapReached(absl::Span<const CapRecord> records,
                                      absl::Span<const CompiledCap> caps,
                                      uint64_t more, int64_t at_ms,
                                      const CapTimes& times) {
  for (const CompiledCap& cap : caps) {
    if (CountAround(records, at_ms, cap.window_ms, times) + more >
        cap.impressions) {
      return cap;
    }
  }
  return std::nullopt;
}

void AddRecord(const CapRecord& record, CapRow* row) {
  const auto after = [](const CapRecord& a, const CapRecord& b) {
    return a.key != b.key ? a.key < b.key : a.ms < b.ms;
  };
  row->insert(std::upper_bound(row->begin(), row->end(), record, after),
              record);
}

bool ConfirmRecords(const DecisionId& id, uint32_t position, CapRow* row) {
  bool any = false;
  for (CapRecord& r : *row) {
    if (r.position != position || !IsOf(r, id)) continue;
    r.confirmed = any = true;
    r.sequence = 0;
    r.node = 0;
    r.position = 0;
  }
  return any;
}

bool RemoveUnconfirmed(const DecisionId& id, CapRow* row) {
  return std::erase_if(*row, [&](const CapRecord& r) { return IsOf(r, id); }) >
         0;
}

bool HasUnconfirmed(const DecisionId& id, const CapRow& row) {
  return std::any_of(row.begin(), row.end(),
                     [&](const CapRecord& r) { return IsOf(r, id); });
}

void Prune(const CapTimes& times, CapRow* row,
           std::vector<DecisionId>* dropped) {
  const size_t before = dropped->size();
  std::erase_if(*row, [&](const CapRecord& r) {
    const bool waits =
        !r.confirmed &&
        r.ms + times.reservation_ms + times.late_ms > times.now_ms;
    const bool may_count = r.expires_ms() + kOrderGraceMs > times.now_ms;
    if (may_count && (r.confirmed || waits)) return false;
    if (!r.confirmed) dropped->push_back(r.decision());
    return true;
  });
  dropped->erase(std::remove_if(dropped->begin() + before, dropped->end(),
                                [&](const DecisionId& id) {
                                  return HasUnconfirmed(id, *row);
                                }),
                 dropped->end());
}

void Coarsen(const CappedEntity& entity, absl::Span<const CompiledCap> caps,
             int64_t now_ms, CapRow* row) {
  const auto [begin, end] =
      std::equal_range(row->begin(), row->end(), entity.key, ByKey());
  if (static_cast<size_t>(end - begin) <= kExactRecords) return;
  CapRecord* last = nullptr;
  int64_t last_window = 0, last_part = 0;
  for (auto it = begin; it != end; ++it) {
    if (!it->confirmed) continue;
    const int64_t window = WindowOfAge(caps, now_ms - it->ms);
    const int64_t part =
        it->ms / std::max<int64_t>(1, window / int64_t{kExactRecords});
    if (last != nullptr && window == last_window && part == last_part) {
      it->count += last->count;
      it->keep_s = std::max(it->keep_s, last->keep_s);
      last->count = 0;
    }
    last = &*it;
    last_window = window;
    last_part = part;
  }
  row->erase(std::remove_if(begin, end,
                            [](const CapRecord& r) { return r.count == 0; }),
             end);
}

}  // namespace adrank
