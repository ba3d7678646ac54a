// Writes days of a simulated market into a data directory: catalogue and logs.
#ifndef ADRANK_TOOLS_GENERATE_H_
#define ADRANK_TOOLS_GENERATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/catalog.pb.h"
#include "proto/market_config.pb.h"
#include "proto/simulate_report.pb.h"
#include "tools/market.h"
#include "tools/market_log.h"

namespace adrank {

struct GenerateOptions {
  std::string data_dir;
  // Days [first_day, first_day + days) of the market, from 0.
  int32_t first_day = 0;
  int32_t days = 1;
  // Threads that make records, beside the one that writes them. The records do
  // not depend on it.
  uint32_t threads = 1;
  // Write the catalogue of those days, no log.
  bool catalog_only = false;
};

// Called a few times a second with the decisions written so far and their
// total.
using GenerateProgress =
    std::function<void(const MarketCounts& so_far, uint64_t total_decisions)>;

// The market of `data_dir` (its market.textproto). NotFound when there is none.
absl::StatusOr<v1::MarketConfig> ReadMarket(const std::string& data_dir);

// Writes the resolved config as market.textproto, or checks that the one there
// is the same: FailedPrecondition names what differs.
absl::Status SaveMarket(const v1::MarketConfig& resolved,
                        const std::string& data_dir);

// Writes the days and flushes them. What is there already stays as it is, so
// that a repeated or broken run is completed by running it again: records are
// idempotent, and of the catalogue only entities that are missing are added.
// Entities get the time of their day.
absl::StatusOr<v1::GenerateReport> Generate(const Market& market,
                                            const GenerateOptions& options,
                                            const GenerateProgress& progress);

// The catalogue as of a day, as a file for people.
v1::Catalog CatalogOfDay(const Market& market, int32_t day);

}  // namespace adrank

#endif  // ADRANK_TOOLS_GENERATE_H_
