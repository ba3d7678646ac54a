// Hot path: no allocation after warm-up, no locks, no logging.
#include "trainer/label_joiner.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

namespace adrank {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::min();

// When what was reported of one ad happened, or kNever. Trivial, so that an
// array for all positions costs nothing where there are few ads.
struct Seen {
  int64_t impression_ms;
  int64_t click_ms;
};
constexpr Seen kUnseen = {kNever, kNever};

// Positions are u8 in the log.
constexpr int kPositions = 256;

// The first ad at each position, or -1.
void IndexPositions(const v1::Decision& decision,
                    std::array<int16_t, kPositions>* ad_at) {
  ad_at->fill(-1);
  const int ads = std::min(decision.ads_size(), 32767);
  for (int i = ads; i-- > 0;) {
    const uint32_t position = decision.ads(i).position();
    if (position < kPositions) (*ad_at)[position] = static_cast<int16_t>(i);
  }
}

void CountOrphan(const JoinedEvent& event, v1::JoinCounts* counts) {
  if (event.type == v1::EVENT_TYPE_IMPRESSION) {
    counts->set_orphan_impressions(counts->orphan_impressions() + 1);
  } else {
    counts->set_orphan_clicks(counts->orphan_clicks() + 1);
  }
}

// More than 5 minutes before its decision, or more than the attribution window
// and a day after it. Unsigned, since nothing keeps reported times from being
// far apart.
bool IsSkewed(const JoinedEvent& event, int64_t decision_ms,
              const LabelOptions& options) {
  constexpr int64_t kEarlyMs = 300'000, kLateMs = 86'400'000;
  if (event.time_ms < decision_ms) {
    return static_cast<uint64_t>(decision_ms) -
               static_cast<uint64_t>(event.time_ms) >
           kEarlyMs;
  }
  return static_cast<uint64_t>(event.time_ms) -
             static_cast<uint64_t>(decision_ms) >
         static_cast<uint64_t>(options.attribution_window_ms + kLateMs);
}

// Counts the event as such.
void CountEvent(const JoinedEvent& event, v1::JoinCounts* counts) {
  if (event.type == v1::EVENT_TYPE_IMPRESSION) {
    counts->set_impressions(counts->impressions() + 1);
  } else {
    counts->set_clicks(counts->clicks() + 1);
  }
  counts->set_duplicate_events(counts->duplicate_events() + event.duplicates);
}

void CountTest(const JoinedRecord& record, const v1::Decision& decision,
               const std::array<int16_t, kPositions>& ad_at,
               v1::JoinCounts* counts) {
  counts->set_test_decisions(counts->test_decisions() + 1);
  counts->set_test_ads(counts->test_ads() + decision.ads_size());
  for (const JoinedEvent& event : record.events) {
    if (ad_at[event.position] < 0) {
      CountOrphan(event, counts);
    } else if (event.type == v1::EVENT_TYPE_IMPRESSION) {
      counts->set_test_impressions(counts->test_impressions() + 1);
    } else {
      counts->set_test_clicks(counts->test_clicks() + 1);
    }
  }
}

// Label of one ad; nullopt when it was not seen.
std::optional<bool> Label(const Seen& seen, int64_t decision_ms,
                          const LabelOptions& options, v1::JoinCounts* counts) {
  const bool impressed = seen.impression_ms != kNever;
  const bool clicked = seen.click_ms != kNever;
  if (impressed) {
    counts->set_joined_impressions(counts->joined_impressions() + 1);
  }
  if (!impressed && !options.served_is_seen) {
    counts->set_unseen_ads(counts->unseen_ads() + 1);
    if (clicked) {
      counts->set_clicks_without_impression(
          counts->clicks_without_impression() + 1);
    }
    return std::nullopt;
  }
  counts->set_examples(counts->examples() + 1);
  if (!clicked) return false;
  const int64_t seen_ms = impressed ? seen.impression_ms : decision_ms;
  // Unsigned, since nothing keeps reported times from being far apart.
  const auto lag_ms = static_cast<int64_t>(
      static_cast<uint64_t>(seen.click_ms) - static_cast<uint64_t>(seen_ms));
  const bool in_window = lag_ms <= options.attribution_window_ms;
  if (in_window) {
    counts->set_joined_clicks(counts->joined_clicks() + 1);
  } else {
    counts->set_late_clicks(counts->late_clicks() + 1);
  }
  return in_window;
}

}  // namespace

void JoinLabels(const JoinedRecord& record, const v1::Decision* decision,
                const LabelOptions& options, v1::JoinCounts* counts,
                std::vector<LabelledAd>* examples) {
  examples->clear();
  for (const JoinedEvent& event : record.events) CountEvent(event, counts);
  if (decision == nullptr) {
    for (const JoinedEvent& event : record.events) CountOrphan(event, counts);
    return;
  }
  counts->set_decisions(counts->decisions() + 1);
  counts->set_served_ads(counts->served_ads() + decision->ads_size());
  std::array<int16_t, kPositions> ad_at;
  IndexPositions(*decision, &ad_at);
  if (decision->test()) {
    CountTest(record, *decision, ad_at, counts);
    return;
  }
  std::array<Seen, kPositions> seen;  // set where an ad is
  for (const v1::ServedAd& ad : decision->ads()) {
    if (ad.position() < kPositions) seen[ad.position()] = kUnseen;
  }
  for (const JoinedEvent& event : record.events) {
    if (ad_at[event.position] < 0) {
      CountOrphan(event, counts);
      continue;
    }
    if (IsSkewed(event, static_cast<int64_t>(record.id.ms), options)) {
      counts->set_skewed_events(counts->skewed_events() + 1);
    }
    if (event.type == v1::EVENT_TYPE_IMPRESSION) {
      seen[event.position].impression_ms = event.time_ms;
    } else {
      seen[event.position].click_ms = event.time_ms;
    }
  }
  for (int i = 0; i < decision->ads_size(); ++i) {
    const uint32_t position = decision->ads(i).position();
    const bool first = position < kPositions && ad_at[position] == i;
    const std::optional<bool> label =
        Label(first ? seen[position] : kUnseen,
              static_cast<int64_t>(record.id.ms), options, counts);
    if (label) examples->push_back({static_cast<uint32_t>(i), *label});
  }
}

void AddCounts(const v1::JoinCounts& from, v1::JoinCounts* to) {
  const auto* descriptor = from.GetDescriptor();
  const auto* reflection = from.GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    reflection->SetUInt64(
        to, field,
        reflection->GetUInt64(*to, field) + reflection->GetUInt64(from, field));
  }
}

}  // namespace adrank
