// Who visits when: users with stable properties, a daily curve, queries.
#ifndef ADRANK_TOOLS_VISIT_SOURCE_H_
#define ADRANK_TOOLS_VISIT_SOURCE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "proto/market_config.pb.h"
#include "tools/alias_table.h"
#include "tools/market_catalog.h"
#include "tools/market_fields.h"

namespace adrank {

// Immutable and thread-safe.
class VisitSource {
 public:
  // REQUIRES: `config` is resolved; `fields` and `catalog` are its own and
  // outlive this.
  VisitSource(const v1::MarketConfig& config, const MarketFields* fields,
              const MarketCatalog* catalog);

  // A visit at a time. REQUIRES: time_ms >= the first day's midnight.
  Visit At(int64_t time_ms, Rng* rng) const;

  // Visit `index` of `count` on `day`: a pure function of the seed, the day,
  // the index and the count. Times do not fall as the index grows, and follow
  // the daily curve.
  Visit OfDay(int32_t day, uint64_t index, uint64_t count) const;

  // Generator for everything that happens after visit `index`: its stream is
  // independent of the visit's own.
  Rng AfterVisit(int32_t day, uint64_t index) const;

 private:
  struct User {
    uint32_t age, gender, country, device, os;
    uint32_t num_interests;
    std::array<uint32_t, kMaxInterests> interests;
  };
  User RandomUser(Rng* rng) const;
  void FillQuery(Rng* rng, Visit* visit) const;
  uint32_t OsOf(uint32_t device, Rng* rng) const;
  uint64_t Stream(int32_t day, uint64_t index, uint64_t salt) const;
  // Inverse of the daily curve's distribution function, milliseconds.
  int64_t TimeOfDay(double u) const;

  const uint64_t seed_;
  const MarketFields& fields_;
  const MarketCatalog& catalog_;
  int64_t first_day_ms_ = 0;
  std::array<double, 25> hour_cdf_ = {};
  std::vector<AliasTable> laws_;  // by ContextField; empty where not drawn
  AliasTable interest_law_, word_law_, phrase_law_;
  std::vector<User> users_;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_VISIT_SOURCE_H_
