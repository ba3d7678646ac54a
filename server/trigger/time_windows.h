// Which of many weekly time windows, in their time zones, a moment lies in.
#ifndef ADRANK_SERVER_TRIGGER_TIME_WINDOWS_H_
#define ADRANK_SERVER_TRIGGER_TIME_WINDOWS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/catalog.pb.h"

namespace adrank {

// A window is asked about the local wall clock, hence a day's window is there
// once on days of 23 or 25 hours too: what the clock skips is never in it, what
// it repeats is in it twice. Distinct windows are kept once, and asked once a
// request; zones are resolved when they are added. Filled first, then const and
// thread-safe.
class TimeWindows {
 public:
  // Number of the window, 0.. in the order of first use. InvalidArgument for an
  // unknown time zone, a day outside [1, 7], minutes beyond a day.
  absl::StatusOr<uint32_t> Add(
      const v1::TargetingExpression::TimeWindow& window);

  size_t size() const { return windows_.size(); }
  // As "Mon,Tue 09:00-17:30 Europe/Berlin".
  std::string Text(uint32_t window) const;
  // The moment in the window's zone, as "Mon 09:12 Europe/Berlin".
  std::string Local(uint32_t window, int64_t time_ms) const;

  // Calls f(number) for each window that the moment lies in.
  template <typename F>
  void ForEachOpen(int64_t time_ms, F f) const {
    for (const Zone& zone : zones_) {
      const Moment moment = In(zone, time_ms);
      for (const uint32_t i : zone.windows) {
        if (Open(windows_[i], moment)) f(i);
      }
    }
  }

 private:
  struct Window {
    uint32_t zone;
    uint32_t days;      // bit 0 Monday ... bit 6 Sunday
    uint32_t from, to;  // minutes; from < to, or past midnight
  };
  struct Zone {
    std::string name;
    absl::TimeZone zone;
    std::vector<uint32_t> windows;
  };
  struct Moment {
    uint32_t day;  // 0 Monday ... 6 Sunday
    uint32_t minute;
  };
  static Moment In(const Zone& zone, int64_t time_ms);
  static bool Open(const Window& window, const Moment& moment) {
    const bool today = (window.days >> moment.day & 1) != 0;
    if (window.from < window.to) {
      return today && moment.minute >= window.from && moment.minute < window.to;
    }
    const bool yesterday = (window.days >> (moment.day + 6) % 7 & 1) != 0;
    return (today && moment.minute >= window.from) ||
           (yesterday && moment.minute < window.to);
  }

  std::vector<Zone> zones_;
  std::vector<Window> windows_;
  absl::flat_hash_map<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>,
                      uint32_t>
      numbers_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_TIME_WINDOWS_H_
