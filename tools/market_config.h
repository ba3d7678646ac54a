// Defaults and ranges of MarketConfig.
#ifndef ADRANK_TOOLS_MARKET_CONFIG_H_
#define ADRANK_TOOLS_MARKET_CONFIG_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/market_config.pb.h"

namespace adrank {

inline constexpr int64_t kDayMs = 86400000;
inline constexpr uint32_t kMaxExtraFields = 16;

// The config with every zero replaced by its default; "none" is -1. Resolving
// again changes nothing. InvalidArgument names the field, its value and range.
absl::StatusOr<v1::MarketConfig> ResolveMarketConfig(
    const v1::MarketConfig& config);

// Unix milliseconds of the first day's midnight, UTC.
absl::StatusOr<int64_t> FirstDayMs(const v1::MarketConfig& resolved);

// OK when both resolved configs are the same market; else FailedPrecondition
// lists the fields that differ.
absl::Status CheckSameMarket(const v1::MarketConfig& stored,
                             const v1::MarketConfig& given);

}  // namespace adrank

#endif  // ADRANK_TOOLS_MARKET_CONFIG_H_
