#include "tools/generate.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "storage/catalog_store.h"
#include "storage/event_log.h"
#include "tools/block_pipeline.h"

namespace adrank {
namespace {

constexpr uint64_t kBlockDecisions = 2048;
constexpr char kMarketFile[] = "market.textproto";

// Adds the entities of days [0, last_day] that the store lacks.
absl::StatusOr<uint64_t> WriteCatalog(const Market& market, int32_t last_day,
                                      const std::string& data_dir) {
  SimulatedClock clock(absl::FromUnixMillis(market.first_day_ms()));
  ASSIGN_OR_RETURN(const std::unique_ptr<CatalogStore> store,
                   CatalogStore::Open(data_dir, &clock));
  ASSIGN_OR_RETURN(const auto catalog, store->Load());
  std::set<std::pair<int, std::string>> present;
  for (const auto& e : catalog.first.advertisers()) {
    present.emplace(v1::ENTITY_TYPE_ADVERTISER, e.id());
  }
  for (const auto& e : catalog.first.campaigns()) {
    present.emplace(v1::ENTITY_TYPE_CAMPAIGN, e.id());
  }
  for (const auto& e : catalog.first.ad_groups()) {
    present.emplace(v1::ENTITY_TYPE_AD_GROUP, e.id());
  }
  for (const auto& e : catalog.first.ads()) {
    present.emplace(v1::ENTITY_TYPE_AD, e.id());
  }
  uint64_t changes = 0;
  for (int32_t day = 0; day <= last_day; ++day) {
    clock.Set(absl::FromUnixMillis(market.first_day_ms() + day * kDayMs));
    std::vector<v1::CatalogOperation> ops = market.catalog().Operations(day);
    ops.erase(std::remove_if(ops.begin(), ops.end(),
                             [&](const v1::CatalogOperation& op) {
                               const v1::EntityKey key = KeyOf(op);
                               return present.count({key.type(), key.id()}) > 0;
                             }),
              ops.end());
    if (ops.empty()) continue;
    ASSIGN_OR_RETURN(const ApplyResult result, store->Apply(ops, {}));
    for (const absl::Status& error : result.errors) {
      RETURN_IF_ERROR(Annotate(error, "catalogue"));
    }
    changes += result.applied;
  }
  return changes;
}

class LogWriter {
 public:
  LogWriter(const Market& market, const GenerateOptions& options,
            const GenerateProgress& progress, EventLog* log,
            SimulatedClock* clock)
      : market_(market),
        options_(options),
        progress_(progress),
        log_(log),
        clock_(clock),
        records_(&market),
        per_day_(market.config().decisions_per_day()),
        blocks_per_day_((per_day_ + kBlockDecisions - 1) / kBlockDecisions),
        slots_(BlockPipeline::Slots(options.threads)) {}

  absl::StatusOr<MarketCounts> Run() {
    BlockPipeline pipeline;
    RETURN_IF_ERROR(pipeline.Run(
        blocks_per_day_ * static_cast<uint64_t>(options_.days),
        options_.threads,
        [this](uint64_t block, uint32_t slot) { Make(block, slot); },
        [this](uint32_t slot) { return Write(slot); }));
    RETURN_IF_ERROR(log_->Flush());
    return counts_;
  }

 private:
  struct Slot {
    DayEffects effects;
    bool has_effects = false;
    LogBatch batch;
    MarketCounts counts;
  };

  void Make(uint64_t block, uint32_t slot) {
    Slot& s = slots_[slot];
    const int32_t day =
        options_.first_day + static_cast<int32_t>(block / blocks_per_day_);
    if (!s.has_effects || s.effects.day != day) {
      s.effects = market_.click_model().EffectsOfDay(day);
      s.has_effects = true;
    }
    const uint64_t first = block % blocks_per_day_ * kBlockDecisions;
    s.counts = records_.MakeBlock(s.effects, first,
                                  std::min(kBlockDecisions, per_day_ - first),
                                  &s.batch);
  }

  absl::Status Write(uint32_t slot) {
    const Slot& s = slots_[slot];
    // Events arrive on the day after.
    clock_->Set(absl::FromUnixMillis(market_.first_day_ms() +
                                     (s.effects.day + 1) * kDayMs));
    RETURN_IF_ERROR(log_->Write(s.batch));
    counts_.Add(s.counts);
    const absl::Time now = absl::Now();
    if (progress_ && now >= next_progress_) {
      progress_(counts_, per_day_ * static_cast<uint64_t>(options_.days));
      next_progress_ = now + absl::Milliseconds(200);
    }
    return absl::OkStatus();
  }

  const Market& market_;
  const GenerateOptions& options_;
  const GenerateProgress& progress_;
  EventLog* const log_;
  SimulatedClock* const clock_;
  const MarketLog records_;
  const uint64_t per_day_;
  const uint64_t blocks_per_day_;
  std::vector<Slot> slots_;
  MarketCounts counts_;
  absl::Time next_progress_ = absl::InfinitePast();
};

absl::Status CheckOptions(const GenerateOptions& options) {
  // 2^31 days would overflow; a few thousand years are enough.
  constexpr int32_t kMaxDay = 1000000;
  if (options.first_day < 0 || options.first_day > kMaxDay) {
    return absl::InvalidArgumentError(absl::StrCat(
        "start day ", options.first_day, " not in [0, ", kMaxDay, "]"));
  }
  if (options.days < 1 || options.days > kMaxDay) {
    return absl::InvalidArgumentError(
        absl::StrCat("days ", options.days, " not in [1, ", kMaxDay, "]"));
  }
  if (options.threads < 1 || options.threads > 256) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads ", options.threads, " not in [1, 256]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::MarketConfig> ReadMarket(const std::string& data_dir) {
  absl::StatusOr<v1::MarketConfig> config =
      ReadTextProto<v1::MarketConfig>(files::Join(data_dir, kMarketFile));
  if (!absl::IsNotFound(config.status())) return config;
  return absl::NotFoundError(absl::StrCat(data_dir, " has no ", kMarketFile,
                                          ": it is not a simulated market's"));
}

absl::Status SaveMarket(const v1::MarketConfig& resolved,
                        const std::string& data_dir) {
  const std::string path = files::Join(data_dir, kMarketFile);
  absl::StatusOr<v1::MarketConfig> stored = ReadMarket(data_dir);
  if (stored.ok()) return Annotate(CheckSameMarket(*stored, resolved), path);
  if (!absl::IsNotFound(stored.status())) return stored.status();
  RETURN_IF_ERROR(files::MakeDirectories(data_dir));
  return files::WriteAtomically(
      path, absl::StrCat("# The simulated market of this data; written by "
                         "adrank-simulate, which refuses another one.\n",
                         PrintTextProto(resolved)));
}

absl::StatusOr<v1::GenerateReport> Generate(const Market& market,
                                            const GenerateOptions& options,
                                            const GenerateProgress& progress) {
  RETURN_IF_ERROR(CheckOptions(options));
  RETURN_IF_ERROR(SaveMarket(market.config(), options.data_dir));
  v1::GenerateReport report;
  report.set_first_day(options.first_day);
  report.set_last_day(options.first_day + options.days - 1);
  ASSIGN_OR_RETURN(const uint64_t changes,
                   WriteCatalog(market, report.last_day(), options.data_dir));
  report.set_catalog_changes(changes);
  if (options.catalog_only) return report;

  SimulatedClock clock(absl::FromUnixMillis(market.first_day_ms()));
  v1::StorageConfig storage;
  storage.set_data_dir(options.data_dir);
  // One sync at the end: a broken run is repeated.
  storage.set_durability(v1::StorageConfig::ASYNC);
  ASSIGN_OR_RETURN(const std::unique_ptr<EventLog> log,
                   EventLog::Open(storage, &clock));
  const absl::Time start = absl::Now();
  ASSIGN_OR_RETURN(
      const MarketCounts counts,
      LogWriter(market, options, progress, log.get(), &clock).Run());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  report.set_decisions(counts.decisions);
  report.set_impressions(counts.impressions);
  report.set_clicks(counts.clicks);
  report.set_expected_clicks(counts.expected_clicks);
  report.set_seconds(seconds);
  report.set_events_per_second(static_cast<double>(counts.events()) / seconds);
  return report;
}

v1::Catalog CatalogOfDay(const Market& market, int32_t day) {
  v1::Catalog catalog;
  for (int32_t d = 0; d <= day; ++d) {
    for (v1::CatalogOperation& op : market.catalog().Operations(d)) {
      v1::CatalogEntity& e = *op.mutable_upsert();
      if (e.has_advertiser()) {
        *catalog.add_advertisers() = std::move(*e.mutable_advertiser());
      } else if (e.has_campaign()) {
        *catalog.add_campaigns() = std::move(*e.mutable_campaign());
      } else if (e.has_ad_group()) {
        *catalog.add_ad_groups() = std::move(*e.mutable_ad_group());
      } else {
        *catalog.add_ads() = std::move(*e.mutable_ad());
      }
    }
  }
  return catalog;
}

}  // namespace adrank
