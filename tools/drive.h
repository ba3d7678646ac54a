// Drives a live server as ad frontends and users do.
#ifndef ADRANK_TOOLS_DRIVE_H_
#define ADRANK_TOOLS_DRIVE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "proto/ranking_service.pb.h"
#include "proto/simulate_report.pb.h"
#include "tools/market.h"

namespace adrank {

struct DriveOptions {
  std::string server = "127.0.0.1:8500";
  // The visits are those of this day of the market, from `first` on; past the
  // day's last one follow the next day's. Requests and events carry their
  // times.
  int32_t day = 0;
  uint64_t first = 0;
  // Visits happen at the machine's time instead.
  bool now = false;
  // Ends after this many requests, or this long; one of them is > 0.
  uint64_t count = 0;
  double duration_s = 0;
  // Requests a second over all connections; 0: as fast as answers come.
  double rate = 0;
  uint32_t concurrency = 4;
  uint32_t timeout_ms = 1000;
  // Mark requests as test traffic: logged, never trained on.
  bool test = false;
};

// Visit i of the options' as a request: context with its time, one placement
// with the market's slots.
v1::RankRequest MakeRankRequest(const Market& market, const Visit& visit,
                                bool test);

// Sends a Rank request for each visit, then reports an impression for each ad
// that is seen and a click with its true probability at its position, in one
// LogEvents call; events that come back UNAVAILABLE are reported again, up to
// five times. Failed calls are counted, not fatal; Unavailable when the server
// cannot be reached at all at the start. `progress` gets the requests done.
absl::StatusOr<v1::DriveReport> Drive(
    const Market& market, const DriveOptions& options,
    const std::function<void(uint64_t done)>& progress);

// Tables for people.
std::string PrintDriveReport(const v1::DriveReport& report);

}  // namespace adrank

#endif  // ADRANK_TOOLS_DRIVE_H_
