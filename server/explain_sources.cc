#include "server/explain_sources.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/budget/ledger.h"
#include "server/caps/frequency_caps.h"

namespace adrank {
namespace {

// Changes of one entity since the version that are looked through.
constexpr uint32_t kMaxChanges = 10000;

std::optional<v1::CatalogEntity> EntityAt(CatalogStore* store,
                                          const v1::EntityKey& key,
                                          int64_t version) {
  auto changes = store->History(key, kMaxChanges);
  if (!changes.ok()) return std::nullopt;
  for (v1::CatalogChange& change : *changes) {
    if (change.catalog_version() > version) continue;
    if (!change.operation().has_upsert()) return std::nullopt;
    return std::move(*change.mutable_operation()->mutable_upsert());
  }
  return std::nullopt;
}

int64_t Narrow(WideMicros micros) {
  return static_cast<int64_t>(
      std::clamp<WideMicros>(micros, INT64_MIN, INT64_MAX));
}

// Of the budget, daily or total, that has less left. `needed` is the least
// budget that would have something left, `had` the budget.
std::optional<StageGap> BudgetGap(const Ledger& ledger,
                                  const std::string& campaign_id) {
  const LedgerCampaign* campaign = ledger.FindCampaign(campaign_id);
  if (campaign == nullptr) return std::nullopt;
  const CampaignSpend spend = ledger.Spend(campaign);
  if (!spend.closed) return std::nullopt;
  const int64_t daily = spend.budget.daily_micros(),
                total = spend.budget.total_micros();
  const WideMicros left_today =
      daily - spend.spent_today - spend.reserved_today;
  const WideMicros left = total - spend.spent_total - spend.reserved_total;
  if (daily == 0 && total == 0) return std::nullopt;
  const bool of_day = total == 0 || (daily != 0 && left_today <= left);
  const int64_t budget = of_day ? daily : total;
  const int64_t spent = Narrow(of_day ? spend.spent_today : spend.spent_total);
  const int64_t reserved =
      Narrow(of_day ? spend.reserved_today : spend.reserved_total);
  return StageGap{
      absl::StrCat("spent ", spent, " and reserved ", reserved, " of ", budget,
                   of_day ? " today" : " in all"),
      std::max(static_cast<double>(spent) + static_cast<double>(reserved) + 1,
               static_cast<double>(budget) + 1),
      static_cast<double>(budget)};
}

const char* LevelName(CapLevel level) {
  switch (level) {
    case CapLevel::kAd:
      return "ad";
    case CapLevel::kAdGroup:
      return "ad group";
    case CapLevel::kCampaign:
      break;
  }
  return "campaign";
}

std::optional<StageGap> CapGap(FrequencyCaps* caps, const AdIndex& index,
                               uint32_t ad, const v1::Context& context) {
  if (context.user_id().empty()) {
    return StageGap{"no user is known, so no ad with a cap is shown", 0, 0};
  }
  const auto verdict = caps->WhyCapped(index, context.user_id(), ad);
  if (!verdict.has_value()) return std::nullopt;
  return StageGap{
      absl::StrCat(
          verdict->counted, " of ", verdict->cap.impressions, " in ",
          absl::FormatDuration(absl::Milliseconds(verdict->cap.window_ms)),
          " of its ", LevelName(verdict->level)),
      static_cast<double>(verdict->cap.impressions),
      static_cast<double>(verdict->counted)};
}

}  // namespace

ExplainSources PastSources(CatalogStore* catalog, int64_t version) {
  ExplainSources sources;
  sources.entity = [catalog, version](const v1::EntityKey& key) {
    return EntityAt(catalog, key, version);
  };
  return sources;
}

ExplainSources LiveSources(const ExplainStores& stores, int64_t version) {
  ExplainSources sources = PastSources(stores.catalog, version);
  if (const Ledger* ledger = stores.ledger) {
    sources.budget = [ledger](const std::string& campaign_id) {
      return BudgetGap(*ledger, campaign_id);
    };
  }
  if (FrequencyCaps* caps = stores.caps) {
    sources.cap = [caps](const AdIndex& index, uint32_t ad,
                         const v1::Context& context) {
      return CapGap(caps, index, ad, context);
    };
  }
  return sources;
}

}  // namespace adrank
