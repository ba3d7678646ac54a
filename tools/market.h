// A whole simulated ad market: catalogue, visitors, logging policy and planted
// click model of one MarketConfig.
#ifndef ADRANK_TOOLS_MARKET_H_
#define ADRANK_TOOLS_MARKET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/common.pb.h"
#include "proto/market_config.pb.h"
#include "tools/click_model.h"
#include "tools/logging_policy.h"
#include "tools/market_catalog.h"
#include "tools/market_fields.h"
#include "tools/visit_source.h"

namespace adrank {

// Immutable and thread-safe. Same config, same market, on every run.
class Market {
 public:
  // Resolves the config first. InvalidArgument names the field.
  static absl::StatusOr<std::unique_ptr<const Market>> Create(
      const v1::MarketConfig& config);

  const v1::MarketConfig& config() const { return config_; }
  int64_t first_day_ms() const { return first_day_ms_; }
  const MarketFields& fields() const { return fields_; }
  const MarketCatalog& catalog() const { return catalog_; }
  const VisitSource& visits() const { return visits_; }
  const ClickModel& click_model() const { return click_model_; }
  const LoggingPolicy& policy() const { return *policy_; }

  // The visit as a frontend reports it: everything but the placement.
  void ToContext(const Visit& visit, v1::Context* context) const;
  const std::string& PlacementId(const Visit& visit) const;

  // The inverse of the two: from a logged decision alone. InvalidArgument names
  // the attribute whose value is missing or not of this market.
  absl::StatusOr<Visit> ParseVisit(const v1::Context& context,
                                   absl::string_view placement_id) const;

  // Index of the ad; NotFound when it is not of this market.
  absl::StatusOr<uint32_t> FindAd(absl::string_view ad_id) const;

 private:
  explicit Market(const v1::MarketConfig& resolved);
  std::vector<SampledDecision> Sample() const;
  void IndexValues();
  absl::Status ParseAttribute(const v1::Attribute& attribute, Visit* visit,
                              uint32_t* found) const;
  absl::Status ParseTexts(const v1::Context& context, Visit* visit) const;

  const v1::MarketConfig config_;
  const int64_t first_day_ms_;
  const MarketFields fields_;
  const MarketCatalog catalog_;
  const VisitSource visits_;
  ClickModel click_model_;
  std::unique_ptr<const LoggingPolicy> policy_;

  using Index = absl::flat_hash_map<std::string, uint32_t>;
  // Ready-made attributes: [context fields][values]; empty where none.
  std::vector<std::vector<v1::Attribute>> attributes_;
  Index field_index_;               // attribute name -> ContextField
  std::vector<Index> value_index_;  // by ContextField
  Index interest_index_, word_index_;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_MARKET_H_
