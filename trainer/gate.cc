#include "trainer/gate.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adrank {
namespace {

// Collects sentences about bounds that hold and bounds that do not.
class Bounds {
 public:
  // A bound that is worth a sentence only when it fails.
  void Refuse(bool fails, std::string failing) {
    if (fails) failed_.push_back(std::move(failing));
  }
  // Every comparison that involves a NaN is false, so that it refuses.
  void Check(bool holds, std::string holding, std::string failing) {
    (holds ? held_ : failed_)
        .push_back(holds ? std::move(holding) : std::move(failing));
  }
  GateDecision Result() && {
    if (failed_.empty()) return {true, std::move(held_)};
    return {false, std::move(failed_)};
  }

 private:
  std::vector<std::string> held_, failed_;
};

void CheckData(const v1::GateConfig& config, const v1::Metrics& candidate,
               Bounds* bounds) {
  for (auto [name, have, need] :
       {std::tuple("examples", candidate.examples(), config.min_examples()),
        std::tuple("clicks", candidate.clicks(), config.min_clicks())}) {
    bounds->Check(
        have >= need,
        absl::StrFormat("the evaluation window has %d %s, at least %d are "
                        "needed",
                        have, name, need),
        absl::StrFormat("the evaluation window has only %d %s; %d are needed "
                        "(gate.min_%s)",
                        have, name, need, name));
  }
}

// What no model could be judged on, or what no model may answer.
void CheckSanity(const v1::TrainingReport& report, Bounds* bounds) {
  const v1::Metrics& candidate = report.candidate();
  bounds->Refuse(
      candidate.clicks() > 0 && candidate.clicks() == candidate.examples(),
      absl::StrFormat("all %d examples of the evaluation window are clicks: "
                      "impressions that were not clicked are missing",
                      candidate.examples()));
  bounds->Refuse(
      report.non_finite_scores() > 0,
      absl::StrFormat("%d of %d scores of the evaluation window are not finite",
                      report.non_finite_scores(), candidate.examples()));
  bounds->Refuse(
      report.golden().non_finite() > 0,
      absl::StrFormat("%d of %d answers to golden requests are not finite",
                      report.golden().non_finite(),
                      report.golden().candidates()));
}

// "AUC 0.99990 is not below 0.99900 (gate.max_auc): ..."
void CheckAuc(const v1::GateConfig& config, const v1::TrainingReport& report,
              Bounds* bounds) {
  const double auc = report.candidate().auc();
  if (config.min_auc() > 0) {
    // The interval is 1.96 errors to each side.
    const double error = (auc - report.candidate().auc_interval().low()) / 1.96;
    bounds->Check(
        auc - error > config.min_auc(),
        absl::StrFormat("AUC %.5f less its standard error %.5f is above %.5f",
                        auc, error, config.min_auc()),
        absl::StrFormat("AUC %.5f less its standard error %.5f is not above "
                        "%.5f (gate.min_auc): the scores say nothing about the "
                        "labels",
                        auc, error, config.min_auc()));
  }
  if (config.max_auc() > 0) {
    bounds->Check(
        auc < config.max_auc(),
        absl::StrFormat("AUC %.5f is below %.5f", auc, config.max_auc()),
        absl::StrFormat("AUC %.5f is not below %.5f (gate.max_auc): too good "
                        "to be true, a feature may know the label",
                        auc, config.max_auc()));
  }
  if (config.max_auc_increase() > 0 && report.has_incumbent() &&
      std::isfinite(report.delta_auc().estimate())) {
    const double gain = report.delta_auc().estimate();
    bounds->Check(
        gain <= config.max_auc_increase(),
        absl::StrFormat("AUC changes by %+.5f; up to %+.5f is believable", gain,
                        config.max_auc_increase()),
        absl::StrFormat("AUC changes by %+.5f over the live version %d, more "
                        "than %+.5f (gate.max_auc_increase): too good to be "
                        "true, a feature may know the label",
                        gain, report.incumbent_version(),
                        config.max_auc_increase()));
  }
}

// What was learnt must hold on the days that follow.
void CheckTransfer(const v1::GateConfig& config,
                   const v1::TrainingReport& report, Bounds* bounds) {
  const v1::Metrics& candidate = report.candidate();
  if (config.max_auc_decrease() > 0 && report.progressive_size() > 0 &&
      report.progressive(0).auc() > 0) {
    const double before = report.progressive(0).auc();
    const std::string change = absl::StrFormat(
        "AUC changes from %.5f in training (predicted before learnt) to %.5f "
        "in the evaluation window",
        before, candidate.auc());
    bounds->Check(
        before - candidate.auc() <= config.max_auc_decrease(),
        absl::StrFormat("%s; a loss of %.5f is tolerated", change,
                        config.max_auc_decrease()),
        absl::StrFormat("%s, by more than %.5f (gate.max_auc_decrease): a "
                        "feature may have known the label in training",
                        change, config.max_auc_decrease()));
  }
  if (config.max_ctr_change() > 0 && report.training_ctr() > 0) {
    const double before = report.training_ctr(), after = candidate.ctr();
    const std::string change = absl::StrFormat(
        "the click rate changes from %.5f in training to %.5f in the "
        "evaluation window",
        before, after);
    bounds->Check(
        std::max(before, after) <=
            config.max_ctr_change() * std::min(before, after),
        absl::StrFormat("%s; a factor of %g is tolerated", change,
                        config.max_ctr_change()),
        absl::StrFormat("%s, by more than a factor of %g "
                        "(gate.max_ctr_change): clicks or impressions are "
                        "missing on one side",
                        change, config.max_ctr_change()));
  }
}

// Of every field; one sentence for each that fails, one when none does.
void CheckDrift(const v1::GateConfig& config, const v1::TrainingReport& report,
                Bounds* bounds) {
  bool covered = true, known = true;
  for (const v1::FieldDrift& field : report.drift()) {
    const bool live = std::isfinite(field.live_coverage());
    const double before =
        live ? field.live_coverage() : field.training_coverage();
    if (config.max_coverage_decrease() > 0 &&
        before - field.evaluation_coverage() > config.max_coverage_decrease()) {
      covered = false;
      bounds->Refuse(
          true,
          absl::StrFormat(
              "field \"%s\": %.1f %% of the examples of the evaluation "
              "window have it, %.1f %% of those %s had "
              "(gate.max_coverage_decrease %.2f)",
              field.field(), 100 * field.evaluation_coverage(), 100 * before,
              live ? "that the live model was trained on"
                   : "of the training window",
              config.max_coverage_decrease()));
    }
    if (config.max_oov_increase() > 0 &&
        field.oov() - field.live_oov() > config.max_oov_increase()) {
      known = false;
      bounds->Refuse(
          true,
          absl::StrFormat("field \"%s\": %.1f %% of its values in the "
                          "evaluation window are unknown to the model, %.1f %% "
                          "were for the live one (gate.max_oov_increase %.2f)",
                          field.field(), 100 * field.oov(),
                          100 * field.live_oov(), config.max_oov_increase()));
    }
  }
  if (report.drift().empty()) return;
  if (config.max_coverage_decrease() > 0 && covered) {
    bounds->Check(true,
                  absl::StrFormat("no field is rarer by more than %.2f of the "
                                  "examples",
                                  config.max_coverage_decrease()),
                  "");
  }
  if (config.max_oov_increase() > 0 && known) {
    bounds->Check(true,
                  absl::StrFormat("no field has more unknown values by more "
                                  "than %.2f of them",
                                  config.max_oov_increase()),
                  "");
  }
}

void CheckScores(const v1::GateConfig& config, const v1::TrainingReport& report,
                 Bounds* bounds) {
  if (config.max_logit() > 0 && report.largest_logit() > 0) {
    bounds->Check(report.largest_logit() <= config.max_logit(),
                  absl::StrFormat("the largest |logit| is %.2f, at most %g",
                                  report.largest_logit(), config.max_logit()),
                  absl::StrFormat("the largest |logit| is %.2f, above %g "
                                  "(gate.max_logit): weights have exploded",
                                  report.largest_logit(), config.max_logit()));
  }
  if (config.max_psi() > 0 && report.has_incumbent()) {
    bounds->Check(
        !(report.psi() > config.max_psi()),
        absl::StrFormat("the pctrs shift by a stability index of %.4f, at most "
                        "%g",
                        report.psi(), config.max_psi()),
        absl::StrFormat("the pctrs shift by a stability index of %.4f against "
                        "the live model, more than %g (gate.max_psi)",
                        report.psi(), config.max_psi()));
  }
  if (config.max_golden_change() > 0 && report.has_incumbent()) {
    bounds->Check(
        report.golden().largest_change() <= config.max_golden_change(),
        absl::StrFormat("on golden requests pctr changes by up to %.5f, at "
                        "most %g",
                        report.golden().largest_change(),
                        config.max_golden_change()),
        absl::StrFormat("on a golden request pctr changes by %.5f, more than "
                        "%g (gate.max_golden_change)",
                        report.golden().largest_change(),
                        config.max_golden_change()));
  }
  // The sentence that may be published does not have the time: it would make
  // the bundle's bytes another each run.
  if (config.max_score_micros() > 0) {
    bounds->Check(
        report.golden().score_micros() <= config.max_score_micros(),
        absl::StrFormat("a candidate is scored within %g microseconds",
                        config.max_score_micros()),
        absl::StrFormat("scoring takes %.2f microseconds a candidate, more "
                        "than %g (gate.max_score_micros)",
                        report.golden().score_micros(),
                        config.max_score_micros()));
  }
}

void CheckDates(const v1::GateConfig& config, const v1::JoinCounts& join,
                Bounds* bounds) {
  if (config.max_skewed_events() == 0 || join.decisions() == 0) return;
  std::string reason = SkewReason(join, config.max_skewed_events());
  const bool holds = reason.empty();
  bounds->Check(holds,
                absl::StrFormat("at most %g %% of the events have implausible "
                                "dates",
                                100 * config.max_skewed_events()),
                std::move(reason));
}

void CheckQuality(const v1::GateConfig& config, const v1::Metrics& candidate,
                  Bounds* bounds) {
  const double ne = candidate.normalized_entropy();
  bounds->Check(
      std::isfinite(ne) && ne < config.max_ne(),
      absl::StrFormat("normalized entropy %.5f is below %.5f", ne,
                      config.max_ne()),
      absl::StrFormat("normalized entropy %.5f is not below %.5f (gate.max_ne)",
                      ne, config.max_ne()));
  const double ratio = candidate.calibration_ratio();
  const std::string range = absl::StrFormat(
      "[%.4f, %.4f]", config.min_calibration(), config.max_calibration());
  bounds->Check(
      ratio >= config.min_calibration() && ratio <= config.max_calibration(),
      absl::StrFormat("calibration ratio %.4f is in %s", ratio, range),
      absl::StrFormat("calibration ratio %.4f is not in %s "
                      "(gate.min_calibration, gate.max_calibration)",
                      ratio, range));
}

void CheckIncumbent(const v1::GateConfig& config,
                    const v1::TrainingReport& report, Bounds* bounds) {
  const double incumbent = report.incumbent().normalized_entropy();
  const double candidate = report.candidate().normalized_entropy();
  const double increase = (candidate - incumbent) / incumbent;
  const std::string change = absl::StrFormat(
      "NE changes from %.5f (live version %d) to %.5f, by %+.3f %%", incumbent,
      report.incumbent_version(), candidate, 100 * increase);
  const double tolerated = 100 * config.max_ne_increase();
  // An incumbent whose NE is not a number is no bound: anything finite beats
  // it.
  bounds->Check(
      !std::isfinite(incumbent) || increase <= config.max_ne_increase(),
      absl::StrFormat("%s; up to %+.3f %% is tolerated", change, tolerated),
      absl::StrFormat("%s; more than the tolerated %+.3f %% "
                      "(gate.max_ne_increase)",
                      change, tolerated));
  const v1::Interval& delta = report.delta_ne();
  const std::string interval = absl::StrFormat(
      "the 95 %% interval of the change of NE is [%+.6f, %+.6f]", delta.low(),
      delta.high());
  bounds->Check(!(delta.low() > 0),
                absl::StrCat(interval, ", not wholly above 0"),
                absl::StrCat(interval,
                             ", wholly above 0: significantly worse than the "
                             "live model"));
}

}  // namespace

GateDecision Decide(const v1::GateConfig& config,
                    const v1::TrainingReport& report) {
  Bounds bounds;
  CheckData(config, report.candidate(), &bounds);
  CheckSanity(report, &bounds);
  CheckQuality(config, report.candidate(), &bounds);
  CheckAuc(config, report, &bounds);
  CheckTransfer(config, report, &bounds);
  CheckDrift(config, report, &bounds);
  CheckScores(config, report, &bounds);
  CheckDates(config, report.join(), &bounds);
  if (report.has_incumbent()) CheckIncumbent(config, report, &bounds);
  if (config.max_bundle_bytes() > 0) {
    bounds.Check(
        report.bundle_bytes() <= config.max_bundle_bytes(),
        absl::StrFormat("the bundle has %d of at most %d bytes",
                        report.bundle_bytes(), config.max_bundle_bytes()),
        absl::StrFormat("the bundle has %d bytes, more than %d "
                        "(gate.max_bundle_bytes)",
                        report.bundle_bytes(), config.max_bundle_bytes()));
  }
  return std::move(bounds).Result();
}

std::string SkewReason(const v1::JoinCounts& join, double max_share) {
  const uint64_t events = join.impressions() + join.clicks() -
                          join.orphan_impressions() - join.orphan_clicks() -
                          join.test_impressions() - join.test_clicks();
  const double share = events == 0 ? 0
                                   : static_cast<double>(join.skewed_events()) /
                                         static_cast<double>(events);
  if (share <= max_share) return "";
  return absl::StrFormat(
      "%d of %d events (%.1f %%) are dated more than 5 minutes before their "
      "decision, or more than the attribution window and a day after it "
      "(gate.max_skewed_events %g): a clock is wrong",
      join.skewed_events(), events, 100 * share, max_share);
}

std::string ShiftNote(const v1::TrainingReport& report) {
  // The usual mark of a shift that matters.
  if (!report.has_incumbent() || !(report.psi() > 0.25)) return "";
  return absl::StrFormat(
      "the pctrs differ much from those of the live model: population "
      "stability index %.4f",
      report.psi());
}

}  // namespace adrank
