#include "tools/truth_report.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "storage/event_log_reader.h"
#include "tools/regret.h"
#include "tools/table.h"
#include "tools/truth_metrics.h"

namespace adrank {
namespace {

class LogScan {
 public:
  LogScan(const Market& market, const TruthReportOptions& options,
          const ModelBundle* bundle, EventLogReader* reader)
      : market_(market),
        options_(options),
        bundle_(bundle),
        reader_(*reader),
        regret_(&market),
        effects_(market.click_model().EffectsOfDay(0)) {}

  absl::Status Run(const std::function<void(uint64_t)>& progress) {
    // Ids carry the server's clock, days count the visits' own time.
    const auto cursor = reader_.Join(0, int64_t{1} << 48);
    for (uint64_t n = 0; cursor->Valid(); cursor->Next()) {
      if (progress && ++n % 8192 == 0) progress(n);
      if (cursor->record().has_decision()) {
        RETURN_IF_ERROR(Add(cursor->record()));
      }
    }
    return cursor->status();
  }

  absl::StatusOr<v1::TruthReport> Finish() {
    if (rows_.size() == 0) {
      return absl::NotFoundError(absl::StrCat(
          options_.data_dir, ": no impression of this market in these days (",
          report_.foreign_decisions(), " foreign decisions)"));
    }
    double truth = 0;
    uint64_t clicks = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      truth += rows_.truth[i];
      clicks += rows_.clicked[i];
    }
    const double n = static_cast<double>(rows_.size());
    report_.set_impressions(rows_.size());
    report_.set_clicks(clicks);
    report_.set_ctr(static_cast<double>(clicks) / n);
    report_.set_true_ctr(truth / n);
    std::string model;
    if (bundle_ != nullptr) {
      model = absl::StrCat("model ", bundle_->manifest().model_name(), " v",
                           bundle_->manifest().version());
    }
    const MainEffectsFit fit = FitMainEffects(rows_);
    for (v1::Predictor& p : ComparePredictors(rows_, fit, 0, model)) {
      *report_.add_predictors() = std::move(p);
    }
    for (v1::Predictor& p : ComparePredictors(rows_, fit, 1, model)) {
      *report_.add_predictors_at_position_1() = std::move(p);
    }
    *report_.mutable_regret() = regret_.Finish();
    return report_;
  }

 private:
  // One served ad of the market.
  struct Served {
    uint32_t ad = 0;
    const v1::ServedAd* logged = nullptr;
    const v1::AdSnapshot* snapshot = nullptr;
  };
  struct KnownAd {
    v1::AdSnapshot snapshot;
    bool foreign = false;
    uint32_t ad = 0;
  };

  absl::Status Add(const JoinedRecord& record) {
    if (!record.Parse(&decision_)) {
      return absl::DataLossError(
          absl::StrCat("decision ", record.id.ToHex(), " is damaged"));
    }
    const int64_t since =
        decision_.context().time_ms() - market_.first_day_ms();
    const int64_t day = since < 0 ? -1 : since / kDayMs;
    if (day >= 0 && (day < options_.from_day || day > options_.to_day)) {
      return absl::OkStatus();
    }
    if (decision_.test()) {
      report_.set_test_decisions(report_.test_decisions() + 1);
      return absl::OkStatus();
    }
    // The market's visits have one placement.
    const absl::StatusOr<Visit> visit =
        decision_.placement_ids_size() == 1
            ? market_.ParseVisit(decision_.context(),
                                 decision_.placement_ids(0))
            : absl::InvalidArgumentError("placements");
    if (!visit.ok()) {
      report_.set_foreign_decisions(report_.foreign_decisions() + 1);
      return absl::OkStatus();
    }
    if (effects_.day != visit->day) {
      effects_ = market_.click_model().EffectsOfDay(visit->day);
    }
    if (report_.decisions() == 0) report_.set_first_day(visit->day);
    report_.set_first_day(std::min(report_.first_day(), visit->day));
    report_.set_last_day(std::max(report_.last_day(), visit->day));
    report_.set_decisions(report_.decisions() + 1);
    RETURN_IF_ERROR(FindAds());
    AddRegret(record.id, *visit);
    AddRows(record, *visit);
    return absl::OkStatus();
  }

  absl::Status FindAds() {
    served_.clear();
    for (const v1::ServedAd& logged : decision_.ads()) {
      auto it = ads_.find(logged.ad_hash());
      if (it == ads_.end()) {
        auto known = std::make_unique<KnownAd>();
        absl::StatusOr<v1::AdSnapshot> snapshot =
            reader_.GetSnapshot(logged.ad_hash());
        if (!snapshot.ok() && !absl::IsNotFound(snapshot.status())) {
          return snapshot.status();
        }
        known->foreign = true;
        if (snapshot.ok()) {
          known->snapshot = *std::move(snapshot);
          const auto ad = market_.FindAd(known->snapshot.ad_id());
          known->foreign = !ad.ok();
          if (ad.ok()) known->ad = *ad;
        }
        it = ads_.emplace(logged.ad_hash(), std::move(known)).first;
      }
      if (it->second->foreign) {
        report_.set_foreign_ads(report_.foreign_ads() + 1);
      } else {
        served_.push_back({it->second->ad, &logged, &it->second->snapshot});
      }
    }
    return absl::OkStatus();
  }

  void AddRegret(const DecisionId& id, const Visit& visit) {
    if (served_.empty()) return;
    const uint64_t hash = MixBits(id.ms ^ MixBits(id.sequence));
    if (Rng(hash).Uniform() >= options_.regret_share) return;
    ranked_.clear();
    for (const Served& s : served_) {
      ranked_.push_back(
          {s.ad, s.logged->bid_micros(), s.logged->position_in_placement()});
    }
    regret_.Add(effects_, visit, ranked_);
  }

  void AddRows(const JoinedRecord& record, const Visit& visit) {
    std::vector<const v1::AdSnapshot*>& snapshots = snapshots_;
    snapshots.clear();
    positions_.clear();
    for (const Served& s : served_) {
      int64_t seen_ms = -1;
      bool clicked = false;
      for (const JoinedEvent& event : record.events) {
        if (event.position != s.logged->position()) continue;
        if (event.type == v1::EVENT_TYPE_IMPRESSION) {
          seen_ms = event.time_ms;
        } else if (event.type == v1::EVENT_TYPE_CLICK) {
          clicked = seen_ms >= 0 &&  // IMPRESSION sorts first
                    event.time_ms - seen_ms <= options_.attribution_window_ms;
        }
      }
      if (seen_ms < 0) continue;
      const uint32_t position = s.logged->position_in_placement();
      const ClickModel& model = market_.click_model();
      const LogitParts parts = model.Parts(effects_, visit, s.ad, position);
      rows_.truth.push_back(static_cast<float>(Sigmoid(model.Logit(parts))));
      rows_.main_logit.push_back(
          static_cast<float>(model.bias() + parts.main + parts.position));
      rows_.served.push_back(s.logged->pctr());
      rows_.clicked.push_back(clicked);
      rows_.position.push_back(static_cast<uint8_t>(position));
      snapshots.push_back(s.snapshot);
      positions_.push_back(position);
    }
    if (bundle_ == nullptr || snapshots.empty()) return;
    bundle_->extractor().Extract(decision_.context(),
                                 decision_.placement_ids(0), snapshots,
                                 positions_, &features_);
    logits_.resize(snapshots.size());
    pctrs_.resize(snapshots.size());
    bundle_->Predict(features_, &scratch_, absl::MakeSpan(logits_),
                     absl::MakeSpan(pctrs_));
    rows_.model.insert(rows_.model.end(), pctrs_.begin(), pctrs_.end());
  }

  const Market& market_;
  const TruthReportOptions& options_;
  const ModelBundle* const bundle_;
  EventLogReader& reader_;
  RegretSum regret_;
  DayEffects effects_;
  TruthRows rows_;
  v1::TruthReport report_;
  absl::flat_hash_map<std::string, std::unique_ptr<KnownAd>> ads_;
  // Scratch of one decision.
  v1::Decision decision_;
  std::vector<Served> served_;
  std::vector<RankedBid> ranked_;
  std::vector<const v1::AdSnapshot*> snapshots_;
  std::vector<uint32_t> positions_;
  RequestFeatures features_;
  PredictScratch scratch_;
  std::vector<float> logits_, pctrs_;
};

void PrintPredictors(
    absl::string_view title,
    const google::protobuf::RepeatedPtrField<v1::Predictor>& predictors,
    std::string* out) {
  Table table({"predictor", "impressions", "mean pctr", "NE", "vs main",
               "calibration", "expected NE", "vs main", "vs truth"});
  for (const v1::Predictor& p : predictors) {
    table.Add(
        {p.name(), absl::StrCat(p.impressions()),
         absl::StrFormat("%.5f", p.mean_pctr()),
         absl::StrFormat("%.5f", p.normalized_entropy()),
         absl::StrFormat("%+.2f%%", 100 * p.ne_over_main_effects()),
         absl::StrFormat("%.4f", p.calibration_ratio()),
         absl::StrFormat("%.5f", p.expected_normalized_entropy()),
         absl::StrFormat("%+.2f%%", 100 * p.expected_ne_over_main_effects()),
         absl::StrFormat("%.4f", p.calibration_to_truth())});
  }
  absl::StrAppend(out, title, "\n", table.Print());
}

}  // namespace

absl::StatusOr<v1::TruthReport> MakeTruthReport(
    const Market& market, const TruthReportOptions& options,
    const ModelBundle* bundle,
    const std::function<void(uint64_t decisions)>& progress) {
  ASSIGN_OR_RETURN(const std::unique_ptr<EventLogReader> reader,
                   EventLogReader::Open(options.data_dir));
  LogScan scan(market, options, bundle, reader.get());
  RETURN_IF_ERROR(scan.Run(progress));
  return scan.Finish();
}

std::string PrintTruthReport(const v1::TruthReport& report) {
  std::string out = absl::StrFormat(
      "days %d to %d: %u decisions, %u impressions, %u clicks "
      "(ctr %.5f, true %.5f)\n",
      report.first_day(), report.last_day(), report.decisions(),
      report.impressions(), report.clicks(), report.ctr(), report.true_ctr());
  if (report.foreign_decisions() + report.foreign_ads() +
          report.test_decisions() >
      0) {
    absl::StrAppendFormat(&out,
                          "left out: %u foreign decisions, %u foreign ads, "
                          "%u test decisions\n",
                          report.foreign_decisions(), report.foreign_ads(),
                          report.test_decisions());
  }
  absl::StrAppend(&out, "\n");
  PrintPredictors("all impressions, at their logged positions",
                  report.predictors(), &out);
  absl::StrAppend(&out, "\n");
  PrintPredictors("impressions at position 1",
                  report.predictors_at_position_1(), &out);
  const v1::Regret& r = report.regret();
  if (r.decisions() == 0) return out;
  const double n = static_cast<double>(r.decisions());
  Table table({"per decision", "served", "best", "random", "regret"});
  table.Add({"true clicks", absl::StrFormat("%.5f", r.served_clicks() / n),
             absl::StrFormat("%.5f", r.best_clicks() / n),
             absl::StrFormat("%.5f", r.random_clicks() / n),
             absl::StrFormat("%.2f%%", 100 * r.click_regret())});
  table.Add({"bid x true clicks, micros",
             absl::StrFormat("%.1f", r.served_value_micros() / n),
             absl::StrFormat("%.1f", r.best_value_micros() / n),
             absl::StrFormat("%.1f", r.random_value_micros() / n),
             absl::StrFormat("%.2f%%", 100 * r.value_regret())});
  absl::StrAppendFormat(&out,
                        "\nranking, %u decisions with %.1f candidates each\n",
                        r.decisions(), r.mean_candidates());
  absl::StrAppend(&out, table.Print());
  return out;
}

}  // namespace adrank
